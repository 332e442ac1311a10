"""The methods: what one training iteration does, equation by equation."""

from .attgan import AttGAN
from .contrast_classification import ContrastClassification
from .contrast_enhancement import ContrastEnhancement
from .contrast_removal import ContrastRemoval
from .cut import ContrastiveUnpairedTranslation
from .cyclegan import CycleGAN
from .dclgan import DualContrastiveTranslation
from .domain_labels import ConversionLabels, DomainLabels
from .image_pool import ImagePool
from .joint_contrast import JointContrastEnhancement
from .method import TrainingServices, TranslationMethod, frozen
from .nec import NormalizedEdgeConsistency
from .paired_conversion import PairedConversion
from .paired_regression import PairedRegression
from .pix2pix import Pix2Pix
from .schedule import ConstantThenLinear
from .single_stage import SingleStageEnhancement
from .sr_cyclegan import SRCycleGAN
from .sr_unit import SRUNIT
from .stargan import StarGAN
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
    "ImagePool",
    "JointContrastEnhancement",
    "NormalizedEdgeConsistency",
    "PairedConversion",
    "PairedRegression",
    "Pix2Pix",
    "SRCycleGAN",
    "SingleStageEnhancement",
    "StarGAN",
    "TrainingServices",
    "TranslationMethod",
    "frozen",
]
