"""UNIT: two variational auto-encoders with one latent space, and a cycle there and back."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import l1_loss
from torch.optim import Optimizer

from ..distributed import draw_for_each
from ..losses.adversarial import AdversarialLoss
from ..networks.sr_unit import SRUNITBackGenerator, SRUNITGenerator
from ..networks.unit import UNITBackGenerator, UNITGenerator
from .method import TrainingServices, TranslationMethod, frozen

Pair = tuple[torch.Tensor, torch.Tensor]  # of source and target


class UNIT(TranslationMethod):
    """Unpaired translation between two domains through one latent space.

    Liu, Breuel, Kautz, "Unsupervised image-to-image translation networks", NeurIPS 2017, equations (2) to (8).

    In training each code is the encoder's output plus noise of variance 1; the generators themselves add none.

    Args:
        generator: Source encoder, shared blocks, target decoder; the network that is deployed.
        back_generator: Target encoder and source decoder, which use the generator's shared blocks.
        target_discriminator: Discriminator of real and generated targets.
        source_discriminator: Discriminator of real and generated sources.
        generator_optimizer: Optimizer of both generators.
        discriminator_optimizer: Optimizer of both discriminators, which step before the generators.
        adversarial_loss: Adversarial loss; least squares, as in the released code; equations (5) and (6) have
            cross-entropy.
        reconstruction_weight: Weight of the reconstruction through the code within a domain, 10.
        cycle_weight: Weight of the cycle through the other domain, 10.
        kl_weight: Weight of the codes' divergence from the normal distribution in both, 0.01.

    Raises:
        ValueError: If the generators do not restore the size of a batch's images.

    Differences from the official code:
        It takes the sum over a discriminator's scales, here it is the mean; see also `UNITGenerator`.
    """

    def __init__(
        self,
        generator: UNITGenerator | SRUNITGenerator,
        back_generator: UNITBackGenerator | SRUNITBackGenerator,
        *,
        target_discriminator: nn.Module,
        source_discriminator: nn.Module,
        generator_optimizer: Optimizer,
        discriminator_optimizer: Optimizer,
        adversarial_loss: AdversarialLoss,
        reconstruction_weight: float = 10.0,
        cycle_weight: float = 10.0,
        kl_weight: float = 0.01,
    ) -> None:
        super().__init__(
            generator,
            networks={
                "generator": generator,
                "back_generator": back_generator,
                "target_discriminator": target_discriminator,
                "source_discriminator": source_discriminator,
            },
            optimizers={"generator": generator_optimizer, "discriminator": discriminator_optimizer},
        )
        self.generator: UNITGenerator | SRUNITGenerator = generator
        self.back_generator = back_generator
        self.target_discriminator = target_discriminator
        self.source_discriminator = source_discriminator
        self.adversarial_loss = adversarial_loss
        self.reconstruction_weight = reconstruction_weight
        self.cycle_weight = cycle_weight
        self.kl_weight = kl_weight

    def __call__(self, trainer: TrainingServices, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        real = batch["source"], batch["target"]
        with trainer.autocast():
            codes = self._encode_source(real[0]), self._encode_target(real[1])
            noisy_codes = with_noise(codes[0]), with_noise(codes[1])
            fake_target, fake_source = self._decode_target(noisy_codes[0]), self._decode_source(noisy_codes[1])
        self._check_sizes(real, fake_target, fake_source)

        discriminator_loss = self._discriminator_loss(trainer, real, fake_target, fake_source)
        trainer.update(self.optimizers["discriminator"], discriminator_loss)

        with frozen(self.target_discriminator, self.source_discriminator):
            losses = self._generator_losses(trainer, real, codes, noisy_codes, fake_target, fake_source)
            trainer.update(self.optimizers["generator"], losses["generator"])

        images = {"real_source": real[0], "fake_target": fake_target.detach(), "real_target": real[1]}
        return {**losses, "discriminator": discriminator_loss, **images}

    def _generator_losses(
        self,
        trainer: TrainingServices,
        real: Pair,
        codes: Pair,
        noisy_codes: Pair,
        fake_target: torch.Tensor,
        fake_source: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """Compute equation (2), from the generators' side."""
        with trainer.autocast():
            target_logits = self.target_discriminator(fake_target)
            source_logits = self.source_discriminator(fake_source)
            same = self._decode_source(noisy_codes[0]), self._decode_target(noisy_codes[1])
            cycled_codes = self._encode_target(fake_target), self._encode_source(fake_source)
            cycled_source = self._decode_source(with_noise(cycled_codes[0]))
            cycled_target = self._decode_target(with_noise(cycled_codes[1]))
        adversarial = self.adversarial_loss.generator(target_logits)  # equation (5)
        adversarial = adversarial + self.adversarial_loss.generator(source_logits)  # (6)
        losses = {
            "adversarial": adversarial,
            "reconstruction": _distance(same[0], real[0]) + _distance(same[1], real[1]),  # (3) and (4)
            "kl": _divergence(codes[0]) + _divergence(codes[1]),  # (3) and (4)
            "cycle": _distance(cycled_source, real[0]) + _distance(cycled_target, real[1]),  # (7) and (8)
            "cycle_kl": _divergence(cycled_codes[0]) + _divergence(cycled_codes[1]),  # (7) and (8)
        }
        total = adversarial + self.reconstruction_weight * losses["reconstruction"]
        total = total + self.cycle_weight * losses["cycle"]
        total = total + self.kl_weight * (losses["kl"] + losses["cycle_kl"])
        return {"generator": total, **losses}

    def _check_sizes(self, real: Pair, fake_target: torch.Tensor, fake_source: torch.Tensor) -> None:
        """Raise a ValueError for a batch that is returned in another size."""
        for name, image, fake in (("source", real[0], fake_target), ("target", real[1], fake_source)):
            if image.shape[2:] != fake.shape[2:]:
                raise ValueError(
                    f"`{name}` must have sides that are multiples of what the encoders divide them by, got "
                    f"{list(image.shape[2:])}, of which the generators make {list(fake.shape[2:])}."
                )

    def _encode_source(self, image: torch.Tensor) -> torch.Tensor:
        return self.generator.encode(image)

    def _encode_target(self, image: torch.Tensor) -> torch.Tensor:
        return self.back_generator.encode(image, self.generator)  # type: ignore[arg-type]

    def _decode_source(self, code: torch.Tensor) -> torch.Tensor:
        return self.back_generator.decode(code, self.generator)  # type: ignore[arg-type]

    def _decode_target(self, code: torch.Tensor) -> torch.Tensor:
        return self.generator.decode(code)

    def _discriminator_loss(
        self, trainer: TrainingServices, real: Pair, fake_target: torch.Tensor, fake_source: torch.Tensor
    ) -> torch.Tensor:
        """Compute equations (5) and (6), from the discriminators' side."""
        with trainer.autocast():
            target_logits = (self.target_discriminator(real[1]), self.target_discriminator(fake_target.detach()))
            source_logits = (self.source_discriminator(real[0]), self.source_discriminator(fake_source.detach()))
        loss = self.adversarial_loss.discriminator(*target_logits)
        return loss + self.adversarial_loss.discriminator(*source_logits)


def with_noise(code: torch.Tensor) -> torch.Tensor:
    """Draw from the posterior: the code plus normal noise of variance 1."""
    shape = code.shape[1:]
    return code + draw_for_each(len(code), lambda n: torch.randn(n, *shape, dtype=code.dtype, device=code.device))


def _divergence(code: torch.Tensor) -> torch.Tensor:
    """Compute twice the KL divergence of N(code, 1) from N(0, 1) per feature; the released code omits the half too."""
    return code.float().square().mean()


def _distance(image: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Compute the mean absolute difference: a Laplacian likelihood."""
    return l1_loss(image.float(), real)
