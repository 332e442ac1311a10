"""Cheap checks that an image is what its header says: its scale, its slices' order, and its orientation.

Each measure is taken on the volume in pixels of 3 mm, in which noise is averaged out. All of them only warn.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils.module import optional_import

from ...images.grids import axial_last, block_factors, block_mean
from ...images.names import file_name
from ..unchanged import BODY_ABOVE_HU, body_mask, padding_mask

ndimage, _ = optional_import("scipy.ndimage")
logger = logging.getLogger(__name__)

MOST_SLICES = 32  # evenly spaced runs of neighbours: more take time and add nothing
BELOW_AIR_HU, BELOW_AIR_SHARE = -1100.0, 0.01  # nothing but padding is darker than air
BRIGHT_HU, BRIGHT_SHARE = 800.0, 0.15  # dense bone and metal; a head has 0.03
LEAST_NEIGHBOURS = 0.7  # correlation of neighbouring pixels, as stored
LEAST_SLICES = 6
MOST_DISORDER = 0.8  # difference of neighbouring slices over that of slices two apart: 0.50 to 0.65 in 30 real volumes
SAME_SLICES = 0.999  # correlation above which the differences are noise
NARROW, TRUNK_MM = 0.8, 180.0  # width over height of a trunk that lies on its back, or on its front


class CheckPlausibled(MapTransform):
    """Warn of an image whose values or axes cannot be right, with the evidence.

    - scale (CT): hardly a voxel but padding is darker than air (-1000 HU), or as bright as dense bone. Values that were
      scaled by 1.2 or 10, or negated, are not so.
    - voxels: neighbouring pixels are alike. They are not if the order of bytes is wrong.
    - slices: neighbouring slices are more alike than slices two apart. They are not if their order was lost.
    - orientation (CT): a trunk is wider than high, and the table lies behind or in front of it. They are not if axes of
      the data were exchanged.

    Args:
        keys: Keys of volumes (1, X, Y, Z) with an affine.
        modality: Modality, `CT` (in HU) or `MR`.
        allow_missing_keys: Whether items may lack some of the keys.

    Raises:
        ValueError: If `modality` is neither.
    """

    def __init__(self, keys: KeysCollection, modality: str, *, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        if modality not in ("CT", "MR"):
            raise ValueError(f"`modality` must be 'CT' or 'MR', got {modality!r}.")
        self.modality = modality

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        for key in self.key_iterator(dict(data)):
            doubts = doubts_of(data[key], self.modality)
            if doubts:
                logger.warning(
                    f"{file_name(data[key])} is not what it should be: {'; '.join(doubts)}. If so, the result is wrong;"
                    " export or convert the image again."
                )
        return dict(data)


def doubts_of(image: Any, modality: str) -> list[str]:
    """Return what speaks against an image, in words.

    Args:
        image: Volume (1, X, Y, Z), a MetaTensor.
        modality: `CT` or `MR`.
    """
    affine = np.asarray(image.affine, dtype=float)
    volume, sizes = axial_last(torch.as_tensor(image)[0].cpu().numpy(), affine)
    levels = _levels(volume.shape[2])
    planes = [np.ascontiguousarray(volume[:, :, level], dtype=np.float32) for level in levels]
    factors = [*block_factors(volume.shape, sizes), 1]
    coarse = np.concatenate([block_mean(plane[..., None], factors) for plane in planes], axis=2)
    doubts = [_noise_doubt(planes), _order_doubt(coarse, levels)]
    if modality == "CT":
        padded = padding_mask(torch.from_numpy(np.stack(planes)), getattr(image, "meta", {})).numpy()
        shown = block_mean(np.moveaxis(~padded, 0, -1).astype(np.float32), factors) == 1
        axes = nib.orientations.io_orientation(affine)[:, 0]
        first = next(int(axis) for axis in axes if axis != 2)
        upright = coarse if first == 0 else coarse.transpose(1, 0, 2)
        pixel = [sizes[0] * factors[0], sizes[1] * factors[1]]
        doubts += [*_scale_doubts(coarse[shown]), _axes_doubt(upright, pixel if first == 0 else pixel[::-1])]
    return [doubt for doubt in doubts if doubt is not None]


def disorder(coarse: np.ndarray, levels: Sequence[int]) -> float | None:
    """Return the difference of neighbouring slices over that of slices two apart.

    Args:
        coarse: Slices (X, Y, n).
        levels: Their numbers; only runs of neighbours are compared.

    Returns:
        0.5 to 0.65 for anatomy, 0.85 to 1.25 for slices in any order; None if there are too few, or all are alike.
    """
    if len(levels) < LEAST_SLICES:
        return None
    runs = [n for n in range(len(levels) - 2) if levels[n + 2] - levels[n] == 2]
    if not runs or np.median([_alike(coarse[..., n], coarse[..., n + 1]) for n in runs]) > SAME_SLICES:
        return None
    near = np.mean([np.abs(coarse[..., n + 1] - coarse[..., n]).mean() for n in runs])
    far = np.mean([np.abs(coarse[..., n + 2] - coarse[..., n]).mean() for n in runs])
    return float(near / far) if far > 0 else None


def table_side(body: np.ndarray, tissue: np.ndarray) -> float | None:
    """Return on which side of the body the table lies: 1 behind or in front of it, 0 beside it.

    Args:
        body: Mask (X, Y, Z) of the body, X from side to side.
        tissue: Mask of all that is denser than air.

    Returns:
        Share of the table that lies more above or below the body's centre than beside it; None without a table.
    """
    outside = tissue & ~body
    if not body.any() or outside.sum() < 0.002 * body.size:
        return None
    centre = np.argwhere(body.any(axis=2)).mean(axis=0)
    half = [np.ptp(np.flatnonzero(body.any(axis=axes))) / 2 + 1 for axes in ((1, 2), (0, 2))]
    offsets = (np.argwhere(outside)[:, :2] - centre) / half
    return float((np.abs(offsets[:, 1]) > np.abs(offsets[:, 0])).mean())


def _levels(depth: int) -> list[int]:
    """Choose slices in runs of neighbours."""
    if depth <= MOST_SLICES:
        return list(range(depth))
    starts = np.linspace(0, depth - 4, MOST_SLICES // 4).astype(int)
    return sorted({int(start) + n for start in starts for n in range(4)})


def _noise_doubt(planes: Sequence[np.ndarray]) -> str | None:
    found = [_alike(plane[1:], plane[:-1]) for plane in planes if min(plane.shape) > 1]
    alike = float(np.median(found)) if found else 1.0
    if alike >= LEAST_NEIGHBOURS:
        return None
    return (
        f"neighbouring pixels hardly resemble each other (correlation {alike:.2f}, patients: 0.97 or more), as if the"
        " order of bytes was wrong"
    )


def _order_doubt(coarse: np.ndarray, levels: Sequence[int]) -> str | None:
    found = disorder(coarse, levels)
    if found is None or found <= MOST_DISORDER:
        return None
    return (
        f"neighbouring slices differ {found:.2f} times as much as slices two apart (patients: 0.5 to 0.65), as if their"
        " order was lost"
    )


def _scale_doubts(values: np.ndarray) -> list[str]:
    if not values.size:
        return []
    dark, bright = float((values < BELOW_AIR_HU).mean()), float((values > BRIGHT_HU).mean())
    doubts = []
    if dark > BELOW_AIR_SHARE:
        doubts.append(f"{dark:.0%} of it is darker than air ({np.median(values[values < BELOW_AIR_HU]):.0f} HU)")
    if bright > BRIGHT_SHARE:
        doubts.append(f"{bright:.0%} of it is as bright as dense bone, as if its values were negated or scaled")
    return doubts


def _axes_doubt(coarse: np.ndarray, pixel_mm: Sequence[float]) -> str | None:
    body = np.stack([body_mask(coarse[..., n], pixel_mm) for n in range(coarse.shape[2])], axis=2)
    areas = body.sum(axis=(0, 1)) * pixel_mm[0] * pixel_mm[1]
    if 2 * np.sqrt(np.median(areas) / np.pi) < TRUNK_MM:
        return None
    shown = [plane for plane in np.moveaxis(body, 2, 0) if plane.any()]
    spans = [[np.ptp(np.flatnonzero(plane.any(axis=axis))) + 1 for axis in (1, 0)] for plane in shown]
    ratio = float(np.median([wide * pixel_mm[0] / (high * pixel_mm[1]) for wide, high in spans]))
    side = table_side(body, coarse > BODY_ABOVE_HU)
    if ratio >= NARROW:
        return None
    beside = "" if side is None or side > 0.5 else ", and the table lies at its side"
    return f"the body is {ratio:.2f} times as wide as high{beside}, as if axes of the data were exchanged"


def _alike(first: np.ndarray, second: np.ndarray) -> float:
    if first.std() == 0 or second.std() == 0:
        return 1.0
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])
