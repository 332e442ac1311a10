"""VGG16 with batch norm: it distinguishes two domains, and its features measure how alike two images look.

`load_stage` loads the network of an earlier training stage for a later stage that uses it without training it.
"""

from __future__ import annotations

import hashlib
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn

from .definition import load_definition, read_definition, record_arguments
from .layers import check_at_least_one, check_image_dims
from .weights import load_weights

WIDTHS = (1, 2, 4, 8, 8)  # features of the five stages, in units of `width`
DEPTHS = (2, 2, 3, 3, 3)  # 3x3 convolutions of the five stages: 13, and VGG16's three fully connected layers
NUM_FEATURES = 4  # Seo et al., section 3.2: "the first four max-pooling layers"


class VGG16BN(nn.Module):
    """Convolutions of VGG16, configuration D, with batch norm, under a light classifier (2-D).

    Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition", ICLR 2015, table 1;
    used by Seo et al., "Neural contrast enhancement of CT image", IEEE WACV 2021, section 3.2, to distinguish NECT from
    CECT and for the perceptual loss. The channels of the image are three consecutive slices. With the defaults it has
    14,719,938 parameters.

    Differences from VGG16: global average pooling and one linear layer replace the three fully connected layers, which
    hold nine tenths of VGG16's weights and fix the image size. The perceptual loss does not see the classifier.
    The convolutions have no bias, since batch norm would remove it.

    Args:
        in_channels: Channels of the image.
        num_classes: Number of classes.
        width: Features of the first stage, 64 in VGG16; the others have 2, 4, 8 and 8 times as many.

    Raises:
        ValueError: If an argument is below 1, or an image has fewer than 32 pixels per side.

    Example:
        >>> network = VGG16BN(width=4).eval()
        >>> network(torch.zeros(1, 3, 64, 48)).shape
        torch.Size([1, 2])
        >>> [tuple(feature.shape[1:]) for feature in network.features(torch.zeros(1, 3, 64, 48))]
        [(4, 32, 24), (8, 16, 12), (16, 8, 6), (32, 4, 3)]
    """

    @record_arguments
    def __init__(self, in_channels: int = 3, *, num_classes: int = 2, width: int = 64) -> None:
        super().__init__()
        check_at_least_one(in_channels=in_channels, num_classes=num_classes, width=width)
        self.spatial_dims = 2
        self.min_size = 2 ** len(WIDTHS)  # leaves one pixel behind the last max-pooling
        widths = [in_channels, *(width * times for times in WIDTHS)]
        self.stages = nn.ModuleList(
            _stage(inputs, outputs, depth) for (inputs, outputs), depth in zip(pairwise(widths), DEPTHS)
        )
        self.head = nn.Linear(widths[-1], num_classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Classify `(B, C, H, W)` in [-1, 1]; return the logits `(B, num_classes)`, without activation."""
        _check_image(image, self.min_size)
        feature = image
        for stage in self.stages:
            feature = stage(feature)
        return self.head(feature.mean(dim=[2, 3]))

    def features(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Return the first four max-pooled features of `(B, C, H, W)`, at 1/2, 1/4, 1/8 and 1/16 of the resolution."""
        _check_image(image, self.min_size)
        features: list[torch.Tensor] = []
        feature = image
        for stage in self.stages[:NUM_FEATURES]:
            feature = stage(feature)
            features.append(feature)
        return features


def _stage(in_channels: int, out_channels: int, depth: int) -> nn.Sequential:
    """Build 3x3 convolutions with batch norm and ReLU, followed by max-pooling by 2."""
    layers: list[nn.Module] = []
    for inputs in [in_channels, *[out_channels] * (depth - 1)]:
        layers.append(nn.Conv2d(inputs, out_channels, 3, padding=1, bias=False))
        layers.append(nn.BatchNorm2d(out_channels))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers, nn.MaxPool2d(2))


def _check_image(image: torch.Tensor, min_size: int) -> None:
    check_image_dims(image, 2)
    if min(image.shape[2], image.shape[3]) < min_size:
        raise ValueError(
            f"`image` must have at least {min_size} pixels per side, which five max-poolings halve to 1, got "
            f"{image.shape[2]} x {image.shape[3]}: pad or resample it."
        )


def load_stage(models_dir: str | Path, *, made_by: str) -> nn.Module:
    """Build the network that an earlier stage left in a folder, with its weights, frozen and in `eval()`.

    Args:
        models_dir: Folder with `network.json` and `model.pt`, as a training writes them.
        made_by: Command that makes them, for the error message.

    Returns:
        The network on the CPU; none of its parameters requires a gradient.

    Raises:
        FileNotFoundError: If one of the two files is missing; the message names the folder and the command.
        ValueError: If the files do not belong together, or were not written by a training.

    Example:
        >>> try:
        ...     load_stage("models/remover", made_by="python -m monai.bundle run training --config_file remover.yaml")
        ... except FileNotFoundError as error:
        ...     print(str(error).split(". ")[0])
        models/remover must hold the network of the stage before, but network.json and model.pt are missing
    """
    folder = Path(models_dir)
    missing = [name for name in ("network.json", "model.pt") if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder} must hold the network of the stage before, but {' and '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing. Make it first: {made_by}"
        )
    _check_checksum(folder, made_by)
    network = load_weights(load_definition(folder, {}), folder / "model.pt")
    return network.requires_grad_(False).eval()


def _check_checksum(folder: Path, made_by: str) -> None:
    """Refuse weights of the right shapes from another training; a definition without a checksum is taken as it is."""
    expected = read_definition(folder, {}).get("checksum")
    if expected is not None and hashlib.sha256((folder / "model.pt").read_bytes()).hexdigest() != expected:
        raise ValueError(
            f"{folder / 'model.pt'} must be the file whose checksum network.json holds, but it is another: copy both "
            f"from the same training, or make them again: {made_by}"
        )
