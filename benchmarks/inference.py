"""
What a translated volume costs: time and arithmetic of the papers' networks, error of `fast`, overlap.

    python benchmarks/inference.py [--quick] [--result PATH]

Speed, in turn: `released`, one slice after the other in float32 as the papers' codes do, in a process of its own whose
memory is allocated as usual; `exact`, the slices together; `fast`, the body in bfloat16. All weights are random. The
time of 300 slices is that of the measured ones, scaled. `fast` is timed for each network, but a bundle uses it only
where the error is allowed: see the second table.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import fire
import numpy as np
from inference_speed import FROM_SOFT, TO_SHARP, paper_networks, speed
from measuring import interleaved, print_table, result_path, write_result
from monai.bundle import ConfigParser
from torch import nn

from common import networks
from common.inference import run_cases, slabs
from common.inference.precision import LIMIT, SOURCE_NOISE, rounding

BUNDLES = Path(__file__).parents[1] / "bundles"
HALF_RANGE = {"ggcl": 2047.5, "kcgan_kernel_conversion": 2047.5, "nect2cect": 150.0, "sr_cyclegan": 800.0}  # HU of 1
DIFFERENT = 16  # slices of noise
NOISE = {"nect2cect": 0.08, "nec_t1t2": 0.03, "sr_cyclegan": 0.04}  # of the sources, as in each `inference.yaml`


def demo_networks() -> dict[str, nn.Module]:
    """By bundle, with the weights that it comes with."""
    found = {}
    for bundle in sorted(path.name for path in BUNDLES.iterdir() if (path / "models" / "model.pt").is_file()):
        network = networks.load_definition(BUNDLES / bundle, {})
        networks.load_weights(network, BUNDLES / bundle / "models" / "model.pt")
        if isinstance(network, networks.PhysicsGenerator):
            network = networks.WithTarget(network, TO_SHARP, FROM_SOFT)
        found[bundle] = network.eval()
    return found


def errors() -> list[dict[str, Any]]:
    """What bfloat16 does to the output, on the phantom on which a run measures it."""
    rows = []
    for weights, found in (("demo", demo_networks()), ("random, paper's size", paper_networks())):
        for name, network in found.items():
            bundle = name.split(",")[0].split()[0]
            error, noise = rounding(network, noise=NOISE.get(bundle, SOURCE_NOISE))
            half = HALF_RANGE.get(bundle)
            rows.append(
                {
                    "network": name,
                    "weights": weights,
                    "error [HU]": "" if half is None else error * half,
                    "noise of the output [HU]": "" if half is None else noise * half,
                    "error / noise": error / noise,
                    "used": error <= LIMIT * noise,
                }
            )
    return rows


def save_noise(path: Path, depth: int, size: int = 512, *, mr: bool = False) -> None:
    """Write a cylinder of noise in air, slice by slice, in HU or in the unit of an MR scanner; slices recur."""
    from common.images import NiftiSliceWriter

    random = np.random.default_rng(0)
    inside = np.hypot(*np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]) < 0.8
    noise = random.normal(np.where(inside, 40, -1000), 20, (DIFFERENT, size, size))
    slices = ((noise + 1000).clip(0) if mr else noise).round().astype(np.int16)
    with NiftiSliceWriter(path, (size, size, depth), np.diag([-0.7, -0.7, 1.0, 1.0])) as writer:
        for number in range(depth):
            writer.write(slices[number % DIFFERENT, ..., None])


def evaluator(bundle: str, source: str, output_dir: str, **given: Any) -> Any:
    """That of a bundle's `inference.yaml`."""
    parser = ConfigParser()
    parser.read_config(str(BUNDLES / bundle / "configs" / "inference.yaml"))
    places = {"bundle_root": str(BUNDLES / bundle), "dataset_dir": source, "output_dir": output_dir}
    kernels = {"source": "B30f", "target": "B70f"} if bundle == "ggcl" else {}
    parser.update({**places, **kernels, **given})
    return parser.get_parsed_content("evaluator")


def overlap(*, quick: bool) -> list[dict[str, Any]]:
    """Four small volumes with the demonstration weights of ggcl: one step after the other, or together."""
    depth = 2 if quick else 8
    with tempfile.TemporaryDirectory() as folder:
        for number in range(4):
            save_noise(Path(folder, "in", f"{number}.nii.gz"), depth, 256)
        calls: dict[str, Callable[[], None]] = {
            "one after the other": lambda: one_after_the_other(f"{folder}/in", f"{folder}/serial"),
            "together": lambda: run_cases(evaluator("ggcl", f"{folder}/in", f"{folder}/together")),
        }
        times = interleaved(calls, repeats=1 if quick else 3)
    first = times["one after the other"]["seconds"]
    return [
        {"loading, network, writing": name, "s for 4 volumes": found["seconds"], "times": first / found["seconds"]}
        for name, found in times.items()
    ]


def one_after_the_other(source: str, output_dir: str) -> None:
    """An evaluator's own run loads nothing ahead; here its writer has no thread either."""
    with mock.patch.object(slabs, "BackgroundWriter", at_once):
        evaluator("ggcl", source, output_dir).run()


@contextlib.contextmanager
def at_once() -> Iterator[Callable[..., None]]:
    """In place of `BackgroundWriter`: calls are made at once."""
    yield lambda work, *arguments: work(*arguments)


def main(quick: bool = False, result: str | None = None) -> None:
    """
    Args:
        quick: small images, few of them; nothing is written unless `result` is given.
        result: the JSON file; default: `benchmarks/results/performance_inference.json`.
    """
    logging.disable(logging.WARNING)
    tables = {
        "speed": speed(quick=quick),
        "errors": errors(),
        "overlap": overlap(quick=quick),
    }
    for name, rows in tables.items():
        print(f"\n{name}")
        print_table(rows)
    write_result(result_path("inference", result, quick=quick), {"quick": quick, **tables})


if __name__ == "__main__":
    fire.Fire(main)
