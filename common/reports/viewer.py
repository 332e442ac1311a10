"""Interactive viewer of a report: the shown cases' volumes side by side, by NiiVue, in the page itself and offline.

NiiVue (Rorden et al., BSD 2-Clause) comes from the installed package ipyniivue, whose front end carries it as one ES
module for the pages that NiiVue itself saves. The page holds that module, and the volumes as long as they are small.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata, util
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import nibabel
import numpy as np
from markupsafe import Markup

from ..bundles import CONTRAST_ENHANCEMENT, SUPER_RESOLUTION
from ..files import write_text
from ..metrics.score import foreground_mask
from ..metrics.window import WINDOW_HU
from . import html
from .drawing import DIFFERENCE_COLOURS
from .inputs import Case, Inputs, direction_of
from .panels import DIFFERENCE_HU, LUNG_WINDOW, rescaled, robust_limits, same_unit
from .scores import domains_of
from .super_resolution import WINDOW as SUPER_RESOLUTION_WINDOW
from .volumes import choose_slice, is_hu, ras_image, volume_of

PACKAGE = "ipyniivue"
FOLDER = "report_volumes"  # beside the page, for volumes that are too large for it
EMBEDDED_BYTES = 24_000_000  # of a page, in base64
STEPS = 4095  # of an intensity without a unit
HU_WINDOWS = {
    "Lung": LUNG_WINDOW,
    "Soft tissue": (-160.0, 240.0),
    "Bone": (-450.0, 1050.0),
    "Brain": (0.0, 80.0),
    "Contrast": WINDOW_HU,
    "Airways": SUPER_RESOLUTION_WINDOW,
}
FIRST_WINDOW = {CONTRAST_ENHANCEMENT: "Contrast", SUPER_RESOLUTION: "Airways"}  # by task; of all others the first one
MISSING = "The volumes can be looked through with `pip install monai-translation-bundles[report]`: {}."
Limits = tuple[float, float]


@dataclass(frozen=True)
class Library:
    """NiiVue, packed for a page: the module, gzip in base64; the package it is from; its licence."""

    packed: str
    name: str
    licence: str


@dataclass(frozen=True)
class Shown:
    """Volume of a case `(X, Y, Z)` in RAS with its affine, and how it is shown; `grey` ones follow the window."""

    key: str
    title: str
    volume: np.ndarray
    affine: np.ndarray
    colours: str = "gray"
    limits: Limits = (0.0, 1.0)


@dataclass
class _Store:
    """Volumes of a page by their content: equal ones are stored once, the first ones in the page itself."""

    folder: Path
    embedded: dict[str, str] = field(default_factory=dict)
    linked: set[str] = field(default_factory=set)

    def add(self, data: bytes) -> dict[str, str]:
        packed = gzip.compress(data, 6, mtime=0)
        name = hashlib.sha256(packed).hexdigest()[:16]
        if name not in self.embedded and name not in self.linked:
            text = base64.b64encode(packed).decode("ascii")
            if sum(map(len, self.embedded.values())) + len(text) <= EMBEDDED_BYTES:
                self.embedded[name] = text
            else:
                self.folder.mkdir(parents=True, exist_ok=True)
                write_text(self.folder / f"{name}.js", f'reportVolume("{name}", "{text}");\n')
                self.linked.add(name)
        return {"id": name} | ({"file": f"{FOLDER}/{name}.js"} if name in self.linked else {})


def find_library() -> Library:
    """Find NiiVue in the installed package, which is read and not imported.

    Raises:
        ModuleNotFoundError: If the package is missing.
        ValueError: If it does not hold the module where this project knows it.
    """
    spec = util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{PACKAGE} is not installed")
    distribution = metadata.distribution(PACKAGE)
    name = f"{PACKAGE} {distribution.version}"
    front_end = Path(spec.origin).parent / "static" / "widget.js"
    text = front_end.read_text(encoding="utf-8") if front_end.is_file() else ""
    at = text.rfind("export%7B")
    code = unquote(text[text.rfind('"', 0, at) + 1 : text.find('"', at)]) if at >= 0 else ""
    if "Niivue" not in code[code.rfind("export{") :]:
        raise ValueError(
            f"{name} holds no NiiVue module in {front_end.name}; another version does, see constraints.txt"
        )
    licences = [file for file in distribution.files or [] if file.name.startswith("LICEN")]
    licence = licences[0].read_text(encoding="utf-8") if licences else "BSD 2-Clause"
    return Library(base64.b64encode(gzip.compress(code.encode(), 9, mtime=0)).decode("ascii"), name, licence.strip())


def viewer_section(cases: Sequence[Case], inputs: Inputs, folder: Path, *, window: Limits | None = None) -> Markup:
    """Write the viewer of some cases; without NiiVue a sentence that says so, and nothing without cases.

    Args:
        cases: Cases, each once.
        inputs: Output of the run.
        folder: Folder of the page, which gets the volumes that are too large for it in `report_volumes`.
        window: Lowest and highest shown value, as for the pictures.
    """
    if not cases:
        return Markup()
    try:
        library = find_library()
    except (ModuleNotFoundError, ValueError) as error:
        return html.section("", html.part("paragraph", MISSING.format(error), "soft"))
    store = _Store(folder / FOLDER)
    described = [_described(case, inputs, store, window) for case in cases]
    for path in store.folder.glob("*.js"):
        if path.stem not in store.linked:
            path.unlink()
    steps = "1 HU" if all(each["unit"] for each in described) else f"1/{STEPS + 1} of each volume's range"
    return html.render(
        "viewer.html",
        library=library,
        cases=described,
        embedded=store.embedded.items(),
        linked=f", the larger ones in the folder {FOLDER} beside it" if store.linked else "",
        precision=f"Values are stored in steps of {steps}.",
    )


def shown_volumes(case: Case, *, window: Limits | None = None) -> list[Shown]:
    """Load what the viewer shows of a case: source, bicubic interpolation, output, truth, difference, uncertainty.

    What a case does not have is left out. A volume need not be on the output's grid, except the truth.

    Raises:
        ValueError: If the truth is not on the output's grid.
    """
    source_name, target_name = domains_of(case.direction)
    output = ras_image(case.prediction)
    volume, affine = volume_of(output, case.prediction), np.asarray(output.affine)
    found = [Shown("source", f"Source ({source_name})", *_loaded(case.source))]
    if case.bicubic is not None:
        found.append(Shown("bicubic", "Bicubic", *_loaded(case.bicubic)))
    found.append(Shown("output", f"Output ({target_name})", volume, affine))
    if case.target is not None:
        truth, truth_affine = _loaded(case.target)
        if truth.shape != volume.shape:
            raise ValueError(
                f"`target` of patient {case.patient} must lie on the output's grid {volume.shape}, got {truth.shape}; "
                "save it with the output's affine and shape."
            )
        found.append(Shown("target", f"Truth ({target_name})", truth, truth_affine))
        found.append(_difference(volume, truth, affine, window))
    if case.uncertainty is not None:
        spread, grid = _loaded(case.uncertainty)
        limits = (0.0, max(float(np.percentile(spread, 99.5)), 1e-6))
        found.append(Shown("uncertainty", "Uncertainty", spread, grid, "inferno", limits))
    return found


def window_presets(
    volumes: Sequence[Shown], *, task: str | None = None, window: Limits | None = None
) -> dict[str, dict[str, Limits]]:
    """Return the windows by name, each `{volume: (lowest, highest)}`, the first one that of the pictures.

    CT has the usual windows of its organs; MR, whose intensities have no unit, a share of each volume's range.

    Args:
        volumes: Volumes of a case, of which the grey ones follow the window.
        task: Task of the run, which chooses the first window of CT.
        window: Window of the pictures, for output and truth, and in CT for the source as well.
    """
    grey = [each for each in volumes if each.colours == "gray"]
    own = {each.key: robust_limits(each.volume) for each in grey}
    ct = is_hu(grey[0].volume)
    first: dict[str, dict[str, Limits]] = {}
    if window is not None:
        first["As given"] = {key: window if ct or key != "source" else own[key] for key in own}
    if ct:
        name = FIRST_WINDOW.get(task or "", next(iter(HU_WINDOWS)))
        ranked = {name: HU_WINDOWS[name], **HU_WINDOWS}
        named = {f"{n} ({high - low:g}/{(low + high) / 2:g} HU)": (low, high) for n, (low, high) in ranked.items()}
        first |= {name: dict.fromkeys(own, limits) for name, limits in named.items()}
    else:
        by_key = {each.key: each.volume for each in grey}
        if "target" in own and same_unit(by_key["output"], by_key["target"]):
            own["output"] = own["target"]
        first["Automatic"] = own
        first["Dark half"] = {key: (low, (low + high) / 2) for key, (low, high) in own.items()}
        first["Bright half"] = {key: ((low + high) / 2, high) for key, (low, high) in own.items()}
    first["Full range"] = {each.key: _range(each.volume) for each in grey}
    return first


def _described(case: Case, inputs: Inputs, store: _Store, window: Limits | None) -> dict[str, Any]:
    """Describe a case for the page, and store its volumes."""
    volumes = shown_volumes(case, window=window)
    presets = window_presets(volumes, task=inputs.task, window=window)
    initial = next(iter(presets.values()))
    hu = is_hu(volumes[0].volume)
    output = next(each for each in volumes if each.key == "output")
    zooms = nibabel.affines.voxel_sizes(output.affine)
    listed = [
        {
            "key": each.key,
            "title": each.title,
            "colours": each.colours,
            "window": initial.get(each.key, each.limits),
            **store.add(_nifti(each, hu=hu and each.key != "uncertainty")),
        }
        for each in volumes
    ]
    return {
        "title": f"{case.patient}, {direction_of(case.direction)}",
        "unit": "HU" if hu else "",
        "size_mm": [float(size) for size in np.multiply(output.volume.shape, zooms)],
        "place_mm": _place(case, output, inputs.label_names),
        "presets": [{"name": name, "windows": windows} for name, windows in presets.items()],
        "volumes": listed,
        "difference": _colour_map(),
    }


def _loaded(path: Path) -> tuple[np.ndarray, np.ndarray]:
    image = ras_image(path)
    return volume_of(image, path), np.asarray(image.affine)


def _difference(output: np.ndarray, truth: np.ndarray, affine: np.ndarray, window: Limits | None) -> Shown:
    """Return output minus truth, in the pictures' range; an output in another unit is rescaled to the truth's."""
    if is_hu(truth):
        half, note = DIFFERENCE_HU, f" (±{DIFFERENCE_HU:g} HU)"
    else:
        limits = window or robust_limits(truth)
        half, note = (limits[1] - limits[0]) / 2, ""
        if window is None and not same_unit(output, truth):
            output, note = rescaled(output, limits), " (rescaled)"
    return Shown("difference", f"Difference{note}", output - truth, affine, "difference", (-half, half))


def _place(case: Case, output: Shown, label_names: Mapping[int, str]) -> list[float]:
    """Return the place in mm at which the viewer opens: the middle of the slice that the pictures show."""
    label = None if case.label is None else _loaded(case.label)[0]
    label = label if label is not None and label.shape == output.volume.shape else None
    index = choose_slice(foreground_mask(output.volume), label, label_names)
    voxel = (output.volume.shape[0] // 2, output.volume.shape[1] // 2, index)
    return [float(x) for x in nibabel.affines.apply_affine(output.affine, voxel)]


def _nifti(shown: Shown, *, hu: bool) -> bytes:
    """Write a volume in 16 bits, in whole HU or in steps of its range, with nothing else in the header."""
    low, high = _range(shown.volume)
    slope, intercept = (1.0, 0.0) if hu else ((high - low) / STEPS, low)
    stored = np.clip(np.rint((shown.volume - intercept) / slope), -32768, 32767).astype(np.int16)
    image = nibabel.Nifti1Image(stored, shown.affine)
    image.header.set_slope_inter(slope, intercept)
    return bytes(image.to_bytes())


def _range(volume: np.ndarray) -> Limits:
    low, high = float(volume.min()), float(volume.max())
    return (low, high) if high > low else (low, low + 1.0)


def _colour_map() -> dict[str, list[int]]:
    """Return the colours of the difference as NiiVue takes them."""
    rgb = [tuple(bytes.fromhex(colour[1:])) for colour in DIFFERENCE_COLOURS]
    places = np.linspace(0, 255, len(rgb)).round().astype(int).tolist()
    channels = {name: [int(colour[index]) for colour in rgb] for index, name in enumerate("RGB")}
    return {**channels, "A": [255] * len(rgb), "I": places}
