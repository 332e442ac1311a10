"""
What a user would run a network with on a CPU: torch.compile, ONNX Runtime, OpenVINO, beside `exact` and `fast`.

    pip install -c constraints.txt torch && pip install -c constraints.txt '.[export]' openvino
    python benchmarks/runtimes.py [--networks ggcl] [--others OpenVINO] [--repeats 5] [--quick] [--result PATH]

The shipped networks and those of the papers' sizes, in one process with one thread, in turn; `eager` is in a process of
its own, whose memory is allocated as usual. What is compared is processor time, which other work on the machine hardly
changes. Errors are those on a noisy phantom against eager float32, relative to the noise of its output.

torch.compile has frozen weights and needs a C++ compiler. The others get a graph of the fixed size that is timed.
"""

from __future__ import annotations

import copy
import functools
import io
import json
import logging
import os
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any

import fire
import numpy as np
import torch
from inference import BUNDLES, NOISE
from inference_speed import TO_SHARP, paper_networks
from measuring import print_table, result_path, write_result
from torch import nn

from common import networks
from common.inference.precision import LIMIT, SOURCE_NOISE, in_bfloat16, phantom
from common.memory import keep_memory
from common.networks.definition import input_channels
from common.processes import worker_pool

PIXELS = {"nec_t1t2": 256, "nect2cect": 144, "sr_cyclegan": 64}  # of a slice, resampled, or a tile; 512 of the others
PAPER = ", paper's size"  # after the name of a bundle: one image at a time, the shipped networks two
PAPERS = {"ggcl": "ggcl and kcgan"}  # names of `paper_networks` that are not the bundle's
OTHERS = ("torch.compile", "ONNX Runtime", "OpenVINO", "OpenVINO bf16")
RUNTIMES = ("eager", "exact", "fast", *OTHERS)
Candidate = Callable[[torch.Tensor], torch.Tensor]


@functools.cache
def deployed(name: str) -> nn.Module:
    """A bundle's network with the shipped weights, as `inference.yaml` builds it; or the paper's, with random ones."""
    if name.endswith(PAPER):
        bundle = name.removesuffix(PAPER)
        return paper_networks()[PAPERS.get(bundle, bundle)]
    network = networks.load_definition(BUNDLES / name)
    networks.load_weights(network, BUNDLES / name / "models" / "model.pt")
    if isinstance(network, networks.PhysicsGenerator):
        network = networks.WithTarget(network, TO_SHARP, [1.0, 0.0, 0.0, 0.7])
    return network.eval()


def images_for(name: str, network: nn.Module, *, quick: bool) -> torch.Tensor:
    """Two phantoms that differ in their noise."""
    bundle = name.partition(",")[0]
    pixels = 64 if quick else PIXELS.get(bundle, 512)
    channels, noise = input_channels(network), NOISE.get(bundle, SOURCE_NOISE)
    return torch.cat([phantom(channels, noise=noise, seed=seed, pixels=pixels) for seed in (0, 1)])


def candidates(network: nn.Module, images: torch.Tensor, others: Sequence[str]) -> dict[str, Callable[[], Candidate]]:
    """What makes each candidate, by name; `exact` first."""
    found: dict[str, Callable[[], Candidate]] = {
        "exact": lambda: network,
        "fast": lambda: _fast(network),
        "torch.compile": lambda: torch.compile(copy.deepcopy(network), dynamic=False, options={"freezing": True}),
        "ONNX Runtime": lambda: _onnxruntime(network, images),
        "OpenVINO": lambda: _openvino(network, images, "f32"),
        "OpenVINO bf16": lambda: _openvino(network, images, "bf16"),
    }
    return {name: make for name, make in found.items() if name in ("exact", "fast", *others)}


def _fast(network: nn.Module) -> nn.Module:
    fast = copy.deepcopy(network)
    in_bfloat16(fast)
    return fast


def _onnxruntime(network: nn.Module, images: torch.Tensor) -> Candidate:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(_onnx(network, images), options, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"image": images.numpy()})[0])


def _onnx(network: nn.Module, images: torch.Tensor) -> bytes:
    written = io.BytesIO()
    program = torch.onnx.export(network, (images,), dynamo=True, input_names=["image"], verbose=False)
    assert program is not None
    program.save(written)
    return written.getvalue()


def _openvino(network: nn.Module, images: torch.Tensor, precision: str) -> Candidate:
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    settings["INFERENCE_NUM_THREADS"] = str(torch.get_num_threads())
    model = core.compile_model(core.read_model(_onnx(network, images)), "CPU", settings)
    return lambda images: torch.from_numpy(np.asarray(model(images.numpy())[0]).copy())


def _eager(name: str, images: torch.Tensor) -> float:
    """Processor seconds of the plain network in a process whose memory is allocated as usual."""
    torch.set_num_threads(1)
    network = deployed(name)
    start = time.process_time()
    with torch.no_grad():
        network(images)
    return time.process_time() - start


def compare(name: str, eager: Executor, *, others: Sequence[str], repeats: int, quick: bool) -> list[dict[str, Any]]:
    """A row for each candidate: processor time a slice, speed relative to ours, errors."""
    network = deployed(name)
    images = images_for(name, network, quick=quick)
    used = images[:1] if name.endswith(PAPER) else images
    with torch.no_grad():
        exact = network(images)
        first, second = exact
        middle = slice(7 * first.shape[-1] // 16, 9 * first.shape[-1] // 16)
        noise = float((first - second)[..., middle, middle].std()) / 2**0.5
        ready: dict[str, Candidate] = {}
        failed = {}
        for label, make in candidates(network, used, others).items():
            try:
                ready[label] = make()
                ready[label](used)  # compiles
            except Exception as error:  # one that cannot take a network must not end the others
                ready.pop(label, None)
                failed[label] = f"{type(error).__name__}: {error}"[:300]
            print(f"{name}: {label} {'failed' if label in failed else 'ready'}", flush=True)
        times: dict[str, list[float]] = {label: [] for label in ["eager", *ready]}
        eager.submit(_eager, name, used).result()
        for _ in range(repeats):
            times["eager"].append(eager.submit(_eager, name, used).result())
            for label, candidate in ready.items():
                start = time.process_time()
                candidate(used)
                times[label].append(time.process_time() - start)
        outputs = {"eager": exact[: len(used)], **{label: candidate(used) for label, candidate in ready.items()}}
    medians = {label: statistics.median(found) for label, found in times.items()}
    rows = []
    for label, output in outputs.items():
        error = output.float() - exact[: len(used)]
        share = float(error.square().mean().sqrt()) / noise
        ours = "fast" if label in ("fast", "OpenVINO bf16") else "exact"
        row: dict[str, Any] = {"network": name, "pixels": used.shape[-1], "batch": len(used), "runtime": label}
        row |= {"cpu_s_a_slice": medians[label] / len(used), "fastest": min(times[label]) / len(used)}
        row |= {"times_eager": medians["eager"] / medians[label], "compared_with": ours}
        row |= {"ratio": medians[ours] / medians[label], "largest_error": float(error.abs().max())}
        rows.append({**row, "error_over_noise": share, "allowed": share <= LIMIT})
    return rows + [{"network": name, "runtime": label, "failed": text} for label, text in failed.items()]


def training(*, repeats: int) -> list[dict[str, Any]]:
    """A step of a compact ggcl whose generator is compiled, and one that is not."""
    from gpu import training_forms
    from training_steps import SMALL, batch

    options = SMALL["ggcl"]
    forms = training_forms("ggcl", options, torch.device("cpu"))
    steps = {name: forms[name](5) for name in ("fused optimizers", "compiled")}
    data = batch("ggcl", options)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(repeats + 1):
        for name, (method, engine) in steps.items():
            start = time.process_time()
            method(engine, data)
            if turn:
                times[name].append(time.process_time() - start)
    medians = {name: statistics.median(found) for name, found in times.items()}
    first = medians["fused optimizers"]
    return [
        {"bundle": "ggcl", "options": dict(options), "form": name, "cpu_seconds": median, "ratio": first / median}
        for name, median in medians.items()
    ]


def _place(row: dict[str, Any]) -> tuple[bool, str, int]:
    return row["network"].endswith(PAPER), row["network"], RUNTIMES.index(row["runtime"])


def main(
    networks: str | tuple[str, ...] | None = None,
    others: str | tuple[str, ...] = OTHERS,
    repeats: int = 5,
    quick: bool = False,
    train: bool = False,
    result: str | None = None,
) -> None:
    """
    Args:
        networks: those to compare, with `;` between; default: the shipped ones, and those of the papers' sizes.
        others: runtimes to compare with ours; rows of the file for others stay as they are.
        repeats: timed calls of each.
        quick: small images, one call; nothing is written unless `result` is given.
        train: compare training steps instead.
        result: the JSON file; default: `benchmarks/results/performance_runtimes.json`.
    """
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # no pool of compilers
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    keep_memory()
    path = result_path("runtimes", result, quick=quick)
    content: dict[str, Any] = {"rows": [], "training": []}
    if path is not None and path.is_file():
        content = json.loads(path.read_text(encoding="utf-8"))
        content.pop("machine")
    content |= {"quick": quick, "load": os.getloadavg()[1]}
    if train:
        write_result(path, content | {"training": training(repeats=1 if quick else repeats)})
        return
    shipped = sorted(path.parents[1].name for path in BUNDLES.glob("*/models/model.pt"))
    papers = [bundle + PAPER for bundle in ("ggcl", *PIXELS)]
    chosen = others.split(",") if isinstance(others, str) else list(others)
    with worker_pool(1) as eager:
        for name in networks.split(";") if isinstance(networks, str) else list(networks or [*shipped, *papers]):
            rows = compare(name, eager, others=chosen, repeats=1 if quick else repeats, quick=quick)
            print_table([row for row in rows if "failed" not in row])
            print(*(row for row in rows if "failed" in row), sep="\n", flush=True)
            kept = {(row["network"], row["runtime"]): row for row in [*content["rows"], *rows]}
            content["rows"] = sorted(kept.values(), key=_place)
            write_result(path, content)  # a run that is cut short leaves results


if __name__ == "__main__":
    fire.Fire(main)
