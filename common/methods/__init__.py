"""The methods: what one training iteration does, equation by equation."""

from .cut import ContrastiveUnpairedTranslation
from .cyclegan import CycleGAN
from .image_pool import ImagePool
from .method import TrainingServices, TranslationMethod, frozen
from .nec import NormalizedEdgeConsistency
from .pix2pix import Pix2Pix
from .schedule import ConstantThenLinear

__all__ = [
    "ConstantThenLinear",
    "ContrastiveUnpairedTranslation",
    "CycleGAN",
    "ImagePool",
    "NormalizedEdgeConsistency",
    "Pix2Pix",
    "TrainingServices",
    "TranslationMethod",
    "frozen",
]
