"""Image quality per patient, and what to measure where no truth exists."""

from __future__ import annotations

from .dose import dose_values, enhancement_spread, irreducible_values
from .enhancement import contrast_metrics, enhancement_errors, false_enhancement, share_above
from .image_quality import mae, psnr, rmse, slice_quality, ssim_map
from .kernel import kernel_curves, kernel_metrics
from .masks import foreground_mask
from .removal import removal_maps, removal_metrics
from .scaled import scaled_quality
from .score import matched, score
from .seams import seam_ratio
from .summary import read_rows, summarise, write_json, write_rows, write_text
from .unpaired import edge_disagreement, normalised_gradient, unpaired_metrics, unpaired_score
from .wasserstein import sliced_wasserstein
from .window import window_quality

__all__ = [
    "contrast_metrics",
    "dose_values",
    "edge_disagreement",
    "enhancement_errors",
    "enhancement_spread",
    "false_enhancement",
    "foreground_mask",
    "irreducible_values",
    "kernel_curves",
    "kernel_metrics",
    "mae",
    "matched",
    "normalised_gradient",
    "psnr",
    "read_rows",
    "removal_maps",
    "removal_metrics",
    "rmse",
    "scaled_quality",
    "score",
    "seam_ratio",
    "share_above",
    "slice_quality",
    "sliced_wasserstein",
    "ssim_map",
    "summarise",
    "unpaired_metrics",
    "unpaired_score",
    "window_quality",
    "write_json",
    "write_rows",
    "write_text",
]
