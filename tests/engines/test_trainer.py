"""The trainer: state, resume, schedules, accumulation, mixed precision, ranks.

Every stage of neural contrast enhancement can stop and go on, and leaves what the next one loads.
"""

from __future__ import annotations

import json
from functools import partial

import pytest
import torch
from ignite.engine import Events
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from torch.optim import Adam
from torch.optim.lr_scheduler import ExponentialLR
from torch.testing import assert_close
from torch.utils.data import DataLoader

from common.engines import TranslationTrainer
from common.networks import load_definition, load_stage, load_weights
from tests.helpers.contrast_methods import batch, contrast_method
from tests.helpers.methods import NAMES
from tests.helpers.trainers import images, losses, rows, trainer, weights


def test_it_is_the_type_that_federated_learning_and_label_ask_for(tmp_path):
    assert isinstance(trainer("nec", tmp_path), SupervisedTrainer)


@pytest.mark.parametrize("name", NAMES)
def test_resume_is_bitwise(tmp_path, name):
    whole = trainer(name, tmp_path / "whole", ema_decay=0.9)
    whole.run()
    for seed, epochs in ((0, 2), (5, 4)):  # the second one starts from other weights and another RNG state
        part = trainer(name, tmp_path / "parts", epochs=epochs, seed=seed, resume=True, ema_decay=0.9)
        torch.rand(7)
        part.run()
    torch.testing.assert_close(weights(part), weights(whole), rtol=0, atol=0)
    torch.testing.assert_close(part.ema.state_dict(), whole.ema.state_dict(), rtol=0, atol=0)
    assert losses(tmp_path / "parts/out/losses.csv") == losses(tmp_path / "whole/out/losses.csv")
    deployed = [torch.load(tmp_path / n / "models/model.pt", weights_only=True) for n in ("parts", "whole")]
    torch.testing.assert_close(*deployed, rtol=0, atol=0)


def test_with_channels_last_the_numbers_are_the_same_and_a_training_may_change_to_it(tmp_path):
    fused = partial(Adam, fused=True, eps=1e-3)  # which a gradient of rounding errors alone does not move
    plain = trainer("nec", tmp_path / "plain", optimizer=fused)
    plain.run()
    last = trainer("nec", tmp_path / "last", optimizer=fused, channels_last=True)
    last.run()
    assert not all(w.is_contiguous() for network in last.method.networks.values() for w in network.parameters())
    torch.testing.assert_close(weights(last), weights(plain), rtol=1e-3, atol=2e-4)
    for epochs, channels_last in ((2, True), (3, False), (4, True)):
        part = trainer("nec", tmp_path / "p", epochs=epochs, optimizer=fused, resume=True, channels_last=channels_last)
        part.run()
    torch.testing.assert_close(weights(part), weights(plain), rtol=1e-3, atol=2e-4)


def test_the_state_is_plain_tensors_and_numbers(tmp_path):
    trainer("cyclegan", tmp_path, epochs=1, ema_decay=0.5).run()
    state = torch.load(tmp_path / "out/last.pt", weights_only=True)
    assert state["epoch"] == 1
    assert state["pools"]["target"]["images"]
    assert set(state["networks"]) == {"generator", "back_generator", "target_discriminator", "source_discriminator"}


def test_memory_is_kept_while_it_trains(tmp_path, monkeypatch):
    kept: list[bool] = []
    monkeypatch.setattr("common.engines.trainer.keep_memory", lambda: kept.append(True))
    trainer("nec", tmp_path, epochs=1).run()
    assert kept == [True]


def test_a_complete_training_is_not_begun_again(tmp_path):
    trainer("nec", tmp_path, epochs=2).run()
    before = (tmp_path / "out/last.pt").stat().st_mtime_ns
    again = trainer("nec", tmp_path, epochs=2, resume=True)
    again.run()
    assert again.epoch == 2
    assert (tmp_path / "out/last.pt").stat().st_mtime_ns == before


def test_a_state_of_other_networks_or_a_broken_one_is_refused_and_named(tmp_path):
    trainer("nec", tmp_path, epochs=1).run()
    with pytest.raises(ValueError, match=r"last\.pt.*does not fit this config.*--resume False"):
        trainer("cyclegan", tmp_path, resume=True).run()
    (tmp_path / "out/last.pt").write_bytes(b"half a file")
    with pytest.raises(ValueError, match=r"last\.pt.*not the state of a training.*Remove it"):
        trainer("nec", tmp_path, resume=True).run()


def test_another_joined_batch_on_resuming_is_told(tmp_path, caplog):
    trainer("nec", tmp_path, epochs=1, batch_size=2).run()
    trainer("nec", tmp_path, epochs=2, batch_size=2, resume=True).run()
    assert "does not go on as it began" not in caplog.text
    trainer("nec", tmp_path, epochs=3, batch_size=1, resume=True).run()
    assert "An epoch of the training in" in caplog.text
    assert "had 2 iterations and now has 4: it does not go on as it began" in caplog.text


def test_without_resume_a_training_starts_anew(tmp_path):
    trainer("nec", tmp_path, epochs=2).run()
    trainer("nec", tmp_path, epochs=1, resume=False).run()
    assert {row["epoch"] for row in rows(tmp_path / "out/losses.csv")} == {"1"}


def test_what_is_deployed_loads_by_itself_and_matches_its_definition(tmp_path):
    run = trainer("nec", tmp_path, epochs=1, definition={"spacing_mm": [1.0, 1.0, -1]}, ema_decay=0.5)
    run.run()
    document = json.loads((tmp_path / "models/network.json").read_text())
    assert document["ema"] is True
    assert document["spacing_mm"] == [1.0, 1.0, -1]
    network = load_weights(load_definition(tmp_path, {}), tmp_path / "models/model.pt").eval()
    x = images(3)[0][None]
    torch.testing.assert_close(network(x), run.deployed_network.eval()(x), rtol=0, atol=0)
    assert not torch.equal(network(x), run.network.eval()(x))  # the average, not the last weights


def test_learning_rate_at_start_middle_and_end(tmp_path):
    trainer("cut", tmp_path, epochs=4).run()
    by_epoch = {int(row["epoch"]): float(row["learning_rate"]) for row in rows(tmp_path / "out/losses.csv")}
    assert by_epoch == {1: 1e-3, 2: 1e-3, 3: 1e-3, 4: pytest.approx(5e-4)}


def test_accumulated_gradients_are_those_of_the_joined_batch(tmp_path):
    joined = trainer("pix2pix", None, epochs=1, batch_size=4, lr_schedulers=())
    parts = trainer("pix2pix", None, epochs=1, batch_size=2, accumulation_steps=2, lr_schedulers=())
    for run in (joined, parts):
        run.method.reconstruction_weight = 0.0  # D's step, which both take from the same weights, is what is compared
        run.run()
    for name, value in joined.method.networks["discriminator"].state_dict().items():
        torch.testing.assert_close(parts.method.networks["discriminator"].state_dict()[name], value)


def test_steps_are_counted_across_batches_and_epochs_not_iterations():
    """4 batches an epoch of which 3 make a step: steps of 3 and 1 batches."""
    run, seen = trainer("nec", None, epochs=2, batch_size=1, accumulation_steps=3), []
    run.add_event_handler(Events.ITERATION_STARTED, lambda: seen.append(run.step))
    run.run()
    assert seen == [1, 1, 1, 2, 3, 3, 3, 4]


def test_gradients_are_clipped(monkeypatch):
    norms = []
    clip = torch.nn.utils.clip_grad_norm_

    def spy(parameters, limit):
        parameters = list(parameters)
        clip(parameters, limit)
        norms.append(float(torch.cat([p.grad.flatten() for p in parameters]).norm()))

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", spy)
    trainer("nec", None, epochs=1, max_grad_norm=1e-3).run()
    assert len(norms) == 4
    assert max(norms) <= 1.001e-3


def test_mixed_precision_keeps_images_and_losses_in_float32_and_weights_finite():
    run = trainer("nec", None, epochs=1, amp=True)
    inner = set()
    run.network.stem.register_forward_hook(lambda _module, _inputs, feature: inner.add(feature.dtype))
    run.run()
    assert inner == {torch.bfloat16}
    assert run.state.output["fake_target"].dtype == torch.float32
    losses = [v for k, v in run.state.output.items() if v.numel() == 1]
    assert {loss.dtype for loss in losses} == {torch.float32}
    assert all(bool(torch.isfinite(v).all()) for v in weights(run).values())


def test_a_loss_that_is_not_finite_stops_the_training_and_leaves_the_last_state(tmp_path):
    run = trainer("nec", tmp_path, epochs=1)
    run.run()
    before = (tmp_path / "out/last.pt").read_bytes()
    broken = trainer("nec", tmp_path, epochs=3, resume=True)
    broken.method.edge_weight = float("nan")
    with pytest.raises(FloatingPointError, match=r"'generator' is nan in epoch 2.*Lower the learning rate"):
        broken.run()
    assert (tmp_path / "out/last.pt").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"amp_dtype": "float8"}, "`amp_dtype` must be 'bfloat16' or 'float16', got 'float8'"),
        ({"ema_decay": 1.5}, "`ema_decay` must lie between 0 and 1, or be null, got 1.5"),
        ({"accumulation_steps": 0}, "`accumulation_steps` must be a positive integer"),
    ],
)
def test_arguments_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        trainer("nec", None, **options)


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


class Scores(SupervisedEvaluator):
    """A validator that gives the listed scores, one a run, and counts its runs."""

    def __init__(self, scores):
        super().__init__("cpu", [0], torch.nn.Identity(), iteration_update=lambda engine, batch: {})
        self.scores = list(scores)
        self.add_event_handler(Events.EPOCH_COMPLETED, self._score)

    def _score(self, _):
        self.state.metrics["unpaired_score"] = self.scores.pop(0)


@pytest.mark.parametrize(("scores", "best"), [([1.0, 2.0, 3.0], 0), ([3.0, 2.0, 2.5], 1)])
def test_the_weights_at_the_start_are_a_candidate_if_they_are_validated(tmp_path, scores, best):
    run = trainer("nec", tmp_path, epochs=2, validator=Scores(scores), validate_first=True)
    start = {name: value.clone() for name, value in run.network.state_dict().items()}
    run.run()
    assert run.best_epoch == best
    assert not run.validator.scores
    assert [row["epoch"] for row in rows(tmp_path / "out/validation.csv")] == ["0", "1", "2"]
    assert json.loads((tmp_path / "models/network.json").read_text())["epoch"] == best
    kept = torch.load(tmp_path / "models/model.pt", weights_only=True)
    assert all(torch.equal(kept[name], value) for name, value in start.items()) is (best == 0)


def test_a_resumed_training_does_not_validate_its_start_again(tmp_path):
    trainer("nec", tmp_path, epochs=1, validator=Scores([1.0, 2.0]), validate_first=True).run()
    resumed = trainer("nec", tmp_path, epochs=2, validator=Scores([3.0]), validate_first=True, resume=True)
    resumed.run()
    assert [row["epoch"] for row in rows(tmp_path / "out/validation.csv")] == ["0", "1", "2"]
