"""Check of the reconstruction kernel: which one a CT has, and whether the requested conversion makes sense."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from nibabel.affines import voxel_sizes

from ...dicom.reader import KERNEL
from ...images.names import SOURCE, file_name

logger = logging.getLogger(__name__)
LISTED = "domain"  # key of an item, as in the datalist that it comes from
LOW_CONFIDENCE = 0.5
ENOUGH_SLICES = 64  # from the middle, for the noise spectrum: more slices take memory and add nothing
Estimate = Callable[[np.ndarray, Sequence[float]], tuple[str, float]]


class FindKerneld(MapTransform):
    """Note a volume's kernel in its meta data, and warn of conversions that are not what they seem.

    The kernel is taken from the user, else from the datalist (the item's `domain`), else from the DICOM header, else
    estimated from the noise spectrum of the middle 64 slices. The log says how it was found.

    Args:
        keys: Keys of volumes (C, X, Y, Z) in HU.
        domains: Names of the kernels that the network was trained with.
        target: Target domain, or the weights of a blend by domain.
        source: Kernel of all volumes, if known.
        spacing_mm: Smallest and largest pixel size of the training data in mm.
        estimate: Function from a volume (X, Y, Z) in HU and its spacing in mm to the likeliest domain and a confidence
            in [0, 1].
        allow_missing_keys: Whether items may lack some of the keys.

    Raises:
        ValueError: If `source` is not one of `domains`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        domains: Sequence[str],
        target: str | Mapping[str, float],
        *,
        source: str | None = None,
        spacing_mm: Sequence[float] | None = None,
        estimate: Estimate | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if source is not None and source not in domains:
            raise ValueError(f"`source` must be one of the trained kernels {list(domains)}, got {source!r}.")
        self.domains, self.target, self.source = list(domains), target, source
        self.spacing_mm, self.estimate = spacing_mm, estimate

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for key in self.key_iterator(item):
            source, how = self._find(item[key], item.get(LISTED))
            name = file_name(item[key])
            if source is not None:
                item[key].meta[SOURCE] = source
                logger.info(f"{name}: source kernel {source} ({how}).")
            if source is not None and source == self.target:
                logger.warning(f"{name} has the target kernel {source} already ({how}): there is nothing to convert.")
            self._warn_of_spacing(item[key], name)
        return item

    def _find(self, volume: Any, listed: str | None) -> tuple[str | None, str]:
        written, where = (listed, "datalist") if listed is not None else (header_kernel(volume), "DICOM header")
        if self.source is not None:
            if written not in (None, self.source):
                logger.warning(
                    f"{file_name(volume)} is converted from {self.source}, as given, but the {where} says {written!r}."
                )
            return self.source, "as given"
        if written in self.domains:
            return written, f"from the {where}"
        if written is not None:
            logger.warning(
                f"{file_name(volume)}: its kernel {written!r} is not one of {self.domains}, with which the network was"
                f" trained (by the {where}). The result is outside of what the network has learnt."
            )
        if self.estimate is None:
            return None, "unknown"
        spacing = voxel_sizes(np.asarray(volume.affine))
        start = max(0, (volume.shape[3] - ENOUGH_SLICES) // 2)
        slices = torch.as_tensor(volume)[0, :, :, start : start + ENOUGH_SLICES].numpy()
        source, confidence = self.estimate(slices, [float(s) for s in spacing])
        if confidence < LOW_CONFIDENCE:
            logger.warning(
                f"{file_name(volume)}: its kernel is probably none of {self.domains}; {source} is nearest by the noise,"
                f" with a confidence of {confidence:.0%}. Give `--source` if you know better."
            )
        return source, f"estimated from the noise, confidence {confidence:.0%}"

    def _warn_of_spacing(self, volume: Any, name: str) -> None:
        if self.spacing_mm is None:
            return
        pixel, (low, high) = float(voxel_sizes(np.asarray(volume.affine))[:2].mean()), self.spacing_mm
        if not 0.99 * low <= pixel <= 1.01 * high:
            logger.warning(
                f"{name} has pixels of {pixel:.3f} mm; the network was trained with {low:.3f} to {high:.3f} mm. Kernels"
                " live in lp/mm: the conversion may be wrong."
            )


def header_kernel(volume: Any) -> str | None:
    """Return the convolution kernel in the DICOM header of a loaded volume, or None."""
    element = getattr(volume, "meta", {}).get(KERNEL)
    values = element.get("Value") if isinstance(element, Mapping) else element
    value = values[0] if isinstance(values, (list, tuple)) and values else values
    return str(value).strip() if value else None
