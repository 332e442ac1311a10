"""Translating images with trained weights: inferers, precision, slabs, outputs with their checks and sidecars."""

from .cases import FailedCasesError, run_cases
from .inferers import ConversionInferer, LoadWeights, TripletInferer, volume_inferer, weight_facts
from .output_check import OutputCheck
from .outputs import CheckSourceSeriesd, SaveOutputd, check_output_format
from .precision import SetPrecision
from .shards import cases_to_do, own_share, run_share
from .sidecar import RunRecord
from .slabs import TranslateSlices, translated_slabs
from .super_resolution import SuperResolve
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
    "SuperResolve",
    "TileInferer",
    "TranslateSlices",
    "TripletInferer",
    "cases_to_do",
    "check_output_format",
    "own_share",
    "run_cases",
    "run_share",
    "translated_slabs",
    "volume_inferer",
    "weight_facts",
]
