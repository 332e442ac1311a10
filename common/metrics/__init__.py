"""Image quality per patient, and what to measure where no truth exists."""

from __future__ import annotations

from .image_quality import mae, psnr, rmse, slice_quality, ssim_map
from .kernel import kernel_curves, kernel_metrics
from .masks import foreground_mask
from .score import matched, score
from .summary import read_rows, summarise, write_json, write_rows, write_text
from .unpaired import edge_disagreement, normalised_gradient, unpaired_metrics, unpaired_score
from .wasserstein import sliced_wasserstein

__all__ = [
    "edge_disagreement",
    "foreground_mask",
    "kernel_curves",
    "kernel_metrics",
    "mae",
    "matched",
    "normalised_gradient",
    "psnr",
    "read_rows",
    "rmse",
    "score",
    "slice_quality",
    "sliced_wasserstein",
    "ssim_map",
    "summarise",
    "unpaired_metrics",
    "unpaired_score",
    "write_json",
    "write_rows",
    "write_text",
]
