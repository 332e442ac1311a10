"""Pictures of a case: source, output, target, signed difference, and which edges were lost or invented.

Pictures of a CT case have one lung window, the difference over a fixed range, and an enlarged part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from ..metrics.score import UNIT_FACTOR
from ..metrics.unpaired import normalised_gradient
from .drawing import Panel, case_png, outline_colour, panel_png
from .scores import domains_of
from .volumes import INSET_MM, AxialSlice, disease_values

LUNG_WINDOW = (-1450.0, 50.0)  # width 1500, level -700
DIFFERENCE_HU = 100.0

KEPT, LOST, INVENTED = np.array([0.75, 0.75, 0.75]), np.array([0.15, 0.55, 1.0]), np.array([1.0, 0.45, 0.1])


def ct_panels(
    axial: AxialSlice,
    *,
    direction: str = "source->target",
    label_names: Mapping[int, str] | None = None,
    window: tuple[float, float] | None = None,
) -> list[Panel]:
    """Draw source, output, target and difference of a slice in HU; without a target the first two.

    Args:
        axial: Slice.
        direction: Direction that names the panels, e.g. `"B30f->B70f"`.
        label_names: Label values and their names; diseases are outlined on target and difference.
        window: Lowest and highest shown HU of all images; by default 1500/-700 (width/level). The difference is shown
            over plus and minus 100 HU in any window.

    Raises:
        ValueError: If the window is not rising.
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
    """Describe the pictures of a slice in a sentence: the window as width/level, and what is enlarged.

    Example:
        >>> image = np.zeros((2, 2))
        >>> ct_note(AxialSlice(image, image, None, None, (1.0, 1.0), 0, 1), None)
        'Window 1500/-700 HU (width/level).'
    """
    low, high = window or LUNG_WINDOW
    text = f"Window {high - low:g}/{(low + high) / 2:g} HU (width/level)."
    place = {"airway": "around an airway", "lung": "of the lung"}.get(axial.focus_name)
    return f"{text} The framed {INSET_MM:g} mm {place} are enlarged below, pixel by pixel." if place else text


def check_window(window: tuple[float, float] | None) -> tuple[float, float] | None:
    """Return the window unchanged.

    Raises:
        ValueError: If it is not rising.
    """
    if window is not None and not (len(window) == 2 and window[0] < window[1]):
        raise ValueError(f"`window` must be (low, high) with low < high in the images' unit, got {window}.")
    return window


__all__ = ["Panel", "case_panels", "case_png", "edge_agreement", "outline_legend", "panel_png"]


def case_panels(
    axial: AxialSlice,
    *,
    direction: str = "source->target",
    label_names: Mapping[int, str] | None = None,
    window: tuple[float, float] | None = None,
) -> list[Panel]:
    """Draw the panels of a slice, without a target neither target nor difference; see `ct_panels` for CT in HU.

    Args:
        axial: Slice.
        direction: Direction that names the source and the target panel, e.g. `"T1->T2"`.
        label_names: Label values and their names; diseases are outlined.
        window: Lowest and highest shown value of output and target, in their unit; the difference is shown over plus
            and minus half of its width. By default the 0.5th to 99.5th percentile of the target's slice (else the
            output's); an output in another unit than the target (MR has none) is then rescaled to it, and titled so.

    Raises:
        ValueError: If the window is not rising.
    """
    check_window(window)
    if axial.hu:
        return ct_panels(axial, direction=direction, label_names=label_names, window=window)
    names = domains_of(direction)
    reference = axial.prediction if axial.target is None else axial.target
    limits = window or robust_limits(reference)
    outlines = {}
    if axial.label is not None:
        outlines = {value: np.round(axial.label) == value for value in disease_values(label_names or {})}
    output, other_unit = axial.prediction, ""
    if window is None and axial.target is not None and not same_unit(axial.prediction, axial.target):
        output, other_unit = rescaled(axial.prediction, limits), ", rescaled"
    panels = [
        Panel(f"Source ({names[0]})", axial.source, robust_limits(axial.source)),
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
    """Draw an RGB picture `(rows, columns, 3)` of common (grey), lost (blue) and invented (orange) edges.

    Both images are scaled to [-1, 1] over their 1st to 99th percentile; edges are the normalised gradients that
    `common.metrics.edge_disagreement` compares.
    """
    first, second = (normalised_gradient(_scaled(image), epsilon=epsilon)[0].numpy() for image in (source, output))
    kept = np.sqrt(np.abs((first * second).sum(axis=0)))
    lost, invented = (np.clip(np.linalg.norm(own, axis=0) - kept, 0.0, 1.0) for own in (first, second))
    picture = kept[..., None] * KEPT + lost[..., None] * LOST + invented[..., None] * INVENTED
    return np.asarray(np.clip(np.pad(picture, ((1, 1), (1, 1), (0, 0))), 0.0, 1.0))


def outline_legend(panels: Sequence[Panel], label_names: Mapping[int, str]) -> list[tuple[str, str]]:
    """Return (name, colour) of the outlines that are visible in any panel."""
    seen = {
        value: index for panel in panels for index, value in enumerate(panel.outlines) if panel.outlines[value].any()
    }
    return [(label_names[value].replace("_", " "), outline_colour(index)) for value, index in seen.items()]


def robust_limits(image: np.ndarray) -> tuple[float, float]:
    """Return the 0.5th and 99.5th percentile of an image, apart from each other."""
    low, high = (float(value) for value in np.percentile(image, [0.5, 99.5]))
    return (low, high) if high > low else (low, low + 1.0)


def same_unit(first: np.ndarray, second: np.ndarray) -> bool:
    """Return whether the ranges of two images differ by less than a factor of two."""
    widths = [high - low for low, high in (robust_limits(first), robust_limits(second))]
    return max(widths) < UNIT_FACTOR * min(widths)


def rescaled(image: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Move the robust range of an image to `limits`."""
    low, high = robust_limits(image)
    return (image - low) / max(high - low, 1e-12) * (limits[1] - limits[0]) + limits[0]


def _scaled(image: np.ndarray) -> torch.Tensor:
    low, high = np.percentile(image, [1.0, 99.0])
    scaled = np.clip((image - low) / max(float(high - low), 1e-12), 0.0, 1.0) * 2.0 - 1.0
    return torch.as_tensor(np.ascontiguousarray(scaled), dtype=torch.float32)[None, None]
