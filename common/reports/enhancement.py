"""Report sections on contrast enhancement and its removal: organs, false enhancement, dose, the paper's Figure 5."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from markupsafe import Markup

from ..metrics.enhancement import removal_maps
from ..metrics.enhancement_regions import ORGANS
from . import html
from .drawing import Panel
from .inputs import name_of, ordered
from .scores import Metrics
from .tables import Column, metric_table
from .volumes import AxialSlice

FULL_COLOUR_HU = 100.0
CORRECT, FALSE = np.array([0.25, 0.6, 1.0]), np.array([1.0, 0.35, 0.2])

ALIGNED, MISALIGNED = "In the window, scaled to [0, 1]", "Against the misaligned CECT, all that the paper had"
QUALITY = tuple(
    Column(f"{prefix}{metric}", heading, best, digits, group)
    for prefix, group in (("", ALIGNED), ("misaligned_", MISALIGNED))
    for metric, heading, best, digits in (
        ("mse_window", "MSE", "low", ".4f"),
        ("ms_ssim_window", "MS-SSIM", "high", ".3f"),
        ("ms_ssim_window_kernel7", "MS-SSIM (kernel 7)", "high", ".3f"),
        ("psnr_window", "PSNR (dB)", "high", ".2f"),
        ("ssim_window", "SSIM", "high", ".3f"),
    )
)
BODY, DOSE = "Inside the body", "After one fitted dose factor a patient"
ERRORS = (
    Column("false_enhancement_hu", "Where nothing enhances (HU)", "low", ".2f", "False enhancement"),
    Column("rmse_body_hu", "RMSE (HU)", "low", ".2f", BODY),
    Column("psnr_body", "PSNR (dB)", "high", ".2f", BODY),
    Column("dose_factor", "Factor", "one", ".2f", DOSE),
    Column("rmse_dose_hu", "RMSE (HU)", "none", ".2f", DOSE),
    Column("psnr_dose", "PSNR (dB)", "none", ".2f", DOSE),
    Column("irreducible_rmse_hu", "RMSE (HU)", "none", ".2f", "Irreducible: dose and circulation"),
)
REMOVAL = (
    Column("removal_correct_hu", "Removed", "none", ".1f", "Where contrast was (HU)"),
    Column("removal_true_hu", "To be removed", "none", ".1f", "Where contrast was (HU)"),
    Column("removal_false_hu", "Changed", "low", ".1f", "In the rest of the body (HU)"),
)
QUALITY_NOTE = (
    "Both volumes clipped to the window of 300 HU; whole field, mean over a patient's slices. The paper does not state "
    "the scale of its MSE; on [-1, 1] it would be four times as large."
)
ORGAN_NOTE = (
    "Mean ± SD over patients. Error: mean of output minus truth over the organ. MAE holds the source's noise too. Not "
    "predictable: SD of the true enhancement over the training patients, which a NECT does not show. Above the window: "
    "share of the true voxels that an output clipped to the window cannot reach."
)
ERROR_NOTE = (
    "False enhancement: mean |output - source| in bone, fat, bowel, cysts and what has no label, where the truth does "
    "not enhance by more than 6 HU. The dose factor scales the predicted change to the truth, so its columns are no "
    "result. Irreducible: what remains to whoever predicts every organ's mean enhancement without fault; the noise of "
    "the source, which is in the columns before, comes on top."
)
REMOVAL_NOTE = (
    "Mean over patients; contrast was where CECT and aligned NECT, smoothed over 2.5 mm, differ by more than 6 HU. "
    "Removing the noise of the CECT counts as change."
)


def is_removal(methods: Mapping[str, Metrics]) -> bool:
    """Return whether the removal of contrast was scored in a direction."""
    return any(metric.startswith("removal_") for values in methods.values() for metric in values)


def enhancement_blocks(methods: Mapping[str, Metrics]) -> Markup:
    """Write all tables of one direction; those without scores are omitted.

    Args:
        methods: `{method: {metric: {"mean": ..., "std": ...}}}`.
    """
    blocks = (
        ("As in the paper's Table 1", metric_table(methods, QUALITY), QUALITY_NOTE),
        ("Enhancement by organ", organ_table(methods), ORGAN_NOTE),
        ("False enhancement, dose and what cannot be known", metric_table(methods, ERRORS), ERROR_NOTE),
        ("Removal of contrast, the paper's Figure 5", metric_table(methods, REMOVAL), REMOVAL_NOTE),
    )
    return html.joined((html.block(heading, content, note=note) for heading, content, note in blocks), "\n")


def organ_table(methods: Mapping[str, Metrics]) -> Markup:
    """Write one row per organ: its true enhancement, then error and MAE of each method; empty if none is known."""
    known = [organ for organ in ORGANS if any(f"enhancement_bias_{organ}_hu" in values for values in methods.values())]
    if not known:
        return Markup()
    columns = [
        Column("true", "Enhancement (HU)", "none", ".1f", "Truth"),
        Column("irreducible", "Not predictable (SD, HU)", "none", ".1f", "Truth"),
        Column("above", "Above the window (%)", "none", ".1f", "Truth"),
    ]
    for method in ordered(methods):
        columns.append(Column(f"bias {method}", "Error (HU)", "none", "+.1f", name_of(method)))
        columns.append(Column(f"mae {method}", "MAE (HU)", "none", ".1f", name_of(method)))
    rows = {organ.replace("_", " "): _organ_row(organ, methods) for organ in known}
    return metric_table(rows, columns, heading="Organ")


def removal_panel(axial: AxialSlice) -> Panel:
    """Draw Figure 5: the change by a synthetic NECT, blue where contrast was, red elsewhere.

    Args:
        axial: Source is the CECT, prediction the synthetic and target the true NECT.

    Raises:
        ValueError: If there is no target.
    """
    if axial.target is None:
        raise ValueError("`axial` must have a target, the NECT aligned with its source, to tell correct from false.")
    images = (image[:, :, None] for image in (axial.prediction, axial.target, axial.source))
    maps = removal_maps(*images, spacing_mm=axial.pixel_mm)
    picture = sum(
        np.clip(np.abs(change[:, :, 0, None]) / FULL_COLOUR_HU, 0.0, 1.0) * colour
        for change, colour in ((maps.correct, CORRECT), (maps.false, FALSE))
    )
    note = "blue: removed contrast, red: false change"
    return Panel(f"Change (up to {FULL_COLOUR_HU:g} HU)", np.asarray(picture), note=note)


def _organ_row(organ: str, methods: Mapping[str, Metrics]) -> dict[str, Mapping[str, float]]:
    row: dict[str, Mapping[str, float]] = {}
    for method, values in methods.items():
        named = {
            "true": f"enhancement_true_{organ}_hu",
            "irreducible": f"irreducible_{organ}_hu",
            "above": f"truth_above_window_{organ}_percent",
            f"bias {method}": f"enhancement_bias_{organ}_hu",
            f"mae {method}": f"enhancement_mae_{organ}_hu",
        }
        row |= {name: values[metric] for name, metric in named.items() if metric in values}
    return row
