"""One protocol for everything that turns one volume into another: networks and classical baselines."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import Inferer, SimpleInferer
from torch import nn

from ..baselines.base import Identity
from ..baselines.fitting import load_baselines
from ..baselines.kernels.training import FILTERS, KernelFilters, load_kernel_filters
from ..devices import to_device
from ..inference.inferers import source_domain
from ..metrics.summary import BEFORE, NETWORK
from ..networks.definition import read_definition
from ..networks.weights import load_pretrained
from ..networks.with_target import WithTarget, target_weights

logger = logging.getLogger(__name__)
ENCODED_BY = ("codec", "domains", "spacing_mm")  # facts of a definition that its `encode` depends on


class Translator(Protocol):
    """A translation of volumes on their own grid, from the units of their domain to those of the target domain."""

    def __call__(self, volume: MetaTensor, target: str) -> MetaTensor:
        """Translate a volume.

        Args:
            volume: Volume (C, X, Y, Z) as loaded.
            target: Name of the target domain.

        Returns:
            Translation (C, X, Y, Z) with the affine of `volume`.
        """


class VolumeTranslator:
    """A network, or anything callable like one, between the encoding and the decoding of a bundle's `inference.yaml`.

    Args:
        network: Network from encoded images to encoded images in [-1, 1].
        encode: Part of the preprocessing that comes after loading; reads and writes `image`.
        decode: Part of the postprocessing that comes before saving; reads and writes `pred`.
        inferer: Inferer that applies the network to a volume; default: one call for the whole volume.
        device: Device on which the network runs.
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
            item["pred"] = self.inferer(to_device(item["image"][None], self.device), self.network)[0].cpu()
        return self.decode(item)["pred"]

    def with_network(self, network: nn.Module) -> VolumeTranslator:
        """Return this translator with another network, of the same encoding and decoding."""
        other = copy.copy(self)
        other.network = network.to(self.device)
        return other


class BaselineNetwork(nn.Module):
    """A fitted baseline that is called like a network, on tensors (B, C, X, Y, Z) in [-1, 1].

    Args:
        baseline: Fitted baseline of `common.baselines`, whose `predict` takes one channel (X, Y, Z).
    """

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
    """Return the given translators, the identity, and the baselines that were fitted and saved in training.

    Without their file (weights from elsewhere) only the identity is added, with a warning.

    Args:
        translators: Translators by name.
        path: File of the fitted baselines.
        encode: Part of the preprocessing that comes after loading, see `VolumeTranslator`.
        decode: Part of the postprocessing that comes before saving, see `VolumeTranslator`.
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


class ConversionTranslator(VolumeTranslator):
    """A `VolumeTranslator` whose network is bound to the requested target in each call.

    Args:
        network: Network with a target, of which the generator is taken.
        domains: Names of the domains in the network's order.
        groups: Number of domains of each vendor, see `common.networks.target_weights`.
        others: Further arguments of `VolumeTranslator`.
    """

    def __init__(
        self, network: WithTarget, domains: Sequence[str], *, groups: Sequence[int] | None = None, **others: Any
    ) -> None:
        super().__init__(network, **others)
        self.generator: nn.Module = network.network
        self.domains, self.groups = list(domains), groups

    def __call__(self, volume: MetaTensor, target: str | Mapping[str, float]) -> MetaTensor:
        bound = WithTarget(self.generator, target_weights(self.domains, target, self.groups))
        self.network = bound.to(self.device)
        return super().__call__(volume, target)  # type: ignore[arg-type]

    def with_network(self, network: nn.Module) -> ConversionTranslator:
        other = copy.copy(self)
        other.generator = network.to(self.device)
        return other


class FilterTranslator:
    """A classical conversion of all directions that was fitted in training: radial filters, or energies of bands.

    Args:
        filters: Filters by direction, see `common.baselines.load_kernel_filters`.
        name: Name of the filter among those of a direction.
    """

    def __init__(self, filters: KernelFilters, name: str) -> None:
        self.filters, self.name = filters, name

    def __call__(self, volume: MetaTensor, target: str) -> MetaTensor:
        source = source_domain(volume)
        if source == target:
            return volume
        fitted = self.filters[source, target][self.name]
        image = nib.as_closest_canonical(nib.Nifti1Image(volume[0].numpy(), np.asarray(volume.affine)))
        filtered = fitted.apply(np.asarray(image.dataobj), image.header.get_zooms())
        stored = nib.Nifti1Image(filtered, image.affine)
        axes = nib.io_orientation(np.asarray(volume.affine)), nib.io_orientation(image.affine)
        back = stored.as_reoriented(nib.orientations.ornt_transform(axes[1], axes[0]))
        result = torch.as_tensor(np.ascontiguousarray(back.dataobj)).round()[None]
        return MetaTensor(result, affine=volume.affine, meta=volume.meta)


def with_weights_before(
    translator: VolumeTranslator,
    models_dir: str | Path,
    before_dir: str | Path | None,
    *,
    encoded_by: Sequence[str] = ENCODED_BY,
) -> dict[str, Translator]:
    """Return the translator as `network`, and as `before` the same one with the weights of another folder.

    Args:
        translator: The bundle's network between its encoding and decoding.
        models_dir: Folder of that network's definition.
        before_dir: Folder of the weights that a fine-tuning began with; None for none.
        encoded_by: Facts of the definitions in which the two must agree, as one encoding serves both.

    Raises:
        FileNotFoundError: If the folder lacks `network.json` or `model.pt`.
        ValueError: If the two definitions differ in what encodes an image, so that one pipeline cannot serve both.
    """
    if before_dir is None:
        return {NETWORK: translator}
    definitions = [read_definition(folder, {}) for folder in (models_dir, before_dir)]
    unlike = [fact for fact in encoded_by if _fact(definitions[0], fact) != _fact(definitions[1], fact)]
    if unlike:
        raise ValueError(
            f"The network of `before_dir` {str(before_dir)!r} must take the same images as that of `models_dir`"
            f" {str(models_dir)!r}, but their network.json differ in {unlike}: evaluate each on its own."
        )
    return {NETWORK: translator, BEFORE: translator.with_network(load_pretrained(before_dir))}


def _fact(definition: Mapping[str, Any], name: str) -> Any:
    """Return a fact of a definition; of a codec without `reference`, the target's intensities, which only decode."""
    fact = definition.get(name)
    return {key: value for key, value in fact.items() if key != "reference"} if name == "codec" and fact else fact


def identity(volume: MetaTensor, target: str) -> MetaTensor:
    """Return the untranslated source."""
    return volume


def with_filters(translators: Mapping[str, Translator], models_dir: str | Path) -> dict[str, Translator]:
    """Return the given translators, the identity, and the radial filters that were fitted and saved in training.

    Without their file (weights from elsewhere) only the identity is added, with a warning.

    Args:
        translators: Translators by name.
        models_dir: Folder of the fitted filters.
    """
    path = Path(models_dir) / FILTERS
    if not path.is_file():
        logger.warning(
            f"{str(path)!r} does not exist: the network is compared with the identity only. Training fits it."
        )
        return {**translators, "identity": identity}
    filters = load_kernel_filters(path)
    names = list(dict.fromkeys(name for fitted in filters.values() for name in fitted))
    return {**translators, "identity": identity} | {name: FilterTranslator(filters, name) for name in names}
