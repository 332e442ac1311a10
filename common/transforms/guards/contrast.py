"""
The contrast of an image: CT or MR, T1- or T2-weighted, with or without a contrast agent, inverted or not.

MR where CT is expected, and the reverse, is refused; everything else is warned of.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import optional_import

from ...images.names import file_name
from ...metrics.score import foreground_mask

ndimage, _ = optional_import("scipy.ndimage")
stats, _ = optional_import("scipy.stats")
logger = logging.getLogger(__name__)


def mr_contrast(volume: np.ndarray) -> tuple[str | None, str]:
    """
    The weighting of a brain MR volume, judged by two signs that must agree.

    In T1 most of the brain is bright and fluid is dark: the intensities are skewed to the left, and the rim (cortex,
    fluid) is darker than the core (white matter). In T2 both are reversed. On the pairs in our test data the skewness
    is -0.5 and -0.3 in T1, 1.4 and 1.3 in T2. A head with its scalp may give opposite signs: then there is no verdict.

    Args:
        volume: shape (X, Y) or (X, Y, Z), any unit.

    Returns:
        `T1`, `T2` or None, and the evidence in words.

    Example:
        >>> mr_contrast(np.zeros((8, 8, 2)))[0] is None
        True
    """
    volume = volume if volume.ndim == 3 else volume[..., None]
    mask = foreground_mask(volume)
    if mask.sum() < 100:
        return None, "too little foreground"
    low, high = np.percentile(volume[mask], [1, 99])
    values = np.clip((volume[mask] - low) / max(high - low, 1e-12), 0, 1)
    depth = np.stack([ndimage.distance_transform_edt(mask[..., k]) for k in range(mask.shape[-1])], axis=-1)[mask]
    shallow, deep = np.percentile(depth, [25, 50])
    skewness = float(stats.skew(values)) if high > low else 0.0
    ratio = float(values[depth <= shallow].mean() / max(values[depth >= deep].mean(), 1e-12))
    evidence = f"skewness of the brain's intensities {skewness:+.1f} (T1 below 0.3), "
    evidence += f"rim to core ratio {ratio:.2f} (T1 below 1)"
    if skewness < 0.3 and ratio < 1:
        return "T1", evidence
    if skewness > 0.3 and ratio > 1:
        return "T2", evidence
    return None, evidence


def masked_correlation(first: np.ndarray, second: np.ndarray, mask: np.ndarray) -> float:
    """Pearson correlation inside a mask; 1 when one of them is constant there (nothing was inverted)."""
    x, y = first[mask], second[mask]
    if x.size < 2 or x.std() == 0 or y.std() == 0:
        return 1.0
    return float(np.corrcoef(x, y)[0, 1])


AGENT = "contrast_agent"  # in the meta data of a volume from DICOM


class CheckNoContrastAgentd(MapTransform):
    """
    Warns of an image with contrast medium by its DICOM header; whether it shows any is `CheckNonContrastd`'s question.

    Args:
        keys: keys of MetaTensors.
    """

    def __init__(self, keys: KeysCollection, *, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        for key in self.key_iterator(dict(data)):
            agent = getattr(data[key], "meta", {}).get(AGENT)
            if agent:
                logger.warning(
                    f"{file_name(data[key])}: its DICOM header names the contrast agent {agent!r}, but an image without"
                    " contrast medium is expected. Unless it was given by mouth, the translation is wrong; check the"
                    " series."
                )
        return dict(data)


MODALITY = "modality"  # in the meta data of a volume from DICOM
AIR_HU = -500.0
AIR_SHARE = 0.01  # an MR magnitude has no such values; one that was normalised, z-scores of a few units


class CheckModalityd(MapTransform):
    """
    Refuses an image of another modality.

    The modality of a DICOM header decides, which `DicomSeriesReader` notes. A file without header (NIfTI) is refused as
    CT where MR is expected when 1 % of its voxels lie below -500, as air in HU does; whether it is a CT in HU where
    that is expected is `CheckHUd`'s question.

    Args:
        keys: keys of volumes of shape (C, X, Y, Z).
        modality: `CT` or `MR`.

    Raises:
        ValueError: when `modality` is another; when called, for an image of the other modality. The message names the
            file and the evidence.

    Example:
        >>> from monai.data import MetaTensor
        >>> image = MetaTensor(torch.zeros(1, 2, 2, 1), meta={"modality": "CT"})
        >>> CheckModalityd("image", "MR")({"image": image})
        Traceback (most recent call last):
        ...
        ValueError: the image is CT by its DICOM header, but this bundle translates MR: give an MR series.
    """

    def __init__(self, keys: KeysCollection, modality: str, *, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        if modality not in ("CT", "MR"):
            raise ValueError(f"`modality` must be 'CT' or 'MR', got {modality!r}.")
        self.modality = modality

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        for key in self.key_iterator(dict(data)):
            self._check(data[key])
        return dict(data)

    def _check(self, image: Any) -> None:
        article = "an" if self.modality == "MR" else "a"
        cure = f"but this bundle translates {self.modality}: give {article} {self.modality} series."
        found = getattr(image, "meta", {}).get(MODALITY)
        if found not in (None, self.modality):
            raise ValueError(f"{file_name(image)} is {found} by its DICOM header, {cure}")
        if self.modality == "MR" and found is None:
            share = float((torch.as_tensor(image) < AIR_HU).float().mean())
            if share > AIR_SHARE:
                raise ValueError(
                    f"{file_name(image)} is a CT by its values, of which {share:.0%} lie below {AIR_HU:g}, {cure}"
                )
