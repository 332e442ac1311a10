"""The five bundles at sizes that train in a second, for their tests in a federated client."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BUNDLES = Path(__file__).parents[2] / "bundles"
KERNEL = {
    "samples_per_epoch": 4,
    "image_size": 128,
    "critic_steps": 2,
    "channels": 8,
    "num_res_blocks": 1,
    "discriminator_channels": 4,
}
CONTRAST = {
    "image_size": 64,
    "spacing_mm": [5.3333, 5.3333],
    "channels": [8, 8],
    "spade_channels": 4,
    "classifier_width": 2,
    "discriminator_channels": [8, 8],
    "samples_per_epoch": 4,
}


@dataclass(frozen=True)
class Case:
    """A bundle at a size that trains in a second."""

    kind: str
    phantom: dict[str, int]
    options: dict[str, Any]
    domain: str
    overlays: list[str] = field(default_factory=list)
    earlier: list[str] = field(default_factory=list)


CASES = {
    "nec_t1t2": Case(
        "brain",
        {"patients": 4, "slices": 3, "size": 64},
        {
            "batch_size": 2,
            "image_size": 64,
            "spacing_mm": [4.0, 4.0, -1],
        },
        "T1",
        overlays=["configs/demo.yaml"],
    ),
    "ggcl": Case("chest", {"patients": 6, "slices": 1, "size": 128}, KERNEL, "B30f", overlays=["configs/physics.yaml"]),
    "kcgan_kernel_conversion": Case("chest", {"patients": 6, "slices": 1, "size": 128}, KERNEL, "B30f"),
    "nect2cect": Case(
        "abdomen",
        {"patients": 4, "slices": 4, "size": 64},
        CONTRAST,
        "NECT",
        overlays=["configs/demo.yaml"],
        earlier=["configs/train_classifier.yaml", "configs/train_contrast_removal.yaml"],
    ),
    "sr_cyclegan": Case(
        "lung",
        {"patients": 4, "slices": 4, "size": 64, "factor": 2},
        {
            "factor": 2,
            "samples_per_epoch": 4,
            "batch_size": 2,
            "patch_size": 12,
            "channels": 8,
            "num_res_blocks": 1,
            "discriminator_channels": 4,
            "target_discriminator_layers": 2,
            "source_discriminator_layers": 1,
        },
        "clinical",
        overlays=["configs/demo.yaml"],
    ),
}
