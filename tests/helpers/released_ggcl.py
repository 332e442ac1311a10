"""Networks laid out as in the released code's checkpoints, written in plain torch, to test the import against."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils import spectral_norm


def norm(width):
    return nn.InstanceNorm2d(width, affine=True, track_running_stats=True)


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        first, second = (nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(2))
        self.main = nn.Sequential(first, norm(width), nn.ReLU(), second, norm(width))

    def forward(self, x):
        return x + self.main(x)


class SequentialGenerator(nn.Module):
    """StarGAN's own: all layers in `main`, transposed convolutions."""

    def __init__(self, width=4, domains=3, blocks=2, channels=1):
        super().__init__()
        layers = [nn.Conv2d(channels + domains, width, 7, padding=3, bias=False), norm(width), nn.ReLU()]
        for w in (width, 2 * width):
            layers += [nn.Conv2d(w, 2 * w, 4, 2, 1, bias=False), norm(2 * w), nn.ReLU()]
        layers += [Residual(4 * width) for _ in range(blocks)]
        for w in (4 * width, 2 * width):
            layers += [nn.ConvTranspose2d(w, w // 2, 4, 2, 1, bias=False), norm(w // 2), nn.ReLU()]
        self.main = nn.Sequential(*layers, nn.Conv2d(width, channels, 7, padding=3, bias=False), nn.Tanh())

    def forward(self, image, target):
        labels = target[:, :, None, None].repeat(1, 1, *image.shape[2:])
        return self.main(torch.cat([image, labels], 1))


class SequentialDiscriminator(nn.Module):
    """StarGAN's own: convolutions at the even places of `main`."""

    def __init__(self, size=32, width=4, domains=3, layers=3):
        super().__init__()
        widths = [1, *(width * 2**n for n in range(layers))]
        convolutions = [nn.Conv2d(widths[n], widths[n + 1], 4, 2, 1) for n in range(layers)]
        self.main = nn.Sequential(*(m for c in convolutions for m in (c, nn.LeakyReLU(0.01))))
        self.conv1 = nn.Conv2d(widths[-1], 1, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(widths[-1], domains, size // 2**layers, bias=False)

    def forward(self, image):
        feature = self.main(image)
        return self.conv1(feature), self.conv2(feature)[:, :, 0, 0]


def ggcl_generator_state(width=4, domains=3, blocks=2):
    """The names and shapes of GGCL's generator, random values."""
    shapes = {"init.0": (width, 1 + domains, 7, 7), "init.1": (width,), "out.0": (1, width, 7, 7)}
    for n, w in ((1, width), (2, 2 * width)):
        shapes |= {f"down{n}.0": (2 * w, w, 4, 4), f"down{n}.1": (2 * w,)}
    for n in range(blocks):
        block = f"residual.{n}.main"
        shapes |= {f"{block}.{k}": (4 * width, 4 * width, 3, 3) for k in (0, 3)}
        shapes |= {f"{block}.{k}": (4 * width,) for k in (1, 4)}
    for n, w in ((1, 4 * width), (2, 2 * width)):
        shapes |= {f"up{n}.0": (2 * w, w, 3, 3), f"up{n}.2": (w // 2,)}
    state = {}
    for name, shape in shapes.items():
        state[f"{name}.weight"] = torch.randn(shape)
        if len(shape) == 1:
            statistics = {
                "bias": torch.randn(shape),
                "running_mean": torch.zeros(shape),
                "running_var": torch.ones(shape),
            }
            state |= {f"{name}.{key}": value for key, value in statistics.items()}
            state[f"{name}.num_batches_tracked"] = torch.tensor(7)
    return state


def ggcl_discriminator_state(size=16, width=2, domains=3, layers=4):
    """The names and shapes of GGCL's discriminator, random values, with the vectors of torch's old spectral norm."""
    widths = [1, *(width * 2**n for n in range(layers))]
    convolutions = {
        "init_down" if n == 0 else f"down{n}": nn.Conv2d(widths[n], widths[n + 1], 4, 2, 1) for n in range(layers)
    }
    for n in range(layers - 1):
        inputs = widths[layers - max(n - 1, 0)]  # the deepest feature; then twice the width, with the skip
        outputs = 16 * width if n == layers - 2 else 2 * inputs if n == 0 else inputs
        convolutions["init_up" if n == 0 else f"up{n}"] = nn.Conv2d(inputs, outputs, 1, bias=False)
    state = {
        f"{name}.0.{key}": value
        for name, convolution in convolutions.items()
        for key, value in spectral_norm(convolution).state_dict().items()
    }
    state["conv1.weight"] = torch.randn(1, widths[-1], 3, 3)
    state["conv2.weight"] = torch.randn(domains, widths[-1], size // 2**layers, size // 2**layers)
    return state
