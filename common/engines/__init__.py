"""The Ignite trainer and evaluator that run any method, and what they share."""

from .blends import blend_directions, half_blends
from .cases import FailedCasesError, run_cases
from .conversion import ConversionInferer, ConversionTranslator, FilterTranslator, with_filters
from .conversion_evaluator import ConversionEvaluator
from .dicom_output import CheckSourceSeriesd, check_output_format
from .evaluator import TranslationEvaluator
from .facts import run_facts
from .inference import LoadWeights, volume_inferer, weight_facts
from .kernel_validation import ConversionBatch, KernelValidation
from .output_check import OutputCheck
from .outputs import SaveOutputd
from .precision import SetPrecision
from .progress import Progress
from .share import cases_to_do, own_share, run_share
from .sidecar import RunRecord
from .slices import TranslateSlices, translated_slabs
from .super_resolution import SuperResolve
from .super_resolution_evaluator import InterpolationTranslator, SuperResolutionEvaluator
from .tiles import TileInferer
from .trainer import TranslationTrainer
from .translator import BaselineNetwork, Translator, VolumeTranslator, with_baselines
from .triplets import TripletInferer
from .unpaired_validation import UnpairedValidation

__all__ = [
    "BaselineNetwork",
    "CheckSourceSeriesd",
    "ConversionBatch",
    "ConversionEvaluator",
    "ConversionInferer",
    "ConversionTranslator",
    "FailedCasesError",
    "FilterTranslator",
    "InterpolationTranslator",
    "KernelValidation",
    "LoadWeights",
    "OutputCheck",
    "Progress",
    "RunRecord",
    "SaveOutputd",
    "SetPrecision",
    "SuperResolutionEvaluator",
    "SuperResolve",
    "TileInferer",
    "TranslateSlices",
    "TranslationEvaluator",
    "TranslationTrainer",
    "Translator",
    "TripletInferer",
    "UnpairedValidation",
    "VolumeTranslator",
    "blend_directions",
    "cases_to_do",
    "check_output_format",
    "half_blends",
    "own_share",
    "run_cases",
    "run_facts",
    "run_share",
    "translated_slabs",
    "volume_inferer",
    "weight_facts",
    "with_baselines",
    "with_filters",
]
