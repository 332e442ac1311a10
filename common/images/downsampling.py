"""Slices on pixels that are wider by a whole number: the mean of each one, or values of a spline."""

from __future__ import annotations

from collections.abc import Callable

import torch
from scipy.ndimage import zoom
from torch.nn.functional import avg_pool2d


def spline(slices: torch.Tensor, factor: int) -> torch.Tensor:
    """Read slices at every `factor`-th place of their cubic splines, from corner to corner, as scipy's `zoom` does.

    The centres of the corner pixels of both grids are in one place, so that structures shift by up to half a wide
    pixel, and what is finer than a wide pixel aliases. The last place is the last pixel but for rounding, beyond which
    `zoom` would return 0 in its default mode.

    Args:
        slices: Slices (n, H, W).
        factor: Ratio of the pixel widths, >= 1; H and W are multiples of it.

    Returns:
        Slices (n, H / factor, W / factor).
    """
    reduced = [torch.from_numpy(zoom(one.numpy(), 1 / factor, mode="mirror")) for one in slices]
    return torch.stack(reduced)


DOWNSAMPLINGS: dict[str, Callable[[torch.Tensor, int], torch.Tensor]] = {"mean": avg_pool2d, "spline": spline}
