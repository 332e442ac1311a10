"""Lets torchvision be imported beside a CPU build of torch.

The registry's torchvision is built for CUDA: its operators do not load without it, and its import ends in "operator
torchvision::nms does not exist". Declaring the two schemas that it names lets its Python parts be imported, which is
all that MONAI Label needs. `environments/label.sh` puts this file where Python runs it at start.
"""

from __future__ import annotations

import importlib.abc
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


class _BeforeTorchvision(importlib.abc.MetaPathFinder):
    """Declares the schemas when torchvision is first looked for; finds nothing itself."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            import torch

            if torch.version.cuda is None:
                self.library = torch.library.Library("torchvision", "FRAGMENT")
                for schema in SCHEMAS:
                    self.library.define(schema)
                _kept.append(self)  # the declaration ends with its library
        return None


_kept: list[_BeforeTorchvision] = []
sys.meta_path.insert(0, _BeforeTorchvision())
