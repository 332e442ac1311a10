"""Networks, one file per family: pure modules without device, optimizer or logging.

A class that is exported here and decorated with `record_arguments` may be named in a bundle's `models/network.json`.
"""

from .attgan import AttGANGenerator
from .bicubic import BicubicResidualGenerator
from .compact import CompactGenerator
from .contrast_classifier import VGG16BN, load_stage
from .definition import (
    build_network,
    changed_by_hand,
    definition_checksum,
    definition_path,
    input_channels,
    load_definition,
    read_definition,
    record_arguments,
    save_definition,
)
from .discriminators import SemanticDiscriminator, StarGANDiscriminator
from .nec import NECGenerator
from .patch_discriminators import DCGANDiscriminator, PatchDiscriminatorPyramid
from .patch_features import PatchFeatureMLP
from .physics import IterativePhysicsGenerator, PhysicsGenerator
from .residual import IntensityCurveLayer, ResidualGenerator, UNetGenerator
from .resnet import ResNetGenerator
from .spade import SPADEGenerator
from .sr_unit import SRUNITBackGenerator, SRUNITGenerator
from .stargan import StarGANGenerator
from .super_resolution import (
    DownSamplingGenerator,
    ReleasedDownSamplingGenerator,
    ReleasedSRGenerator,
    SuperResolutionGenerator,
)
from .unit import UNITBackGenerator, UNITGenerator
from .weights import load_pretrained, load_weights
from .with_target import WithTarget, source_label, target_weights, vendors_of

__all__ = [
    "VGG16BN",
    "AttGANGenerator",
    "BicubicResidualGenerator",
    "CompactGenerator",
    "DCGANDiscriminator",
    "DownSamplingGenerator",
    "IntensityCurveLayer",
    "IterativePhysicsGenerator",
    "NECGenerator",
    "PatchDiscriminatorPyramid",
    "PatchFeatureMLP",
    "PhysicsGenerator",
    "ReleasedDownSamplingGenerator",
    "ReleasedSRGenerator",
    "ResNetGenerator",
    "ResidualGenerator",
    "SPADEGenerator",
    "SRUNITBackGenerator",
    "SRUNITGenerator",
    "SemanticDiscriminator",
    "StarGANDiscriminator",
    "StarGANGenerator",
    "SuperResolutionGenerator",
    "UNITBackGenerator",
    "UNITGenerator",
    "UNetGenerator",
    "WithTarget",
    "build_network",
    "changed_by_hand",
    "definition_checksum",
    "definition_path",
    "input_channels",
    "load_definition",
    "load_pretrained",
    "load_stage",
    "load_weights",
    "read_definition",
    "record_arguments",
    "save_definition",
    "source_label",
    "target_weights",
    "vendors_of",
]
