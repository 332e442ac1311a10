"""
What 8 GPUs and 100 nodes would do, on paper: a model of measured parts and of assumptions about a machine.

    python benchmarks/scale.py [--result PATH]

Nothing is timed. A step of a training takes the time of its arithmetic on one GPU, and that of its messages: a
bundle averages the gradients of an update after its backward pass, in one message, while nothing else happens. An
archive takes the time of the largest shard, which a GPU and a processor core work on at the same time.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import fire
from measuring import RESULTS, print_table, result_path, write_result
from training_steps import SIZES, STARGANS, build

BYTES = 4  # of a gradient, in mixed precision as well
CRITIC_STEPS = 5
PASSES = 6  # over the gradients: read and written when they are joined, averaged and given back
NUMBERS = (1, 8, 16, 80, 800)  # GPUs, 8 in a node
ARCHIVE = 10_000  # cases
SLICES = 300  # of a case


@dataclass(frozen=True)
class Machine:
    """
    What is assumed of a cluster: nodes of 8 GPUs of the class of an H100, one port of 400 Gbit/s for each node.

    Args:
        gflops: what a GPU reaches in a step in bfloat16, a quarter of its peak.
        memory_gb_s: what a pass over its memory reaches.
        inner_gb_s: bandwidth of a GPU to the others of its node.
        outer_gb_s: bandwidth of a node's port to other nodes.
        latency_s: of one turn of a message, within a node or between two.
        gpus: of a node.
    """

    gflops: float = 250_000.0
    memory_gb_s: float = 2_000.0
    inner_gb_s: float = 300.0
    outer_gb_s: float = 40.0
    latency_s: float = 20e-6
    gpus: int = 8


def message_s(parameters: float, processes: int, machine: Machine) -> float:
    """
    Seconds in which a ring averages the gradients of all processes; its slowest link decides.

    Args:
        parameters: that have a gradient.
        processes: one a GPU.
        machine: the assumptions.

    Example:
        >>> message_s(10**9, 1, Machine())
        0.0
        >>> round(message_s(10**9, 8, Machine(latency_s=0, memory_gb_s=float("inf"))), 4)  # 2 * 7 / 8 * 4 GB
        0.0233
    """
    if processes == 1:
        return 0.0
    nodes = math.ceil(processes / machine.gpus)
    bandwidth = machine.inner_gb_s if nodes == 1 else machine.outer_gb_s
    ring = 2 * (processes - 1) / processes * BYTES * parameters / bandwidth / 1e9
    copies = PASSES * BYTES * parameters / machine.memory_gb_s / 1e9
    turns = 2 * (min(processes, machine.gpus) - 1) + 2 * math.ceil(math.log2(nodes))
    return ring + copies + turns * machine.latency_s


def training(machine: Machine) -> list[dict[str, Any]]:
    """Images a second of each bundle's training, the batch of a GPU being that of the measured step."""
    rows = []
    for bundle, options in SIZES.items():
        steps = _steps(bundle)
        alone = sum(count * gflop for count, gflop, _ in steps) / machine.gflops
        images = options["batch_size"] * sum(count for count, _, _ in steps)
        for processes in NUMBERS:
            spent = sum(count * message_s(parameters, processes, machine) for count, _, parameters in steps)
            row = {"bundle": bundle, "GPUs": processes, "ms a step": 1e3 * (alone + spent) / sum(s[0] for s in steps)}
            row |= {"images_per_s": processes * images / (alone + spent), "efficiency": alone / (alone + spent)}
            rows.append(row)
    return rows


def _steps(bundle: str) -> list[tuple[int, float, int]]:
    """Of a cycle: how often, GFLOP, and gradients that are averaged."""
    found = {
        row["update"]: row
        for row in _result("train_step")["steps"]
        if (row["bundle"], row["candidate"], row["compared_with"]) == (bundle, "amp", "plain")
    }
    if bundle not in STARGANS:
        row = found["iteration"]
        return [(1, row["gflop"], row["parameters"])]
    networks = build(bundle, SIZES[bundle], plain=False).networks
    judge = sum(p.numel() for name in networks if "discriminator" in name for p in networks[name].parameters())
    both = found["D+G"]
    return [(CRITIC_STEPS - 1, found["D"]["gflop"], judge), (1, both["gflop"], both["parameters"])]


def archive(machine: Machine) -> list[dict[str, Any]]:
    """Minutes for an archive, by the paper's network of GGCL on a GPU, and by what one core does around it."""
    speed = next(
        row for row in _result("inference")["speed"] if (row["network"], row["path"]) == ("ggcl and kcgan", "exact")
    )
    gflop = speed["GFLOP/s"] * speed["s a slice"]
    around = [row for row in _result("memory")["rows"] if (row["bundle"], row["network"]) == ("ggcl", "none")]
    one = next(row for row in around if (row["slices"], row["pixels"]) == (SLICES, 512))
    listing = {row["work"]: row["CPU s"] / row["files"] for row in _result("growth")["rows"] if row["files"] == ARCHIVE}
    rows = []
    for processes in NUMBERS:
        cases = math.ceil(ARCHIVE / processes)
        before = listing["list a folder"] * ARCHIVE + listing["skip what is done"] * cases
        gpu, core = cases * SLICES * gflop / machine.gflops, cases * one["cpu_seconds"]
        row = {"GPUs": processes, "cases of the largest shard": cases, "listing and skipping [min]": before / 60}
        row |= {"network [min]": gpu / 60, "a core around it [min]": core / 60}
        rows.append({**row, "whole [min]": (before + max(gpu, core)) / 60})
    return rows


def _result(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"performance_{name}.json").read_text(encoding="utf-8"))
    return found


def main(result: str | Path | None = None) -> None:
    """
    Args:
        result: the JSON file; default: `benchmarks/results/performance_scale.json`.
    """
    machine = Machine()
    content = {"assumed": asdict(machine), "training": training(machine), "archive": archive(machine)}
    print_table(content["training"])
    print_table(content["archive"])
    write_result(result_path("scale", result and str(result), quick=False), content)


if __name__ == "__main__":
    fire.Fire(main)
