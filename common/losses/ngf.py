"""Normalized gradient field loss: edges keep their place and direction, whatever their contrast."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from ..devices import without_autocast
from .precision import full_precision

FORMS = ("paper", "official")


def image_gradient(image: torch.Tensor) -> torch.Tensor:
    """Compute Sobel derivatives along each spatial axis, scaled so that a unit ramp has derivative 1 in 2-D and 3-D.

    Along its axis the derivative is [-1, 0, 1] / 2, along the others the smoothing [1, 2, 1] / 4. The image is
    continued by its edge values, so that its border is no edge.

    Args:
        image: `(B, C, H, W[, D])`.

    Returns:
        `(B, C, axes, H, W[, D])` in intensity per voxel, in at least float32; the axes in the image's order.

    Raises:
        ValueError: If the image does not have 4 or 5 dimensions.

    Example:
        >>> ramp = torch.arange(5.0).expand(1, 1, 4, 5)  # rises along the last axis
        >>> image_gradient(ramp)[0, 0, :, 1, 2]
        tensor([0., 1.])
    """
    if image.dim() not in (4, 5):
        raise ValueError(
            f"`image` must have 4 dimensions (batch, channel, height, width) or 5 (and depth), got {image.dim()}."
        )
    axes = range(2, image.dim())
    with without_autocast(image.device):
        padded = F.pad(full_precision(image), [1, 1] * len(axes), mode="replicate")
        return torch.stack([_sobel(padded, axis) for axis in axes], dim=2)


def _sobel(padded: torch.Tensor, slope_axis: int) -> torch.Tensor:
    """Differentiate along one axis; shifted views cost a twentieth of depthwise convolutions on a CPU."""
    values = padded
    for axis in range(2, padded.dim()):
        size = padded.shape[axis] - 2
        before, here, after = (values.narrow(axis, start, size) for start in range(3))
        values = 0.5 * (after - before) if axis == slope_axis else 0.25 * (before + after) + 0.5 * here
    return values


def normalized_gradient_field(image: torch.Tensor, epsilon: float, form: str = "paper") -> torch.Tensor:
    """Return the gradient's direction, with a length that falls from 1 to 0 where it is weak compared with `epsilon`.

    Args:
        image: `(B, C, H, W[, D])`.
        epsilon: The gradient that counts as noise, in intensity per voxel, > 0.
        form: "paper", equation (4): gradient / (norm + epsilon); "official": gradient / sqrt(norm^2 + epsilon^2).

    Returns:
        `(B, C, axes, H, W[, D])`, of length below 1.

    Raises:
        ValueError: If `epsilon` or `form` is invalid.

    Example:
        >>> ramp = 0.3 * torch.arange(5.0).expand(1, 1, 4, 5)
        >>> normalized_gradient_field(ramp, 0.1)[0, 0, :, 1, 2]
        tensor([0.0000, 0.7500])
    """
    _check_options(epsilon, form)
    gradient = image_gradient(image)
    with without_autocast(image.device):
        squared_norm = gradient.square().sum(dim=2, keepdim=True)
        if form == "official":
            return gradient / (squared_norm + epsilon**2).sqrt()
        # Without the clamp the square root has an infinite derivative on a flat background, and the loss NaN gradients.
        return gradient / (squared_norm.clamp_min(torch.finfo(gradient.dtype).tiny).sqrt() + epsilon)


def normalized_gradient_field_loss(
    source: torch.Tensor, translated: torch.Tensor, *, epsilon: float = 0.15, form: str = "paper"
) -> torch.Tensor:
    """Average `1 - <n(source), n(translated)>^2 / 2` over voxels and channels; see `NormalizedGradientFieldLoss`."""
    if source.shape != translated.shape:
        raise ValueError(
            f"`source` and `translated` must have the same shape, got {tuple(source.shape)} and "
            f"{tuple(translated.shape)}."
        )
    fields = [normalized_gradient_field(image, epsilon, form) for image in (source, translated)]
    with without_autocast(source.device):
        alignment = (fields[0] * fields[1]).sum(dim=2)  # <n(s), n(G(s))> of equation (3)
        return 1.0 - 0.5 * alignment.square().mean()


class NormalizedGradientFieldLoss(nn.Module):
    """Loss in [1/2, 1] that asks the gradients of an image and of its translation to be (anti)parallel.

    Jaouen, Conze, Visvikis, "One-sided unsupervised medical image synthesis with normalized edge consistency",
    IEEE ISBI 2024, equations (3) and (4); after Haber and Modersitzki, MICCAI 2006. The square makes it blind to the
    contrast's sign, and so to a global inversion of contrast. Each channel is compared on its own.

    Args:
        epsilon: Noise threshold in intensity per voxel, > 0; 0.15 for images in [-1, 1] (section 3).
        form: "paper" or "official", see `normalized_gradient_field`.

    Raises:
        ValueError: If `epsilon` or `form` is out of range, or the images differ in shape.

    Differences from the official code:
        - `form="official"` with `epsilon=0.1` is the released code's form; it weights the loss by 3, the paper by 1.
        - The Sobel kernels are scaled to the derivative 1 of a unit ramp. Unscaled they give 8 (2-D) or 32 (3-D), and
          `epsilon` would change its meaning with the number of dimensions.
        - Value and gradient are finite on a constant image, where equation (4) as written gives NaN gradients.

    Example:
        >>> loss = NormalizedGradientFieldLoss()
        >>> image = torch.rand(1, 1, 16, 16)
        >>> bool(loss(image, -image) == loss(image, image))
        True
        >>> loss(image, torch.zeros_like(image))
        tensor(1.)
    """

    def __init__(self, epsilon: float = 0.15, *, form: str = "paper") -> None:
        super().__init__()
        _check_options(epsilon, form)
        self.epsilon = epsilon
        self.form = form

    def forward(self, source: torch.Tensor, translated: torch.Tensor) -> torch.Tensor:
        """Compare two `(B, C, H, W[, D])` in [-1, 1]; return a scalar in [1/2, 1]."""
        return normalized_gradient_field_loss(source, translated, epsilon=self.epsilon, form=self.form)


def _check_options(epsilon: float, form: str) -> None:
    if not epsilon > 0:
        raise ValueError(f"`epsilon` must be > 0, got {epsilon}.")
    if form not in FORMS:
        raise ValueError(f"`form` must be one of {FORMS}, got {form!r}.")
