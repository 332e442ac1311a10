"""Values of the slices of a volume: stored integers, decompressed and rescaled slice by slice."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .files import quiet_pydicom
from .headers import Slice, Stamp, drop_bulk, stamp

if TYPE_CHECKING:
    from pydicom import Dataset

logger = logging.getLogger(__name__)
HU_TYPES = ("", "HU", "US", "UNSPECIFIED")  # of RescaleType
DECODERS = "'pylibjpeg[all]'"
LARGEST_HU = 32767.0
WRAP = 65536.0
LARGEST_EXACT = 2**24  # whole number up to which single precision is exact
Headers: TypeAlias = "dict[Path, tuple[Stamp, Dataset]]"


def read_volume(slices: Sequence[Slice], name: str, *, headers: Headers | None = None) -> NDArray[Any]:
    """Read the values of a volume (columns, rows, slices): HU for CT, rescaled intensities for MR.

    Each slice is rescaled by its own slope and intercept. Padding outside of the scanned circle (GE -3024 HU) stays as
    it is; where its sign was lost (63536 for -2000), it is restored. Bits above BitsStored are no part of a value.
    Whole numbers come as int16 or int32, others as float32. Each file is opened and parsed once.

    Args:
        slices: slices of the volume, in order.
        name: name of the volume, for messages.
        headers: takes the whole header of each single-frame image, as the file was parsed for its pixels anyway.

    Raises:
        ValueError: when pixels are missing, truncated or compressed in a way for which no decoder is installed, when a
            CT lacks rescale intercept or slope, or has values that are no HU.
    """
    scales = [_scale(image, name) for image in slices]
    whole = all(slope.is_integer() and intercept.is_integer() for slope, intercept in scales)
    volume = np.empty(0)
    _note_inverted(slices, name)
    for index, pixels in _pixels(slices, name, {} if headers is None else headers):
        slope, intercept = scales[index]
        if not volume.size:  # only now: a damaged header may claim a matrix that fills the memory
            volume = np.empty((*pixels.shape[::-1], len(slices)), dtype=np.int32 if whole else np.float32)
        values = _unpadded(pixels.astype(np.float64), slices[index]) * slope + intercept
        if whole and np.abs(values).max() > LARGEST_EXACT:
            raise ValueError(
                f"{name}: {slices[index].name} has values up to {np.abs(values).max():g}, too large for HU or for MR"
                " intensities: its pixel data, or its rescale slope and intercept, are damaged."
            )
        volume[:, :, index] = values.T
    limits = np.iinfo(np.int16)
    fits = whole and volume.min() >= limits.min and volume.max() <= limits.max
    return volume.astype(np.int16) if fits else volume


def padding_value(image: Slice) -> float | None:
    """Return the value outside of the scanned circle, in the volume's unit, if the header gives it."""
    return _padding(image, "PixelPaddingValue")


def padding_limit(image: Slice) -> float | None:
    """Return the other end of the range of padding, in the volume's unit, if the header gives it."""
    return _padding(image, "PixelPaddingRangeLimit")


def _padding(image: Slice, name: str) -> float | None:
    stored = image.values.get(name)
    if stored is None:
        return None
    slope, intercept = _scale(image, image.name)
    signed = image.header.get("PixelRepresentation") == 1 or _is_wrapped(stored, image)
    return (stored - WRAP if signed and stored >= WRAP / 2 else stored) * slope + intercept


def _is_wrapped(stored: float, image: Slice) -> bool:
    """Return whether a padding of a CT is a negative number that was stored without a sign: GE's -2000 as 63536."""
    if image.modality != "CT" or not WRAP / 2 <= stored < WRAP:
        return False
    slope, intercept = _scale(image, image.name)
    return stored * slope + intercept > LARGEST_HU


def _unpadded(pixels: NDArray[np.float64], image: Slice) -> NDArray[np.float64]:
    """Give padding that was stored without its sign its sign, in place: it would be 62512 HU, which nothing has."""
    stored = image.values.get("PixelPaddingValue")
    if stored is not None and _is_wrapped(stored, image):
        pixels[pixels == stored] -= WRAP
    return pixels


def _scale(image: Slice, name: str) -> tuple[float, float]:
    slope, intercept = image.values.get("RescaleSlope"), image.values.get("RescaleIntercept")
    if image.values.get("ModalityLUTSequence"):
        raise ValueError(f"{name}: {image.name} has a modality look-up table, give images with rescale slope.")
    if image.modality == "CT":
        kind = str(image.values.get("RescaleType") or "").upper()
        if kind not in HU_TYPES:
            raise ValueError(f"{name}: {image.name} has values in {kind!r} (RescaleType), give a CT in HU.")
        if slope is None or intercept is None:
            raise ValueError(
                f"{name}: {image.name} lacks RescaleSlope or RescaleIntercept, its values are no HU: export the"
                " original series, in which they are required."
            )
    if slope == 0:
        raise ValueError(f"{name}: {image.name} has RescaleSlope 0, all its values are lost: export it anew.")
    return 1.0 if slope is None else slope, 0.0 if intercept is None else intercept


def _note_inverted(slices: Sequence[Slice], name: str) -> None:
    if any(str(image.header.get("PhotometricInterpretation")) == "MONOCHROME1" for image in slices):
        logger.warning(f"{name} is MONOCHROME1, shown inverted by viewers: its values are taken as they are stored.")


def _pixels(slices: Sequence[Slice], name: str, headers: Headers) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield stored values (rows, columns), with the slice's index in the volume."""
    by_file = sorted(enumerate(slices), key=lambda item: str(item[1].file))
    for file, group in groupby(by_file, key=lambda item: item[1].file):
        items = list(group)
        frames = [image.frame for _, image in items if image.frame is not None]
        try:
            for (index, image), pixels in zip(items, _decoded(file, frames, headers), strict=True):
                if pixels.shape != image.matrix[::-1]:
                    raise ValueError(f"its pixels have shape {pixels.shape}, not {image.matrix[::-1]}")
                yield index, pixels
        except Exception as error:  # pydicom and its decoders raise whatever damaged data make them meet
            raise ValueError(_explained(error, items[0][1], name)) from error


def _decoded(file: Path, frames: Sequence[int], headers: Headers) -> Iterator[NDArray[Any]]:
    import pydicom

    with quiet_pydicom():
        when = stamp(file)
        image: Any = pydicom.dcmread(file, force=True)
        if "PixelData" not in image:
            raise ValueError("it has no pixel data")
        if "TransferSyntaxUID" not in image.file_meta:
            image.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
        if frames:
            for pixels in pydicom.pixels.iter_pixels(image, indices=frames):
                yield _stored_bits(pixels, image)
        else:
            yield _stored_bits(image.pixel_array, image)
            drop_bulk(image)
            headers[file] = when, image


def _stored_bits(pixels: NDArray[Any], image: Any) -> NDArray[Any]:
    """Return stored values without the bits above BitsStored, which belong to overlays of old scanners (PS3.5, 8.1.1).

    Decoders of JPEG 2000 and JPEG-LS return these bits with the value. A value that is PixelPaddingValue is left alone.

    Raises:
        ValueError: If the value does not lie in the lowest bits.
    """
    allocated, stored = int(image.BitsAllocated), int(image.get("BitsStored") or image.BitsAllocated)
    if pixels.dtype.kind not in "iu" or not 0 < stored < allocated:
        return pixels
    if int(image.get("HighBit") or stored - 1) != stored - 1:
        raise ValueError(f"its HighBit is {image.HighBit}, not BitsStored {stored} minus 1")
    values = pixels & pixels.dtype.type((1 << stored) - 1)
    if int(image.PixelRepresentation):
        sign = 1 << (stored - 1)
        values = (values ^ sign) - sign
    padding = _padding_bits(image)
    return np.where(pixels == padding, pixels, values) if padding is not None else values


def _padding_bits(image: Any) -> int | None:
    """Return PixelPaddingValue, also where its representation is not that of the pixels."""
    padding = image.get("PixelPaddingValue")
    return int(padding) if isinstance(padding, int) else None


def _explained(error: Exception, image: Slice, name: str) -> str:
    text = " ".join(str(error).split())
    if "missing dependencies" in text or "plugins are missing" in text:
        syntax = text.split(" because")[0]
        return (
            f"{name}: {image.name} is compressed, and no decoder is installed ({syntax}). Install one by `python -m pip"
            f" install {DECODERS}`, or export the series uncompressed."
        )
    return (
        f"{name}: the pixels of {image.name} cannot be read, the file is truncated or damaged ({text}): copy or export"
        " it anew."
    )
