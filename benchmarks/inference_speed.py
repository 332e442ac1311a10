"""Seconds a slice of the papers' networks, as the papers' codes and as the bundles apply them; for `inference.py`."""

from __future__ import annotations

import copy
import functools
from concurrent.futures import Executor
from typing import Any

import torch
from measuring import interleaved, peak_gflops
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from common import networks
from common.inference.precision import in_bfloat16
from common.memory import keep_memory
from common.processes import worker_pool

TO_SHARP, FROM_SOFT = [0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.7]
DEPTH = 300  # slices of the volume for which times are scaled
TOGETHER = 2  # slices that are timed
HEAD_SD = 0.005  # of the random weights of a last layer that starts at zero: changes of a few HU
SIDES = {"nec_t1t2": 256, "sr_cyclegan": 64}  # pixels of an input; 512 of the others


@functools.cache
def paper_networks() -> dict[str, nn.Module]:
    """By bundle, of the paper's size and random weights."""
    torch.manual_seed(0)
    physics = networks.PhysicsGenerator(3)
    nn.init.normal_(physics.refine.head.weight, std=HEAD_SD)  # type: ignore[union-attr]  # it has one
    return {
        "ggcl, physics.yaml": networks.WithTarget(physics, TO_SHARP, FROM_SOFT).eval(),
        "ggcl and kcgan": networks.WithTarget(networks.StarGANGenerator(3), TO_SHARP).eval(),
        "nect2cect": networks.SPADEGenerator().eval(),
        "nec_t1t2": networks.NECGenerator().eval(),
        "sr_cyclegan": networks.SuperResolutionGenerator().eval(),
    }


def speed(*, quick: bool) -> list[dict[str, Any]]:
    """Each network in three ways; `released` in a process of its own, whose memory is allocated as usual."""
    keep_memory()
    peaks = {dtype: peak_gflops(dtype) for dtype in (torch.float32, torch.bfloat16)}
    with worker_pool(1) as released:
        return [row for name in paper_networks() for row in _rows(name, released, peaks, quick=quick)]


def _rows(name: str, released: Executor, peaks: dict[torch.dtype, float], *, quick: bool) -> list[dict[str, Any]]:
    network = paper_networks()[name]
    side = SIDES.get(name, 128 if quick else 512)
    images = torch.rand(TOGETHER, 3 if name == "nect2cect" else 1, side, side) * 2 - 1
    fast = copy.deepcopy(network)
    in_bfloat16(fast)
    calls = {
        "released": lambda: released.submit(_slice_by_slice, name, images).result(),
        "exact": lambda: network(images),
        "fast": lambda: fast(images),
    }
    with torch.no_grad():
        with FlopCounterMode(display=False) as counter:
            network(images)
        times = interleaved(calls, repeats=1 if quick else 5)
    rows = []
    for path, found in times.items():
        gflops = counter.get_total_flops() / found["seconds"] / 1e9
        seconds = found["seconds"] / TOGETHER
        row = {"network": name, "pixels": side, "path": path, "s a slice": seconds, "slices/s": 1 / seconds}
        row |= {f"min for {DEPTH}, scaled": seconds * DEPTH / 60}
        row |= {"times released": times["released"]["seconds"] / found["seconds"]}
        peak = peaks[torch.bfloat16 if path == "fast" else torch.float32]
        rows.append({**row, "GFLOP/s": gflops, "of the peak": gflops / peak})
    return rows


@torch.no_grad()
def _slice_by_slice(name: str, images: torch.Tensor) -> None:
    for image in images.split(1):
        paper_networks()[name](image)
