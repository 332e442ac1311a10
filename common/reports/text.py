"""The numbers of an evaluation as plain text, for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .directions import FEW_DIRECTIONS, grouped_directions
from .methods import direction_of, name_of, ordered
from .verdict import Metrics, overall, verdict

SHOWN = {
    "psnr": ("PSNR dB", ".2f"),
    "ssim": ("SSIM", ".3f"),
    "psnr_matched": ("matched* PSNR", ".2f"),
    "ssim_matched": ("matched* SSIM", ".3f"),
    "mae": ("MAE", ".3g"),
    "mae_tumour": ("MAE tumour", ".3g"),
    "mse_window": ("MSE window", ".4f"),
    "ms_ssim_window": ("MS-SSIM", ".3f"),
    "ms_ssim_window_kernel7": ("MS-SSIM (7)", ".3f"),
    "consistency_psnr": ("consistency PSNR", ".2f"),
    "spectrum_distance": ("spectrum", ".3f"),
}
FOOTNOTE = "* after histogram matching to the target and 0.5 mm smoothing, the paper's protocol"


def results_table(summary: Mapping[str, Mapping[str, Metrics]]) -> str:
    """Mean and SD a method, and the verdict, for each direction of a ``summary.json``.

    More than two directions are one table of PSNR, a row a direction, with one verdict over all.

    >>> print(results_table({"T1->T2": {"identity": {"psnr": {"mean": 13.5, "std": 0.5}}}}))
    T1 → T2                     PSNR dB
    Identity (source as it is)  13.50 ± 0.50
    <BLANKLINE>
    T1 → T2: no network was scored here, only baselines.
    """
    if len(summary) > FEW_DIRECTIONS:
        return _many_directions(summary)
    parts = [_direction(direction, methods) for direction, methods in summary.items()]
    matched = any("matched" in metric for methods in summary.values() for row in methods.values() for metric in row)
    return "\n\n".join([*parts, FOOTNOTE] if matched else parts)


def _direction(direction: str, methods: Mapping[str, Metrics]) -> str:
    shown = [metric for metric in SHOWN if any(metric in metrics for metrics in methods.values())]
    table = [[direction_of(direction), *(SHOWN[metric][0] for metric in shown)]]
    for method in ordered(methods):
        table.append([name_of(method), *(_cell(methods[method].get(metric), SHOWN[metric][1]) for metric in shown)])
    return _aligned(table) + "\n\n" + verdict(direction, methods).text


def _many_directions(summary: Mapping[str, Mapping[str, Metrics]]) -> str:
    metric, (heading, form) = "psnr", SHOWN["psnr"]
    methods = ordered(method for scored in summary.values() for method in scored)
    table = [[heading, *(name_of(method).split(" (")[0] for method in methods)]]
    for group, directions in grouped_directions(summary, list(summary)).items():
        table += [[group]] if group else []
        for direction in directions:
            cells = (_cell(summary[direction].get(method, {}).get(metric), form) for method in methods)
            table.append([("  " if group else "") + direction_of(direction), *cells])
    return _aligned(table) + "\n\n" + overall(summary).text


def _aligned(table: Sequence[Sequence[str]]) -> str:
    """Columns of equal width; a row may end early."""
    widths = [max(len(row[column]) for row in table if column < len(row)) for column in range(len(table[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in table)


def _cell(value: Mapping[str, float] | None, form: str) -> str:
    return "-" if value is None else f"{value['mean']:{form}} ± {value.get('std', 0.0):{form}}"
