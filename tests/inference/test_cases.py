"""A batch that goes on: what fails in loading or in translating is named at the end, the rest is done."""

from __future__ import annotations

import threading

import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator

from common.engines import Progress
from common.errors import DiskFullError
from common.inference import FailedCasesError, run_cases

LOADING, TRANSLATING = 101.0, 102.0


def load(item):
    if item["value"] == LOADING:
        raise ValueError("cannot be loaded: send it anew.")
    return {"image": torch.full((1, 2, 2, 1), item["value"])}


class Network(torch.nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if image.max() == TRANSLATING:
            raise DiskFullError("the disk is full.")
        return image + 1


def evaluator(*values: float, done: list[float]) -> SupervisedEvaluator:
    items = [{"image": f"case{number}.nii", "value": value} for number, value in enumerate(values)]
    return SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(items, load), batch_size=1),
        network=Network(),
        postprocessing=lambda item: done.append(float(item["pred"].max())) or item,
        val_handlers=[Progress("testing")],
    )


def test_all_good_cases_are_done_and_all_bad_ones_named(caplog):
    done: list[float] = []
    with pytest.raises(FailedCasesError) as error:
        run_cases(evaluator(1.0, LOADING, 2.0, TRANSLATING, 3.0, done=done))
    assert done == [2.0, 3.0, 4.0]
    lines = str(error.value).splitlines()
    assert lines[0] == "2 of 5 images failed and have no output; 3 were translated. Failed:"
    # An error of ours is told without its type; these two were raised in a test, and are others.
    assert lines[1].startswith("  'case1.nii': ValueError: ")
    assert lines[1].endswith("cannot be loaded: send it anew.")
    assert lines[2] == "  'case3.nii': DiskFullError: the disk is full."
    assert caplog.text.count("An image failed; the run continues with the others.") == 2


def test_the_first_and_the_last_may_fail_and_so_may_all():
    done: list[float] = []
    with pytest.raises(FailedCasesError, match="2 of 3 images failed"):
        run_cases(evaluator(LOADING, 1.0, LOADING, done=done))
    assert done == [2.0]
    with pytest.raises(FailedCasesError, match="0 were translated"):
        run_cases(evaluator(LOADING, TRANSLATING, done=done))


@pytest.mark.parametrize("value", [LOADING, TRANSLATING])
def test_an_only_case_fails_with_its_own_error(value):
    with pytest.raises((RuntimeError, OSError)) as error:
        run_cases(evaluator(value, done=[]))
    assert not isinstance(error.value, FailedCasesError)


def test_without_a_failure_it_is_the_evaluators_run():
    done: list[float] = []
    engine = evaluator(1.0, 2.0, done=done)
    run_cases(engine)
    engine.run()
    assert done == [2.0, 3.0, 2.0, 3.0]


def test_memory_is_kept_while_cases_run(monkeypatch):
    kept: list[bool] = []
    monkeypatch.setattr("common.inference.cases.keep_memory", lambda: kept.append(True))
    run_cases(evaluator(1.0, done=[]))
    assert kept == [True]


def test_an_interrupt_ends_the_batch():
    class Interrupted(Network):
        def forward(self, image):
            raise KeyboardInterrupt

    engine = evaluator(1.0, 2.0, done=[])
    engine.network = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        run_cases(engine)


def test_the_next_case_is_loaded_while_the_last_is_translated():
    loaded, translated = [threading.Event() for _ in range(3)], []

    def load_noted(item):
        loaded[item["value"]].set()
        return {"image": torch.full((1, 2, 2, 1), float(item["value"]))}

    class Waiting(torch.nn.Module):
        def forward(self, image):
            number = int(image.max())
            assert all(event.wait(10) for event in loaded[: number + 2])
            translated.append(number)
            return image

    items = [{"image": f"case{number}.nii", "value": number} for number in range(3)]
    engine = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(items, load_noted), batch_size=1),
        network=Waiting(),
    )
    run_cases(engine)
    assert translated == [0, 1, 2]
