"""Panels of a case as PNG: grey or signed images with outlines, orientation letters and colour bars.

Matplotlib is imported only when a report is made; there is no global state and no display.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

BLACK = "#000000"
INK = "#e8edf3"
FRAME = "#ffd166"
DPI = 160
OUTLINES = ("#ffd166", "#06d6a0", "#ef476f", "#73c2fb")
# Diverging with a dark middle, so that a perfect output is as black as the background.
DIFFERENCE_COLOURS = ("#c9ecff", "#4aa8f0", "#1b4f8f", "#000000", "#8f2f14", "#f0743a", "#ffe2a8")


@dataclass(frozen=True)
class Theme:
    """Colours of a figure on a light or a dark page."""

    dark: bool
    paper: str
    text: str
    grid: str


LIGHT = Theme(dark=False, paper="#ffffff", text="#1f2933", grid="#e3e8ef")
DARK = Theme(dark=True, paper="#171d26", text="#dbe2ea", grid="#2d3643")
THEMES = (LIGHT, DARK)


def require(module: str) -> Any:
    """Import a matplotlib module.

    Raises:
        ModuleNotFoundError: With the cure, when matplotlib is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ModuleNotFoundError(
            f"`{module}` is needed to draw a report, got: {error}; pip install monai-translation-bundles[report]."
        ) from error


def new_figure(width: float, height: float, *, dpi: int, paper: str) -> Any:
    """Create a figure of the given size in inches that draws with Agg, without pyplot's global list of figures."""
    figure = require("matplotlib.figure").Figure(figsize=(width, height), dpi=dpi, facecolor=paper)
    require("matplotlib.backends.backend_agg").FigureCanvasAgg(figure)
    return figure


def new_plot(width: float, height: float, theme: Theme, *, columns: int = 1, dpi: int = 190) -> tuple[Any, list[Any]]:
    """Create a figure of the given size in inches with axes side by side, in the page's colours."""
    figure = new_figure(width, height, dpi=dpi, paper=theme.paper)
    figure.set_layout_engine("constrained")
    plots = [figure.add_subplot(1, columns, index + 1) for index in range(columns)]
    for axes in plots:
        axes.set_facecolor(theme.paper)
        axes.grid(color=theme.grid, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(colors=theme.text, labelsize=10, length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.xaxis.label.set(color=theme.text, fontsize=11)
        axes.yaxis.label.set(color=theme.text, fontsize=11)
    return figure, plots


def add_legend(axes: Any, theme: Theme, *, columns: int) -> None:
    """Add the names of the lines above the axes."""
    axes.legend(
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=columns,
        frameon=False,
        fontsize=9.5,
        labelcolor=theme.text,
        handlelength=1.2,
        columnspacing=1.2,
    )


def to_png(figure: Any, *, few_colours: bool = False) -> bytes:
    """Encode a figure as PNG, without the software tag, so that equal pictures are equal files.

    Args:
        figure: Figure of `new_figure`.
        few_colours: Whether to store the 256 colours that best cover the picture's, in half the space; grey is
            unchanged.
    """
    buffer = io.BytesIO()
    if few_colours:
        figure.canvas.draw()
        pillow = require("PIL.Image")
        picture = pillow.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3])
        # The rare colours count: a colour bar, the ends of a range.
        picture.quantize(256, method=pillow.Quantize.MAXCOVERAGE, dither=pillow.Dither.NONE).save(
            buffer, format="png", optimize=True
        )
    else:
        figure.savefig(buffer, format="png", facecolor=figure.get_facecolor(), metadata={"Software": None})
    return buffer.getvalue()


@dataclass(frozen=True)
class Panel:
    """Picture of a case: an image `(rows, columns)` in grey or in the difference colours, or RGB `(..., 3)`.

    `inset`, rows and columns, is framed and can be shown enlarged.
    """

    title: str
    image: np.ndarray
    limits: tuple[float, float] = (0.0, 1.0)
    signed: bool = False
    note: str = ""
    outlines: dict[int, np.ndarray] = field(default_factory=dict)
    inset: tuple[slice, slice] | None = None


def panel_png(panel: Panel, *, pixel_mm: tuple[float, float], width_px: int = 480, few_colours: bool = False) -> bytes:
    """Draw one panel alone, filling its PNG, with R and L marked; a difference has its colour bar below."""
    size_mm = _size_mm(panel, pixel_mm)
    width = width_px / DPI
    height = width * size_mm[0] / size_mm[1]
    foot = 0.44 if panel.signed else 0.0
    figure = new_figure(width, height + foot, dpi=DPI, paper=BLACK)
    axes = figure.add_axes((0.0, foot / (height + foot), 1.0, height / (height + foot)))
    shown = _draw(axes, panel, size_mm, letters=13.0)
    if panel.signed:
        _colour_bar(figure, shown, (0.12, 0.3 / (height + foot), 0.76, 0.1 / (height + foot)), size=12.0)
    return to_png(figure, few_colours=few_colours)


def inset_png(panel: Panel, *, pixel_mm: tuple[float, float], width_px: int = 480) -> bytes:
    """Draw the framed part of a panel alone, enlarged.

    Raises:
        ValueError: If the panel has none.
    """
    part = enlarged(panel)
    size_mm = _size_mm(part, pixel_mm)
    width = width_px / DPI
    figure = new_figure(width, width * size_mm[0] / size_mm[1], dpi=DPI, paper=BLACK)
    _draw(figure.add_axes((0.0, 0.0, 1.0, 1.0)), part, size_mm)
    return to_png(figure, few_colours=True)


def enlarged(panel: Panel) -> Panel:
    """Return the framed part of a panel as a separate panel.

    Raises:
        ValueError: If the panel has none.
    """
    if panel.inset is None:
        raise ValueError(f"`panel` must have an `inset` to enlarge, got none for {panel.title!r}.")
    outlines = {value: mask[panel.inset] for value, mask in panel.outlines.items()}
    return replace(panel, image=panel.image[panel.inset], outlines=outlines, inset=None)


def case_png(panels: Sequence[Panel], *, pixel_mm: tuple[float, float], title: str = "") -> bytes:
    """Draw all panels side by side with their titles, their enlarged parts below: one file for documents."""
    size_mm = _size_mm(panels[0], pixel_mm)
    width, foot, head, share = 2.6, 0.65, 0.65 if title else 0.35, 1 / len(panels)
    height = width * size_mm[0] / size_mm[1]
    parts = [enlarged(panel) for panel in panels if panel.inset is not None]
    below = width * np.divide(*_size_mm(parts[0], pixel_mm)) + 0.05 if parts else 0.0
    total = height + below + head + foot
    figure = new_figure(width * len(panels), total, dpi=130, paper=BLACK)
    if title:
        figure.text(0.01, 1.0 - 0.08 / total, _plain(title), color=INK, fontsize=11, va="top", weight="bold")
    for index, panel in enumerate(panels):
        left = index * share
        axes = figure.add_axes((left + 0.01 * share, (foot + below) / total, 0.98 * share, height / total))
        axes.set_title(_plain(panel.title), color=INK, fontsize=10, pad=5)
        shown = _draw(axes, panel, size_mm, letters=9.0)
        if panel.signed:
            _colour_bar(figure, shown, (left + 0.1 * share, 0.5 / total, 0.8 * share, 0.07 / total), size=7.5)
        figure.text(left + 0.5 * share, 0.12 / total, panel.note, color=INK, fontsize=7.2, ha="center")
    for index, part in enumerate(parts):
        axes = figure.add_axes(((index + 0.01) * share, foot / total, 0.98 * share, (below - 0.05) / total))
        _draw(axes, part, _size_mm(part, pixel_mm))
    return to_png(figure)


def outline_colour(index: int) -> str:
    """Return the colour of the n-th outlined label."""
    return OUTLINES[index % len(OUTLINES)]


def _draw(axes: Any, panel: Panel, size_mm: tuple[float, float], *, letters: float | None = None) -> Any:
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
                colors=[outline_colour(index)],
                linewidths=0.9,
                extent=extent,
                origin="upper",
            )
    axes.set(xlim=(0.0, size_mm[1]), ylim=(size_mm[0], 0.0))
    if panel.inset is not None:
        _frame(axes, panel, size_mm)
    for x, align, side in ((0.02, "left", "R"), (0.98, "right", "L")) if letters else ():
        axes.text(
            x, 0.02, side, transform=axes.transAxes, color=INK, fontsize=letters, ha=align, va="bottom", alpha=0.8
        )
    return shown


def _frame(axes: Any, panel: Panel, size_mm: tuple[float, float]) -> None:
    rows, columns = panel.inset or (slice(0), slice(0))
    step = size_mm[0] / panel.image.shape[0], size_mm[1] / panel.image.shape[1]
    corner = columns.start * step[1], rows.start * step[0]
    width, height = (columns.stop - columns.start) * step[1], (rows.stop - rows.start) * step[0]
    shape = require("matplotlib.patches").Rectangle(corner, width, height, fill=False, edgecolor=FRAME, linewidth=0.9)
    axes.add_patch(shape)


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


def _plain(text: str) -> str:
    """Keep matplotlib from reading $...$ in a patient's name as a formula."""
    return text.replace("$", r"\$")
