"""Networks: one file a family; pure modules without device, optimizer or logging.

What is exported here and decorated with `record_arguments` may be named in a bundle's `models/network.json`.
"""

from __future__ import annotations

from .compact import CompactGenerator
from .definition import definition_path, load_definition, read_definition, record_arguments, save_definition
from .nec import NECGenerator
from .patch_features import PatchFeatureMLP
from .patch_pyramid import PatchDiscriminatorPyramid
from .physics import PhysicsGenerator
from .stargan import StarGANGenerator
from .stargan_discriminator import StarGANDiscriminator
from .unet_discriminator import SemanticDiscriminator
from .weights import load_weights
from .with_target import WithTarget, target_weights

__all__ = [
    "CompactGenerator",
    "NECGenerator",
    "PatchDiscriminatorPyramid",
    "PatchFeatureMLP",
    "PhysicsGenerator",
    "SemanticDiscriminator",
    "StarGANDiscriminator",
    "StarGANGenerator",
    "WithTarget",
    "definition_path",
    "load_definition",
    "load_weights",
    "read_definition",
    "record_arguments",
    "save_definition",
    "target_weights",
]
