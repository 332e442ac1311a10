"""Small data sets and weights for the faults of a session."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from .tasks import ROOT


class Case(NamedTuple):
    """A bundle, the phantom that it is tried on, and overlays that make its training a matter of seconds.

    Attributes:
        phantom: kind, and arguments of `generate_phantom`.
        stages: configuration files of each training, one after the other.
        tiny: the overlay's text.
    """

    phantom: tuple[str, dict[str, Any]]
    stages: tuple[tuple[str, ...], ...]
    tiny: str


KERNEL = """
max_epochs: 2
samples_per_epoch: 4
batch_size: 2
image_size: 128
critic_steps: 2
channels: 8
num_res_blocks: 1
discriminator_channels: 4
val_interval: 1
"""
CASES = {
    "nec_t1t2": Case(
        ("brain", {"patients": 4, "slices": 2, "size": 32}),
        (("train",),),
        """
max_epochs: 2
batch_size: 2
image_size: 32
val_interval: 1
spacing_mm: [8.0, 8.0, -1]
network_def: {_target_: common.networks.CompactGenerator, channels: [8, 8], num_res_units: 1}
discriminator_def#num_scales: 1
discriminator_def#num_layers: 2
discriminator_def#channels: 4
""",
    ),
    "ggcl": Case(("chest", {"patients": 6, "slices": 1, "size": 128}), (("train",),), KERNEL),
    "nect2cect": Case(
        ("abdomen", {"patients": 5, "slices": 4, "size": 64}),
        (("train", "demo", "train_classifier"), ("train", "demo", "train_contrast_removal"), ("train", "demo")),
        """
phantom: {patients: 5, slices: 4, size: 64}
max_epochs: 2
classifier_epochs: 2
image_size: 64
spacing_mm: [5.3333, 5.3333]
channels: [8, 8]
spade_channels: 4
classifier_width: 2
discriminator_channels: [8, 8]
""",
    ),
    "sr_cyclegan": Case(
        ("lung", {"patients": 4, "slices": 4, "size": 64, "factor": 2}),
        (("train", "demo"),),
        """
factor: 2
max_epochs: 2
samples_per_epoch: 4
batch_size: 2
patch_size: 12
channels: 8
num_res_blocks: 1
discriminator_channels: 4
target_discriminator_layers: 2
source_discriminator_layers: 1
phantom: {patients: 4, slices: 4, size: 64, factor: 2}
""",
    ),
}


def models(bundle: str) -> Path:
    """The demonstration weights."""
    return ROOT / "bundles" / bundle / "models"
