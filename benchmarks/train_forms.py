"""
A training step in other forms, in turn, in processor seconds of one thread: channels last.

    python benchmarks/train_forms.py [--bundles ggcl,nec_t1t2] [--quick] [--result PATH]

Equal weights and batches; the losses of the first iteration in float32 are compared. A ratio is the speed relative to
the same precision as the bundles train it today. Rows join those that the file holds.
"""

from __future__ import annotations

import json
import os
import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import fire
import torch
from measuring import print_table, result_path, write_result
from training_steps import SIZES, SMALL, STARGANS, Engine, batch, build

from common.memory import keep_memory
from common.methods import TranslationMethod

OWN = {**SIZES, "ggcl": {"image_size": 128, "batch_size": 2}}  # one thread
BUNDLES = ("ggcl", "nect2cect", "sr_cyclegan", "nec_t1t2")  # kcgan_kernel_conversion has the networks of ggcl
GENERATORS_TURN = 5  # of ggcl


def methods_of(bundle: str, options: Mapping[str, Any]) -> dict[str, TranslationMethod]:
    """The same method with equal weights in each form of its networks."""
    forms = {"as it is": build(bundle, options, plain=False), "channels last": build(bundle, options, plain=False)}
    for network in forms["channels last"].networks.values():
        network.to(memory_format=torch.channels_last)
    return forms


def losses(method: TranslationMethod, engine: Engine, data: dict[str, torch.Tensor]) -> dict[str, float]:
    """The losses of one iteration."""
    torch.manual_seed(0)
    output = method(engine, data)
    values = {name: torch.as_tensor(value).detach().float() for name, value in output.items()}
    return {name: value.item() for name, value in values.items() if value.dim() == 0}


def compare(bundle: str, *, repeats: int, quick: bool) -> list[dict[str, Any]]:
    """A row for each form and precision."""
    options = (SMALL if quick else OWN)[bundle]
    step = GENERATORS_TURN if bundle in STARGANS else 1
    data = batch(bundle, options)
    methods = methods_of(bundle, options)
    first = {name: losses(method, Engine(step=step), data) for name, method in methods.items()}
    calls: dict[tuple[str, str], Callable[[], Any]] = {}
    for name, method in methods.items():
        for amp in (False, True):
            engine = Engine(step=step, amp=amp)
            calls[name, "bfloat16" if amp else "float32"] = lambda m=method, e=engine: m(e, data)
    times: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    for turn in range(repeats + 1):
        for key, call in calls.items():
            start = time.process_time()
            call()
            if turn:
                times[key].append(time.process_time() - start)
    seconds = {key: statistics.median(found) for key, found in times.items()}
    return [
        {
            "bundle": bundle,
            "networks": "small" if quick else "paper's size",
            "precision": precision,
            "form": form,
            "cpu_seconds": spent,
            "ratio": seconds["as it is", precision] / spent,
            "difference": _difference(first["as it is"], first[form]),
            "options": dict(options),
        }
        for (form, precision), spent in sorted(seconds.items(), key=lambda each: each[0][1], reverse=True)
    ]


def _difference(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """The largest relative difference between two iterations' losses."""
    return max(abs(one[name] - other[name]) / max(abs(one[name]), 1e-6) for name in one)


def main(
    bundles: str | tuple[str, ...] = BUNDLES,
    repeats: int = 3,
    quick: bool = False,
    result: str | None = None,
) -> None:
    """
    Args:
        bundles: those to measure.
        repeats: timed calls of each form.
        quick: small networks and images; nothing is written unless `result` is given.
        result: the JSON file; default: `benchmarks/results/performance_train_forms.json`.
    """
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    keep_memory()
    path = result_path("train_forms", result, quick=quick)
    kept = json.loads(path.read_text(encoding="utf-8"))["rows"] if path is not None and path.is_file() else []
    for bundle in [bundles] if isinstance(bundles, str) else bundles:
        rows = compare(bundle, repeats=repeats, quick=quick)
        print_table([{name: value for name, value in row.items() if name != "options"} for row in rows])
        kept = [*(row for row in kept if (row["bundle"], row["networks"]) != (bundle, rows[0]["networks"])), *rows]
        write_result(path, {"quick": quick, "load": os.getloadavg()[1], "rows": kept})


if __name__ == "__main__":
    fire.Fire(main)
