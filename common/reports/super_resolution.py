"""Super-resolution in a report: fidelity, consistency, texture and structures beside interpolation, and pictures.

The pictures show clinical, bicubic, output and truth side by side, a part of each enlarged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from ..metrics.structures import STRUCTURES
from . import html
from .drawing import Panel, inset_png
from .inputs import INTERPOLATED, NETWORK, Case, Inputs, direction_of, name_of, ordered, short_name_of
from .panels import case_png, check_window, panel_png
from .scores import Metrics
from .tables import Column, metric_table
from .volumes import load_ras, radiological

CONSISTENCY, TEXTURE = "Averaged output against its source", "Power spectrum"
OVERALL = (
    Column("consistency_mse", "MSE (HU²)", "low", ".4g", CONSISTENCY),
    Column("consistency_psnr", "PSNR (dB)", "high", ".2f", CONSISTENCY),
    Column("spectrum_distance", "Distance (decades)", "low", ".3f", TEXTURE),
)
OVERALL_NOTE = (
    "Consistency as in the paper's section 4.2: the output, averaged over the pixels of its source. Nearest neighbour "
    "is consistent by construction, and the source's noise counts: an output without it is not perfectly consistent. "
    "Spectrum: mean over frequencies up to Nyquist of |log10| of the ratio to the truth's power; it is blind to where "
    "structures are, and the edges of repeated pixels have power too."
)
STRUCTURE_NOTE = (
    "Mean over patients that have the structure. Contrast: mean inside minus mean of what surrounds it, as a share of "
    "the truth's. Edge: 10-90 % width of the error function that fits the mean profile across the border, 1.2 mm at "
    "most, which also stands for no edge; one that is sharp but not at its place is wide. A slice of the output is as "
    "thick as a clinical slice: the truth is the mean of the micro slices within it, and a structure fills more than "
    "half of them."
)
SENTENCES = (
    ("consistency_mse", "By its consistency with the source (MSE of the averaged output)", "HU²", ".4g"),
    ("spectrum_distance", "By the distance of its power spectrum to the truth's", "decades", ".3g"),
)

WINDOW = (-1050.0, 150.0)  # width 1200, level -450: air and solid tissue are both inside
WIDTH_PX = 360  # four pictures in a row of the page
INSET_MM = 7.5
SHOWN_FIRST = ("bronchial_wall", "vessel", "septum", "tumour")
SCORES = {"psnr": "PSNR {:.2f} dB", "consistency_psnr": "consistency {:.2f} dB"}
NOTE = (
    "Window {:g}/{:g} HU (width/level). The framed {:g} mm are enlarged below, pixel by pixel. Clinical: pixels as "
    "they are, repeated. Truth: the mean of the micro slices within the clinical slice, without noise."
)


def super_resolution_blocks(methods: Mapping[str, Metrics]) -> Markup:
    """Write all tables of one direction; those without scores are omitted.

    Args:
        methods: `{method: {metric: {"mean": ..., "std": ...}}}`.
    """
    blocks = (
        ("Consistency and texture", metric_table(methods, OVERALL), OVERALL_NOTE),
        ("Structures", structure_table(methods), STRUCTURE_NOTE),
    )
    return html.joined((html.block(heading, content, note=note) for heading, content, note in blocks), "\n")


def structure_table(methods: Mapping[str, Metrics]) -> Markup:
    """Write one row per structure: the truth's edge width, then contrast and edge width of each method; or nothing."""
    known = [name for name in STRUCTURES if any(f"contrast_{name}" in values for values in methods.values())]
    if not known:
        return Markup()
    columns = [Column("true", "Edge (mm)", "none", ".2f", "Truth")]
    for method in ordered(methods):
        columns.append(Column(f"contrast {method}", "Contrast", "none", ".0%", name_of(method)))
        columns.append(Column(f"edge {method}", "Edge (mm)", "none", ".2f", name_of(method)))
    rows: dict[str, dict[str, Mapping[str, float]]] = {}
    for name in known:
        row = rows.setdefault(name.replace("_", " "), {})
        for method, values in methods.items():
            named = {
                "true": f"edge_width_true_{name}_mm",
                f"contrast {method}": f"contrast_{name}",
                f"edge {method}": f"edge_width_{name}_mm",
            }
            row |= {column: values[metric] for column, metric in named.items() if metric in values}
    return metric_table(rows, columns, heading="Structure")


def super_resolution_lines(methods: Mapping[str, Metrics]) -> list[str]:
    """Describe where the network is ahead of each interpolation: consistency, texture and structures.

    Example:
        >>> scores = {"network": {"spectrum_distance": {"mean": 0.3}}, "nearest": {"spectrum_distance": {"mean": 1.2}}}
        >>> print(*super_resolution_lines(scores))
        By the distance of its power spectrum to the truth's it is ahead of nearest neighbour (0.3 against 1.2 decades).
    """
    lines = []
    for metric, text, unit, form in SENTENCES:
        own = methods.get(NETWORK, {}).get(metric)
        rivals = {name: methods[name][metric]["mean"] for name in INTERPOLATED if metric in methods.get(name, {})}
        for verb, wins in (("is ahead of", True), ("loses to", False)):
            named = [
                f"{short_name_of(rival)} ({own['mean']:{form}} against {value:{form}} {unit})"
                for rival, value in rivals.items()
                if own and (own["mean"] < value) == wins
            ]
            lines += [f"{text} it {verb} {' and '.join(named)}."] if named else []
    return lines + _structure_lines(methods)


def _structure_lines(methods: Mapping[str, Metrics]) -> list[str]:
    """Describe by contrast and edge width whether the network is nearer to the truth than the best interpolation."""
    lines = []
    for prefix, text in (("contrast_", "contrast"), ("edge_ratio_", "edge width")):
        named: dict[str, list[str]] = {"is nearer to": [], "is farther from": []}
        for name in STRUCTURES:
            off = {
                method: abs(values[prefix + name]["mean"] - 1.0)
                for method, values in methods.items()
                if prefix + name in values
            }
            own = off.pop(NETWORK, None)
            rivals = [off[rival] for rival in INTERPOLATED if rival in off]
            if own is not None and rivals:
                verb = "is nearer to" if own < min(rivals) else "is farther from"
                named[verb].append(name.replace("_", " "))
        for verb, names in named.items():
            if names:
                lines.append(f"Its {text} {verb} the truth's than interpolation's in {', '.join(names)}.")
    return lines


class Place(NamedTuple):
    """Place to enlarge: a slice, and a voxel of it along X and Y."""

    z: int
    x: int
    y: int


def super_resolution_figure(
    case: Case, name: str, *, inputs: Inputs, window: tuple[float, float] | None, save: Callable[[str, bytes], Any]
) -> Markup:
    """Write the panels of one patient as HTML; their composed picture goes to the pictures folder.

    Args:
        case: Case whose volumes lie on one grid, except the source, which has coarser pixels.
        name: Name of the case, part of the picture's.
        inputs: Output of the run.
        window: Lowest and highest shown HU; by default 1200/-450 (width/level).
        save: Function that saves a picture under its name.

    Raises:
        ValueError: If the volumes do not fit, or the window is not rising.
    """
    volumes, zooms = load_volumes(case)
    label = None if case.label is None else load_ras(case.label)[0]
    place = choose_place(volumes["Output"].shape, label, inputs.label_names)
    panels = super_resolution_panels(volumes, place, zooms, window=window)
    title = _title(case, place, volumes["Output"].shape[2], inputs)
    pixel_mm = (zooms[1], zooms[0])
    save(f"{name}_{case.direction}_{case.patient}", case_png(panels, pixel_mm=pixel_mm, title=title))
    options: dict[str, Any] = {"pixel_mm": pixel_mm, "width_px": WIDTH_PX}
    shown = [
        html.panel(panel_png(panel, few_colours=True, **options), panel.title, "", inset=inset_png(panel, **options))
        for panel in panels
    ]
    low, high = window or WINDOW
    return html.case(title, shown, kind="four", note=NOTE.format(high - low, (low + high) / 2, INSET_MM))


def load_volumes(case: Case) -> tuple[dict[str, np.ndarray], tuple[float, float, float]]:
    """Load the volumes of a case `(X, Y, Z)` by name, all on the output's pixels, and its voxel size in mm.

    Raises:
        ValueError: If a volume does not fit the output.
    """
    output, zooms = load_ras(case.prediction)
    source = load_ras(case.source)[0]
    factor = output.shape[0] // source.shape[0]
    repeated = source.repeat(max(factor, 1), axis=0).repeat(max(factor, 1), axis=1)
    volumes = {"Clinical": repeated, "Bicubic": None, "Output": output, "Truth": None}
    for heading, path in (("Bicubic", case.bicubic), ("Truth", case.target)):
        volumes[heading] = None if path is None else load_ras(path)[0]
    found = {heading: volume for heading, volume in volumes.items() if volume is not None}
    for heading, volume in found.items():
        if volume.shape != output.shape:
            raise ValueError(
                f"`{heading.lower()}` of patient {case.patient} must fit the output's pixels {output.shape}, got "
                f"{volume.shape}; evaluate the run again."
            )
    return found, zooms


def choose_place(shape: tuple[int, ...], label: np.ndarray | None, label_names: Mapping[int, str]) -> Place:
    """Choose a pixel in the middle of the slice with most bronchial wall, else vessel, septum or tumour.

    Without a label map it is the centre of the volume.

    Args:
        shape: Shape of the volume.
        label: Label map of that shape.
        label_names: Names of its values.
    """
    values = {name: value for value, name in label_names.items() if name in STRUCTURES}
    for name in SHOWN_FIRST:
        if label is None or name not in values:
            continue
        found = np.round(label) == values[name]
        if found.any():
            index = int(found.sum(axis=(0, 1)).argmax())
            pixels = np.argwhere(found[:, :, index])
            middle = pixels[np.abs(pixels - np.median(pixels, axis=0)).sum(axis=1).argmin()]
            return Place(index, int(middle[0]), int(middle[1]))
    return Place(shape[2] // 2, shape[0] // 2, shape[1] // 2)


def super_resolution_panels(
    volumes: Mapping[str, np.ndarray],
    place: Place,
    zooms: tuple[float, float, float],
    *,
    window: tuple[float, float] | None = None,
) -> list[Panel]:
    """Draw one panel per volume `(X, Y, Z)`, all in one window, with the same part of each framed.

    Raises:
        ValueError: If the window is not rising.
    """
    limits = check_window(window) or WINDOW
    panels = []
    for heading, volume in volumes.items():
        image = radiological(volume[:, :, place.z])
        centre = image.shape[0] - 1 - place.y, image.shape[1] - 1 - place.x  # rows run along Y, columns along X, back
        parts = [_part(middle, zooms[1 - axis], image.shape[axis]) for axis, middle in enumerate(centre)]
        panels.append(Panel(heading, image, limits, inset=(parts[0], parts[1])))
    return panels


def _part(centre: int, pixel_mm: float, size: int) -> slice:
    """Return the pixels around a centre, moved so that they lie in the image."""
    width = min(round(INSET_MM / pixel_mm), size)
    start = min(max(centre - width // 2, 0), size - width)
    return slice(start, start + width)


def _title(case: Case, place: Place, slices: int, inputs: Inputs) -> str:
    key = (case.patient, case.direction, NETWORK)
    scores = next((row for row in inputs.rows if (row["patient"], row["direction"], row["method"]) == key), {})
    title = f"{case.patient}, {direction_of(case.direction)}, slice {place.z + 1} of {slices}"
    return title + "".join(f", {form.format(scores[name])}" for name, form in SCORES.items() if name in scores)
