"""Checks of the contrast: CT or MR, T1- or T2-weighted, with or without a contrast agent, inverted or not.

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

from ...dicom.content import agent_of, contrast_of, lossy, quantity, said
from ...images.grids import planes
from ...images.names import file_name
from ...metrics.score import foreground_mask
from ..intensity import MODALITY

ndimage, _ = optional_import("scipy.ndimage")
stats, _ = optional_import("scipy.stats")
logger = logging.getLogger(__name__)

AGENT = "contrast_agent"  # in the meta data of a volume from DICOM
AIR_HU = -500.0
AIR_SHARE = 0.01  # an MR magnitude has no such values; a normalised one has z-scores of a few units


def mr_contrast(volume: np.ndarray) -> tuple[str | None, str]:
    """Return the weighting of a brain MR volume, judged by two signs that must agree.

    In T1 most of the brain is bright and fluid is dark: the intensities are skewed to the left, and the rim (cortex,
    fluid) is darker than the core (white matter). In T2 both are reversed. In the pairs of our test data the skewness
    is -0.5 and -0.3 in T1, 1.4 and 1.3 in T2. A head with its scalp may give opposite signs: then there is no verdict.

    Args:
        volume: Volume (X, Y, Z) or slice (X, Y), in any unit.

    Returns:
        Weighting `T1` or `T2`, or None without a verdict; and the evidence in words.

    Example:
        >>> mr_contrast(np.zeros((8, 8, 2)))[0] is None
        True
    """
    volume = volume if volume.ndim == 3 else volume[..., None]
    mask = foreground_mask(volume)
    if mask.sum() < 100:
        return None, "too little foreground"
    values = np.concatenate([volume[..., k][mask[..., k]] for k in range(mask.shape[-1])])
    low, high = np.percentile(values, [1, 99])
    values = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    depth = np.concatenate([_depths(part) for part in np.moveaxis(mask, -1, 0)])
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


def _depths(mask: np.ndarray) -> np.ndarray:
    """Return each pixel's distance from the border of a mask (X, Y), pixels."""
    return np.asarray(ndimage.distance_transform_edt(mask)[mask], dtype=np.float32)


def masked_correlation(first: np.ndarray, second: np.ndarray, mask: np.ndarray) -> float:
    """Return Pearson's correlation of two images inside a mask; 1 if one is constant there (nothing was inverted)."""
    x, y = first[mask], second[mask]
    if x.size < 2 or x.std() == 0 or y.std() == 0:
        return 1.0
    return float(np.corrcoef(x, y)[0, 1])


class CheckNoContrastAgentd(MapTransform):
    """Warn of an image whose DICOM header names a contrast agent, or whose description an enhanced phase.

    `CheckNonContrastd` looks for contrast medium in the voxels.

    Args:
        keys: Keys of volumes whose meta data may hold `contrast_agent`.
        allow_missing_keys: Whether items may lack some of the keys.
    """

    def __init__(self, keys: KeysCollection, *, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        for key in self.key_iterator(dict(data)):
            meta = getattr(data[key], "meta", {})
            header = said(meta)
            agent = agent_of(header) or meta.get(AGENT)
            phase, why = contrast_of(header)
            if agent or phase != "NECT":
                found = f"names the contrast agent {agent!r}" if agent else why
                detail = f" ({why})" if agent and why else ""
                logger.warning(
                    f"{file_name(data[key])}: its DICOM header {found}{detail}, but an image without contrast medium is"
                    " expected. Unless it was given by mouth, the translation is wrong; check the series."
                )
        return dict(data)


class CheckModalityd(MapTransform):
    """Refuse an image of another modality, and one whose values are no plain image; warn of a lossy compression.

    The DICOM header decides, which `DicomSeriesReader` notes: its modality; and whether its values are a phase, a map,
    a subtraction or the like (`common.dicom.content`). Where MR is expected, a file without a DICOM header (NIfTI) is
    refused as CT if more than 1 % of its voxels lie below -500, as air in HU does. Where CT is expected, `CheckHUd`
    checks the values.

    Args:
        keys: Keys of volumes (C, X, Y, Z).
        modality: Expected modality, `CT` or `MR`.
        allow_missing_keys: Whether items may lack some of the keys.

    Raises:
        ValueError: If `modality` is neither; when called, for an image of the other modality. The message names the
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
        header = said(getattr(image, "meta", {}))
        if what := quantity(header):
            raise ValueError(
                f"{file_name(image)} is {what} by its DICOM header, not a plain {self.modality} image: give the"
                f" {'magnitude' if self.modality == 'MR' else 'original'} series."
            )
        if loss := lossy(header):
            logger.warning(
                f"{file_name(image)} was {loss}, by its DICOM header: fine detail and noise are not the scanner's, and"
                " the translation follows them. Give the original series if there is one."
            )
        if self.modality == "MR" and found is None:
            share = sum(int((plane < AIR_HU).sum()) for plane in planes(torch.as_tensor(image))) / image.numel()
            if share > AIR_SHARE:
                raise ValueError(
                    f"{file_name(image)} is a CT by its values, of which {share:.0%} lie below {AIR_HU:g}, {cure}"
                )
