"""Tables over several directions: the papers' image quality, and what a physicist asks of a CT kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape

from .directions import Scores, is_kernel_conversion
from .methods import direction_of
from .tables import Column, method_rows, metric_table, table

PAPER = (
    Column("psnr", "PSNR (dB)", "high", ".2f"),
    Column("ssim", "SSIM", "high", ".4f"),
    Column("rmse", "RMSE", "low", ".3g"),
)
NOISE, INDEX = "Noise SD in the blood pool (HU)", "Emphysema index (%)"
SPECTRA = "Difference of the curves"
KERNEL = (
    Column("noise_sd", "Output", "none", ".1f", NOISE),
    Column("noise_sd_target", "Target", "none", ".1f", NOISE),
    Column("noise_sd_error", "Difference", "low", ".1%", NOISE),
    Column("nps_error", "NPS", "low", ".3f", SPECTRA),
    Column("edge_error", "Edge (MTF)", "low", ".3f", SPECTRA),
    Column("emphysema_index", "Output", "none", ".1f", INDEX),
    Column("emphysema_index_target", "Target", "none", ".1f", INDEX),
    Column("emphysema_true", "True", "none", ".1f", INDEX),
    Column("emphysema_error", "Output off true", "none", ".1f", INDEX),
)
KERNEL_NOTE = (
    "Mean (SD) over patients. Difference of the noise SD: relative to the target's. NPS: mean absolute difference of "
    "the noise power spectra of uniform soft tissue up to Nyquist, relative to the target's mean. Edge: mean absolute "
    "difference of the transfer curves of large edges. Emphysema index: share of the lung below -950 HU. The noise of "
    "a sharp kernel changes it in the target's own image too: compare the output with the target for fidelity, and "
    "with the true share for use."
)


def paper_table(summary: Scores, directions: Sequence[str]) -> str:
    """PSNR, SSIM and RMSE as in the papers: one row a method, columns grouped by direction, mean (SD) over patients.

    Args:
        summary: ``{direction: {method: {metric: {"mean": ..., "std": ...}}}}``.
        directions: which, in order; those without scores are left out.
    """
    in_hu = is_kernel_conversion(summary)
    columns: list[Column] = []
    flat: dict[str, dict[str, Mapping[str, float]]] = {}
    for direction in directions:
        for column in PAPER:
            key = f"{column.metric} {direction}"
            shown = replace(column, metric=key, group=direction_of(direction))
            if in_hu and column.metric == "rmse":
                shown = replace(shown, heading="RMSE (HU)", digits=".2f")
            columns.append(shown)
        for method, metrics in summary.get(direction, {}).items():
            flat.setdefault(method, {}).update({f"{metric} {direction}": metrics[metric] for metric in metrics})
    return metric_table(flat, columns, spread=" ({})")


def kernel_table(summary: Scores, directions: Sequence[str]) -> str:
    """Noise, its spectrum, sharpness and emphysema index: one block of rows a direction; empty where none is known."""
    scored = [direction for direction in directions if summary.get(direction)]
    known = {metric for direction in scored for metrics in summary[direction].values() for metric in metrics}
    columns = [column for column in KERNEL if column.metric in known]
    if not columns:
        return ""
    bodies = ""
    for direction in scored:
        heading = f'<th scope="rowgroup" colspan="{len(columns) + 1}">{escape(direction_of(direction))}</th>'
        rows = method_rows(summary[direction], columns, spread=" ({})")
        bodies += f'<tbody><tr class="direction">{heading}</tr>{rows}</tbody>'
    return table(columns, bodies)
