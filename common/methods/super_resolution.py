"""SR-CycleGAN and SR-UNIT: unpaired super-resolution, tied to its input by the multi-modality loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.functional import l1_loss
from torch.optim import Optimizer

from ..losses.adversarial import AdversarialLoss
from ..losses.multi_modality import MultiModalitySRLoss
from ..networks.sr_unit import SRUNITBackGenerator, SRUNITGenerator
from .cyclegan import CycleGAN
from .method import TrainingServices
from .unit import UNIT, Pair


class SRCycleGAN(CycleGAN):
    """Unpaired super-resolution from clinical (source) to micro CT (target) by two generators and two discriminators.

    Zheng et al., "Multi-modality super-resolution loss for GAN-based super-resolution of clinical CT images using micro
    CT image database", SPIE Medical Imaging 2020, equations (1) to (4) and section 2.3. L_orig is CycleGAN's loss (Zhu
    et al., ICCV 2017, equations (1) to (3) and section 5.2), and so is the iteration. Without the multi-modality loss
    it is the paper's baseline CycleGAN. Batches contain `source` (B, C, h, w) and `target` (B, C, H, W); the sides of
    the latter are multiples of the factor.

    An identity loss compares a generator's output on an image of its *output's* domain with that image. Here the sizes
    differ, so the output is averaged or interpolated to the image's size. G1 would make 2048 x 2048 from a micro patch:
    it gets the patch's centre, of the clinical patch's size.

    Args:
        generator: G1, from source to target; the network that is deployed.
        back_generator: G2, from target to source.
        target_discriminator: D_1 of the paper, of real and generated targets.
        source_discriminator: D_2, of real and generated sources.
        generator_optimizer: Optimizer of G1 and G2.
        discriminator_optimizer: Optimizer of both discriminators.
        adversarial_loss: Adversarial loss; least squares in the authors' code, halved for the discriminators.
        mmsr_loss: Last four terms of equation (4); None omits them.
        mmsr_weight: Weight of all four together, 1; 0 omits them.
        cycle_weight: Weight of the cycle, 1, as in the authors' code.
        target_identity_weight: Weight of G1's identity loss, 0.2; 0 omits it.
        source_identity_weight: Weight of G2's identity loss, 0.02; 0 omits it.
        pool_size: Number of past translations that the discriminators see again, 50.
        whole_target_identity: Whether G1's identity loss takes all of the micro patch, as the authors' code does,
            whatever the memory.
        aligned_corners: Whether G2's identity loss interpolates with the centres of the corner pixels in one place, as
            the authors' code does, instead of the corners of the images.

    Raises:
        ValueError: If the sizes of a batch do not fit the generators.
    """

    def __init__(
        self,
        generator: nn.Module,
        back_generator: nn.Module,
        *,
        target_discriminator: nn.Module,
        source_discriminator: nn.Module,
        generator_optimizer: Optimizer,
        discriminator_optimizer: Optimizer,
        adversarial_loss: AdversarialLoss,
        mmsr_loss: MultiModalitySRLoss | None,
        mmsr_weight: float = 1.0,
        cycle_weight: float = 1.0,
        target_identity_weight: float = 0.2,
        source_identity_weight: float = 0.02,
        pool_size: int = 50,
        whole_target_identity: bool = False,
        aligned_corners: bool = False,
    ) -> None:
        super().__init__(
            generator,
            back_generator,
            target_discriminator=target_discriminator,
            source_discriminator=source_discriminator,
            generator_optimizer=generator_optimizer,
            discriminator_optimizer=discriminator_optimizer,
            adversarial_loss=adversarial_loss,
            cycle_weight=cycle_weight,
            identity_weight=0.0,  # those of images that keep their size
            pool_size=pool_size,
        )
        self.mmsr_loss = mmsr_loss
        self.mmsr_weight = mmsr_weight
        self.target_identity_weight = target_identity_weight
        self.source_identity_weight = source_identity_weight
        self.whole_target_identity = whole_target_identity
        self.aligned_corners = aligned_corners

    def _generator_losses(
        self,
        trainer: TrainingServices,
        real_source: torch.Tensor,
        real_target: torch.Tensor,
        fake_target: torch.Tensor,
        fake_source: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """Compute equation (4); CycleGAN's generators have the first two terms of L_orig."""
        check_scales(real_source, fake_target, real_target, fake_source)
        losses = super()._generator_losses(trainer, real_source, real_target, fake_target, fake_source)
        total = losses["generator"]
        if self.target_identity_weight > 0:
            losses["target_identity"] = self._target_identity(trainer, real_target, real_source.shape[2:])
            total = total + self.target_identity_weight * losses["target_identity"]
        if self.source_identity_weight > 0:
            losses["source_identity"] = self._source_identity(trainer, real_source)
            total = total + self.source_identity_weight * losses["source_identity"]
        if self.mmsr_loss is not None and self.mmsr_weight > 0:
            losses |= self.mmsr_loss.terms(real_source, fake_target, real_target, fake_source)
            total = total + self.mmsr_weight * losses["mmsr"]  # lambda1 to lambda4
        return {**losses, "generator": total}

    def _target_identity(
        self, trainer: TrainingServices, real_target: torch.Tensor, size: tuple[int, ...]
    ) -> torch.Tensor:
        """Apply G1 to the centre of a micro patch, or to all of it, and average to its size."""
        if self.whole_target_identity:
            size = real_target.shape[2:]
        height, width = (min(side, whole) for side, whole in zip(size, real_target.shape[2:]))
        top, left = (real_target.shape[2] - height) // 2, (real_target.shape[3] - width) // 2
        centre = real_target[:, :, top : top + height, left : left + width]
        with trainer.autocast():
            same = self.generator(centre)
        return l1_loss(F.adaptive_avg_pool2d(same.float(), (height, width)), centre)

    def _source_identity(self, trainer: TrainingServices, real_source: torch.Tensor) -> torch.Tensor:
        """Apply G2 to a clinical patch and interpolate to its size."""
        with trainer.autocast():
            same = self.back_generator(real_source)
        size = [int(side) for side in real_source.shape[2:]]
        enlarged = F.interpolate(same.float(), size=size, mode="bilinear", align_corners=self.aligned_corners)
        return l1_loss(enlarged, real_source)


def check_scales(
    real_source: torch.Tensor, fake_target: torch.Tensor, real_target: torch.Tensor, fake_source: torch.Tensor
) -> None:
    """Refuse a batch that the generators do not bring back to its size.

    Args:
        real_source: Clinical, `(B, C, h, w)`.
        fake_target: Its super-resolution.
        real_target: Micro, `(B, C, H, W)`.
        fake_source: Its translation to clinical.

    Raises:
        ValueError: If the generators' factors differ, or the sides of the micro images are no multiples of them.
    """
    factor = fake_target.shape[-1] // real_source.shape[-1]
    expected = [factor * side for side in fake_source.shape[2:]]
    if list(real_target.shape[2:]) != expected:
        raise ValueError(
            f"`target` must have sides that are multiples of the factor, and both generators the same one: the first "
            f"enlarges {factor} times, the second makes {list(fake_source.shape[2:])} of "
            f"{list(real_target.shape[2:])}."
        )


class SRUNIT(UNIT):
    """Unpaired super-resolution from clinical (source) to micro CT (target) through one latent space.

    Zheng et al., SPIE Medical Imaging 2020, equations (1) to (4) and section 2.4, with UNIT's loss in place of
    CycleGAN's (Liu et al., "Unsupervised image-to-image translation networks", NeurIPS 2017, equations (2) to (8)).
    Without the multi-modality loss it is the paper's baseline UNIT. Batches are those of `SRCycleGAN`.

    Args:
        generator: Clinical encoder, shared blocks, micro decoder; the network that is deployed.
        back_generator: Micro encoder and clinical decoder, which use the generator's shared blocks.
        mmsr_loss: Last four terms of equation (4); None omits them.
        mmsr_weight: Weight of all four together, 1; 0 omits them.
        others: Further arguments of `UNIT`.

    Raises:
        ValueError: If the sizes of a batch do not fit the generators.
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
        """Compute UNIT's equation (2), from the generators' side, and Zheng et al.'s (4)."""
        losses = super()._generator_losses(trainer, real, codes, noisy_codes, fake_target, fake_source)
        if self.mmsr_loss is None or self.mmsr_weight <= 0:
            return losses
        terms = self.mmsr_loss.terms(real[0], fake_target, real[1], fake_source)
        total = losses["generator"] + self.mmsr_weight * terms["mmsr"]  # lambda1 to lambda4 of equation (4)
        return {**losses, **terms, "generator": total}

    def _check_sizes(self, real: Pair, fake_target: torch.Tensor, fake_source: torch.Tensor) -> None:
        check_scales(real[0], fake_target, real[1], fake_source)
