"""Loss of a texture that stands for what a regression cannot determine: its local variance and its power spectrum."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from .precision import full_precision

LEAST_POWER = 1e-4  # of the variance, in the squared unit of the images: 8 HU of 1600, squared
POOLED = 8  # frequencies along each axis that are averaged before they are compared


class TextureLoss(nn.Module):
    """Mean absolute difference of the logarithms of local variance and of power spectrum, wherever structures lie.

    Both are compared between a texture and a residual: the truth minus its best estimate. The residual's power beyond
    the resolution of the source is what a plausible texture should have.

    Args:
        factor: Width of a source's pixel; frequencies below its Nyquist frequency are left out.
        region: Pixels along each side of the squares in which the variance is measured.

    Raises:
        ValueError: If an argument is below 1.

    Example:
        >>> noise = torch.randn(4, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> other = torch.randn(4, 1, 64, 64, generator=torch.Generator().manual_seed(1))
        >>> loss = TextureLoss(factor=4, region=16)
        >>> bool(loss(noise, other) < 0.3), bool(loss(10 * noise, other) > 4)
        (True, True)
    """

    def __init__(self, *, factor: int = 8, region: int = 16) -> None:
        super().__init__()
        for name, value in {"factor": factor, "region": region}.items():
            if value < 1:
                raise ValueError(f"`{name}` must be >= 1, got {value}.")
        self.factor, self.region = factor, region

    def forward(self, texture: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """Compare two `(B, 1, H, W)`; return a scalar. The residual gets no gradient."""
        texture, residual = full_precision(texture), full_precision(residual).detach()
        variance = F.l1_loss(self._variance(texture), self._variance(residual))
        return variance + F.l1_loss(self._power(texture), self._power(residual))

    def _variance(self, image: torch.Tensor) -> torch.Tensor:
        return (F.avg_pool2d(image**2, self.region) + LEAST_POWER).log()

    def _power(self, image: torch.Tensor) -> torch.Tensor:
        """Return the logarithm of the batch's mean power in squares of frequencies beyond those of the source."""
        height, width = image.shape[-2:]
        rows, columns = (torch.hann_window(n, periodic=False, device=image.device) for n in (height, width))
        window = rows[:, None] * columns
        power = torch.fft.rfft2(image * window, norm="ortho").abs().square().mean(dim=(0, 1)) / window.square().mean()
        pooled = F.avg_pool2d(power[None, :, : width // 2], POOLED)[0]
        y = torch.fft.fftfreq(height, device=image.device)[::POOLED][: pooled.shape[0]].abs()
        x = torch.fft.rfftfreq(width, device=image.device)[::POOLED][: pooled.shape[1]]
        beyond = torch.maximum(y[:, None], x[None]) >= 0.5 / self.factor
        return (pooled[beyond] + 0.01 * LEAST_POWER).log()
