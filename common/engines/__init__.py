"""The Ignite trainer and evaluator that run any method, and what they share."""

from __future__ import annotations

from typing import Any

from ..moved import moved_attribute
from .conversion_evaluator import ConversionEvaluator, blend_directions, half_blends
from .evaluator import TranslationEvaluator
from .super_resolution_evaluator import InterpolationTranslator, SuperResolutionEvaluator
from .trainer import TranslationTrainer
from .training_log import Progress
from .translator import (
    BaselineNetwork,
    ConversionTranslator,
    FilterTranslator,
    Translator,
    VolumeTranslator,
    with_baselines,
    with_filters,
    with_weights_before,
)
from .validation import ConversionBatch, KernelValidation, PairedValidation, UnpairedValidation, lower_is_better

__all__ = [
    "BaselineNetwork",
    "ConversionBatch",
    "ConversionEvaluator",
    "ConversionTranslator",
    "FilterTranslator",
    "InterpolationTranslator",
    "KernelValidation",
    "PairedValidation",
    "Progress",
    "SuperResolutionEvaluator",
    "TranslationEvaluator",
    "TranslationTrainer",
    "Translator",
    "UnpairedValidation",
    "VolumeTranslator",
    "blend_directions",
    "half_blends",
    "lower_is_better",
    "with_baselines",
    "with_filters",
    "with_weights_before",
]


def __getattr__(name: str) -> Any:
    return moved_attribute(__name__, name)
