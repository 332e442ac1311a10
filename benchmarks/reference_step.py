"""
The released GGCL code's training step, replayed with the authors' own network definitions (cychoi97/GGCL on GitHub).

Their `model.py` is imported from a checkout when a benchmark asks for it; nothing of it is part of this project. The
step is written from what their `solver.py` computes (docs/fidelity.md), with its costs: the generator's graph is built
for the discriminator's update and not used, the discriminator always decodes, its weights stay trainable in the
generator's update, the fake is computed anew there, and Adam steps one tensor after another.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import Adam

NUM_PATCHES = 64
TEMPERATURE = 0.07
MASKED = -10.0  # similarity of a place with itself, among the negatives
WEIGHTS = {"class": 1.0, "penalty": 10.0, "guidance": 2.0, "cycle": 10.0}
SETTINGS = {"lr": 1e-4, "betas": (0.5, 0.999)}


class ReleasedStep:
    """
    Networks, optimizers and one iteration of the released code, for one vendor's kernels.

    Random numbers are torch's and drawn in the order of `common.methods.StarGAN`: one seed gives both the same.

    Args:
        checkout: folder of the released code, which holds `model.py`.
        image_size: pixels along each side.
        num_domains: kernels.
        channels: of the generator; the discriminator has half.
        num_res_blocks: of the generator.

    Raises:
        FileNotFoundError: when there is no `model.py` in `checkout`.
    """

    def __init__(
        self, checkout: Path, image_size: int, *, num_domains: int = 3, channels: int = 64, num_res_blocks: int = 6
    ) -> None:
        model = _released_model(checkout)
        self.num_domains = num_domains
        self.generator: nn.Module = model.Generator_GGCL(channels, num_domains, num_res_blocks)
        self.discriminator: nn.Module = model.Discriminator_GGCL(image_size, channels // 2, num_domains, 7)
        self.networks = {"generator": self.generator, "discriminator": self.discriminator}
        self.optimizers = {name: Adam(network.parameters(), **SETTINGS) for name, network in self.networks.items()}

    def __call__(self, image: torch.Tensor, domain: torch.Tensor, *, generators_turn: bool) -> dict[str, float]:
        """One update of D on (B, 1, H, W) of the domains (B,), and at the generator's turn one of G: the losses."""
        target = domain[torch.randperm(len(domain))]
        forth, back = (F.one_hot(kind, self.num_domains).float() for kind in (target, domain))
        losses = self._update_discriminator(image, domain, forth)
        if generators_turn:
            losses |= self._update_generator(image, target, forth, back)
        return losses

    def _update_discriminator(self, image: torch.Tensor, domain: torch.Tensor, forth: torch.Tensor) -> dict[str, float]:
        real_map, real_logits, _ = self.discriminator(image)
        fake, key = self.generator(image, forth)
        fake_map, _, query = self.discriminator(fake.detach())
        place = torch.rand(len(image), 1, 1, 1)
        between = (place * image + (1 - place) * fake.detach()).requires_grad_()
        losses = {
            "critic": fake_map.mean() - real_map.mean(),
            "penalty": _penalty(self.discriminator(between)[0], between),
            "real_class": F.cross_entropy(real_logits, domain),
            "guidance": _contrast(query, key.detach()),
        }
        total = losses["critic"] + WEIGHTS["class"] * losses["real_class"] + WEIGHTS["penalty"] * losses["penalty"]
        self._step("discriminator", total + WEIGHTS["guidance"] * losses["guidance"])
        return {name: loss.item() for name, loss in losses.items()}

    def _update_generator(
        self, image: torch.Tensor, target: torch.Tensor, forth: torch.Tensor, back: torch.Tensor
    ) -> dict[str, float]:
        fake, _ = self.generator(image, forth)
        fake_map, fake_logits, _ = self.discriminator(fake)
        cycled, _ = self.generator(fake, back)
        losses = {
            "adversarial": -fake_map.mean(),
            "fake_class": F.cross_entropy(fake_logits, target),
            "cycle": (image - cycled).abs().mean(),
        }
        total = losses["adversarial"] + WEIGHTS["class"] * losses["fake_class"] + WEIGHTS["cycle"] * losses["cycle"]
        self._step("generator", total)
        return {name: loss.item() for name, loss in losses.items()}

    def _step(self, which: str, loss: torch.Tensor) -> None:
        for optimizer in self.optimizers.values():
            optimizer.zero_grad()
        loss.backward()
        self.optimizers[which].step()


def _released_model(checkout: Path) -> ModuleType:
    path = Path(checkout) / "model.py"
    if not path.is_file():
        raise FileNotFoundError(
            f"`reference` must be a checkout of the released GGCL code, but {path} is missing: clone it from"
            " https://github.com/cychoi97/GGCL."
        )
    spec = importlib.util.spec_from_file_location("released_ggcl_model", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _penalty(source_map: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Of the sum of the source map: fact 3 of docs/fidelity.md."""
    (gradient,) = torch.autograd.grad(source_map, image, torch.ones_like(source_map), create_graph=True)
    return (gradient.flatten(1).square().sum(dim=1).sqrt() - 1).square().mean()


def _contrast(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """Of features that the networks have pooled already, at places that the batch shares."""
    places = torch.randperm(query.shape[2] * query.shape[3])[:NUM_PATCHES]
    vectors = [feature.flatten(2)[:, :, places].transpose(1, 2) for feature in (query, key)]
    queries, keys = (each / (each.square().sum(dim=2, keepdim=True).sqrt() + 1e-7) for each in vectors)
    similar = queries @ keys.transpose(1, 2)
    positive = similar.diagonal(dim1=1, dim2=2)[..., None]
    negative = similar.masked_fill(torch.eye(len(places), dtype=torch.bool), MASKED)
    logits = torch.cat([positive, negative], dim=2).flatten(0, 1) / TEMPERATURE
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long))
