"""Translation of images with trained weights: inferers, precision, slabs, outputs with their checks and sidecars."""

from __future__ import annotations

from typing import Any

from ..moved import moved_attribute
from .cases import FailedCasesError, run_cases
from .inferers import ConversionInferer, LoadWeights, StackInferer, volume_inferer, weight_facts
from .output_check import OutputCheck
from .outputs import CheckSourceSeriesd, SaveOutputd, check_output_format, then_save
from .precision import SetPrecision
from .runtime import SetRuntime
from .shards import cases_to_do, own_shard, run_shard
from .sidecar import RunRecord
from .slabs import TranslateSlices, before_encoding, translated_slabs
from .super_resolution import StoredAxesd, SuperResolve
from .tiles import TileInferer

__all__ = [
    "CheckSourceSeriesd",
    "ConversionInferer",
    "FailedCasesError",
    "LoadWeights",
    "OutputCheck",
    "RunRecord",
    "SaveOutputd",
    "SetPrecision",
    "SetRuntime",
    "StackInferer",
    "StoredAxesd",
    "SuperResolve",
    "TileInferer",
    "TranslateSlices",
    "before_encoding",
    "cases_to_do",
    "check_output_format",
    "own_shard",
    "run_cases",
    "run_shard",
    "then_save",
    "translated_slabs",
    "volume_inferer",
    "weight_facts",
]


def __getattr__(name: str) -> Any:
    return moved_attribute(__name__, name)
