"""Metrics: image quality per patient, and measures for cases without a truth."""

from __future__ import annotations

from typing import Any

from ..moved import moved_attribute
from .dose import dose_values, enhancement_spread, irreducible_values
from .enhancement import (
    contrast_metrics,
    enhancement_errors,
    false_enhancement,
    removal_maps,
    removal_metrics,
    share_above,
)
from .image_quality import mae, psnr, rmse, slice_quality, ssim_map
from .kernel import kernel_curves, kernel_metrics, lung_metrics
from .score import foreground_mask, matched, score
from .structures import STRUCTURES, contrast, edge_width, find_structures
from .summary import read_rows, summarise, write_rows
from .super_resolution import (
    consistency,
    radial_power_spectrum,
    spectrum_distance,
    super_resolution_metrics,
    thick_slices,
)
from .texture import checkerboard_index, gradient_energy, sharpness
from .unpaired import edge_disagreement, normalised_gradient, sliced_wasserstein, unpaired_metrics, unpaired_score
from .window import scaled_quality, window_quality

__all__ = [
    "STRUCTURES",
    "checkerboard_index",
    "consistency",
    "contrast",
    "contrast_metrics",
    "dose_values",
    "edge_disagreement",
    "edge_width",
    "enhancement_errors",
    "enhancement_spread",
    "false_enhancement",
    "find_structures",
    "foreground_mask",
    "gradient_energy",
    "irreducible_values",
    "kernel_curves",
    "kernel_metrics",
    "lung_metrics",
    "mae",
    "matched",
    "normalised_gradient",
    "psnr",
    "radial_power_spectrum",
    "read_rows",
    "removal_maps",
    "removal_metrics",
    "rmse",
    "scaled_quality",
    "score",
    "share_above",
    "sharpness",
    "slice_quality",
    "sliced_wasserstein",
    "spectrum_distance",
    "ssim_map",
    "summarise",
    "super_resolution_metrics",
    "thick_slices",
    "unpaired_metrics",
    "unpaired_score",
    "window_quality",
    "write_rows",
]


def __getattr__(name: str) -> Any:
    return moved_attribute(__name__, name)
