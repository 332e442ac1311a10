"""Matplotlib, imported when a report is made and never before; no global state, no display."""

from __future__ import annotations

import importlib
import io
from dataclasses import dataclass
from typing import Any


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


def to_png(figure: Any) -> bytes:
    """The figure as PNG; without the software tag, so that equal pictures are equal files."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor=figure.get_facecolor(), metadata={"Software": None})
    return buffer.getvalue()
