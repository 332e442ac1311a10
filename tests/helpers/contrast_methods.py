"""Small networks and methods of neural contrast enhancement for its tests."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import SGD, Optimizer

from common.losses import AdversarialLoss, PerceptualLoss, ReconstructionLoss, ThreeClassAdversarialLoss
from common.methods import (
    ContrastClassification,
    ContrastEnhancement,
    ContrastRemoval,
    CycleGAN,
    JointContrastEnhancement,
    PairedRegression,
    SingleStageEnhancement,
    TranslationMethod,
)
from common.networks import VGG16BN, DCGANDiscriminator, SPADEGenerator

SIZE = 32


def generator() -> SPADEGenerator:
    return SPADEGenerator(channels=(4, 4), num_groups=2, spade_channels=2)


def discriminator(num_classes: int = 3) -> DCGANDiscriminator:
    return DCGANDiscriminator(num_classes=num_classes, channels=(4, 4), num_groups=2)


def sgd(*networks: nn.Module) -> Optimizer:
    return SGD([p for network in networks for p in network.parameters()], lr=1e-2)


def reconstruction() -> ReconstructionLoss:
    return ReconstructionLoss(10.0, PerceptualLoss(VGG16BN(width=2)))


def batch(size: int = 2) -> dict[str, torch.Tensor]:
    """`source` NECT and `target` CECT, (size, 3, 32, 32) in [-1, 1]."""
    random = torch.Generator().manual_seed(0)
    return {name: torch.rand(size, 3, SIZE, SIZE, generator=random) * 2 - 1 for name in ("source", "target")}


def cycle() -> CycleGAN:
    """The baseline Cycle."""
    forth, back, target, source = generator(), generator(), discriminator(1), discriminator(1)
    return CycleGAN(
        forth,
        back,
        target_discriminator=target,
        source_discriminator=source,
        generator_optimizer=sgd(forth, back),
        discriminator_optimizer=sgd(target, source),
        adversarial_loss=AdversarialLoss("least_squares"),
        cycle_loss=reconstruction(),
        cycle_weight=1.0,
        identity_weight=0.0,
    )


def contrast_method(name: str, **options: float) -> TranslationMethod:
    torch.manual_seed(0)
    if name == "classification":
        classifier = VGG16BN(width=2)
        return ContrastClassification(classifier, sgd(classifier))
    if name == "cycle":
        return cycle()
    g, other, d = generator(), generator(), discriminator()
    if name == "regression":
        return PairedRegression(g, generator_optimizer=sgd(g), reconstruction_loss=reconstruction())
    if name == "enhancement":
        return ContrastEnhancement(g, other, generator_optimizer=sgd(g), reconstruction_loss=reconstruction())
    three_class = ThreeClassAdversarialLoss()
    if name == "removal":
        steps = {"remover_optimizer": sgd(g), "discriminator_optimizer": sgd(d)}
        return ContrastRemoval(g, d, **steps, adversarial_loss=three_class, **options)
    if name == "single":
        steps = {"generator_optimizer": sgd(g), "discriminator_optimizer": sgd(d)}
        return SingleStageEnhancement(g, d, **steps, adversarial_loss=three_class)
    steps = {"generator_optimizer": sgd(g, other), "discriminator_optimizer": sgd(d)}
    losses = {"adversarial_loss": three_class, "reconstruction_loss": reconstruction()}
    return JointContrastEnhancement(g, other, d, **steps, **losses)
