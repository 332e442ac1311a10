"""
One prepared run on a GPU: tests, speed and a training, each result written as soon as there is one.

    python benchmarks/gpu.py [--output runs/gpu] [--minutes 8] [--stages tests,inference] [--tiny]

Stages in order of worth, each with a budget, so that a run that is cut short leaves results:

- `tests`: everything that is marked `gpu`: two steps of each training, the shipped translations, resume, mixed
  precision and exports, against the processor.
- `inference`: the papers' networks at 512 x 512 (sizes of `inference_speed.py` otherwise) in several forms.
- `training_steps`: `train.yaml`'s steps at the papers' sizes, batch 2, in several forms.
- `training`: a bundle's training for the time that is left; it can be resumed.

`--tiny` takes small networks and images, and runs on a processor as well, which is how it is tested. It has not been
run on a GPU.
"""

from __future__ import annotations

import copy
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import fire
import torch
from inference_speed import SIDES, paper_networks
from measuring import MATRIX, ROOT, interleaved, machine, wait_for_device
from torch import nn
from training_steps import SIZES, SMALL, STARGANS, Engine, batch, build, count_flops

from common.devices import default_device
from common.inference.precision import in_bfloat16
from common.methods import TranslationMethod
from common.processes import run_child

STAGES = {"tests": 0.3, "inference": 0.2, "training_steps": 0.3, "training": 0.2}  # share of the time of each
PAPER = {"image_size": 512, "batch_size": 2}
PAPER_SIZES = {
    **SIZES,
    "ggcl": PAPER,
    "kcgan_kernel_conversion": PAPER,
    "nect2cect": {"image_size": 256, "batch_size": 4},
}
TRAINING = ("nec_t1t2", ("train", "demo"))  # bundle and configs
Candidate = Callable[[], Any]


class Stage:
    """
    A part of the run, whose result is a file that is written anew after each row.

    Args:
        path: the JSON file.
        seconds: budget; `rows` begins nothing more once it is spent.
    """

    def __init__(self, path: Path, seconds: float) -> None:
        self.path, self.end = path, time.monotonic() + seconds
        self.content: dict[str, Any] = {"machine": machine(), "device": str(default_device()), "complete": False}

    @property
    def left(self) -> float:
        """Seconds of the budget."""
        return self.end - time.monotonic()

    def write(self, **facts: Any) -> None:
        """Add facts and write the file."""
        self.content |= facts
        partial_path = self.path.with_suffix(".partial")
        partial_path.write_text(json.dumps(self.content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        partial_path.replace(self.path)

    def rows(self, found: Iterator[dict[str, Any]]) -> None:
        """Write rows while they come, until the budget is spent."""
        self.write(rows=[])
        for row in found:
            self.write(rows=[*self.content["rows"], row])
            print({name: value for name, value in row.items() if name != "fastest"}, flush=True)
            if self.left < 0:
                return
        self.write(complete=True)


def tests(stage: Stage, *, tiny: bool) -> None:
    """Run what is marked `gpu`, in a process of its own."""
    device = default_device().type
    report = stage.path.with_suffix(".xml")
    chosen = ["-k", "nec and not nect and not bfloat16 and not export"] if tiny else []
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-m",
        "gpu",
        "tests/bundles/test_on_gpu.py",
        f"--junitxml={report}",
        *chosen,
    ]
    environment = {**os.environ, "GPU_TEST_DEVICE": device, "PYTHONPATH": str(ROOT)}
    code = _run(command, stage, environment=environment, folder=ROOT)
    cases = ElementTree.parse(report).iter("testcase") if report.is_file() else iter(())
    rows = []
    for case in cases:
        bad = next((part for kind in ("failure", "error", "skipped") if (part := case.find(kind)) is not None), None)
        verdict = "passed" if bad is None else bad.tag
        rows.append({"test": case.get("name"), "verdict": verdict, "seconds": float(case.get("time", 0))})
        if bad is not None:
            rows[-1]["message"] = (bad.get("message") or "")[:500]
    stage.write(exit_status=code, rows=rows, complete=code is not None)


def inference(stage: Stage, *, tiny: bool) -> None:
    """Images a second of each network in each form, and its peak of memory."""
    stage.rows(_inference_rows(tiny=tiny))


def _inference_rows(*, tiny: bool) -> Iterator[dict[str, Any]]:
    device = default_device()
    peaks = {dtype: peak_gflops_on(device, dtype) for dtype in (torch.float32, torch.bfloat16)}
    for name, network in paper_networks().items():
        if tiny and name != "sr_cyclegan":
            continue
        side = 16 if tiny else SIDES.get(name, 512)
        images = torch.rand(1 if tiny else 2, 3 if name == "nect2cect" else 1, side, side, device=device) * 2 - 1
        flops = count_flops(partial(_applied, network.to(device), images))
        for form, candidate in inference_forms(network.to(device), images).items():
            row = {"network": name, "pixels": side, "batch": len(images), "form": form}
            dtype = torch.bfloat16 if form.startswith("fast") else torch.float32
            yield row | timed(candidate, len(images), flops, peaks[dtype], repeats=1 if tiny else 9)


def inference_forms(network: nn.Module, images: torch.Tensor) -> dict[str, Candidate]:
    """
    The forms of a network that are compared: as it is, bfloat16, channels last, compiled, and with CUDA graphs.

    Args:
        network: on the device of the images, in evaluation mode.
        images: `(B, C, H, W)`.
    """
    fast = copy.deepcopy(network)
    in_bfloat16(fast)
    wide = copy.deepcopy(network).to(memory_format=torch.channels_last)
    forms: dict[str, tuple[nn.Module, dict[str, Any] | None]] = {
        "exact": (network, None),
        "exact, channels last": (wide, None),
        "exact, compiled": (network, {}),
        "fast": (fast, None),
        "fast, compiled": (fast, {}),
    }
    if images.is_cuda:
        forms |= {f"{name}, CUDA graphs": (forms[name][0], {"mode": "reduce-overhead"}) for name in ("exact", "fast")}
    last = images.to(memory_format=torch.channels_last)
    return {
        name: partial(_applied, part if how is None else torch.compile(part, **how), last if part is wide else images)
        for name, (part, how) in forms.items()
    }


@torch.no_grad()
def _applied(network: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    return network(images)


def training_steps(stage: Stage, *, tiny: bool) -> None:
    """Images a second of each bundle's step in each form, and its peak of memory."""
    stage.rows(_training_rows(tiny=tiny))


def _training_rows(*, tiny: bool) -> Iterator[dict[str, Any]]:
    device = default_device()
    peaks = {dtype: peak_gflops_on(device, dtype) for dtype in (torch.float32, torch.bfloat16)}
    for bundle, options in (SMALL if tiny else PAPER_SIZES).items():
        if tiny and bundle != "sr_cyclegan":
            continue
        step = 5 if bundle in STARGANS else 1  # the generator learns in every fifth
        data = {name: values.to(device) for name, values in batch(bundle, options).items()}
        flops = None
        for form, make in training_forms(bundle, options, device).items():
            row = {"bundle": bundle, "form": form, "options": dict(options)}
            method = engine = None
            try:
                method, engine = make(step)
                if flops is None:
                    flops = count_flops(partial(method, engine, data))
            except Exception as error:
                yield row | {"failed": f"{type(error).__name__}: {error}"[:500]}
                continue
            dtype = torch.bfloat16 if engine.amp else torch.float32
            candidate = partial(method, engine, data)
            yield row | timed(candidate, options["batch_size"], flops, peaks[dtype], repeats=1 if tiny else 5)
            del method, engine, candidate


def training_forms(
    bundle: str, options: Mapping[str, Any], device: torch.device
) -> dict[str, Callable[[int], tuple[TranslationMethod, Engine]]]:
    """
    The forms of a step that are compared; each is built when it is called with the number of the step.

    A compiled network has no second gradient, which a gradient penalty needs: only generators are compiled.
    """

    def make(step: int, *, plain: bool = False, amp: bool = False, last: bool = False, how: Any = None) -> Any:
        method = build(bundle, options, plain=plain, device=device)
        for name, network in method.networks.items():
            if last:
                network.to(memory_format=torch.channels_last)
            if how is not None and "generator" in name:
                network.compile(**how)
        return method, Engine(amp=amp, step=step, device=device.type)

    forms: dict[str, dict[str, Any]] = {
        "plain optimizers": {"plain": True},
        "fused optimizers": {},
        "compiled": {"how": {}},
        "amp": {"amp": True},
        "amp, channels last": {"amp": True, "last": True},
        "amp, compiled": {"amp": True, "how": {}},
    }
    if device.type == "cuda":
        forms["amp, CUDA graphs"] = {"amp": True, "how": {"mode": "reduce-overhead"}}
    return {name: partial(make, **form) for name, form in forms.items()}


def timed(candidate: Candidate, images: int, flops: float, peak: float, *, repeats: int) -> dict[str, Any]:
    """
    Median seconds of a call, what follows from them, and the device's peak of memory; or why it failed.

    Args:
        candidate: what is called.
        images: of a call.
        flops: operations of a call.
        peak: of the device, in GFLOP/s.
        repeats: timed calls.
    """
    cuda = torch.cuda.is_available()
    try:
        if cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        found = interleaved({"": candidate}, repeats=repeats, warm_up=1 if repeats == 1 else 3)[""]
    except Exception as error:  # a form that does not pay or does not work must not end the run
        return {"failed": f"{type(error).__name__}: {error}"[:500]}
    speed = flops / found["seconds"] / 1e9
    row = {**found, "images_per_s": images / found["seconds"], "gflops": speed, "share_of_peak": speed / peak}
    return row | {"peak_memory_mb": torch.cuda.max_memory_allocated() / 2**20 if cuda else None}


def peak_gflops_on(device: torch.device, dtype: torch.dtype) -> float:
    """The arithmetic that the device's matrix product reaches, in GFLOP/s, at the size that a GPU needs."""
    side = MATRIX if device.type == "cpu" else 4 * MATRIX
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    for _ in range(3):
        left @ right
    wait_for_device()
    best = min(interleaved({"": lambda: left @ right}, repeats=5)[""].values())
    return 2 * side**3 / best / 1e9


def _run(command: list[str], stage: Stage, **options: Any) -> int | None:
    """The exit code of a program, or None if it was ended at the end of the stage's time."""
    try:
        return run_child(command, limit_s=max(1.0, stage.left), **options)
    except TimeoutError:
        return None


def training(stage: Stage, *, tiny: bool, bundle: str = TRAINING[0], configs: tuple[str, ...] = TRAINING[1]) -> None:
    """Train a bundle for the budget; the same command goes on from the saved state."""
    folder = stage.path.parent / "training"
    files = [str(ROOT / "bundles" / bundle / "configs" / f"{name}.yaml") for name in configs]
    given = {"bundle_root": ROOT / "bundles" / bundle, "dataset_dir": folder / "data", "output_dir": folder / "output"}
    given |= {"models_dir": folder / "models", "resume": True} | ({"max_epochs": 1} if tiny else {})
    command = [sys.executable, "-m", "monai.bundle", "run", "training", "--config_file", str(files)]
    command += [part for name, value in given.items() for part in (f"--{name}", str(value))]
    folder.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    code = _run(
        command, stage, environment={**os.environ, "PYTHONPATH": str(ROOT)}, folder=folder, log=folder / "log.txt"
    )
    last = {}
    for name in ("losses", "validation"):
        path = folder / "output" / f"{name}.csv"
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        last[name] = {"rows": max(0, len(lines) - 1), "header": lines[:1], "last": lines[1:][-1:]}
    facts = {"bundle": bundle, "configs": list(configs), "seconds": time.monotonic() - start, **last}
    stage.write(exit_status=code, weights=(folder / "models" / "model.pt").is_file(), complete=code == 0, **facts)


RUN = {"tests": tests, "inference": inference, "training_steps": training_steps, "training": training}


def main(
    output: str = "runs/gpu", minutes: float = 8.0, stages: str | tuple[str, ...] = tuple(STAGES), tiny: bool = False
) -> None:
    """
    Args:
        output: folder of a JSON file per stage.
        minutes: of all stages together.
        stages: those to run; the time that one leaves goes to the later ones.
        tiny: small networks and images, on any device.
    """
    names = stages.split(",") if isinstance(stages, str) else list(stages)
    if unknown := [name for name in names if name not in RUN]:
        raise ValueError(f"`stages` must be among {list(RUN)}, got {unknown}.")
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * minutes
    for number, name in enumerate(names):
        share = STAGES[name] / sum(STAGES[later] for later in names[number:])
        stage = Stage(folder / f"{name}.json", share * (end - time.monotonic()))
        stage.write(tiny=tiny)
        try:
            RUN[name](stage, tiny=tiny)
        except Exception as error:  # the later stages are worth as much without this one
            stage.write(failed=f"{type(error).__name__}: {error}"[:500])
        print(f"{name}: {'complete' if stage.content['complete'] else 'not complete'}, {stage.path}", flush=True)


if __name__ == "__main__":
    fire.Fire(main)
