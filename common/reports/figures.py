"""Matplotlib, imported when a report is made and never before; no global state, no display."""

from __future__ import annotations

import importlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np


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
        ModuleNotFoundError: with the cure, when matplotlib is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ModuleNotFoundError(
            f"`{module}` is needed to draw a report, got: {error}; pip install monai-translation-bundles[report]."
        ) from error


def new_figure(width: float, height: float, *, dpi: int, paper: str) -> Any:
    """A figure of the given size in inches that draws with Agg, without pyplot's global list of figures."""
    figure = require("matplotlib.figure").Figure(figsize=(width, height), dpi=dpi, facecolor=paper)
    require("matplotlib.backends.backend_agg").FigureCanvasAgg(figure)
    return figure


def new_plot(width: float, height: float, theme: Theme, *, columns: int = 1, dpi: int = 190) -> tuple[Any, list[Any]]:
    """A figure of the given size in inches and its axes, side by side, in the page's colours."""
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
    """The names of the lines, above the axes."""
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
    """The figure as PNG; without the software tag, so that equal pictures are equal files.

    Args:
        figure: of `new_figure`.
        few_colours: store the 256 colours that cover the picture's best, in half of the space; grey stays as it is.
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
