"""Pictures of a case: source, output, target, signed difference, and which edges were lost or invented."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ..metrics.unpaired import normalised_gradient
from .figures import new_figure, require, to_png
from .volumes import AxialSlice, disease_values

BLACK = "#000000"
INK = "#e8edf3"
OUTLINES = ("#ffd166", "#06d6a0", "#ef476f", "#73c2fb")
# Diverging with a dark middle, so that a perfect output is as black as the background.
DIFFERENCE_COLOURS = ("#c9ecff", "#4aa8f0", "#1b4f8f", "#000000", "#8f2f14", "#f0743a", "#ffe2a8")
UNIT_FACTOR = 2.0
KEPT, LOST, INVENTED = np.array([0.75, 0.75, 0.75]), np.array([0.15, 0.55, 1.0]), np.array([1.0, 0.45, 0.1])


@dataclass(frozen=True)
class Panel:
    """One picture: an image ``(rows, columns)`` shown in grey or with the difference colours, or RGB ``(..., 3)``."""

    title: str
    image: np.ndarray
    limits: tuple[float, float] = (0.0, 1.0)
    signed: bool = False
    note: str = ""
    outlines: dict[int, np.ndarray] = field(default_factory=dict)


def case_panels(
    axial: AxialSlice,
    *,
    direction: str = "source->target",
    label_names: Mapping[int, str] | None = None,
    window: tuple[float, float] | None = None,
) -> list[Panel]:
    """Panels of a slice; without a target there is no target and no difference.

    Args:
        axial: the slice.
        direction: e.g. ``"T1->T2"``: names the source and the target panel.
        label_names: label values and their names; disease is outlined.
        window: lowest and highest shown value of output and target, in their unit; the difference is shown over plus
            and minus half of its width. Default: 0.5th to 99.5th percentile of the target's slice (else the output's);
            an output in another unit than the target (MR has none) is then rescaled to it, and titled so.

    Raises:
        ValueError: when the window is not rising.
    """
    if window is not None and not (len(window) == 2 and window[0] < window[1]):
        raise ValueError(f"`window` must be (low, high) with low < high in the images' unit, got {window}.")
    names = direction.split("->") if "->" in direction else ["source", "target"]
    reference = axial.prediction if axial.target is None else axial.target
    limits = window or _limits(reference)
    outlines = {}
    if axial.label is not None:
        outlines = {value: np.round(axial.label) == value for value in disease_values(label_names or {})}
    output, other_unit = axial.prediction, ""
    if window is None and axial.target is not None and not _same_unit(axial.prediction, axial.target):
        output, other_unit = _rescaled(axial.prediction, limits), ", rescaled"
    panels = [
        Panel(f"Source ({names[0]})", axial.source, _limits(axial.source)),
        Panel(f"Output ({names[-1]}{other_unit})", output, limits),
    ]
    if axial.target is not None:
        half = (limits[1] - limits[0]) / 2.0
        difference = output - axial.target
        panels.append(Panel(f"Target ({names[-1]})", axial.target, limits, outlines=outlines))
        panels.append(
            Panel(
                "Difference",
                difference,
                (-half, half),
                signed=True,
                note="output minus target; red: too bright, blue: too dark",
                outlines=outlines,
            )
        )
    panels.append(
        Panel("Edges", edge_agreement(axial.source, axial.prediction), note="grey: kept, blue: lost, orange: invented")
    )
    return panels


def edge_agreement(source: np.ndarray, output: np.ndarray, *, epsilon: float = 0.15) -> np.ndarray:
    """RGB picture ``(rows, columns, 3)`` of common (grey), lost (blue) and invented (orange) edges.

    Both images are scaled to [-1, 1] over their 1st to 99th percentile; edges are the normalised gradients that
    `common.metrics.edge_disagreement` compares.
    """
    first, second = (normalised_gradient(_scaled(image), epsilon=epsilon)[0].numpy() for image in (source, output))
    kept = np.sqrt(np.abs((first * second).sum(axis=0)))
    lost, invented = (np.clip(np.linalg.norm(own, axis=0) - kept, 0.0, 1.0) for own in (first, second))
    picture = kept[..., None] * KEPT + lost[..., None] * LOST + invented[..., None] * INVENTED
    return np.asarray(np.clip(np.pad(picture, ((1, 1), (1, 1), (0, 0))), 0.0, 1.0))


def panel_png(panel: Panel, *, pixel_mm: tuple[float, float], width_px: int = 480) -> bytes:
    """One panel alone, filling its PNG, with R and L marked; below a difference stands its colour bar."""
    size_mm = _size_mm(panel, pixel_mm)
    width = width_px / 160
    height = width * size_mm[0] / size_mm[1]
    foot = 0.44 if panel.signed else 0.0
    figure = new_figure(width, height + foot, dpi=160, paper=BLACK)
    axes = figure.add_axes((0.0, foot / (height + foot), 1.0, height / (height + foot)))
    shown = _draw(axes, panel, size_mm, letters=13.0)
    if panel.signed:
        _colour_bar(figure, shown, (0.08, 0.3 / (height + foot), 0.84, 0.1 / (height + foot)), size=12.0)
    return to_png(figure)


def case_png(panels: Sequence[Panel], *, pixel_mm: tuple[float, float], title: str = "") -> bytes:
    """All panels side by side with their titles: one file for documents."""
    size_mm = _size_mm(panels[0], pixel_mm)
    width, foot, head, share = 2.6, 0.65, 0.65 if title else 0.35, 1 / len(panels)
    height = width * size_mm[0] / size_mm[1]
    total = height + head + foot
    figure = new_figure(width * len(panels), total, dpi=130, paper=BLACK)
    if title:
        figure.text(0.01, 1.0 - 0.08 / total, _plain(title), color=INK, fontsize=11, va="top", weight="bold")
    for index, panel in enumerate(panels):
        left = index * share
        axes = figure.add_axes((left + 0.01 * share, foot / total, 0.98 * share, height / total))
        axes.set_title(_plain(panel.title), color=INK, fontsize=10, pad=5)
        shown = _draw(axes, panel, size_mm)
        if panel.signed:
            _colour_bar(figure, shown, (left + 0.1 * share, 0.5 / total, 0.8 * share, 0.07 / total), size=7.5)
        figure.text(left + 0.5 * share, 0.12 / total, panel.note, color=INK, fontsize=8, ha="center")
    return to_png(figure)


def outline_legend(panels: Sequence[Panel], label_names: Mapping[int, str]) -> list[tuple[str, str]]:
    """(name, colour) of the outlines that are visible in any panel."""
    seen = {
        value: index for panel in panels for index, value in enumerate(panel.outlines) if panel.outlines[value].any()
    }
    return [(label_names[value].replace("_", " "), _outline_colour(index)) for value, index in seen.items()]


def _draw(axes: Any, panel: Panel, size_mm: tuple[float, float], *, letters: float = 9.0) -> Any:
    extent = (0.0, size_mm[1], size_mm[0], 0.0)
    axes.set_axis_off()
    shown = axes.imshow(
        panel.image,
        cmap=_difference_colours() if panel.signed else "gray",
        vmin=panel.limits[0],
        vmax=panel.limits[1],
        extent=extent,
        interpolation="antialiased",
    )
    for index, mask in enumerate(panel.outlines.values()):
        if mask.any():
            axes.contour(
                mask.astype(float),
                levels=[0.5],
                colors=[_outline_colour(index)],
                linewidths=0.9,
                extent=extent,
                origin="upper",
            )
    axes.set(xlim=(0.0, size_mm[1]), ylim=(size_mm[0], 0.0))
    for x, align, side in ((0.02, "left", "R"), (0.98, "right", "L")):
        axes.text(
            x, 0.02, side, transform=axes.transAxes, color=INK, fontsize=letters, ha=align, va="bottom", alpha=0.8
        )
    return shown


def _size_mm(panel: Panel, pixel_mm: tuple[float, float]) -> tuple[float, float]:
    return panel.image.shape[0] * pixel_mm[0], panel.image.shape[1] * pixel_mm[1]


def _colour_bar(figure: Any, shown: Any, place: tuple[float, float, float, float], *, size: float) -> None:
    bar = figure.colorbar(shown, cax=figure.add_axes(place), orientation="horizontal")
    bar.ax.tick_params(colors=INK, labelsize=size, length=2, pad=1)
    bar.ax.xaxis.set_major_locator(require("matplotlib.ticker").MaxNLocator(4))
    bar.outline.set_edgecolor(INK)
    bar.outline.set_linewidth(0.5)


def _difference_colours() -> Any:
    return require("matplotlib.colors").LinearSegmentedColormap.from_list("difference", DIFFERENCE_COLOURS)


def _outline_colour(index: int) -> str:
    return OUTLINES[index % len(OUTLINES)]


def _limits(image: np.ndarray) -> tuple[float, float]:
    low, high = (float(value) for value in np.percentile(image, [0.5, 99.5]))
    return (low, high) if high > low else (low, low + 1.0)


def _same_unit(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether the ranges of two images differ by less than a factor of two."""
    widths = [high - low for low, high in (_limits(first), _limits(second))]
    return max(widths) < UNIT_FACTOR * min(widths)


def _rescaled(image: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """The image with its robust range moved to `limits`."""
    low, high = _limits(image)
    return (image - low) / max(high - low, 1e-12) * (limits[1] - limits[0]) + limits[0]


def _scaled(image: np.ndarray) -> torch.Tensor:
    low, high = np.percentile(image, [1.0, 99.0])
    scaled = np.clip((image - low) / max(float(high - low), 1e-12), 0.0, 1.0) * 2.0 - 1.0
    return torch.as_tensor(np.ascontiguousarray(scaled), dtype=torch.float32)[None, None]


def _plain(text: str) -> str:
    """Keep matplotlib from reading $...$ in a patient's name as a formula."""
    return text.replace("$", r"\$")
