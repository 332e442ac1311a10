"""What the processes of a training draw and hold together; that of two real processes is in `engines`.

Two processes train what one process does with the joined batch.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim import SGD

from common import distributed
from tests.helpers.methods import NAMES
from tests.helpers.trainers import trainer, weights
from tests.helpers.two_ranks import IMAGES, drawn_labels, normalized


@pytest.fixture(params=[2, 3])
def of_each_rank(monkeypatch, request):
    """Calls a function as each of several ranks would."""

    def call(function):
        results = []
        for number in range(request.param):
            monkeypatch.setattr(distributed, "rank", lambda number=number: number)
            monkeypatch.setattr(distributed, "processes", lambda: request.param)
            results.append(function())
        return results

    return call


def test_a_process_without_a_group_is_alone():
    assert (distributed.is_distributed(), distributed.rank(), distributed.processes()) == (False, 0, 1)


def test_the_parts_are_dealt_out_in_turn(of_each_rank):
    batch = torch.arange(12.0).view(6, 2)
    parts = of_each_rank(lambda: distributed.own_part(batch))
    for place, image in enumerate(batch):
        torch.testing.assert_close(parts[place % len(parts)][place // len(parts)], image, rtol=0, atol=0)


def test_draws_are_those_of_the_joined_batch(of_each_rank):
    def draw() -> torch.Tensor:
        torch.manual_seed(3)
        shared = torch.rand(())
        return torch.stack([shared.expand(2), distributed.draw_for_each(2, torch.rand), torch.rand(()).expand(2)])

    together = of_each_rank(draw)
    torch.manual_seed(3)
    first, each, last = torch.rand(()), torch.rand(2 * len(together)), torch.rand(())
    torch.testing.assert_close(torch.stack([part[1] for part in together], dim=1).flatten(), each, rtol=0, atol=0)
    for part in together:
        assert part[0].tolist() == [first] * 2
        assert part[2].tolist() == [last] * 2


ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What both ranks have found, and the files of their trainings."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command += ["tests.helpers.two_ranks", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def found(folder) -> list[dict]:
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_equal_one_with_the_joined_batch(folder, found, name):
    """With plain gradient descent: Adam blows up the rounding of gradients that are zero (biases before a norm)."""
    first, second = (of_rank[name] for of_rank in found)
    torch.testing.assert_close(second, first, rtol=0, atol=0)
    single = trainer(name, None, epochs=2, batch_size=2, optimizer=SGD)
    single.run()
    torch.testing.assert_close(first["weights"], weights(single), rtol=1e-3, atol=1e-5)
    for pool, kept in single.method.pools.items():
        torch.testing.assert_close(first["pools"][pool], kept.images, rtol=1e-3, atol=1e-4)
    assert (folder / name / "models/model.pt").is_file()


def test_a_joined_batch_alternates_between_the_ranks(found):
    for of_rank in found:
        assert of_rank["joined"].tolist() == [[0], [10], [1], [11]]


def test_batch_norms_see_the_images_of_both_ranks(found):
    whole = normalized(nn.BatchNorm2d(2), IMAGES)
    first, second = (of_rank["norm"] for of_rank in found)
    torch.testing.assert_close(torch.stack([first["output"], second["output"]], dim=1).flatten(0, 1), whole["output"])
    names = [name for name in whole if name not in ("output",) and "gradient" not in name]
    assert set(names) == {f"0.{n}" for n in ("weight", "bias")} | {f"1.{n}" for n in nn.BatchNorm2d(2).state_dict()}
    for name in names:
        torch.testing.assert_close(first[name], whole[name])
        torch.testing.assert_close(second[name], first[name], rtol=0, atol=0)
    for name in (name for name in whole if "gradient" in name):
        torch.testing.assert_close((first[name] + second[name]) / 2, whole[name])


@pytest.mark.parametrize("permute", [False, True])
def test_targets_are_drawn_for_the_joined_batch(found, permute):
    whole = drawn_labels(torch.tensor([0, 1, 2, 2]), permute=permute)
    parts = [of_rank["labels"][permute] for of_rank in found]
    assert torch.stack(parts, dim=1).flatten().tolist() == whole.tolist()


def test_an_overflow_on_one_rank_skips_the_step_of_all(found):
    for of_rank in found:
        skipped, taken = of_rank["steps"]
        assert not skipped.any()
        torch.testing.assert_close(taken, torch.full_like(taken, -1e-3))


def test_ranks_that_resumed_other_states_are_refused(found):
    for of_rank in found:
        same, other = of_rank["refusals"]
        assert same == ""
        assert other.startswith("All processes must resume the same state, but they are at the epochs [0, 1],")
        assert "`--output_dir` that all nodes see" in other
