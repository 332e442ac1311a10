"""One training step of NEC's released code (vhxjaouen/NEC), written anew from what it does, in plain torch."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class Patches(nn.Sequential):
    """Convolutions of 4 x 4: all but the last two of stride 2, instance norm behind the inner ones."""

    def __init__(self, width: int = 128, convolutions: int = 4) -> None:
        layers: list[nn.Module] = [nn.Conv2d(1, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for n in range(convolutions - 2):
            stride = 2 if n < convolutions - 3 else 1
            layers += [nn.Conv2d(width, 2 * width, 4, stride=stride, padding=1), nn.InstanceNorm2d(2 * width)]
            layers += [nn.LeakyReLU(0.2)]
            width *= 2
        super().__init__(*layers, nn.Conv2d(width, 1, 4, stride=1, padding=1))


class Discriminator(nn.Module):
    def __init__(self, scales: int = 2, width: int = 128, convolutions: int = 4) -> None:
        super().__init__()
        self.scales = nn.ModuleList(Patches(width, convolutions) for _ in range(scales))

    def forward(self, image):
        maps = []
        for scale in self.scales:
            maps.append(scale(image))
            image = F.avg_pool2d(image, 3, stride=2, padding=1, count_include_pad=False)
        return maps


def cross_entropy(maps, label):
    """Of probabilities; the mean over each map, then over the maps."""
    return sum(F.binary_cross_entropy(m.sigmoid(), torch.full_like(m, label)) for m in maps) / len(maps)


def edge_term(source, translated, alpha=0.1):
    smooth, slope = torch.tensor([1.0, 2.0, 1.0]), torch.tensor([-1.0, 0.0, 1.0])
    kernels = torch.stack([smooth[:, None] * slope, slope[:, None] * smooth])[:, None] / 8
    fields = []
    for each in (source, translated):
        g = F.conv2d(F.pad(each, (1, 1, 1, 1), mode="replicate"), kernels)
        fields.append(g / ((g**2).sum(1, keepdim=True) + alpha**2).sqrt())
    return (1 - 0.5 * (fields[0] * fields[1]).sum(1) ** 2).mean()


def step(generator, discriminator, source, target, *, autoencoding: bool):
    """Loss terms; the gradients are left in both networks, which share one optimizer and one step."""
    real = source if autoencoding else target
    fake = generator(source)
    adversarial, edge = cross_entropy(discriminator(fake), 1.0), edge_term(source, fake)
    loss = adversarial + 3 * edge + (100 * (fake - real).abs().mean() if autoencoding else 0)
    judged = cross_entropy(discriminator(real), 1.0) + cross_entropy(discriminator(fake.detach()), 0.0)
    (loss + judged).backward()
    return {"generator": loss, "adversarial": adversarial, "edge": edge, "discriminator": judged}
