"""Precision of the losses: float32 at least, since half precision rounds away small gradients and saturated logits."""

from __future__ import annotations

import torch


def full_precision(tensor: torch.Tensor) -> torch.Tensor:
    """Cast half precision to float32; leave float32 and float64 unchanged.

    Example:
        >>> full_precision(torch.ones(1, dtype=torch.bfloat16)).dtype, full_precision(torch.ones(1).double()).dtype
        (torch.float32, torch.float64)
    """
    return tensor if tensor.dtype == torch.float64 else tensor.float()
