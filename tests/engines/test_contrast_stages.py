"""Every stage of neural contrast enhancement can stop and go on, and leaves what the next one loads."""

from __future__ import annotations

import pytest
import torch
from torch.optim.lr_scheduler import ExponentialLR
from torch.testing import assert_close
from torch.utils.data import DataLoader

from common.engines import TranslationTrainer
from common.networks import load_stage

from ..methods.contrast_parts import batch, contrast_method


def train(name, folder, max_epochs):
    method = contrast_method(name)
    samples = [{key: images[index] for key, images in batch(3).items()} for index in range(3)]
    TranslationTrainer(
        "cpu",
        max_epochs,
        DataLoader(samples, batch_size=2),  # and a ragged last batch of 1
        method,
        output_dir=folder,
        models_dir=folder / "models",
        resume=True,
        lr_schedulers=[ExponentialLR(optimizer, 0.9) for optimizer in method.optimizers.values()],
        progress=False,
    ).run()
    return method


@pytest.mark.parametrize("name", ["classification", "removal", "enhancement", "joint", "single", "cycle"])
def test_resuming_is_bitwise_and_the_next_stage_loads_what_was_trained(name, tmp_path):
    straight = train(name, tmp_path / "straight", 2)
    train(name, tmp_path / "resumed", 1)
    resumed = train(name, tmp_path / "resumed", 2)
    for network, other in zip(straight.networks.values(), resumed.networks.values(), strict=True):
        assert_close(network.state_dict(), other.state_dict(), rtol=0, atol=0)
    rates = [group["lr"] for optimizer in resumed.optimizers.values() for group in optimizer.param_groups]
    assert rates == pytest.approx([1e-2 * 0.9**2] * len(rates))  # section 4.1: x0.9 at every epoch
    stage = load_stage(tmp_path / "resumed" / "models", made_by="another run")
    assert_close(stage.state_dict(), straight.generator.state_dict(), rtol=0, atol=0)
    assert isinstance(stage, type(straight.generator))
    assert torch.equal(stage(batch()["target"]), straight.generator.eval()(batch()["target"]))
