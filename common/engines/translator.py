"""One protocol for everything that turns a volume into another: networks and classical baselines."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import Inferer, SimpleInferer
from torch import nn

from ..baselines import Identity, load_baselines

logger = logging.getLogger(__name__)
SOURCE = "source_domain"  # of a volume's meta data: the domain that it shows, where it is known


class Translator(Protocol):
    """Translates a volume on its own grid, from the units of its domain to those of the target's."""

    def __call__(self, volume: MetaTensor, target: str) -> MetaTensor:
        """
        Args:
            volume: shape (C, X, Y, Z), as loaded.
            target: name of the target domain.

        Returns:
            shape (C, X, Y, Z), with the affine of `volume`.
        """


class VolumeTranslator:
    """
    A network, or anything callable like one, between the encoding and the decoding of a bundle's `inference.yaml`.

    Args:
        network: from encoded images to encoded images in [-1, 1].
        encode: the part of the preprocessing that comes after loading; reads and writes `image`.
        decode: the part of the postprocessing that comes before saving; reads and writes `pred`.
        inferer: how the network is applied to a volume.
        device: where the network runs.
    """

    def __init__(
        self,
        network: Callable[[torch.Tensor], torch.Tensor],
        encode: Callable,
        decode: Callable,
        *,
        inferer: Inferer | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self.network, self.encode, self.decode = network, encode, decode
        self.inferer = inferer or SimpleInferer()
        self.device = torch.device(device)

    def __call__(self, volume: MetaTensor, target: str) -> MetaTensor:
        if isinstance(self.network, nn.Module):
            self.network.eval()
        item: dict[str, Any] = self.encode({"image": volume})
        with torch.no_grad():
            item["pred"] = self.inferer(item["image"][None].to(self.device), self.network)[0].cpu()
        return self.decode(item)["pred"]


class BaselineNetwork(nn.Module):
    """A fitted baseline, called like a network: on tensors of shape (B, C, X, Y, Z) in [-1, 1]."""

    def __init__(self, baseline: Any) -> None:
        super().__init__()
        self.baseline = baseline

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        outputs = [[self.baseline.predict(np.asarray(channel)) for channel in item] for item in image.cpu()]
        predicted = torch.as_tensor(np.asarray(outputs), dtype=image.dtype)
        return MetaTensor(predicted, meta=image.meta) if isinstance(image, MetaTensor) else predicted


def with_baselines(
    translators: Mapping[str, Translator], path: str | Path, encode: Callable, decode: Callable
) -> dict[str, Translator]:
    """
    The given translators, the identity, and the baselines that were fitted and saved in training.

    Without their file (weights from elsewhere) only the identity is added, with a warning.
    """
    baselines: dict[str, Any] = {"identity": Identity()}
    if Path(path).is_file():
        baselines |= load_baselines(path)
    else:
        logger.warning(
            f"{str(path)!r} does not exist: the network is compared with the identity only. Training fits it."
        )
    wrapped = {name: VolumeTranslator(BaselineNetwork(b), encode, decode) for name, b in baselines.items()}
    return {**translators, **wrapped}
