"""
Start a training and print, when its first batch is drawn, peak memory and opened images; for `many_entries.py`.

    python benchmarks/first_batch.py BUNDLE DATA OUTPUT
"""

from __future__ import annotations

import json
import sys
from typing import Any

_opened: list[str] = []


def _count(event: str, arguments: Any) -> None:
    if event == "open" and str(arguments[0]).endswith(".nii"):
        _opened.append(str(arguments[0]))


sys.addaudithook(_count)

from ignite.engine import Events  # noqa: E402
from measuring import ROOT  # noqa: E402
from monai.bundle import ConfigParser  # noqa: E402
from training_steps import WITHOUT_STAGES  # noqa: E402

from common.engines import TranslationTrainer  # noqa: E402
from common.memory import peak_memory_mb  # noqa: E402

OPTIONS: dict[str, dict[str, Any]] = {
    "nec_t1t2": {"image_size": 64},
    "nect2cect": {"image_size": 64, **WITHOUT_STAGES},
    "sr_cyclegan": {"mask_key": None},
}


class Started(BaseException):
    """The first batch is drawn. MONAI and Ignite wrap every `Exception`."""


class Stopped(TranslationTrainer):
    """A trainer that stops before its first iteration."""

    def run(self) -> None:
        """Draw the first batch."""
        self.add_event_handler(Events.ITERATION_STARTED, _stop)
        super().run()


def _stop() -> None:
    raise Started


def start(bundle: str, data: str, output: str) -> None:
    """
    Start the training of `train.yaml` with `compact.yaml`.

    Args:
        bundle: its name.
        data: data folder.
        output: folder of what it writes.
    """
    _opened.clear()
    root = ROOT / "bundles" / bundle
    parser = ConfigParser()
    parser.read_config([root / "configs" / name for name in ("train.yaml", "compact.yaml")])
    places = {"bundle_root": str(root), "dataset_dir": data, "output_dir": output, "models_dir": f"{output}/models"}
    for id_, value in {**places, "train#trainer#_target_": Stopped, **OPTIONS.get(bundle, {})}.items():
        parser[id_] = value
    try:
        parser.get_parsed_content("run")
    except Started:
        facts = {"peak_mb": peak_memory_mb(), "opened_images": len(set(_opened)), "openings": len(_opened)}
        print(json.dumps(facts))


if __name__ == "__main__":
    start(*sys.argv[1:])
