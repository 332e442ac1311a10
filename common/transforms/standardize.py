"""Intensities that carry over between MR scanners: ranks, percentiles and landmarks of the foreground.

Percentiles of a whole volume move with the amount of air in it: a wider field of view, or padding, changes the same
tissue's encoded intensity. The foreground here is the guards' (`common.metrics.foreground_mask`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, ScaleIntensityRangePercentilesd
from monai.utils import convert_to_dst_type

from ..images.names import file_name
from ..metrics.score import foreground_mask

BACKGROUND = -1.0  # encoded background, and nothing else
LOWEST = -0.9  # encoded darkest foreground: the gap outlives bfloat16 and interpolation
EDGE = (BACKGROUND + LOWEST) / 2  # encoded values above it are foreground
METHODS = ("ranks", "percentiles", "landmarks", "median")
PERCENTILES = (1.0, 99.0)
DARKEST = -0.9995  # encoded foreground of intensity 0 after `median`: not background
MEDIAN = 1000.0  # of the foreground, after `median`
REFERENCE = (0.0, 4000.0)  # cerebrospinal fluid in T2 has up to four times the median
# Percentiles of Nyul, Udupa, Zhang, "New variants of a method of MRI scale standardization", IEEE TMI 2000, section II.
LANDMARKS = (1.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 99.0)


class ForegroundCounts(Protocol):
    """The distribution of a foreground's values, however they were counted."""

    def percentile(self, percent: float) -> float:
        """Return a percentile."""

    def ranks(self, values: np.ndarray) -> np.ndarray:
        """Return the share of all values that lie below each of some of them, see `foreground_ranks`."""


def foreground_ranks(values: np.ndarray) -> np.ndarray:
    """Return the share of values that lie below each, ties with their mean: (N,) in (0, 1), whatever the unit.

    Example:
        >>> foreground_ranks(np.array([7.0, 300.0, 7.0, 20.0])).tolist()
        [0.25, 0.875, 0.25, 0.625]
    """
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - counts / 2
    return (middle / max(1, values.size))[inverse.reshape(values.shape)]


class StandardizeForegroundd(MapTransform):
    """Encode volumes by the intensities of their own foreground: background -1, the rest above.

    The foreground goes from -0.9 to 1, with `median` from -1. A volume that was encoded before keeps its foreground, so
    that encoding it again by `ranks` changes nothing; `median` refuses it.

    - `ranks`: the share of the foreground that is darker. Any rising change of intensities (gain, gamma, another
      scanner's curve) leaves it as it is.
    - `percentiles`: linear between two percentiles of the foreground, clipped.
    - `median`: proportional to intensity, so that contrasts stay what they are: the median of the foreground becomes
      1000, and `reference` the range [-1, 1]. For the target domain, whose values an output must have.
    - `landmarks`: piecewise linear between eleven percentiles of the foreground, which are put where those of a
      standard scale lie; Nyul et al., "New variants of a method of MRI scale standardization", IEEE TMI 2000.

    Args:
        keys: Keys of volumes (1, X, Y, Z), axial slices along Z, in any unit.
        method: One of the four.
        percentiles: For `percentiles`: those that become -0.9 and 1.
        reference: For `median`: intensities that become -1 and 1, clipped.
        standard: For `landmarks`: places in [-0.9, 1] of the percentiles 1, 10, 20 ... 90, 99, rising.
        allow_missing_keys: Whether items may lack some of the keys.

    Raises:
        ValueError: If an argument does not fit; when called with `median`, for a volume that was encoded before.

    Example:
        >>> volume = torch.zeros(1, 32, 32, 2)
        >>> volume[:, 8:24, 8:24] = torch.arange(256.0).reshape(16, 16, 1) + 100
        >>> encoded = StandardizeForegroundd("image")({"image": volume})["image"]
        >>> brighter = StandardizeForegroundd("image")({"image": 3 * volume ** 1.5})["image"]
        >>> float(encoded.min()), round(float(encoded.max()), 2), torch.equal(encoded, brighter)
        (-1.0, 1.0, True)
    """

    def __init__(
        self,
        keys: KeysCollection,
        method: str = "ranks",
        *,
        percentiles: Sequence[float] = PERCENTILES,
        reference: Sequence[float] = REFERENCE,
        standard: Sequence[float] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if method not in METHODS:
            raise ValueError(f"`method` must be one of {list(METHODS)}, got {method!r}.")
        if not (len(percentiles) == 2 and 0 <= percentiles[0] < percentiles[1] <= 100):
            raise ValueError(f"`percentiles` must be two rising numbers in [0, 100], got {list(percentiles)}.")
        if not (len(reference) == 2 and reference[0] < reference[1]):
            raise ValueError(f"`reference` must be two rising intensities, got {list(reference)}.")
        if method == "landmarks" and not _is_scale(standard):
            raise ValueError(
                f"`standard` must be {len(LANDMARKS)} rising numbers in [{LOWEST}, 1], one per landmark, got"
                f" {standard}: `landmark_scale` makes them from training volumes."
            )
        self.method, self.percentiles = method, [float(p) for p in percentiles]
        self.reference = [float(value) for value in reference]
        self.standard = None if standard is None else [float(value) for value in standard]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for key in self.key_iterator(item):
            volume = torch.as_tensor(item[key]).as_subclass(torch.Tensor).float().numpy()
            if self.method == "median" and any(_is_encoded(channel) for channel in volume):
                raise ValueError(
                    f"{file_name(item[key])} was encoded to [-1, 1] before, but `median` needs its intensities:"
                    " give the original."
                )
            item[key] = convert_to_dst_type(np.stack([self._encoded(channel) for channel in volume]), item[key])[0]
        return item

    def _encoded(self, volume: np.ndarray) -> np.ndarray:
        mask = volume > EDGE if _is_encoded(volume) else foreground_mask(volume)
        encoded = np.full(volume.shape, BACKGROUND, dtype=np.float32)
        if mask.any():
            values = volume[mask]
            encoded[mask] = self._positions(values, lambda percents: np.percentile(values, percents), foreground_ranks)
        return encoded

    def positions_among(self, counts: ForegroundCounts) -> Callable[[np.ndarray], np.ndarray]:
        """Return the function that encodes values (N,) of a foreground of which `counts` were taken."""
        return lambda values: self._positions(
            values, lambda percents: [counts.percentile(percent) for percent in percents], counts.ranks
        )

    def _positions(
        self,
        values: np.ndarray,
        percentiles: Callable[[Sequence[float]], Sequence[float]],
        ranks: Callable[[np.ndarray], np.ndarray],
    ) -> np.ndarray:
        if self.method == "ranks":
            return LOWEST + (1 - LOWEST) * ranks(values)
        if self.method == "percentiles":
            low, high = percentiles(self.percentiles)
            return LOWEST + (1 - LOWEST) * np.clip((values - low) / max(high - low, 1e-12), 0, 1)
        if self.method == "median":
            low, high = self.reference
            scaled = values * (MEDIAN / max(float(percentiles([50.0])[0]), 1e-12))
            return np.clip(2 * (scaled - low) / (high - low) - 1, DARKEST, 1)
        assert self.standard is not None
        return np.interp(values, percentiles(LANDMARKS), self.standard)


def _is_encoded(volume: np.ndarray) -> bool:
    """Return whether a volume was encoded here: background -1, and nothing between it and the darkest foreground.

    Its ranks are spread evenly, so that the threshold of `foreground_mask` would take dark tissue for background.
    """
    if volume.min(initial=0) != BACKGROUND or volume.max(initial=0) > 1:
        return False
    return not ((volume > BACKGROUND) & (volume < LOWEST - 1e-6)).any()


def intensity_encoder(keys: KeysCollection, codec: Mapping[str, Any]) -> MapTransform:
    """Return the transform that encodes a source volume to [-1, 1], as its network's training did.

    Args:
        keys: Keys of volumes (1, X, Y, Z), axial slices along Z.
        codec: The part `codec` of `network.json`: with a `method`, that of `StandardizeForegroundd`; without, MONAI's
            transform between the `percentiles` of the whole volume, clipped, as in the NEC paper, section 3.

    Raises:
        ValueError: If it names neither.

    Example:
        >>> type(intensity_encoder("image", {"percentiles": [1.0, 99.0]})).__name__
        'ScaleIntensityRangePercentilesd'
        >>> intensity_encoder("image", {"method": "ranks"}).method
        'ranks'
    """
    if "method" in codec:
        return StandardizeForegroundd(keys, **{name: codec[name] for name in ("method", "standard") if name in codec})
    if "percentiles" not in codec:
        raise ValueError(f"`codec` must name a `method` or `percentiles`, got {sorted(codec)}.")
    lower, upper = codec["percentiles"]
    return ScaleIntensityRangePercentilesd(keys, lower=lower, upper=upper, b_min=-1.0, b_max=1.0, clip=True)


def landmark_scale(volumes: Sequence[np.ndarray]) -> list[float]:
    """Return the standard scale of `landmarks`: the mean places of the landmarks between the first and the last.

    Args:
        volumes: Volumes (X, Y, Z) of the domain's training patients, in any unit.

    Raises:
        ValueError: If there is none with a foreground.
    """
    places = []
    for volume in volumes:
        mask = foreground_mask(volume)
        if mask.any():
            found = np.percentile(volume[mask], LANDMARKS)
            places.append((found - found[0]) / max(found[-1] - found[0], 1e-12))
    if not places:
        raise ValueError(f"`volumes` must hold one with a foreground, got none among {len(volumes)}.")
    return [float(LOWEST + (1 - LOWEST) * place) for place in np.mean(places, axis=0)]


def _is_scale(standard: Sequence[float] | None) -> bool:
    if standard is None or len(standard) != len(LANDMARKS):
        return False
    return bool(np.all(np.diff(standard) >= 0)) and standard[0] >= LOWEST and standard[-1] <= 1
