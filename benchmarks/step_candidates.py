"""The candidates that `train_step.py` times: equal weights, equal batches, and losses that have been found equal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from plain_steps import plain_step
from reference_step import ReleasedStep
from training_steps import Engine, batch, build, trainable_parameters

from common.convert_ggcl import discriminator_from_released, generator_from_released
from common.memory import keep_memory
from common.methods import TranslationMethod
from common.processes import worker_pool

CRITIC_STEPS = 5
TOLERANCE = {"rtol": 1e-3, "atol": 1e-6}  # of two losses; a critic's is a small difference of two means
OFFICIAL = {"labels#permute": True, "method#penalty_reduction": "sum"}  # official.yaml
POWER_ITERATIONS = 10  # before the losses are compared: torch's older spectral norm starts from random vectors
Step = Callable[[int], Any]


def prepare(name: str, reference: str | None, options: Mapping[str, Any]) -> tuple[dict[str, Step], int]:
    """
    The candidates on equal weights, the one to beat first, once their losses have been found equal.

    Args:
        name: a bundle's, or "released".
        reference: the checkout for "released".
        options: of `train.yaml`.

    Returns:
        steps by name, each called with the number of the step, and the number of trained weights.

    Raises:
        AssertionError: when the losses of an iteration differ.
    """
    steps, methods = _steps(name, reference, options)
    slow = next(iter(steps))
    judges = [method.networks[name] for method in methods for name in method.networks if "discriminator" in name]
    for judge in judges:
        judge.eval()  # the power iteration of the spectral norm rests: the codes begin it with another vector
    for number in (CRITIC_STEPS, 1):
        found = []
        for candidate in (slow, "fast"):
            torch.manual_seed(number)
            found.append(_losses(steps[candidate](number)))
        assert_equal_losses(*found)
    for judge in judges:
        judge.train()
    return steps, trainable_parameters(methods[0].networks.values())


def assert_equal_losses(expected: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]) -> None:
    """Compare all losses that both have, which must be some.

    Raises:
        AssertionError: when one differs; it says which.
    """
    shared = [name for name in expected if name in found]
    assert shared, f"no losses to compare among {sorted(expected)} and {sorted(found)}"
    for name in shared:
        torch.testing.assert_close(found[name], expected[name], **TOLERANCE, msg=lambda text, n=name: f"{n}: {text}")


class Alone:
    """
    A candidate in a process of its own, in which memory is allocated as usual: `released` and `plain` do not keep it.

    Args:
        name: see `prepare`.
        candidate: one of its steps.
        reference: see there.
        options: see there.
    """

    _step: Step

    def __init__(self, name: str, candidate: str, reference: str | None, options: Mapping[str, Any]) -> None:
        self._process = worker_pool(1)
        self._process.submit(Alone._start, name, candidate, reference, options).result()

    def __call__(self, number: int) -> None:
        """Step number `number`."""
        self._process.submit(Alone._run, number).result()

    def close(self) -> None:
        """End the process."""
        self._process.shutdown()

    @staticmethod
    def _start(name: str, candidate: str, reference: str | None, options: Mapping[str, Any]) -> None:
        Alone._step = _steps(name, reference, options, only=candidate)[0][candidate]

    @staticmethod
    def _run(number: int) -> None:
        Alone._step(number)


def one_cycle(name: str, candidate: str, reference: str | None, options: Mapping[str, Any]) -> None:
    """One candidate alone: each kind of step once, in a process whose memory is measured."""
    if candidate in ("fast", "amp"):
        keep_memory()  # as the trainer does
    steps, _ = _steps(name, reference, options, only=candidate)
    for number in (1, CRITIC_STEPS):
        steps[candidate](number)


def _steps(
    name: str, reference: str | None, options: Mapping[str, Any], only: str | None = None
) -> tuple[dict[str, Step], list[Any]]:
    bundle = "ggcl" if name == "released" else name
    data = batch(bundle, options)
    steps: dict[str, Step] = {}
    methods: list[Any] = []
    if only in (None, "released") and name == "released":
        assert reference is not None
        sizes = {key: options[key] for key in ("channels", "num_res_blocks") if key in options}
        torch.manual_seed(0)
        released = ReleasedStep(Path(reference), options["image_size"], **sizes)
        steps["released"] = lambda number: released(**data, generators_turn=number % CRITIC_STEPS == 0)
        methods.append(released)
    if only in (None, "plain") and name != "released":
        plain = build(bundle, options, plain=True)
        steps["plain"] = lambda number: plain_step(plain, data, step=number)
        methods.append(plain)
    if only in (None, "fast", "amp"):
        fast = build(bundle, {**options, **OFFICIAL} if name == "released" else options, plain=False)
        steps["fast"] = lambda number: fast(Engine(step=number), data)
        steps["amp"] = lambda number: fast(Engine(step=number, amp=True), data)
        if name == "released" and only is None:
            with torch.no_grad():
                for _ in range(POWER_ITERATIONS):
                    released.discriminator(data["image"])
            _copy_weights(released, fast)
        methods.append(fast)
    return steps, methods


def _copy_weights(released: ReleasedStep, method: TranslationMethod) -> None:
    generator = generator_from_released(released.generator.state_dict())
    discriminator = discriminator_from_released(released.discriminator.state_dict())
    method.generator.load_state_dict(generator.state_dict())
    method.networks["discriminator"].load_state_dict(discriminator.state_dict())


def _losses(output: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """What has no axes, of an iteration's output."""
    values = {name: torch.as_tensor(value).detach().float() for name, value in output.items()}
    return {name: value for name, value in values.items() if value.dim() == 0}
