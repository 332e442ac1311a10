"""The pieces of benchmarks/train_step.py, at sizes that take seconds; its own comparison tests the fast steps too."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import nn

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
CHECKOUT = os.environ.get("GGCL_CHECKOUT")


@pytest.fixture(autouse=True)
def on_path(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.mark.parametrize("bundle", ["ggcl", "kcgan_kernel_conversion", "nect2cect", "sr_cyclegan", "nec_t1t2"])
def test_a_bundles_step_has_the_losses_of_its_straightforward_form(bundle):
    from step_candidates import prepare
    from training_steps import SMALL

    steps, parameters = prepare(bundle, None, SMALL[bundle])  # asserts it
    assert list(steps) == ["plain", "fast", "amp"]
    assert parameters > 0


@pytest.mark.skipif(CHECKOUT is None, reason="GGCL_CHECKOUT does not name a checkout of the released GGCL code")
def test_the_official_mode_has_the_losses_of_the_released_code():
    from step_candidates import prepare
    from training_steps import SMALL

    steps, _ = prepare("released", CHECKOUT, SMALL["ggcl"])
    assert list(steps) == ["released", "fast", "amp"]


def test_without_a_checkout_the_error_says_where_to_get_it(tmp_path):
    from reference_step import ReleasedStep

    with pytest.raises(
        FileNotFoundError, match=r"model\.py is missing: clone it from https://github\.com/cychoi97/GGCL"
    ):
        ReleasedStep(tmp_path, 128)


def test_losses_that_differ_are_named():
    from step_candidates import assert_equal_losses

    with pytest.raises(AssertionError, match="cycle: "):
        assert_equal_losses({"cycle": torch.tensor(1.0)}, {"cycle": torch.tensor(1.01)})
    with pytest.raises(AssertionError, match=r"no losses to compare among \['cycle'\] and \['edge'\]"):
        assert_equal_losses({"cycle": torch.tensor(1.0)}, {"edge": torch.tensor(1.0)})


def test_operations_of_gradients_and_of_their_gradients_are_counted():
    """A product of (2, 3) and (3, 5) takes 60; its two gradients as many each; that of the input's gradient again."""
    from training_steps import count_flops

    layer, image = nn.Linear(3, 5, bias=False), torch.ones(2, 3, requires_grad=True)

    def penalise():
        (gradient,) = torch.autograd.grad(layer(image).square().sum(), image, create_graph=True)
        gradient.square().sum().backward(inputs=[layer.weight])

    assert count_flops(lambda: layer(image)) == 60
    assert count_flops(lambda: layer(image).sum().backward()) == 180
    assert count_flops(penalise) > 240


def test_a_cycle_is_four_updates_of_the_discriminator_and_one_of_both():
    from train_step import _cycles

    facts = {"fastest": 1.0, "slowest": 1.0, "gflop": 10.0, "gflops": 5.0, "share_of_peak": 0.5}
    rows = [
        {"candidate": name, "update": update, "seconds": seconds, **facts}
        for name, times in (("plain", (2.0, 4.0)), ("fast", (1.0, 2.0)))
        for update, seconds in zip(("D", "D+G"), times)
    ]
    plain, fast = _cycles(rows, 2)
    assert (plain["seconds"], fast["seconds"], fast["ratio"]) == (12.0, 6.0, 2.0)
    assert fast["images_per_s"] == pytest.approx(10 / 6)
    assert fast["gflops"] == pytest.approx(50 / 6)
    assert fast["share_of_peak"] == pytest.approx(50 / 6 / 10)


def test_curves_agree_where_they_differ_by_less_than_the_seeds():
    from training_curves import _row

    plain = [{"cycle": [1.0, 1.0]}, {"cycle": [1.2, 3.0]}]
    fast = [{"cycle": [1.1, 5.0]}, {"cycle": [1.1, 7.0]}]
    row = _row("cycle", {"plain": plain, "fast": fast})
    assert row["differences"] == pytest.approx([0.0, 4.0])
    assert row["sd_over_seeds"] == pytest.approx([0.02**0.5, 2**0.5])
    assert row["within"] == "1 of 2"
