"""Gradient penalty of the Wasserstein critic."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..devices import without_autocast
from .precision import full_precision

REDUCTIONS = ("mean", "sum")

Critic = Callable[[torch.Tensor], torch.Tensor]


def gradient_penalty(
    critic: Critic,
    real: torch.Tensor,
    fake: torch.Tensor,
    *,
    reduction: str = "mean",
    place: torch.Tensor | None = None,
) -> torch.Tensor:
    """Penalise gradients not of length 1 on the lines between real and fake: it makes the critic 1-Lipschitz.

    The mean over the batch of `(|gradient of the critic's score| - 1)^2`: Gulrajani et al., "Improved training of
    Wasserstein GANs", NeurIPS 2017, equation (3), weight 10; Choi et al., "StarGAN", CVPR 2018, equation (8). One place
    per pair of images is drawn uniformly from the line.

    It is computed in float32, including the critic, even under autocast: the square of a small gradient underflows.

    Args:
        critic: Function from images to scores `(B, ...)`; a discriminator with several outputs needs
            `lambda image: discriminator(image)[0]`.
        real: Real images `(B, C, H, W[, D])`; they receive no gradient.
        fake: Fake images of the same shape; they receive no gradient.
        reduction: How the map of scores of an image becomes one score: "mean", which the critic's loss uses, or "sum".
        place: Position (B,) in [0, 1], from fake (0) to real (1); by default drawn uniformly.

    Returns:
        A scalar whose gradient reaches the critic's parameters.

    Raises:
        ValueError: If `reduction` is unknown, or the images differ in shape.

    Differences from the official code:
        The released StarGAN and GGCL codes take the gradient of the map's sum (`grad_outputs` of 1), while the critic
        loss takes its mean: with a 4x4 map the critic's score is held to a slope of 1/16. `reduction="sum"` does so.
        With "mean" the score may slope 16 times more, so that the adversarial term weighs more against the
        classification and cycle losses, whose weights were chosen with "sum".

    Example:
        >>> real, fake = torch.ones(2, 1, 4, 4), torch.zeros(2, 1, 4, 4)
        >>> gradient_penalty(lambda image: 0.5 * image, real, fake, reduction="sum")  # |gradient| = 0.5 * sqrt(16)
        tensor(1.)
    """
    _check_reduction(reduction)
    if real.shape != fake.shape:
        raise ValueError(
            f"`real` and `fake` must have the same shape, got {tuple(real.shape)} and {tuple(fake.shape)}."
        )
    with without_autocast(real.device):
        image = _between(full_precision(real.detach()), full_precision(fake.detach()), place).requires_grad_()
        scores = full_precision(critic(image)).flatten(1)
        scores = scores.mean(dim=1) if reduction == "mean" else scores.sum(dim=1)
        # The images of a batch are independent, so the gradient of the sum holds each image's own.
        (gradient,) = torch.autograd.grad(scores.sum(), image, create_graph=True)
        return (torch.linalg.vector_norm(gradient.flatten(1), dim=1) - 1.0).square().mean()


def _between(real: torch.Tensor, fake: torch.Tensor, place: torch.Tensor | None) -> torch.Tensor:
    if place is None:
        place = torch.rand(len(real), device=real.device, dtype=real.dtype)
    place = place.view(-1, *[1] * (real.dim() - 1))
    return place * real + (1.0 - place) * fake


def _check_reduction(reduction: str) -> None:
    if reduction not in REDUCTIONS:
        raise ValueError(f"`reduction` must be one of {REDUCTIONS}, got {reduction!r}.")
