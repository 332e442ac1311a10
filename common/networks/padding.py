"""Pad an image to a size that a strided network accepts, and crop the result back.

The sizes are computed so that they survive tracing and export with dynamic sizes: a branch would be frozen, ONNX
divides integers towards zero where Python rounds down (so nothing negative is divided), and onnxruntime rewrites
`8 * (1 // n)` to `8 // n` (so no quotient has the numerator 1).
"""

from __future__ import annotations

import torch
from torch.nn import functional as F


def check_image_dims(image: torch.Tensor, spatial_dims: int) -> None:
    """Refuse an image whose number of axes is not batch, channel and the spatial ones.

    Convolutions accept an image without its batch axis and would take the batch for the channels.

    Args:
        image: `(B, C, H, W[, D])`.
        spatial_dims: 2 or 3.

    Raises:
        ValueError: when the image has another number of axes.
    """
    if image.dim() != spatial_dims + 2:
        raise ValueError(
            f"`image` must have {spatial_dims + 2} dimensions (batch, channel, and {spatial_dims} spatial ones), "
            f"got {image.dim()}."
        )


def pad_to_multiple(image: torch.Tensor, multiple: int, value: float) -> torch.Tensor:
    """Pad each spatial axis symmetrically to a multiple of `multiple`, and to at least twice of it.

    The second rule keeps two voxels along each axis at the bottom of a U-Net: an instance norm of one voxel has no
    variance, and torch refuses it in training.

    Args:
        image: `(B, C, H, W[, D])`.
        multiple: the product of the network's strides; even.
        value: what to pad with: the background, -1.0 for an image in [-1, 1].

    Returns:
        `(B, C, H', W'[, D'])`; the odd voxel goes to the far side.

    Example:
        >>> pad_to_multiple(torch.zeros(1, 1, 240, 24), 16, -1.0).shape
        torch.Size([1, 1, 240, 32])
    """
    padding: list[int] = []
    for axis in range(image.dim() - 1, 1, -1):
        size = image.shape[axis]
        blocks = (size + multiple - 1) // multiple
        blocks = blocks + 2 // (blocks + 1)  # 1 becomes 2
        before = blocks * (multiple // 2) - (size + 1) // 2
        padding.append(before)
        padding.append(blocks * multiple - size - before)
    return F.pad(image, padding, mode="constant", value=value)


def crop_like(image: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Undo `pad_to_multiple`: keep the central part that has the reference's spatial size.

    Args:
        image: `(B, C, H', W'[, D'])`.
        reference: `(B, any, H, W[, D])`, the image before padding.

    Returns:
        `(B, C, H, W[, D])`.
    """
    for axis in range(2, image.dim()):
        size = reference.shape[axis]
        image = image.narrow(axis, image.shape[axis] // 2 - (size + 1) // 2, size)
    return image
