"""
Training steps of all bundles, side by side with their straightforward form, and with the released GGCL code's step.

    python benchmarks/train_step.py [--reference PATH_TO_GGCL_CHECKOUT] [--bundles ggcl,sr_cyclegan] [--quick]
    python benchmarks/train_step.py --curves

Equal weights and batches, equal losses asserted before anything is timed, medians of interleaved calls. `fast` is a
bundle's `train.yaml`, `amp` the same in mixed precision (bfloat16), `plain` what `plain_steps.py` says, `released` what
`reference_step.py` says; these two in a process of their own, whose memory is allocated as usual. Without
`--reference` GGCL is compared with `plain` alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import fire
import torch
from measuring import interleaved, peak_gflops, peak_memory_mb, print_table, result_path, write_result
from step_candidates import CRITIC_STEPS, Alone, one_cycle, prepare
from training_curves import compare_curves
from training_steps import SIZES, SMALL, STARGANS, count_flops

from common.memory import keep_memory

NOT_SHOWN = ("fastest", "slowest", "gflop", "compared_with", "parameters", "options")


def run(
    *,
    reference: str | None = None,
    bundles: str | tuple[str, ...] = tuple(SIZES),
    quick: bool = False,
    curves: bool = False,
    repeats: int = 3,
    result: str | None = None,
) -> None:
    """Time the steps; print a table; write a JSON file.

    Args:
        reference: a checkout of the released GGCL code, to compare with it as well.
        bundles: those to measure.
        quick: small networks and images, and no file unless `result` names one.
        curves: compare loss curves instead, of plain and fast trainings of the demonstration.
        repeats: timed calls of each step.
        result: the JSON file; default `benchmarks/results/performance_train_step.json`, or `.._train_curves.json`.
    """
    if curves:
        write_result(result_path("train_curves", result, quick=quick), compare_curves(quick=quick))
        return
    keep_memory()  # as the trainer does
    peaks = {"float32": peak_gflops(), "bfloat16": peak_gflops(torch.bfloat16)}
    names = bundles.split(",") if isinstance(bundles, str) else list(bundles)
    rows = []
    for comparison in [*(["released"] if reference else []), *names]:
        found = _compare(comparison, reference, quick=quick, repeats=repeats, peaks=peaks)
        print_table([{name: value for name, value in row.items() if name not in NOT_SHOWN} for row in found])
        rows += found
    path = result_path("train_step", result, quick=quick)
    write_result(path, {"peak_gflops": peaks, "repeats": repeats, "steps": rows})


def _compare(
    name: str, reference: str | None, *, quick: bool, repeats: int, peaks: Mapping[str, float]
) -> list[dict[str, Any]]:
    """A row for each candidate and each kind of step; `name` is a bundle's, or "released"."""
    bundle = "ggcl" if name == "released" else name
    options = (SMALL if quick else SIZES)[bundle]
    kinds = {"D": 1, "D+G": CRITIC_STEPS} if bundle in STARGANS else {"iteration": 1}
    candidates, parameters = prepare(name, reference, options)
    first = next(iter(candidates))
    timed = {**candidates, first: Alone(name, first, reference, options)}
    rows = []
    for kind, number in kinds.items():
        flops = {candidate: count_flops(partial(step, number)) for candidate, step in candidates.items()}
        times = interleaved({each: partial(step, number) for each, step in timed.items()}, repeats=repeats)
        for candidate, found in times.items():
            speed = flops[candidate] / found["seconds"] / 1e9
            peak = peaks["bfloat16" if candidate == "amp" else "float32"]
            row = {"bundle": bundle, "candidate": candidate, "update": kind, **found}
            row |= {"ratio": times[first]["seconds"] / found["seconds"]}
            row |= {"images_per_s": options["batch_size"] / found["seconds"], "gflop": flops[candidate] / 1e9}
            rows.append({**row, "gflops": speed, "share_of_peak": speed / peak})
    timed[first].close()
    if len(kinds) > 1:
        rows += _cycles(rows, options["batch_size"])
    for row in rows:
        row |= {"compared_with": first, "parameters": parameters, "options": dict(options)}
    if quick:
        return rows
    memory = {each: peak_memory_mb(one_cycle, name, each, reference, options) for each in candidates}
    return [{**row, "peak_memory_mb": memory[row["candidate"]]} for row in rows]


def _cycles(rows: list[dict[str, Any]], batch_size: int) -> list[dict[str, Any]]:
    """What follows for the papers' schedule: four updates of D, and one of both."""
    times = {(row["candidate"], row["update"]): row for row in rows}
    cycles: list[dict[str, Any]] = []
    for candidate in dict.fromkeys(row["candidate"] for row in rows):
        single, both = times[candidate, "D"], times[candidate, "D+G"]
        cycle = {
            key: (CRITIC_STEPS - 1) * single[key] + both[key] for key in ("seconds", "fastest", "slowest", "gflop")
        }
        ratio = cycles[0]["seconds"] / cycle["seconds"] if cycles else 1.0
        speed = cycle["gflop"] / cycle["seconds"]
        peak = single["gflops"] / single["share_of_peak"]
        row = {**single, "update": f"{CRITIC_STEPS - 1} D and D+G", **cycle, "ratio": ratio}
        row |= {"images_per_s": CRITIC_STEPS * batch_size / cycle["seconds"]}
        cycles.append({**row, "gflops": speed, "share_of_peak": speed / peak})
    return cycles


if __name__ == "__main__":
    fire.Fire(run)
