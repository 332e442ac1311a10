"""The generator and the discriminator of a training, and what they make of an image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from ..networks import (
    SemanticDiscriminator,
    load_definition,
    load_weights,
    read_definition,
    source_label,
    target_weights,
)

WEIGHT = "downs.0.0.parametrizations.weight.original"


class FeatureMaps(NamedTuple):
    """
    What a direction shows.

    Attributes:
        output: the translated image `(H, W)` in [-1, 1].
        generator: the decoder's feature `(C, H / 2, W / 2)`.
        discriminator: the semantic map of the translated image, of the same shape.
    """

    output: torch.Tensor
    generator: torch.Tensor
    discriminator: torch.Tensor


def trained_generator(models_dir: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """The multi-domain generator of `network.json` and `model.pt`, and its definition.

    Raises:
        ValueError: when it has no decoder feature that guides a discriminator.
        FileNotFoundError: when there are no weights.
    """
    generator = load_definition(models_dir, {"class": "StarGANGenerator", "arguments": {"num_domains": 3}})
    if not hasattr(generator, "features") or not hasattr(generator, "num_domains"):
        raise ValueError(
            f"the network in {str(models_dir)!r} must be a generator of several kernels with a guiding feature, such as"
            f" StarGANGenerator, got {type(generator).__name__}."
        )
    definition = read_definition(models_dir, {})
    return load_weights(generator, Path(models_dir) / "model.pt").eval(), definition


def trained_discriminator(training_dir: str | Path) -> SemanticDiscriminator:
    """
    The discriminator with a decoder that a training left in `last.pt`.

    Its arguments follow from the shapes of its weights.

    Raises:
        FileNotFoundError: when there is no `last.pt`.
        ValueError: when the discriminator has no decoder, as StarGAN's.
    """
    path = Path(training_dir) / "last.pt"
    if not path.is_file():
        raise FileNotFoundError(f"{str(path)!r} must be there: give the `output_dir` of the training.")
    weights = torch.load(path, map_location="cpu", weights_only=True)["networks"]["discriminator"]
    if WEIGHT not in weights or not any(name.startswith("ups.") for name in weights):
        raise ValueError(
            f"the discriminator in {str(path)!r} has no decoder, hence no semantic map: train with a guidance."
        )
    layers = len({name.split(".")[1] for name in weights if name.startswith("downs.")})
    domains, _, side, _ = weights["heads.domain.weight"].shape
    channels, in_channels = weights[WEIGHT].shape[:2]
    discriminator = SemanticDiscriminator(
        side * 2**layers, domains, in_channels=in_channels, channels=channels, num_layers=layers
    )
    discriminator.load_state_dict(weights)
    return discriminator.eval()


@torch.no_grad()
def feature_maps(
    generator: nn.Module,
    discriminator: SemanticDiscriminator,
    definition: Mapping[str, Any],
    image: torch.Tensor,
    *,
    source: str,
    target: str,
    pixel_mm: float,
) -> FeatureMaps:
    """
    Convert an image and look at the features of the conversion.

    Args:
        generator: of several kernels.
        discriminator: judges the converted image.
        definition: the generator's.
        image: `(1, H, W)` in [-1, 1], of the discriminator's size.
        source: the image's kernel.
        target: the wanted one.
        pixel_mm: its pixel size.
    """
    label = target_weights(definition["domains"], target, definition.get("kernels_per_vendor"))
    label += source_label(definition, target, source, pixel_mm) or []
    output, guide = generator.features(image[None], torch.tensor([label]))  # type: ignore[operator]
    semantic = discriminator.features(output)[2]
    return FeatureMaps(output[0, 0], guide[0], semantic[0])
