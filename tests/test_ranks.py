"""What the processes of a training draw and hold together; that of two real processes is in `engines`."""

from __future__ import annotations

import pytest
import torch

from common import distributed


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
