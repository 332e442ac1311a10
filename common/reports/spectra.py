"""Noise power spectra and edge curves of a CT case: source, output and target in one figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..metrics.kernel import kernel_curves
from .directions import domains_of
from .figures import Theme, add_legend, new_plot, to_png
from .methods import IDENTITY, NETWORK, colour_of
from .volumes import CaseVolumes

# So many slices around the shown one are measured: enough patches and edges, and quick in a volume of hundreds.
MOST_SLICES = 16
LP_CM = 10.0  # in one lp/mm
Curves = Mapping[str, Mapping[str, list[float]]]
PLOTS = (
    ("nps", "Noise power spectrum (HU² mm²)"),
    ("edge", "Edge curve (MTF)"),
)


def case_curves(volumes: CaseVolumes, index: int) -> dict[str, dict[str, list[float]]]:
    """Curves of ``source``, ``output`` and ``target``, all at the places found in the target.

    Args:
        volumes: CT in HU; without a target nothing is measured.
        index: the shown slice; up to 16 slices around it are used.

    Returns:
        `common.metrics.kernel.kernel_curves` of each; empty where the target has neither uniform tissue nor edges.
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
    """The noise power spectra and the edge curves, side by side, up to the Nyquist frequency in lp/cm.

    Args:
        curves: of `case_curves`.
        theme: colours of the page.
        direction: e.g. ``"B30f->B70f"``: names the lines.
        pixel_mm: pixel size, of which the larger side sets Nyquist.
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
