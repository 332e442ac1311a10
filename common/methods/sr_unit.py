"""SR-UNIT: UNIT between images of different resolution, held to its input by the multi-modality loss."""

from __future__ import annotations

from typing import Any

import torch

from ..losses import MultiModalitySRLoss
from ..networks import SRUNITBackGenerator, SRUNITGenerator
from .method import TrainingServices
from .sr_cyclegan import check_scales
from .unit import UNIT, Pair


class SRUNIT(UNIT):
    """
    Unpaired super-resolution from clinical (source) to micro CT (target) through one latent space.

    Zheng et al., SPIE Medical Imaging 2020, equations (1) to (4) and section 2.4, with UNIT's loss in place of
    CycleGAN's (Liu et al., "Unsupervised image-to-image translation networks", NeurIPS 2017, equations (2) to (8)).
    Without the multi-modality loss it is the paper's baseline UNIT. Batches are those of `SRCycleGAN`.

    Args:
        generator: clinical encoder, shared blocks, micro decoder; the one that is deployed.
        back_generator: micro encoder and clinical decoder, which use the generator's shared blocks.
        mmsr_loss: the last four terms of equation (4); None leaves them out.
        mmsr_weight: of all four together, 1; 0 leaves them out.
        others: the arguments of `UNIT`.

    Raises:
        ValueError: when the sizes of a batch do not fit the generators.
    """

    def __init__(
        self,
        generator: SRUNITGenerator,
        back_generator: SRUNITBackGenerator,
        *,
        mmsr_loss: MultiModalitySRLoss | None,
        mmsr_weight: float = 1.0,
        **others: Any,
    ) -> None:
        super().__init__(generator, back_generator, **others)
        self.mmsr_loss = mmsr_loss
        self.mmsr_weight = mmsr_weight

    def _generator_losses(
        self,
        trainer: TrainingServices,
        real: Pair,
        codes: Pair,
        noisy_codes: Pair,
        fake_target: torch.Tensor,
        fake_source: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """UNIT's equation (2), from the generators' side, and Zheng et al.'s (4)."""
        losses = super()._generator_losses(trainer, real, codes, noisy_codes, fake_target, fake_source)
        if self.mmsr_loss is None or self.mmsr_weight <= 0:
            return losses
        terms = self.mmsr_loss.terms(real[0], fake_target, real[1], fake_source)
        total = losses["generator"] + self.mmsr_weight * terms["mmsr"]  # lambda1 to lambda4 of equation (4)
        return {**losses, **terms, "generator": total}

    def _check_sizes(self, real: Pair, fake_target: torch.Tensor, fake_source: torch.Tensor) -> None:
        check_scales(real[0], fake_target, real[1], fake_source)
