"""The Ignite trainer and evaluator that run any method, and what they share."""

from .blends import blend_directions, half_blends
from .conversion import ConversionInferer, ConversionTranslator, FilterTranslator, with_filters
from .conversion_evaluator import ConversionEvaluator
from .evaluator import TranslationEvaluator
from .facts import run_facts
from .inference import LoadWeights, volume_inferer, weight_facts
from .kernel_validation import ConversionBatch, KernelValidation
from .progress import Progress
from .super_resolution import SuperResolve
from .super_resolution_evaluator import InterpolationTranslator, SuperResolutionEvaluator
from .tiles import TileInferer
from .trainer import TranslationTrainer
from .translator import BaselineNetwork, Translator, VolumeTranslator, with_baselines
from .triplets import TripletInferer
from .unpaired_validation import UnpairedValidation

__all__ = [
    "BaselineNetwork",
    "ConversionBatch",
    "ConversionEvaluator",
    "ConversionInferer",
    "ConversionTranslator",
    "FilterTranslator",
    "InterpolationTranslator",
    "KernelValidation",
    "LoadWeights",
    "Progress",
    "SuperResolutionEvaluator",
    "SuperResolve",
    "TileInferer",
    "TranslationEvaluator",
    "TranslationTrainer",
    "Translator",
    "TripletInferer",
    "UnpairedValidation",
    "VolumeTranslator",
    "blend_directions",
    "half_blends",
    "run_facts",
    "volume_inferer",
    "weight_facts",
    "with_baselines",
    "with_filters",
]
