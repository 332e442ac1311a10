"""One training step of SR-CycleGAN's released code (zhuofeng/SR-cycleGAN), written anew from what it does."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import map_coordinates
from torch import nn
from torch.nn import functional as F

FACTOR = 8


def mirrored(inputs, outputs, size):
    return [nn.ReflectionPad2d(size // 2), nn.Conv2d(inputs, outputs, size)]


class Block(nn.Sequential):
    def __init__(self, width):
        super().__init__(
            *mirrored(width, width, 3),
            nn.InstanceNorm2d(width),
            nn.ReLU(),
            *mirrored(width, width, 3),
            nn.InstanceNorm2d(width),
        )

    def forward(self, feature):
        return feature + super().forward(feature)


def finer(width=64, blocks=9):
    """G1: from clinical to micro."""
    layers = [*mirrored(1, width, 7), nn.InstanceNorm2d(width), nn.PReLU()]
    layers += [Block(width) for _ in range(blocks)]
    layers += [*mirrored(width, width, 3), nn.InstanceNorm2d(width), nn.PReLU()]
    for _ in range(3):
        layers += [nn.Conv2d(width, 2 * width, 3, padding=1), nn.InstanceNorm2d(2 * width)]
        layers += [nn.PixelShuffle(2), nn.PReLU()]
        width //= 2
    return nn.Sequential(*layers, *mirrored(width, 1, 7), nn.Tanh())


def coarser(width=64, blocks=9):
    """G2: down to 1/4, up again, then down to 1/8."""

    def halved(n):
        return [nn.Conv2d(n, 2 * n, 3, stride=2, padding=1), nn.InstanceNorm2d(2 * n), nn.ReLU()]

    def doubled(n):
        layer = nn.ConvTranspose2d(n, n // 2, 3, stride=2, padding=1, output_padding=1)
        return [layer, nn.InstanceNorm2d(n // 2), nn.ReLU()]

    layers = [*mirrored(1, width, 7), nn.InstanceNorm2d(width), nn.ReLU(), *halved(width), *halved(2 * width)]
    layers += [Block(4 * width) for _ in range(blocks)]
    layers += [*doubled(4 * width), *doubled(2 * width), *halved(width), *halved(2 * width), *halved(4 * width)]
    return nn.Sequential(*layers, *mirrored(8 * width, 1, 7), nn.Tanh())


def patches(width=64):
    """PatchGAN of 70 x 70 pixels, with biases."""
    layers = [nn.Conv2d(1, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
    for stride in (2, 2, 1):
        layers += [nn.Conv2d(width, 2 * width, 4, stride=stride, padding=1), nn.InstanceNorm2d(2 * width)]
        layers += [nn.LeakyReLU(0.2)]
        width *= 2
    return nn.Sequential(*layers, nn.Conv2d(width, 1, 4, padding=1))


def dissimilarity(first, second):
    """1 - SSIM with zeros outside of the images."""
    offsets = torch.arange(11.0) - 5
    window = torch.exp(-(offsets**2) / (2 * 1.5**2))
    window = window / window.sum()

    def mean(values):
        rows = F.conv2d(values, window[None, None, :, None], padding=(5, 0))
        return F.conv2d(rows, window[None, None, None], padding=(0, 5))

    m, n = mean(first), mean(second)
    v, w, c = mean(first**2) - m**2, mean(second**2) - n**2, mean(first * second) - m * n
    return 1 - ((2 * m * n + 1e-4) * (2 * c + 9e-4) / ((m**2 + n**2 + 1e-4) * (v + w + 9e-4))).mean()


def step(networks, clinical, micro):
    """Loss terms; each network's gradients are those of its own update."""
    up, down = networks["generator"], networks["back_generator"]
    judge_micro, judge_clinical = networks["target_discriminator"], networks["source_discriminator"]
    fake_micro, fake_clinical = up(clinical), down(micro)
    pooled = F.avg_pool2d(fake_micro, FACTOR)
    repeated = F.interpolate(fake_clinical, scale_factor=float(FACTOR), mode="nearest")
    enlarged = F.interpolate(down(clinical), scale_factor=float(FACTOR), mode="bilinear", align_corners=True)
    terms = {
        "adversarial": ((judge_micro(fake_micro) - 1) ** 2).mean() + ((judge_clinical(fake_clinical) - 1) ** 2).mean(),
        "cycle": (down(fake_micro) - clinical).abs().mean() + (up(fake_clinical) - micro).abs().mean(),
        "target_identity": (F.avg_pool2d(up(micro), FACTOR) - micro).abs().mean(),
        "source_identity": (enlarged - clinical).abs().mean(),
        "source_ssim": dissimilarity(pooled, clinical),
        "target_ssim": dissimilarity(repeated, micro),
        "downsample": (pooled - clinical).abs().mean(),
        "upsample": (repeated - micro).abs().mean(),
    }
    weights = {"target_identity": 0.2, "source_identity": 0.02}
    total = sum(weights.get(name, 1.0) * value for name, value in terms.items())
    total.backward()
    for network in (judge_micro, judge_clinical):
        network.zero_grad()
    judged = torch.zeros(())
    for judge, real, fake in ((judge_micro, micro, fake_micro), (judge_clinical, clinical, fake_clinical)):
        judged = judged + 0.5 * (((judge(real) - 1) ** 2).mean() + (judge(fake.detach()) ** 2).mean())
    judged.backward()
    return {"generator": total, "discriminator": judged, **terms}


def reduced(patch: np.ndarray) -> np.ndarray:
    """The clinical patch that the code makes of a micro patch: a cubic spline, read from corner to corner."""
    places = [np.linspace(0, side - 1, side // FACTOR) for side in patch.shape]
    return map_coordinates(patch, np.meshgrid(*places, indexing="ij"), order=3)
