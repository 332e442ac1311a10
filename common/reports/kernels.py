"""CT kernels in a report: tables over several directions, and noise power spectra and edge curves of a case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from markupsafe import Markup

from ..bundles import KERNEL_CONVERSION
from ..metrics.kernel import kernel_curves
from .drawing import Theme, add_legend, new_plot, to_png
from .inputs import IDENTITY, NETWORK, colour_of, direction_of, task_of_metrics
from .scores import Scores, domains_of
from .tables import Column, method_rows, metric_table, table
from .volumes import CaseVolumes

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

# So many slices around the shown one are measured: enough patches and edges, and quick in a volume of hundreds.
MOST_SLICES = 16
LP_CM = 10.0  # in one lp/mm
Curves = Mapping[str, Mapping[str, list[float]]]
PLOTS = (("nps", "Noise power spectrum (HU² mm²)"), ("edge", "Edge curve (MTF)"))


def paper_table(summary: Scores, directions: Sequence[str], *, task: str | None = None) -> Markup:
    """Write PSNR, SSIM and RMSE as in the papers: one row per method, columns by direction, mean (SD) over patients.

    Args:
        summary: `{direction: {method: {metric: {"mean": ..., "std": ...}}}}`.
        directions: Which, in order; those without scores are left out.
        task: Of the run, see `Inputs.task`; default: `task_of_metrics` of the summary.
    """
    in_hu = (task or task_of_metrics(summary)) == KERNEL_CONVERSION
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


def kernel_table(summary: Scores, directions: Sequence[str]) -> Markup:
    """Write noise, its spectrum, sharpness and emphysema index: a block of rows per direction; empty if unknown."""
    scored = [direction for direction in directions if summary.get(direction)]
    known = {metric for direction in scored for metrics in summary[direction].values() for metric in metrics}
    columns = [column for column in KERNEL if column.metric in known]
    if not columns:
        return Markup()
    return table(
        columns,
        [(direction_of(direction), method_rows(summary[direction], columns, spread=" ({})")) for direction in scored],
    )


def case_curves(volumes: CaseVolumes, index: int) -> dict[str, dict[str, list[float]]]:
    """Compute the curves of `source`, `output` and `target`, all at the places found in the target.

    Args:
        volumes: CT in HU; without a target nothing is measured.
        index: Index of the shown slice; up to 16 slices around it are used.

    Returns:
        `common.metrics.kernel.kernel_curves` of each; empty if the target has neither uniform tissue nor edges.
    """
    if volumes.target is None:
        return {}
    first = max(min(index - MOST_SLICES // 2, volumes.source.shape[2] - MOST_SLICES), 0)
    slab = slice(first, first + MOST_SLICES)
    reference = volumes.target[:, :, slab]
    images = {"source": volumes.source, "output": volumes.prediction, "target": volumes.target}
    curves = {
        name: kernel_curves(image[:, :, slab], volumes.zooms, reference_hu=reference) for name, image in images.items()
    }
    return curves if curves["target"] else {}


def curves_png(curves: Curves, *, theme: Theme, direction: str, pixel_mm: tuple[float, float]) -> bytes:
    """Draw the noise power spectra and the edge curves side by side, up to the Nyquist frequency in lp/cm.

    Args:
        curves: Curves of `case_curves`.
        theme: Colours of the page.
        direction: Direction that names the lines, e.g. `"B30f->B70f"`.
        pixel_mm: Pixel size, of which the larger side sets Nyquist.
    """
    source, target = domains_of(direction)
    shown = [(name, title) for name, title in PLOTS if name in curves["target"]]
    lines: dict[str, tuple[str, str, dict[str, Any]]] = {
        "target": (f"target ({target})", theme.text, {"linewidth": 3.5, "alpha": 0.45}),
        "source": (f"source ({source})", colour_of(IDENTITY, dark=theme.dark), {"linewidth": 1.6, "linestyle": "--"}),
        "output": ("output", colour_of(NETWORK, dark=theme.dark), {"linewidth": 1.9}),
    }
    figure, plots = new_plot(4.4 * len(shown), 2.9, theme, columns=len(shown), dpi=130)
    for axes, (name, title) in zip(plots, shown, strict=True):
        for image, (label, colour, style) in lines.items():
            if name in curves.get(image, {}):
                frequency = LP_CM * np.asarray(curves[image][f"{name}_lp_mm"])
                axes.plot(frequency, curves[image][name], color=colour, label=label, **style)
        axes.set(xlabel="spatial frequency (lp/cm)", ylabel=title, xlim=(0.0, LP_CM * 0.5 / max(pixel_mm)))
        axes.set_ylim(bottom=0.0)
        add_legend(axes, theme, columns=3)
    return to_png(figure, few_colours=True)
