"""Intensity transforms: HU in and out, MR percentiles, and grey values of micro CT.

An image is checked to be in HU; a translation adds its change to the source instead of replacing it; micro CT, whose
grey values have no unit, is put on the scale of HU by air and tissue.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from tqdm import tqdm

from ..images.grids import extremes, planes
from ..images.names import file_name

PADDING_BELOW_HU = -1500.0  # GE pads with -3024, other manufacturers with -2000 or -2048
AIR_BELOW_HU = -200.0  # every CT of a body has lower values: air around it, lung, or gas
SMALLEST_HU, LARGEST_HU = -32768.0, 32767.0  # range of int16, in which CT is written

WINDOWED_GREY = 255.0  # of a picture in 8 bits
MODALITY = "modality"  # in the meta data of a volume from DICOM

AIR_HU, TISSUE_HU = -1000.0, 45.0  # lung tissue without air, unenhanced
AIR_PERCENTILE, TISSUE_PERCENTILE = 5.0, 99.0
PERCENTILE_SAMPLES = 1_000_000


class CheckHUd(MapTransform):
    """Refuse volumes that are not in HU: MR, and CT without its offset (water near 1000 instead of 0).

    Args:
        keys: Keys of volumes of shape (C, X, Y, Z).

    Raises:
        ValueError: If no voxel but padding lies below -200 HU, where every CT has air, or values do not fit int16. The
            message names the file.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        for key in self.key_iterator(dict(data)):
            low, high = extremes(torch.as_tensor(data[key]))
            if low < PADDING_BELOW_HU:
                low = _without_padding(torch.as_tensor(data[key]), low)
            if low > AIR_BELOW_HU or low < SMALLEST_HU or high > LARGEST_HU:
                modality = getattr(data[key], "meta", {}).get(MODALITY, "CT")
                cause = _likely_cause(low, high, modality)
                raise ValueError(
                    f"{file_name(data[key])} is not a CT in HU: its values run from {low:g} to {high:g}, but air is"
                    f" near -1000. {cause}"
                )
        return dict(data)


def _without_padding(volume: torch.Tensor, low: float) -> float:
    """Return the smallest value that is no padding, as -3024 HU around a volume is no air; `low` if all is padding."""
    if low < SMALLEST_HU:
        return low
    shown = (part[part > PADDING_BELOW_HU] for part in planes(volume))
    return min((float(part.min()) for part in shown if part.numel()), default=low)


def _likely_cause(low: float, high: float, modality: str) -> str:
    """Name the likely cause, and the cure."""
    if modality != "CT":
        return f"It is {modality} by its DICOM header: give a CT series."
    if low < SMALLEST_HU or high > LARGEST_HU:
        return (
            "They do not fit 16 bits: padding that was read as unsigned, or a rescale slope that was applied twice."
            " Convert the original DICOM series again."
        )
    if low >= 0 and high <= WINDOWED_GREY:
        return (
            "It was scaled to a range such as [0, 1] or to grey values, as for a network or a display, and the HU"
            " cannot be restored: give the original series."
        )
    if low < 0:
        return (
            "It was most likely clipped to a window, in which air and lung are lost, and no rescaling restores them:"
            " give the original series. MR cannot be converted."
        )
    return (
        "Without negative values the offset is most likely missing: water is then near 1024 or 1000 instead of 0."
        " Apply the rescale slope and intercept of its DICOM header; MR cannot be converted."
    )


class ToChangeInHUd(MapTransform):
    """Compute a network's change in HU: decode(G(x)) - decode(x), where x is its encoded, clipped input.

    Together with `AddSourced` an identity network returns its source exactly, whatever lies outside the encoded range;
    within it the result is the paper's output.

    Args:
        keys: Keys of outputs in [-1, 1].
        orig_keys: Keys of the encoded images.
        hu_range: HU of -1 and 1.
    """

    def __init__(
        self, keys: KeysCollection, orig_keys: str, hu_range: Sequence[float], allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.orig_keys = orig_keys
        self.half_range = (hu_range[1] - hu_range[0]) / 2

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = (item[key].clamp(-1, 1) - item[self.orig_keys]) * self.half_range
        return item


class AddSourced(MapTransform):
    """Add a change in HU, on the source's grid, to the source, and round to whole HU.

    Args:
        keys: Keys of changes.
        source_key: Key of the source volume in HU.
    """

    def __init__(self, keys: KeysCollection, source_key: str, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.source_key = source_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = (item[key] + item[self.source_key]).round()
        return item


def reference_percentiles(
    entries: Sequence[dict[str, Any]], load: Callable, *, lower: float = 1.0, upper: float = 99.0
) -> list[float]:
    """Compute the typical `lower` and `upper` percentiles of the target domain: what -1 and 1 mean in an output.

    Encoding maps each volume's own percentiles to [-1, 1], since MR has no common unit. A translation has no target
    volume, so it is decoded with the median over the training volumes of the target domain.

    Args:
        entries: Data items `{"image": path}` of the target domain.
        load: Function from such an item to its volume.
        lower: Lower percentile.
        upper: Upper percentile.

    Returns:
        [lower, upper], in the units of the target domain.
    """
    percentiles = [
        np.percentile(torch.as_tensor(load({"image": entry["image"]})["image"]).numpy(), [lower, upper])
        for entry in tqdm(entries, desc="target intensities")
    ]
    return [float(value) for value in np.median(percentiles, axis=0)]


def grey_levels(
    volume: np.ndarray, *, air: float = AIR_PERCENTILE, tissue: float = TISSUE_PERCENTILE
) -> tuple[float, float]:
    """Estimate the grey values of air and tissue in a micro CT volume of lung as two of its percentiles.

    Most of a lung specimen is air, whose lower half is noise, and a few per cent are vessels and walls wide enough to
    show the full value of tissue. On phantoms the estimate is off by less than a tenth of the range in healthy lung,
    by up to a fifth where a tumour fills half of the field. Measured values (in a hole, in a vessel) are better.

    Args:
        volume: Grey values of any shape.
        air: Percentile of air, in [0, 100].
        tissue: Percentile of tissue, above `air`.

    Returns:
        Grey value of air and grey value of tissue.

    Example:
        >>> grey_levels(np.arange(101.0))
        (5.0, 99.0)
    """
    values = np.asarray(volume).ravel()
    values = values[:: max(1, values.size // PERCENTILE_SAMPLES)]
    low, high = np.percentile(values, [air, tissue])
    return float(low), float(high)


class GreyToHUd(MapTransform):
    """Put micro CT grey values on the scale of HU: air becomes -1000 HU, tissue 45 HU, linearly.

    The same codec then encodes both modalities, `ScaleIntensityRanged` from -1200 to 400 HU to
    [-1, 1], clipped: air is -0.75 and tissue 0.55625 in a clinical and in a micro image.

    Args:
        keys: Keys of volumes of shape (C, X, Y, Z) in grey values.
        grey_levels: Grey values of air and tissue; by default the percentiles of each volume, see `grey_levels`.
        air_hu: HU of air.
        tissue_hu: HU of tissue.

    Raises:
        ValueError: If tissue is not brighter than air. The message names the file.

    Example:
        >>> to_hu = GreyToHUd("image", grey_levels=(9000, 26000))
        >>> to_hu({"image": torch.tensor([9000.0, 17500.0, 26000.0])})["image"]
        tensor([-1000.0000,  -477.5000,    45.0000])
    """

    def __init__(
        self,
        keys: KeysCollection,
        grey_levels: Sequence[float] | None = None,
        *,
        air_hu: float = AIR_HU,
        tissue_hu: float = TISSUE_HU,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if grey_levels is not None and not (len(grey_levels) == 2 and grey_levels[1] > grey_levels[0]):
            raise ValueError(
                "`grey_levels` must be the grey values of air and of tissue, the second the larger one, got "
                f"{list(grey_levels)}."
            )
        self.grey_levels = grey_levels
        self.air_hu, self.tissue_hu = air_hu, tissue_hu

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for key in self.key_iterator(item):
            air, tissue = self._levels(item[key])
            slope = (self.tissue_hu - self.air_hu) / (tissue - air)
            item[key] = (item[key] - air) * slope + self.air_hu
        return item

    def _levels(self, image: Any) -> tuple[float, float]:
        if self.grey_levels is not None:
            return float(self.grey_levels[0]), float(self.grey_levels[1])
        air, tissue = grey_levels(torch.as_tensor(image).numpy())
        if not tissue > air:
            raise ValueError(
                f"{file_name(image)} shows no difference between air and tissue: its {AIR_PERCENTILE:g}th and "
                f"{TISSUE_PERCENTILE:g}th percentile are both {air:g}. Give their grey values as `grey_levels`."
            )
        return air, tissue
