"""Translation methods: one training iteration each, equation by equation."""

from .attgan import AttGAN
from .contrast_enhancement import (
    ContrastClassification,
    ContrastEnhancement,
    ContrastRemoval,
    JointContrastEnhancement,
    SingleStageEnhancement,
)
from .cut import ContrastiveUnpairedTranslation
from .cyclegan import CycleGAN
from .dclgan import DualContrastiveTranslation
from .method import ConstantThenLinear, ImagePool, TrainingServices, TranslationMethod, frozen
from .nec import EdgeConsistentRegression, NormalizedEdgeConsistency
from .stargan import ConversionLabels, DomainLabels, StarGAN
from .super_resolution import SRUNIT, SRCycleGAN
from .supervised import PairedConversion, PairedRegression, Pix2Pix, TexturedRegression
from .unit import UNIT

__all__ = [
    "SRUNIT",
    "UNIT",
    "AttGAN",
    "ConstantThenLinear",
    "ContrastClassification",
    "ContrastEnhancement",
    "ContrastRemoval",
    "ContrastiveUnpairedTranslation",
    "ConversionLabels",
    "CycleGAN",
    "DomainLabels",
    "DualContrastiveTranslation",
    "EdgeConsistentRegression",
    "ImagePool",
    "JointContrastEnhancement",
    "NormalizedEdgeConsistency",
    "PairedConversion",
    "PairedRegression",
    "Pix2Pix",
    "SRCycleGAN",
    "SingleStageEnhancement",
    "StarGAN",
    "TexturedRegression",
    "TrainingServices",
    "TranslationMethod",
    "frozen",
]
