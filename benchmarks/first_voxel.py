"""
Processor seconds of one translation by the command line, from the start of the process; `start_up.py` runs it.

    python benchmarks/first_voxel.py BUNDLE SCAN '{"target": "B70f"}'
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.__main__ import translate, uncollected_imports

BUNDLES = Path(__file__).parents[1] / "bundles"


class Watch:
    """Processor seconds that calls took, by name, each in its own thread, and those before the first call of a name."""

    def __init__(self) -> None:
        self.spent: Counter[str] = Counter()
        self.first: dict[str, tuple[float, float]] = {}

    def over(self, owner: type, method: str, name: str) -> None:
        """Watch a method of a class from now on."""
        watched: Callable[..., Any] = getattr(owner, method)

        def call(*arguments: Any, **options: Any) -> Any:
            self.first.setdefault(name, (time.process_time(), self.spent["network"]))
            start = time.thread_time()
            try:
                return watched(*arguments, **options)
            finally:
                self.spent[name] += time.thread_time() - start

        setattr(owner, method, call)


def translated(bundle: str, scan: str, options: dict[str, Any]) -> dict[str, float]:
    """
    Translate a scan in this process with one thread, the guards as warnings.

    Args:
        bundle: its folder's name.
        scan: the file.
        options: ids of `inference.yaml`.
    """
    with uncollected_imports():  # as the command line does
        import torch

        import common.translation  # noqa: F401
        from common import networks
        from common.images import NiftiSliceWriter
        from common.inference import OutputCheck
        from common.inference.output_check import PairedSlices
        from common.networks.definition import network_class, read_definition
        from common.transforms import Guards
    torch.set_num_threads(1)
    watch = Watch()
    definition = read_definition(BUNDLES / bundle)
    outer = networks.WithTarget if "source" in options else network_class(definition["class"])
    watch.over(outer, "forward", "network")
    watch.over(Guards, "__call__", "guards")
    watch.over(OutputCheck, "__call__", "output")
    watch.over(PairedSlices, "add", "slices")
    watch.over(NiftiSliceWriter, "write", "writing")
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        given = {"guards": "warn", "device": "cpu", **options}
        translate(scan, bundle=str(BUNDLES / bundle), output_dir=folder, **given)
    whole = time.process_time()
    checks = sum(watch.spent[name] for name in ("guards", "output", "slices"))
    first, network = watch.first["writing"]
    row = {"imports": start, "first_voxel": first, "on_two_cores": first - network / 2, "whole": whole}
    row |= {"network": watch.spent["network"], "checks": checks, "share_of_whole": checks / whole}
    return row | {"without_start": checks / (whole - start)}


if __name__ == "__main__":
    print(json.dumps(translated(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))))
