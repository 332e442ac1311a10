"""Check of the reconstruction kernel: which one a CT has, and whether the requested conversion makes sense."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from nibabel.affines import voxel_sizes

from ...dicom.kernels import kernel_family, matching_kernel, nearest_kernel
from ...dicom.reader import KERNEL
from ...images.names import SOURCE, file_name
from .findings import REFUSE, WARN

logger = logging.getLogger(__name__)
LISTED = "domain"  # key of an item, as in the datalist that it comes from
LOW_CONFIDENCE = 0.5
KERNEL_FOUND = "kernel_found"  # in an image's meta data: a JSON text, which survives MONAI's collation
ENOUGH_SLICES = 64  # from the middle, for the noise spectrum: more slices take memory and add nothing
Estimate = Callable[[np.ndarray, Sequence[float]], tuple[str, float]]


class FindKerneld(MapTransform):
    """Note a volume's kernel in its meta data, and refuse or warn of conversions that are not what they seem.

    The kernel is taken from the user, else from the datalist (the item's `domain`), else from the DICOM header, else
    estimated from the noise spectrum of the middle 64 slices. The names of trained kernels are found whatever their
    case; of another manufacturer's kernel the message names the nearest trained one. An estimate that is less sure than
    `least_confidence` is refused. The log and the sidecar say which kernel it is, how it was found and how surely.

    Args:
        keys: Keys of volumes (C, X, Y, Z) in HU.
        domains: Names of the kernels that the network was trained with.
        target: Target domain, or the weights of a blend by domain.
        source: Kernel of all volumes, if known.
        spacing_mm: Smallest and largest pixel size of the training data in mm.
        estimate: Function from a volume (X, Y, Z) in HU and its spacing in mm to the likeliest domain and a confidence
            in [0, 1].
        least_confidence: Confidence below which an estimate is not used.
        guards: Mode of the guards; with `warn` and `off` a doubtful estimate is used, with a warning.
        allow_missing_keys: Whether items may lack some of the keys.

    Raises:
        ValueError: If `source` is not one of `domains`; when called, for a kernel that is not known well enough.
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
        least_confidence: float = LOW_CONFIDENCE,
        guards: str | bool = WARN,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        found = matching_kernel(source, domains) if isinstance(source, str) else None
        if source is not None and found is None:
            hint = _hint(source, domains) if isinstance(source, str) else ""
            raise ValueError(f"`source` must be one of the trained kernels {list(domains)}, got {source!r}.{hint}")
        self.domains, self.target, self.source = list(domains), target, found
        self.spacing_mm, self.estimate = spacing_mm, estimate
        self.least_confidence, self.guards = least_confidence, guards

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for key in self.key_iterator(item):
            found = self._find(item[key], item.get(LISTED))
            name, source = file_name(item[key]), found["kernel"]
            item[key].meta[KERNEL_FOUND] = json.dumps(found)
            how = found["known_by"]
            if "confidence" in found:
                how += f", confidence {found['confidence']:.0%}"
            if source is not None:
                item[key].meta[SOURCE] = source
                logger.info(f"{name}: source kernel {source} ({how}).")
            if source is not None and source == self.target:
                logger.warning(f"{name} has the target kernel {source} already ({how}): there is nothing to convert.")
            self._warn_of_spacing(item[key], name)
        return item

    def _find(self, volume: Any, listed: str | None) -> dict[str, Any]:
        """Return the kernel, how it is known, how surely if it was estimated, and what was written."""
        written, where = (listed, "datalist") if listed is not None else (header_kernel(volume), "DICOM header")
        facts = {} if written is None else {"written": written}
        known = None if written is None else matching_kernel(written, self.domains)
        if self.source is not None:
            if written is not None and known != self.source:
                logger.warning(
                    f"{file_name(volume)} is converted from {self.source}, as given, but the {where} says {written!r}."
                )
            return {"kernel": self.source, "known_by": "as given", **facts}
        if known is not None:
            return {"kernel": known, "known_by": f"from the {where}", **facts}
        if written is not None:
            logger.warning(
                f"{file_name(volume)}: its kernel {written!r} is not one of {self.domains}, with which the network was"
                f" trained (by the {where}). The result is outside of what the network has learnt."
                f"{_hint(written, self.domains)}"
            )
        if self.estimate is None:
            logger.warning(
                f"{file_name(volume)}: its kernel is unknown. Without filters.json, which training writes beside"
                " model.pt, it cannot be estimated: give `--source`, or restore that file."
            )
            return {"kernel": None, "known_by": "unknown", **facts}
        return {**self._estimated(volume, written), **facts}

    def _estimated(self, volume: Any, written: str | None) -> dict[str, Any]:
        assert self.estimate is not None
        spacing = voxel_sizes(np.asarray(volume.affine))
        start = max(0, (volume.shape[3] - ENOUGH_SLICES) // 2)
        slices = torch.as_tensor(volume)[0, :, :, start : start + ENOUGH_SLICES].numpy()
        source, confidence = self.estimate(slices, [float(s) for s in spacing])
        if confidence < self.least_confidence:
            advice = nearest_kernel(written, self.domains) if written is not None else None
            message = (
                f"{file_name(volume)}: its kernel is probably none of {self.domains}; {source} is nearest by the noise,"
                f" with a confidence of {confidence:.0%} (at least {self.least_confidence:.0%} is needed). Give"
                f" `--source {advice or source}` if you know that it is that one, or one like it."
            )
            if self.guards == REFUSE:
                raise ValueError(f"{message} (`--guards warn` converts it from {source} nevertheless.)")
            logger.warning(message)
        return {"kernel": source, "known_by": "estimated from the noise", "confidence": round(float(confidence), 4)}

    def _warn_of_spacing(self, volume: Any, name: str) -> None:
        if self.spacing_mm is None:
            return
        pixel, (low, high) = float(voxel_sizes(np.asarray(volume.affine))[:2].mean()), self.spacing_mm
        if not 0.99 * low <= pixel <= 1.01 * high:
            logger.warning(
                f"{name} has pixels of {pixel:.3f} mm; the network was trained with {low:.3f} to {high:.3f} mm. Kernels"
                " live in lp/mm: the conversion may be wrong."
            )


def _hint(name: str, domains: Sequence[str]) -> str:
    """Return what the name of a kernel tells, as a sentence; nothing if it is unknown."""
    family, nearest = kernel_family(name), nearest_kernel(name, domains)
    if family is None or nearest is None:
        return ""
    return f" {name} is a {family.kind} kernel of {family.manufacturer}: of the trained ones {nearest} is the nearest."


def kernel_found(image: Any) -> dict[str, Any] | None:
    """Return what `FindKerneld` noted of an image's kernel; None if it noted nothing."""
    text = getattr(image, "meta", {}).get(KERNEL_FOUND)
    text = text[0] if isinstance(text, (list, tuple)) else text
    return json.loads(text) if text else None


def header_kernel(volume: Any) -> str | None:
    """Return the convolution kernel in the DICOM header of a loaded volume, or None."""
    element = getattr(volume, "meta", {}).get(KERNEL)
    values = element.get("Value") if isinstance(element, Mapping) else element
    value = values[0] if isinstance(values, (list, tuple)) and values else values
    return str(value).strip() if value else None
