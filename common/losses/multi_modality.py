"""Multi-modality super-resolution loss, which keeps the structure and level of the input without pairs."""

from __future__ import annotations

import math

import torch
from monai.metrics.regression import compute_ssim_and_cs
from torch import nn
from torch.nn import functional as F

from ..devices import without_autocast
from .precision import full_precision

SSIM_SIGMA = 1.5  # pixels; Wang et al., 2004
DISTANCES = ("mse", "l1")
PADDINGS = ("valid", "zero")


def ssim_loss(
    first: torch.Tensor,
    second: torch.Tensor,
    *,
    c1: float = 0.02,
    c2: float = 0.06,
    window: int | None = 11,
    padding: str = "valid",
) -> torch.Tensor:
    """Compute 1 - SSIM, averaged over all windows inside the images; 0 for equal images.

    Equation (1) of Zheng et al., SPIE Medical Imaging 2020, whose numerator lacks the factor of 2 before the means; the
    form of Wang et al., "Image quality assessment: from error visibility to structural similarity", IEEE TIP 2004,
    equation (13), is meant. Means and (co)variances are those of a Gaussian window of sigma 1.5 pixels, as in Wang et
    al.; by the words under equation (1) they are those of the whole image, which is `window=None`.

    Args:
        first: Images `(B, C, H, W)`.
        second: Images of the same shape.
        c1: Constant of the means, in squared intensity, > 0.
        c2: Constant of the variances, in squared intensity, > 0.
        window: Pixels along each side of the window, odd, at most H and W; None: the whole image, each channel alone.
        padding: "valid", windows inside the images; "zero", windows around all pixels, with zeros outside.

    Returns:
        A scalar in float32.

    Raises:
        ValueError: If the images differ in shape or are smaller than the window.

    Example:
        >>> dark, bright = torch.full((1, 1, 16, 16), 0.1), torch.full((1, 1, 16, 16), 0.3)
        >>> print(f"{ssim_loss(dark, bright):.4f}")  # 1 - (2 * 0.03 + 0.02) / (0.01 + 0.09 + 0.02)
        0.3333
    """
    if first.shape != second.shape:
        raise ValueError(
            f"`first` and `second` must have the same shape, got {list(first.shape)}, {list(second.shape)}."
        )
    if window is None:
        return _ssim_loss_of_images(full_precision(first), full_precision(second), c1, c2)
    if padding == "zero":
        first, second = (F.pad(image, [window // 2] * 4) for image in (first, second))
    if min(first.shape[2:]) < window:
        raise ValueError(
            f"the images must have at least `window` = {window} pixels per side, got {list(first.shape[2:])}: "
            "use larger patches, or a smaller `window`."
        )
    with without_autocast(first.device):
        similarity, _ = compute_ssim_and_cs(
            first.float(),
            second.float(),
            spatial_dims=2,
            kernel_size=(window, window),
            kernel_sigma=(SSIM_SIGMA, SSIM_SIGMA),
            k1=math.sqrt(c1),  # MONAI's constants are (k times the data range) squared
            k2=math.sqrt(c2),
        )
        return 1.0 - similarity.mean()


def _ssim_loss_of_images(first: torch.Tensor, second: torch.Tensor, c1: float, c2: float) -> torch.Tensor:
    """Compute 1 - SSIM from the statistics of whole images, averaged over images and channels."""
    with without_autocast(first.device):
        means = first.mean(dim=(2, 3)), second.mean(dim=(2, 3))
        variances = first.var(dim=(2, 3), correction=0), second.var(dim=(2, 3), correction=0)
        covariance = (first * second).mean(dim=(2, 3)) - means[0] * means[1]
        similarity = (2 * means[0] * means[1] + c1) * (2 * covariance + c2)
        similarity = similarity / ((means[0] ** 2 + means[1] ** 2 + c1) * (variances[0] + variances[1] + c2))
        return 1.0 - similarity.mean()


class MultiModalitySRLoss(nn.Module):
    """MMSR loss: a super-resolved image, averaged, equals its input, and so does a down-scaled image, repeated.

    Zheng et al., "Multi-modality super-resolution loss for GAN-based super-resolution of clinical CT images using micro
    CT image database", SPIE Medical Imaging 2020, equations (1) to (4) without L_orig:

        lambda1 L_S(x, f(x_SR)) + lambda2 L_S(y, g(y_LR)) + lambda3 L_D(x) + lambda4 L_U(y)

    with f average pooling and g nearest-neighbour up-sampling, both by `factor`; L_S is `ssim_loss`, L_D and L_U are
    mean squared errors. Both modalities must be normalised so that a tissue has the same value in both.

    Args:
        factor: Width of a clinical pixel in micro pixels, >= 2.
        source_ssim_weight: Weight lambda1.
        target_ssim_weight: Weight lambda2.
        downsample_weight: Weight lambda3.
        upsample_weight: Weight lambda4.
        c1: Constant of the means in SSIM, for images in [-1, 1].
        c2: Constant of the variances in SSIM, for images in [-1, 1].
        window: Pixels along each side of SSIM's window, odd; None: the statistics are those of the whole image.
        padding: "valid", or "zero" as in the authors' later code; see `ssim_loss`.
        distance: "mse", or "l1" as in the authors' later code, whose lambda1 is 1.

    Raises:
        ValueError: If an argument is out of its range, or the images' sizes do not differ by `factor`.

    Example:
        >>> loss = MultiModalitySRLoss(factor=2)
        >>> micro = torch.rand(1, 1, 32, 32).round(decimals=1).repeat_interleave(2, 2).repeat_interleave(2, 3)
        >>> clinical = micro[..., ::2, ::2]
        >>> print(f"{loss(clinical, micro, micro, clinical).abs():.4f}")
        0.0000
    """

    def __init__(
        self,
        factor: int = 8,
        *,
        source_ssim_weight: float = 2.0,
        target_ssim_weight: float = 1.0,
        downsample_weight: float = 1.0,
        upsample_weight: float = 1.0,
        c1: float = 0.02,
        c2: float = 0.06,
        window: int | None = 11,
        padding: str = "valid",
        distance: str = "mse",
    ) -> None:
        super().__init__()
        if factor < 2:
            raise ValueError(f"`factor` must be >= 2, got {factor}.")
        weights = {
            "source_ssim": source_ssim_weight,
            "target_ssim": target_ssim_weight,
            "downsample": downsample_weight,
            "upsample": upsample_weight,
        }
        for name, value in weights.items():
            if not value >= 0:
                raise ValueError(f"`{name}_weight` must be >= 0, got {value}.")
        if not (c1 > 0 and c2 > 0):
            raise ValueError(f"`c1` and `c2` must be > 0, got {c1} and {c2}.")
        if window is not None and (window < 1 or window % 2 == 0):
            raise ValueError(f"`window` must be an odd number of pixels >= 1, or None, got {window}.")
        if padding not in PADDINGS:
            raise ValueError(f"`padding` must be one of {PADDINGS}, got {padding!r}.")
        if distance not in DISTANCES:
            raise ValueError(f"`distance` must be one of {DISTANCES}, got {distance!r}.")
        self.factor = factor
        self.weights = weights
        self.c1, self.c2, self.window, self.padding = c1, c2, window, padding
        self.distance = F.mse_loss if distance == "mse" else F.l1_loss

    def forward(
        self, real_source: torch.Tensor, fake_target: torch.Tensor, real_target: torch.Tensor, fake_source: torch.Tensor
    ) -> torch.Tensor:
        """Compare images with their translations; return a scalar.

        Args:
            real_source: x, clinical, `(B, C, h, w)` in [-1, 1].
            fake_target: x_SR = G1(x), `(B, C, factor h, factor w)`.
            real_target: y, micro, `(B, C, H, W)` in [-1, 1].
            fake_source: y_LR = G2(y), `(B, C, H / factor, W / factor)`.
        """
        return self.terms(real_source, fake_target, real_target, fake_source)["mmsr"]

    def terms(
        self, real_source: torch.Tensor, fake_target: torch.Tensor, real_target: torch.Tensor, fake_source: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return the loss as `mmsr`, and its terms without weights as `source_ssim`, `target_ssim` and so on."""
        self._check_sizes(real_source, fake_target, "fake_target")
        self._check_sizes(fake_source, real_target, "real_target")
        real_source, real_target = full_precision(real_source), full_precision(real_target)
        pooled = F.avg_pool2d(full_precision(fake_target), self.factor)  # f(x_SR)
        repeated = F.interpolate(full_precision(fake_source), scale_factor=float(self.factor))  # g(y_LR)
        terms = {
            "source_ssim": self._ssim_loss(real_source, pooled),  # equation (1), of x
            "target_ssim": self._ssim_loss(real_target, repeated),  # equation (1), of y
            "downsample": self.distance(pooled, real_source),  # equation (3)
            "upsample": self.distance(repeated, real_target),  # equation (2)
        }
        total = torch.stack([self.weights[name] * value for name, value in terms.items()]).sum()  # of equation (4)
        return {"mmsr": total, **terms}

    def _ssim_loss(self, real: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return ssim_loss(real, other, c1=self.c1, c2=self.c2, window=self.window, padding=self.padding)

    def _check_sizes(self, small: torch.Tensor, large: torch.Tensor, name: str) -> None:
        expected = [*small.shape[:2], *(self.factor * side for side in small.shape[2:])]
        if list(large.shape) != expected:
            raise ValueError(
                f"`{name}` must be `factor` = {self.factor} times as high and wide as its counterpart, {expected}, got "
                f"{list(large.shape)}: the generators need the same factor, and micro patches sides that are multiples."
            )
