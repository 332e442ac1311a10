"""Generators that start from the classical method: a learnable radial filter, refined by a network."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ..devices import without_autocast
from .definition import record_arguments
from .layers import RestoreClipped, check_image_dims
from .residual import UNetGenerator, start_at_zero
from .stargan import StarGANGenerator

INITIAL_INTERVALS = 240  # intervals of the initial filter


class RadialFilterBank(nn.Module):
    """Bank of radially symmetric filters, one per pair of reconstruction kernels, as finite convolutions.

    H(f) = H_0(f) exp(s(f) - s(0)), f in lp/mm: H_0 is a fitted filter to start from (`set`), s a cubic spline of
    learnable coefficients, initially 0. The learnt part is positive and smooth, and 1 at f = 0, so that HU of uniform
    regions are preserved. Between a kernel and itself H is the identity. Reconstruction is linear in the kernel, hence
    the filter towards a blend of kernels is that blend of filters.

    Args:
        num_domains: Number of kernels.
        size: Number of taps along each side, odd.
        num_knots: Number of spline intervals from 0 to `max_frequency`.
        max_frequency: Frequency in lp/mm above which s is constant. The corner of 0.55 mm pixels lies at 1.29 lp/mm.

    Raises:
        ValueError: If `size` is not odd, or `num_knots` is below 2.
    """

    def __init__(
        self, num_domains: int = 3, *, size: int = 31, num_knots: int = 24, max_frequency: float = 1.2
    ) -> None:
        super().__init__()
        if size < 3 or size % 2 == 0:
            raise ValueError(f"`size` must be odd and >= 3, got {size}.")
        if num_knots < 2:
            raise ValueError(f"`num_knots` must be >= 2, got {num_knots}.")
        self.num_domains, self.size, self.num_knots = num_domains, size, num_knots
        self.step = max_frequency / num_knots
        self.fine_step = max_frequency / INITIAL_INTERVALS
        # Annotated here, not in the class body, where TorchScript takes annotations for strings.
        self.initial: torch.Tensor
        self.cosines: torch.Tensor
        self.radius: torch.Tensor
        self.centres: torch.Tensor
        self.changes: torch.Tensor
        self.register_buffer("initial", torch.ones(num_domains, num_domains, INITIAL_INTERVALS + 1))
        self.coefficients = nn.Parameter(torch.zeros(num_domains, num_domains, num_knots + 3))
        offsets = torch.arange(size, dtype=torch.float32) - size // 2
        self.register_buffer("cosines", torch.cos(2 * math.pi / size * offsets[:, None] * offsets), persistent=False)
        self.register_buffer("radius", torch.hypot(offsets[:, None], offsets) / size, persistent=False)
        self.register_buffer("centres", torch.arange(-1, num_knots + 2, dtype=torch.float32), persistent=False)
        self.register_buffer("changes", 1 - torch.eye(num_domains), persistent=False)

    def gains(self, frequency: torch.Tensor) -> torch.Tensor:
        """Evaluate H of all pairs at frequencies (...) in lp/mm: (source, target, ...)."""
        shape = frequency.shape
        position = (frequency.flatten() / self.step).clamp(max=float(self.num_knots))
        origin = self._basis(torch.zeros(1, dtype=position.dtype, device=position.device))
        log_change = (self.coefficients @ (self._basis(position) - origin).T) * self.changes[:, :, None]
        gains = self._initial(frequency.flatten()) * log_change.exp()
        return gains.reshape([self.num_domains, self.num_domains] + list(shape))

    def _initial(self, frequency: torch.Tensor) -> torch.Tensor:
        """Evaluate H_0 at frequencies (N,), linearly between its points: (source, target, N)."""
        intervals = self.initial.shape[2] - 1
        position = (frequency / self.fine_step).clamp(max=float(intervals))
        left = position.floor().clamp(max=float(intervals - 1))
        share = position - left
        index = left.long()
        return self.initial[:, :, index] * (1 - share) + self.initial[:, :, index + 1] * share

    def forward(
        self, image: torch.Tensor, source: torch.Tensor, target: torch.Tensor, spacing_mm: torch.Tensor
    ) -> torch.Tensor:
        """Filter (B, 1, H, W) with mirrored borders.

        Args:
            image: Image in any linear intensity.
            source: Source kernels (B, num_domains) or (1, num_domains), one-hot.
            target: Target kernels of the same shape, one-hot or the weights of a blend.
            spacing_mm: Pixel sizes (B,) or (1,).
        """
        kernel = self.taps(source, target, spacing_mm)
        padded = mirrored(image, self.size // 2)
        if kernel.shape[0] == 1:  # one conversion for all images: what is deployed and exported
            return F.conv2d(padded, kernel[:, None])
        return F.conv2d(padded.transpose(0, 1), kernel[:, None], groups=kernel.shape[0]).transpose(0, 1)

    def taps(self, source: torch.Tensor, target: torch.Tensor, spacing_mm: torch.Tensor) -> torch.Tensor:
        """Compute the convolution kernels (B, size, size): inverse Fourier transforms of H on the grid."""
        gains = self.gains(self.radius / spacing_mm[:, None, None])  # (source, target, B, size, size)
        weights = source.T[:, None] * target.T[None]  # (source, target, B)
        wanted = (gains * weights[..., None, None]).sum(dim=0).sum(dim=0)
        return self.cosines @ wanted @ self.cosines / self.size**2

    def _basis(self, position: torch.Tensor) -> torch.Tensor:
        """Evaluate uniform cubic B-splines at positions (N,) in knot intervals: (N, num_knots + 3)."""
        distance = (position[:, None] - self.centres).abs()
        near = (4 - 6 * distance**2 + 3 * distance**3) / 6
        far = (2 - distance).clamp_min(0) ** 3 / 6
        return torch.where(distance < 1, near, far)

    @torch.no_grad()
    def set(self, source: int, target: int, gain: Callable[[np.ndarray], np.ndarray]) -> None:
        """Initialise one pair of kernels with a fitted filter.

        Args:
            source: Index of the source kernel.
            target: Index of the target kernel.
            gain: Function from frequencies (N,) in lp/mm to gains (N,); 1 at 0.
        """
        points = gain(np.arange(INITIAL_INTERVALS + 1) * self.fine_step)
        self.initial[source, target] = torch.from_numpy(np.asarray(points)).to(self.initial)


def mirrored(image: torch.Tensor, border: int) -> torch.Tensor:
    """Extend (B, C, H, W) by its mirror images, including the border pixel, as the baselines' cosine transform does.

    An image that is smaller than the border is mirrored again and again.

    PyTorch's "reflect" leaves that pixel out: where a field of view cuts through the body, the step would show in
    directions that are otherwise easy.
    """
    for axis in (2, 3):
        left = border
        while left > 0:
            step = left if image.shape[axis] >= left else image.shape[axis]
            first = image.narrow(axis, 0, step).flip(axis)
            last = image.narrow(axis, image.shape[axis] - step, step).flip(axis)
            image = torch.cat([first, image, last], dim=axis)
            left -= step
    return image


class PhysicsGenerator(nn.Module):
    """Kernel conversion by a filter in lp/mm, as a scanner would do it, with a residual for what no filter can do.

    filtered = filter(RestoreClipped(image)), output = filtered + `residual_scale` * StarGANGenerator(filtered, target),
    limited to [-1, 1] as a scanner limits what it stores. The residual's last layer starts at zero: an untrained
    generator is the classical filter that `filters.set` was given, applied to an image whose noise in air is not cut
    off at -1024 HU.

    Unlike the papers' generator it must know the kernel and the pixel size of the image: its label is
    `ConversionLabels` [target | source | spacing_mm].

    Args:
        num_domains: Number of kernels.
        channels: Channels of the refining network; 0 omits it.
        num_res_blocks: Number of residual blocks of the refining network.
        filter_size: Number of taps along each side.
        num_knots: Number of spline intervals, see `RadialFilterBank`.
        residual_scale: Largest change by the refining network, in [-1, 1] units (0.02 is 41 HU of the range 4095).
        air_below: Upper limit of air where clipped noise is restored, in [-1, 1] (-0.89 is -799 HU of the range -1024
            to 3071); None leaves clipped noise as it is.

    Example:
        >>> network = PhysicsGenerator(3, channels=8, num_res_blocks=1)
        >>> label = torch.tensor([[0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.7]])  # to the second from the first, 0.7 mm
        >>> network(torch.zeros(2, 1, 64, 64), label).shape
        torch.Size([2, 1, 64, 64])
    """

    @record_arguments
    def __init__(
        self,
        num_domains: int = 3,
        *,
        channels: int = 64,
        num_res_blocks: int = 6,
        filter_size: int = 31,
        num_knots: int = 24,
        residual_scale: float = 0.02,
        air_below: float | None = -0.89,
    ) -> None:
        super().__init__()
        self.num_domains = num_domains
        self.residual_scale = residual_scale
        self.restore = nn.Identity() if air_below is None else RestoreClipped(below=air_below)
        self.filters = RadialFilterBank(num_domains, size=filter_size, num_knots=num_knots)
        self.refine: StarGANGenerator | None = None
        if channels > 0:
            self.refine = StarGANGenerator(num_domains, channels=channels, num_res_blocks=num_res_blocks)
            last = [layer for layer in self.refine.modules() if isinstance(layer, nn.Conv2d)][-1]
            nn.init.zeros_(last.weight)

    def forward(self, image: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Convert (B, 1, H, W) in [-1, 1] with labels (B, 2 num_domains + 1) or (1, 2 num_domains + 1)."""
        filtered = self._filtered(image, label)
        if self.refine is not None:
            filtered = filtered + self.residual_scale * self.refine(filtered, label[:, : self.num_domains])
        return filtered.clamp(-1.0, 1.0)

    def features(self, image: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Convert, and also return the refining network's feature that guides the discriminator."""
        if self.refine is None:
            raise ValueError("`channels` must be > 0 for a generator that guides its discriminator, got 0.")
        filtered = self._filtered(image, label)
        residual, feature = self.refine.features(filtered, label[:, : self.num_domains])
        return (filtered + self.residual_scale * residual).clamp(-1.0, 1.0), feature

    def _filtered(self, image: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        check_image_dims(image, 2)
        n = self.num_domains
        if label.dim() != 2 or label.shape[1] != 2 * n + 1:
            raise ValueError(
                f"`label` must have shape (batch, {2 * n + 1}): [target | source | mm], got {label.shape}."
            )
        source, target, spacing_mm = label[:, n : 2 * n], label[:, :n], label[:, 2 * n]
        if torch.jit.is_scripting():
            return self.filters(self.restore(image), source, target, spacing_mm)
        else:
            with without_autocast(image.device):
                return self.filters(self.restore(image), source, target, spacing_mm)


class IterativePhysicsGenerator(PhysicsGenerator):
    """Conversion between linear and iterative reconstructions: a fitted filter, and a network for what is not linear.

    output = filtered + g * `scale` * UNetGenerator([filtered, change, target, source]), limited to [-1, 1], where
    `filtered` is that of `PhysicsGenerator`, `change` is filtered minus image, and target and source are constant
    planes. g is 0 between two linear kernels, whose conversion a filter is, and between a domain and itself; else 1.
    The network's last layer starts at zero; what it adds is measured by leaving it out (`residual_weight = 0`).

    Args:
        num_domains: Number of domains.
        linear: Indices of the domains that are linear kernels.
        channels: Features of the network's five levels, see `UNetGenerator`.
        scale: Intensity in [-1, 1] that the network sees and makes as 1 (0.1 is 205 HU of the range 4095).
        filter_size: Number of taps along each side, see `RadialFilterBank`.
        num_knots: Number of spline intervals, see `RadialFilterBank`.
        air_below: Upper limit of air where clipped noise is restored, see `PhysicsGenerator`.

    Raises:
        ValueError: If `linear` has an index that no domain has.

    Example:
        >>> network = IterativePhysicsGenerator(3, linear=[0, 1], channels=(4, 4, 8, 8, 8))
        >>> label = torch.tensor([[0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.7]])  # to the third from the first, 0.7 mm
        >>> network(torch.zeros(2, 1, 40, 64), label).shape
        torch.Size([2, 1, 40, 64])
    """

    @record_arguments
    def __init__(
        self,
        num_domains: int = 4,
        *,
        linear: Sequence[int] = (),
        channels: Sequence[int] = (16, 16, 32, 32, 32),
        scale: float = 0.1,
        filter_size: int = 31,
        num_knots: int = 24,
        air_below: float | None = -0.89,
    ) -> None:
        super().__init__(num_domains, channels=0, filter_size=filter_size, num_knots=num_knots, air_below=air_below)
        if not set(linear) <= set(range(num_domains)):
            raise ValueError(f"`linear` must hold indices of the {num_domains} domains, got {list(linear)}.")
        self.scale, self.residual_weight = scale, 1.0
        gates = 1 - torch.eye(num_domains)
        for index in linear:
            gates[index, list(linear)] = 0.0
        self.gates: torch.Tensor
        self.register_buffer("gates", gates, persistent=False)
        self.residual = UNetGenerator(2, 2 + 2 * num_domains, channels=channels)
        start_at_zero(self.residual)

    def forward(self, image: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Convert (B, 1, H, W) in [-1, 1] with labels (B, 2 num_domains + 1) or (1, 2 num_domains + 1)."""
        filtered = self._filtered(image, label)
        n = self.num_domains
        gate = ((label[:, n : 2 * n] @ self.gates) * label[:, :n]).sum(dim=1)[:, None, None, None]
        if self.residual_weight == 0 or not bool(gate.any()):
            return filtered.clamp(-1.0, 1.0)
        height, width = image.shape[2], image.shape[3]
        planes = label[:, : 2 * n, None, None].expand(image.shape[0], -1, height, width)
        seen = torch.cat([filtered / self.scale, (filtered - image) / self.scale, planes], dim=1)
        seen = F.pad(seen, [0, -width % self.residual.multiple, 0, -height % self.residual.multiple], mode="replicate")
        residual = self.residual(seen.contiguous(memory_format=torch.channels_last))[:, :, :height, :width]
        return (filtered + self.residual_weight * self.scale * gate * residual.float()).clamp(-1.0, 1.0)
