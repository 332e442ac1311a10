"""Running a generator that knows its target, and maybe its source: one conversion bound for each volume."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from torch import nn

from ..baselines import FILTERS, KernelFilters, load_kernel_filters
from ..networks import PhysicsGenerator, WithTarget, target_weights
from .inference import AxialInferer
from .translator import SOURCE, Translator, VolumeTranslator

logger = logging.getLogger(__name__)


class ConversionInferer(AxialInferer):
    """
    Applies a network with a bound target to whole axial slices of a volume (B, C, X, Y, Z).

    A generator that starts from the source kernel in lp/mm is bound to the volume's own kernel and pixel size, which
    its meta data tell (`source_domain`, affine); the papers' generators see the image alone.

    Args:
        domains: names, in the order of the network's.
        batch_size: slices at a time; None: as many as the memory holds.
    """

    def __init__(self, domains: Sequence[str], *, batch_size: int | None = None) -> None:
        super().__init__(batch_size=batch_size)
        self.domains = list(domains)

    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if isinstance(network, WithTarget) and isinstance(network.network, PhysicsGenerator):
            network = network.from_source(target_weights(self.domains, _source(inputs)), pixel_mm(inputs))
        return super().__call__(inputs, network, *args, **kwargs)


class ConversionTranslator(VolumeTranslator):
    """A `VolumeTranslator` whose network is bound to the target that is asked for.

    Args:
        network: `WithTarget`, of which the generator is taken.
        domains: names, in the order of the network's.
        groups: number of domains of each vendor, see `common.networks.target_weights`.
        others: the arguments of `VolumeTranslator`.
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


class FilterTranslator:
    """The fitted radial filters of all directions; none is fitted here.

    Args:
        filters: of `common.baselines.load_kernel_filters`.
        name: which of a direction's filters.
    """

    def __init__(self, filters: KernelFilters, name: str) -> None:
        self.filters, self.name = filters, name

    def __call__(self, volume: MetaTensor, target: str) -> MetaTensor:
        source = _source(volume)
        if source == target:
            return volume
        fitted = self.filters[source, target][self.name]
        image = nib.as_closest_canonical(nib.Nifti1Image(volume[0].numpy(), np.asarray(volume.affine)))
        filtered = fitted.apply(np.asarray(image.dataobj), image.header.get_zooms()[:2])
        stored = nib.Nifti1Image(filtered, image.affine)
        axes = nib.io_orientation(np.asarray(volume.affine)), nib.io_orientation(image.affine)
        back = stored.as_reoriented(nib.orientations.ornt_transform(axes[1], axes[0]))
        result = torch.as_tensor(np.ascontiguousarray(back.dataobj)).round()[None]
        return MetaTensor(result, affine=volume.affine, meta=volume.meta)


def identity(volume: MetaTensor, target: str) -> MetaTensor:
    """The untranslated source."""
    return volume


def with_filters(translators: Mapping[str, Translator], models_dir: str | Path) -> dict[str, Translator]:
    """
    The given translators, the identity, and the radial filters that were fitted and saved in training.

    Without their file (weights from elsewhere) only the identity is added, with a warning.
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


def pixel_mm(image: torch.Tensor) -> float:
    """The pixel size within an axial slice, from the meta data of a volume whose last axis is the patient's."""
    if not isinstance(image, MetaTensor):
        raise ValueError("`image` must carry its affine (a MetaTensor), as the network depends on the pixel size.")
    affine = np.asarray(image.affine, dtype=float).reshape(-1, 4, 4)[0]
    return float(nib.affines.voxel_sizes(affine)[:2].mean())


def _source(image: torch.Tensor) -> str:
    source = getattr(image, "meta", {}).get(SOURCE)
    source = source[0] if isinstance(source, (list, tuple)) else source
    if source is None:
        raise ValueError(f"`image` must say its source kernel in meta[{SOURCE!r}]; `FindSourced` puts it there.")
    return str(source)
