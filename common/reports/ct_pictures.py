"""Pictures of a CT case: all images in one lung window, the difference over a fixed range, a part of each enlarged."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .directions import domains_of
from .drawing import Panel
from .volumes import INSET_MM, AxialSlice, disease_values

LUNG_WINDOW = (-1450.0, 50.0)  # width 1500, level -700
DIFFERENCE_HU = 100.0


def ct_panels(
    axial: AxialSlice,
    *,
    direction: str = "source->target",
    label_names: Mapping[int, str] | None = None,
    window: tuple[float, float] | None = None,
) -> list[Panel]:
    """Source, output, target and difference of a slice in HU; without a target the first two.

    Args:
        axial: the slice.
        direction: e.g. ``"B30f->B70f"``: names the panels.
        label_names: label values and their names; disease is outlined on target and difference.
        window: lowest and highest shown HU of all images; default 1500/-700 (width/level). The difference is shown over
            plus and minus 100 HU in any window.

    Raises:
        ValueError: when the window is not rising.
    """
    limits = check_window(window) or LUNG_WINDOW
    names = domains_of(direction)
    outlines = {}
    if axial.label is not None:
        outlines = {value: np.round(axial.label) == value for value in disease_values(label_names or {})}
    panels = [
        Panel(f"Source ({names[0]})", axial.source, limits, inset=axial.inset),
        Panel(f"Output ({names[1]})", axial.prediction, limits, inset=axial.inset),
    ]
    if axial.target is None:
        return panels
    difference = Panel(
        f"Difference (±{DIFFERENCE_HU:g} HU)",
        axial.prediction - axial.target,
        (-DIFFERENCE_HU, DIFFERENCE_HU),
        signed=True,
        note="output minus target; red: too high, blue: too low",
        outlines=outlines,
        inset=axial.inset,
    )
    return [
        *panels,
        Panel(f"Target ({names[1]})", axial.target, limits, outlines=outlines, inset=axial.inset),
        difference,
    ]


def ct_note(axial: AxialSlice, window: tuple[float, float] | None) -> str:
    """What the pictures of a slice show, in a sentence: the window as width/level, and what is enlarged.

    >>> image = np.zeros((2, 2))
    >>> ct_note(AxialSlice(image, image, None, None, (1.0, 1.0), 0, 1), None)
    'Window 1500/-700 HU (width/level).'
    """
    low, high = window or LUNG_WINDOW
    text = f"Window {high - low:g}/{(low + high) / 2:g} HU (width/level)."
    place = {"airway": "around an airway", "lung": "of the lung"}.get(axial.focus_name)
    return f"{text} The framed {INSET_MM:g} mm {place} are enlarged below, pixel by pixel." if place else text


def check_window(window: tuple[float, float] | None) -> tuple[float, float] | None:
    """The window as it is.

    Raises:
        ValueError: when it is not rising.
    """
    if window is not None and not (len(window) == 2 and window[0] < window[1]):
        raise ValueError(f"`window` must be (low, high) with low < high in the images' unit, got {window}.")
    return window
