"""The methods: what one training iteration does, equation by equation."""

from .cut import ContrastiveUnpairedTranslation
from .cyclegan import CycleGAN
from .domain_labels import ConversionLabels, DomainLabels
from .image_pool import ImagePool
from .method import TrainingServices, TranslationMethod, frozen
from .nec import NormalizedEdgeConsistency
from .pix2pix import Pix2Pix
from .schedule import ConstantThenLinear
from .stargan import StarGAN

__all__ = [
    "ConstantThenLinear",
    "ContrastiveUnpairedTranslation",
    "ConversionLabels",
    "CycleGAN",
    "DomainLabels",
    "ImagePool",
    "NormalizedEdgeConsistency",
    "Pix2Pix",
    "StarGAN",
    "TrainingServices",
    "TranslationMethod",
    "frozen",
]
