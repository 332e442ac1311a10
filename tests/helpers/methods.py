"""Small networks and methods for the tests of methods and engines."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import nn
from torch.optim import Adam, Optimizer

from common.losses import AdversarialLoss, NormalizedGradientFieldLoss, PatchNCELoss
from common.methods import (
    ConstantThenLinear,
    ContrastiveUnpairedTranslation,
    CycleGAN,
    NormalizedEdgeConsistency,
    Pix2Pix,
    TranslationMethod,
)
from common.networks import CompactGenerator, PatchDiscriminatorPyramid, PatchFeatureMLP

NAMES = ("nec", "nec_official", "pix2pix", "cyclegan", "cut")


def generator(dims: int = 2) -> CompactGenerator:
    return CompactGenerator(dims, channels=(8, 8), num_res_units=1)


def discriminator(dims: int = 2, in_channels: int = 1) -> PatchDiscriminatorPyramid:
    return PatchDiscriminatorPyramid(dims, in_channels, num_scales=1, channels=4, num_layers=2)


def method(name: str, *, dims: int = 2, seed: int = 0, optimizer: type[Optimizer] = Adam) -> TranslationMethod:
    def adam(*networks: nn.Module) -> Optimizer:
        return optimizer([p for network in networks for p in network.parameters()], lr=1e-3)

    torch.manual_seed(seed)
    g, d = generator(dims), discriminator(dims, 2 if name == "pix2pix" else 1)
    if name.startswith("nec"):
        joint = name == "nec_official"
        return NormalizedEdgeConsistency(
            g,
            d,
            generator_optimizer=adam(g, d) if joint else adam(g),
            discriminator_optimizer=None if joint else adam(d),
            adversarial_loss=AdversarialLoss("bce"),
            edge_loss=NormalizedGradientFieldLoss(0.15),
        )
    if name == "pix2pix":
        return Pix2Pix(
            g, d, generator_optimizer=adam(g), discriminator_optimizer=adam(d), adversarial_loss=AdversarialLoss("bce")
        )
    if name == "cyclegan":
        back, other = generator(dims), discriminator(dims)
        return CycleGAN(
            g,
            back,
            target_discriminator=d,
            source_discriminator=other,
            generator_optimizer=adam(g, back),
            discriminator_optimizer=adam(d, other),
            adversarial_loss=AdversarialLoss("least_squares"),
            pool_size=4,
        )
    features = PatchFeatureMLP(g.encode_channels, out_channels=8, num_patches=16)
    return ContrastiveUnpairedTranslation(
        g,
        d,
        patch_features=features,
        generator_optimizer=adam(g),
        discriminator_optimizer=adam(d),
        features_optimizer=adam(features),
        adversarial_loss=AdversarialLoss("least_squares"),
        contrastive_loss=PatchNCELoss(),
    )


def schedulers(method: TranslationMethod, max_epochs: int) -> list[ConstantThenLinear]:
    return [ConstantThenLinear(optimizer, max_epochs) for optimizer in method.optimizers.values()]


class RecordingTrainer:
    """Stands in for an engine: notes which networks an update would change, and how the others came out."""

    def __init__(self, method: TranslationMethod, epoch: int = 2) -> None:
        self.method, self.epoch = method, epoch
        self.updates: list[tuple[set[str], set[str]]] = []

    def autocast(self) -> nullcontext:
        return nullcontext()

    def update(self, optimizer: Optimizer | list[Optimizer], loss: torch.Tensor) -> None:
        optimizers = optimizer if isinstance(optimizer, list) else [optimizer]
        loss.backward()
        with_gradient = {
            name
            for name, network in self.method.networks.items()
            if any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in network.parameters())
        }
        stepped = {id(p) for each in optimizers for group in each.param_groups for p in group["params"]}
        stepping = {
            name
            for name, network in self.method.networks.items()
            if all(id(p) in stepped for p in network.parameters())
        }
        self.updates.append((stepping, with_gradient))
        for network in self.method.networks.values():
            network.zero_grad(set_to_none=True)
