"""What a report says of super-resolution: fidelity, consistency, texture, and structures, all beside interpolation."""

from __future__ import annotations

from collections.abc import Mapping

from ..metrics.structures import STRUCTURES
from . import html
from .methods import INTERPOLATED, NETWORK, name_of, ordered, short_name_of
from .tables import Column, metric_table
from .verdict import Metrics

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


def is_super_resolution(methods: Mapping[str, Metrics]) -> bool:
    """Whether the numbers of a direction are those of super-resolution.

    >>> is_super_resolution({"network": {"consistency_mse": {"mean": 9.0}}}), is_super_resolution({"network": {}})
    (True, False)
    """
    return any("consistency_mse" in values for values in methods.values())


def super_resolution_blocks(methods: Mapping[str, Metrics]) -> str:
    """All tables of one direction; empty where the numbers are of something else.

    Args:
        methods: ``{method: {metric: {"mean": ..., "std": ...}}}``.
    """
    if not is_super_resolution(methods):
        return ""
    blocks = (
        ("Consistency and texture", metric_table(methods, OVERALL), OVERALL_NOTE),
        ("Structures", structure_table(methods), STRUCTURE_NOTE),
    )
    return "\n".join(html.block(heading, content, note=note) for heading, content, note in blocks if content)


def structure_table(methods: Mapping[str, Metrics]) -> str:
    """One row a structure: the truth's edge width, then contrast and edge width of each method; maybe empty."""
    known = [name for name in STRUCTURES if any(f"contrast_{name}" in values for values in methods.values())]
    if not known:
        return ""
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
    """Where the network is ahead of every interpolation, and where not, in consistency, texture and structures.

    >>> scores = {"network": {"spectrum_distance": {"mean": 0.3}}, "nearest": {"spectrum_distance": {"mean": 1.2}}}
    >>> super_resolution_lines(scores)
    ["By the distance of its power spectrum to the truth's it beats nearest neighbour (0.3 against 1.2 decades)."]
    """
    lines = []
    for metric, text, unit, form in SENTENCES:
        own = methods.get(NETWORK, {}).get(metric)
        rivals = {name: methods[name][metric]["mean"] for name in INTERPOLATED if metric in methods.get(name, {})}
        for verb, wins in (("beats", True), ("loses to", False)):
            named = [
                f"{short_name_of(rival)} ({own['mean']:{form}} against {value:{form}} {unit})"
                for rival, value in rivals.items()
                if own and (own["mean"] < value) == wins
            ]
            lines += [f"{text} it {verb} {' and '.join(named)}."] if named else []
    return lines + _structure_lines(methods)


def _structure_lines(methods: Mapping[str, Metrics]) -> list[str]:
    """By contrast and edge width, nearer to the truth's than the best interpolation or not."""
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
