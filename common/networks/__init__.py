"""Networks: one file a family; pure modules without device, optimizer or logging.

What is exported here and decorated with `record_arguments` may be named in a bundle's `models/network.json`.
"""

from __future__ import annotations

from .attgan import AttGANGenerator
from .compact import CompactGenerator
from .dcgan import DCGANDiscriminator
from .definition import definition_path, load_definition, read_definition, record_arguments, save_definition
from .nec import NECGenerator
from .patch_features import PatchFeatureMLP
from .patch_pyramid import PatchDiscriminatorPyramid
from .physics import PhysicsGenerator
from .resnet import ResNetGenerator
from .spade import SPADEGenerator
from .sr_unit import SRUNITBackGenerator, SRUNITGenerator
from .stages import load_stage
from .stargan import StarGANGenerator
from .stargan_discriminator import StarGANDiscriminator
from .super_resolution import DownSamplingGenerator, SuperResolutionGenerator
from .unet_discriminator import SemanticDiscriminator
from .unit import UNITBackGenerator, UNITGenerator
from .vgg import VGG16BN
from .weights import load_weights
from .with_target import WithTarget, source_label, target_weights, vendors_of

__all__ = [
    "VGG16BN",
    "AttGANGenerator",
    "CompactGenerator",
    "DCGANDiscriminator",
    "DownSamplingGenerator",
    "NECGenerator",
    "PatchDiscriminatorPyramid",
    "PatchFeatureMLP",
    "PhysicsGenerator",
    "ResNetGenerator",
    "SPADEGenerator",
    "SRUNITBackGenerator",
    "SRUNITGenerator",
    "SemanticDiscriminator",
    "StarGANDiscriminator",
    "StarGANGenerator",
    "SuperResolutionGenerator",
    "UNITBackGenerator",
    "UNITGenerator",
    "WithTarget",
    "definition_path",
    "load_definition",
    "load_stage",
    "load_weights",
    "read_definition",
    "record_arguments",
    "save_definition",
    "source_label",
    "target_weights",
    "vendors_of",
]
