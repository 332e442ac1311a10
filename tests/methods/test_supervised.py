"""The supervised end of the scale: one gradient step of L1, and overlays that put it on each bundle's generator."""

from __future__ import annotations

import pytest
import torch
from monai.bundle import ConfigParser
from torch import nn

from common import preflight
from common.leaderboard import find_board, find_boards
from common.losses import TextureLoss
from common.methods import DomainLabels, PairedConversion, TexturedRegression
from common.networks import BicubicResidualGenerator


class Steps:
    """A trainer that steps as it is told."""

    step = 1

    def autocast(self):
        return torch.autocast("cpu", enabled=False)

    def update(self, optimizer, loss):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


class Offset(nn.Module):
    """Adds one learnt number for each target."""

    def __init__(self) -> None:
        super().__init__()
        self.offsets = nn.Parameter(torch.zeros(3))

    def forward(self, image: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return image + (label @ self.offsets)[:, None, None, None]


def test_a_step_follows_the_sign_of_the_error_of_each_target():
    """L1 of an offset: the gradient of a target's number is the mean sign over the batch's voxels, by hand."""
    generator = Offset()
    optimizer = torch.optim.SGD(generator.parameters(), lr=0.1)
    method = PairedConversion(generator, labels=DomainLabels(3), generator_optimizer=optimizer)
    image = torch.zeros(2, 1, 4, 4)
    batch = {"image": image, "truth": torch.stack([image[0] + 1.0, image[1] - 2.0])}
    batch |= {"domain": torch.tensor([0, 0]), "target": torch.tensor([1, 2])}
    losses = method(Steps(), batch)
    torch.testing.assert_close(losses["generator"].detach(), torch.tensor(1.5))
    torch.testing.assert_close(generator.offsets.detach(), torch.tensor([0.0, 0.05, -0.05]))
    assert torch.equal(losses["real_target"], batch["truth"])
    assert list(method.networks) == ["generator"]


def test_the_border_of_a_crop_does_not_count():
    method = PairedConversion(
        Offset(), labels=DomainLabels(3), generator_optimizer=torch.optim.SGD([torch.zeros(1)], lr=0.1), border=2
    )
    truth = torch.full((1, 1, 8, 6), 9.0)
    truth[..., 2:-2, 2:-2] = 0.5
    batch = {"image": torch.zeros(1, 1, 8, 6), "truth": truth, "domain": torch.tensor([0]), "target": torch.tensor([1])}
    assert method(Steps(), batch)["generator"].item() == 0.5


@pytest.mark.parametrize("bundle", [name for name in find_boards() if name != "nec_t1t2"])
def test_every_bundle_has_a_supervised_end(bundle):
    """nec_t1t2 has Pix2Pix."""
    board = find_board(bundle)
    assert "supervised" in board.supervised
    parser = ConfigParser()
    parser.read_config([str(path) for path in board.files("supervised", "demo")])
    parser.update({"bundle_root": str(board.configs.parent)})
    parser.parse()
    preflight.check(config=parser)
    kernels = "num_domains" in parser["network_def"]
    assert parser["method"]["_target_"].endswith("PairedConversion" if kernels else "PairedRegression")
    assert "training_paired" in str(parser["train"])
    assert "discriminator" not in str(parser["method"])


def test_structure_regresses_the_truth_and_texture_its_statistics():
    """On truths of a constant offset and white noise, the structure finds the offset, and the texture the noise."""
    torch.manual_seed(0)
    network = BicubicResidualGenerator(factor=2, channels=4, num_res_blocks=1, tolerance=1.0, texture_weight=0.5)
    method = TexturedRegression(
        network,
        generator_optimizer=torch.optim.Adam(network.parameters(), 0.02),
        texture_loss=TextureLoss(factor=2, region=8),
    )
    random, errors, shares = torch.Generator().manual_seed(0), [], []
    for _ in range(60):
        source = -0.7 + 0.02 * torch.randn(4, 1, 16, 16, generator=random)
        fine = torch.nn.functional.interpolate(source, scale_factor=2, mode="bicubic")
        noise = 0.1 * torch.randn(4, 1, 32, 32, generator=random)
        result = method(Steps(), {"source": source, "target": fine + 0.1 + noise})
        structure, texture = network.parts(source)
        errors.append(float((structure - fine - 0.1).abs().mean().detach()))
        shares.append(float((texture.std() / 0.1).detach()))
    assert errors[-1] < 0.02  # of an offset of 0.1
    assert 0.6 < shares[-1] < 1.2  # of the noise: its part at the source's resolution is left out
    assert set(result) >= {"generator", "squared", "texture", "real_source", "fake_target", "real_target"}
