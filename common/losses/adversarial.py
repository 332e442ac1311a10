"""Adversarial losses on logits, for one discriminator or a pyramid of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from .precision import full_precision

CRITERIA = ("bce", "least_squares", "hinge", "wasserstein")

Logits = torch.Tensor | Sequence[torch.Tensor]


def discriminator_loss(
    real_logits: Logits, fake_logits: Logits, *, criterion: str = "bce", halve: bool = True
) -> torch.Tensor:
    """Average or add the losses on real and on fake images, or compute Wasserstein's; see `AdversarialLoss`."""
    _check_criterion(criterion)
    real, fake = _scales(real_logits, "real_logits"), _scales(fake_logits, "fake_logits")
    if len(real) != len(fake):
        raise ValueError(
            f"`real_logits` and `fake_logits` must have the same number of scales, got {len(real)} and {len(fake)}."
        )
    if criterion == "wasserstein":
        return _mean(fake) - _mean(real)
    factor = 0.5 if halve else 1.0
    if criterion == "hinge":  # no loss beyond the margins at 1 and -1
        return factor * (
            _mean(F.relu(1.0 - logits) for logits in real) + _mean(F.relu(1.0 + logits) for logits in fake)
        )
    return factor * (_distance(real, 1.0, criterion) + _distance(fake, 0.0, criterion))


def generator_loss(fake_logits: Logits, *, criterion: str = "bce") -> torch.Tensor:
    """Measure how far the discriminator is from taking fake images for real; see `AdversarialLoss`."""
    _check_criterion(criterion)
    fake = _scales(fake_logits, "fake_logits")
    if criterion in ("hinge", "wasserstein"):
        return -_mean(fake)
    return _distance(fake, 1.0, criterion)


class AdversarialLoss(nn.Module):
    """The two sides of the adversarial game, `discriminator(real_logits, fake_logits)` and `generator(fake_logits)`.

    Logits are maps `(B, 1, h, w[, d])` without activation, or a sequence of them, one per scale: the mean over
    the map is taken first, then the mean over the scales.

    - "bce": Goodfellow et al., NeurIPS 2014; equation (2) of Jaouen et al., IEEE ISBI 2024. The generator maximises
      log D(G(s)) rather than minimising log(1 - D(G(s))): the goal is the same, but there is a gradient while the
      discriminator wins.
    - "least_squares": Mao et al., ICCV 2017, with the labels 1 and 0 and no activation.
    - "hinge": Lim and Ye, "Geometric GAN", 2017; the generator's loss is the negative logit.
    - "wasserstein": Arjovsky et al., ICML 2017: the critic's loss is the mean of the fake scores minus that of the
      real ones, the generator's the negative score. It needs `gradient_penalty`.

    The discriminator's loss is the *half* of real plus fake, as in CycleGAN. Equation (2) has no factor. Where the
    discriminator has an optimizer of its own, the factor changes the step size, which Adam normalises away. Where one
    step descends the generator's loss as well, as NEC's released code does, it changes the direction: `halve=False`.
    The Wasserstein loss is always whole, since it is weighed against the penalty.

    MONAI's `PatchAdversarialLoss` is not used: it takes BCE of probabilities, which half precision saturates, and a
    tanh before the hinge, where logits never leave the margins.

    Args:
        criterion: Kind of loss: "bce", "least_squares", "hinge" or "wasserstein".
        halve: Whether the discriminator's loss is half of the sum of both terms; of no effect on "wasserstein".

    Raises:
        ValueError: If `criterion` is unknown, or real and fake differ in their number of scales.

    Example:
        >>> loss = AdversarialLoss("least_squares")
        >>> real, fake = torch.full((2, 1, 4, 4), 0.5), torch.zeros(2, 1, 4, 4)
        >>> loss.discriminator(real, fake), loss.generator([fake, fake])
        (tensor(0.1250), tensor(1.))
    """

    def __init__(self, criterion: str = "bce", *, halve: bool = True) -> None:
        super().__init__()
        _check_criterion(criterion)
        self.criterion, self.halve = criterion, halve

    def discriminator(self, real_logits: Logits, fake_logits: Logits) -> torch.Tensor:
        """Return the discriminator's loss, a scalar."""
        return discriminator_loss(real_logits, fake_logits, criterion=self.criterion, halve=self.halve)

    def generator(self, fake_logits: Logits) -> torch.Tensor:
        """Return the generator's loss, a scalar."""
        return generator_loss(fake_logits, criterion=self.criterion)


def _check_criterion(criterion: str) -> None:
    if criterion not in CRITERIA:
        raise ValueError(f"`criterion` must be one of {CRITERIA}, got {criterion!r}.")


def _scales(logits: Logits, name: str) -> list[torch.Tensor]:
    scales = [logits] if isinstance(logits, torch.Tensor) else list(logits)
    if not scales:
        raise ValueError(f"`{name}` must hold at least one map, got none.")
    return [full_precision(scale) for scale in scales]


def _distance(scales: Iterable[torch.Tensor], label: float, criterion: str) -> torch.Tensor:
    """Compute the distance of the logits from a label, by cross-entropy or least squares."""
    if criterion == "least_squares":
        return _mean((logits - label).square() for logits in scales)
    return _mean(F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label)) for logits in scales)


def _mean(maps: Iterable[torch.Tensor]) -> torch.Tensor:
    """Average over the scales the mean over each map."""
    return torch.stack([values.mean() for values in maps]).mean()
