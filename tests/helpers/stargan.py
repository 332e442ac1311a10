"""StarGAN methods with small networks, and batches for them."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import SGD

from common.losses import CosineContentLoss, GuidedContrastiveLoss, PerceptualGuidanceLoss
from common.methods import DomainLabels, StarGAN
from common.networks import SemanticDiscriminator, StarGANDiscriminator, StarGANGenerator

SIZE = 128
GUIDANCES = {
    "stargan": None,
    "ggdr": CosineContentLoss(),
    "ggcl": GuidedContrastiveLoss(16),
    "kcgan": PerceptualGuidanceLoss(num_patches=16),
}


def stargan(name: str = "stargan", **options) -> StarGAN:
    torch.manual_seed(0)
    guidance = GUIDANCES[name]
    generator = StarGANGenerator(3, channels=8, num_res_blocks=1)
    if guidance is None:
        discriminator: nn.Module = StarGANDiscriminator(SIZE, 3, channels=2)
    else:
        discriminator = SemanticDiscriminator(SIZE, 3, channels=4)
    return StarGAN(
        generator,
        discriminator,
        labels=DomainLabels(3),
        generator_optimizer=SGD(generator.parameters(), lr=0.1),
        discriminator_optimizer=SGD(discriminator.parameters(), lr=0.1),
        guidance=guidance,
        **options,
    )
