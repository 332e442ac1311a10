"""Networks laid out as in the released code's checkpoints, written in plain torch, to test the import against.

And one training iteration of GGCL's released code and of KC-UNIT's, KCGAN's (cychoi97/GGCL, cychoi97/KC-UNIT).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils import spectral_norm

from .released_steps import gradient


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


class GuidedGenerator(nn.Module):
    """The generator that guides: also returns its feature behind the first up-sampling."""

    def __init__(self, width=64, domains=3, blocks=6):
        super().__init__()

        def layer(*modules, outputs):
            return nn.Sequential(*modules, norm(outputs), nn.ReLU())

        def up(inputs):
            outputs = inputs // 2
            return layer(nn.Conv2d(inputs, 4 * outputs, 3, padding=1, bias=False), nn.PixelShuffle(2), outputs=outputs)

        self.init = layer(nn.Conv2d(1 + domains, width, 7, padding=3, bias=False), outputs=width)
        self.down1 = layer(nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False), outputs=2 * width)
        self.down2 = layer(nn.Conv2d(2 * width, 4 * width, 4, 2, 1, bias=False), outputs=4 * width)
        self.residual = nn.Sequential(*(Residual(4 * width) for _ in range(blocks)))
        self.up1, self.up2 = up(4 * width), up(2 * width)
        self.out = nn.Sequential(nn.Conv2d(width, 1, 7, padding=3, bias=False), nn.Tanh())

    def forward(self, image, target):
        labels = target[:, :, None, None].expand(-1, -1, *image.shape[2:])
        feature = self.up1(self.residual(self.down2(self.down1(self.init(torch.cat([image, labels], 1))))))
        return self.out(self.up2(feature)), feature


class GuidedDiscriminator(nn.Module):
    """Seven layers down, six up with the encoder's features beside, spectral norm on all but the heads."""

    def __init__(self, size=512, width=32, domains=3):
        super().__init__()

        def down(inputs, outputs):
            return nn.Sequential(spectral_norm(nn.Conv2d(inputs, outputs, 4, 2, 1)), nn.LeakyReLU(0.01))

        def up(inputs, outputs):
            layer = spectral_norm(nn.Conv2d(inputs, outputs, 1, bias=False))
            return nn.Sequential(layer, nn.PixelShuffle(2), nn.LeakyReLU(0.01))

        self.init_down = down(1, width)
        for n in range(1, 7):
            setattr(self, f"down{n}", down(width << (n - 1), width << n))
        self.init_up = up(64 * width, 128 * width)
        for n in range(1, 6):
            inputs = 128 * width >> n
            setattr(self, f"up{n}", up(inputs, 16 * width if n == 5 else inputs))
        self.conv1 = nn.Conv2d(64 * width, 1, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(64 * width, domains, size // 128, bias=False)

    def forward(self, image):
        features = [self.init_down(image)]
        for n in range(1, 7):
            features.append(getattr(self, f"down{n}")(features[-1]))
        decoded = self.init_up(features[6])
        for n in range(1, 6):
            decoded = getattr(self, f"up{n}")(torch.cat([decoded, features[6 - n]], 1))
        return self.conv1(features[6]), self.conv2(features[6]).flatten(1), decoded


def contrast(query, key, places):
    """Cross-entropy over the places of one image, features of length 1, temperature 0.07."""
    terms = []
    for q, k in zip(query.flatten(2), key.detach().flatten(2)):
        q, k = (f[:, places].T / (f[:, places].T.pow(2).sum(1, keepdim=True).sqrt() + 1e-7) for f in (q, k))
        terms.append(nn.functional.cross_entropy(q @ k.T / 0.07, torch.arange(len(places))))
    return sum(terms) / len(terms)


def guided_step(generator, discriminator, image, kernel, *, pool, weights):
    """Both updates of an iteration in which the generator has its turn, without the steps between them.

    Args:
        image, kernel: the batch.
        pool: of the features that are compared, 2 in GGCL and 1 in KC-UNIT.
        weights: of the contrast and of the cosine.
    """
    one_hot = torch.eye(3)
    target = kernel[torch.randperm(len(kernel))]
    real_map, logits, _ = discriminator(image)
    fake, key = generator(image, one_hot[target])
    fake_map, _, query = discriminator(fake.detach())
    share = torch.rand(len(image), 1, 1, 1)
    between = (share * image + (1 - share) * fake.detach()).requires_grad_()
    (slope,) = torch.autograd.grad(discriminator(between)[0].sum(), between, create_graph=True)
    penalty = ((slope.flatten(1).pow(2).sum(1).sqrt() - 1) ** 2).mean()
    query, key = (nn.functional.avg_pool2d(feature, pool) for feature in (query, key))
    guidance = weights[0] * contrast(query, key, torch.randperm(query[0, 0].numel())[:64])
    if weights[1]:
        guidance = guidance + weights[1] * (1 - torch.cosine_similarity(query, key.detach(), dim=1).mean())
    losses = {
        "critic": fake_map.mean() - real_map.mean(),
        "real_class": nn.functional.cross_entropy(logits, kernel),
        "penalty": penalty,
        "guided": guidance,
    }
    (losses["critic"] + losses["real_class"] + 10 * penalty + guidance).backward()
    gradients = {"discriminator": gradient(discriminator)}
    generator.zero_grad()
    fake, _ = generator(image, one_hot[target])
    fake_map, logits, _ = discriminator(fake)
    losses["adversarial"] = -fake_map.mean()
    losses["fake_class"] = nn.functional.cross_entropy(logits, target)
    losses["cycle"] = (image - generator(fake, one_hot[kernel])[0]).abs().mean()
    (losses["adversarial"] + losses["fake_class"] + 10 * losses["cycle"]).backward()
    return losses, {**gradients, "generator": gradient(generator)}
