"""What other programs hand to the sections of `inference.yaml`: volumes in place of paths, and predictions to decode.

MONAI Label and MONAI Deploy apply `preprocessing`, `inferer` and `postprocessing` one after the other. Whatever would
give a wrong image there is refused: a volume without its place in space, one that is not encoded, or encoded twice.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import MetaKeys

from ...images.grids import extremes
from ...images.names import file_name
from ...images.nifti import check_grid
from ..intensity import CheckHUd
from .findings import GUARDS
from .image import CheckImaged

UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)  # with which torch cannot compute
SLACK = 1e-3  # rounding of an encoded image
OVERSHOOT = 4.0  # a network without a final activation may leave [-1, 1]; decoded images have larger values


class EnsureVolumed(MapTransform):
    """Take over loaded volumes, whoever loaded them, as channel-first volumes that were checked.

    A program that leaves out `LoadImageAndCheckd` brings a `MetaTensor` (X, Y, Z), or with one channel, instead of a
    path. Of a volume from `LoadImageAndCheckd` nothing is changed.

    Args:
        keys: Keys of volumes.
        hu: Whether the volumes must be in HU.
        settings: Values of the config, by id, that an item must not ask to be others: MONAI Label puts the parameters
            of a request into the item, where its stock app ignores them.
        allow_missing_keys: Whether items may lack some of the keys.

    Raises:
        ValueError: When called, for a path, for a tensor that does not say where it lies, for a volume that
            `CheckImaged` or, for CT, `CheckHUd` refuses, or for another setting.

    Example:
        >>> scan = MetaTensor(torch.arange(-1000.0, -900).reshape(5, 5, 4), affine=np.diag([0.7, 0.7, 5, 1]))
        >>> EnsureVolumed("image", hu=True)({"image": scan})["image"].shape
        torch.Size([1, 5, 5, 4])
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        hu: bool,
        settings: Mapping[str, Any] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.settings = dict(settings or {})
        checks = [CheckImaged(keys, allow_missing_keys)]
        self.checks = [*checks, CheckHUd(keys, allow_missing_keys)] if hu else checks

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for name, value in self.settings.items():
            if name in item and item[name] != value:
                raise ValueError(
                    f"`{name}` is {value!r} by the bundle's config, and the program that runs it cannot change that:"
                    f" got {item[name]!r}. Set it in configs/inference.yaml, or use a program that can."
                )
        for key in self.key_iterator(item):
            item[key] = _placed(item[key], f"`{key}`")
            item |= {name: _Sibling(text) for name, text in _texts_beside(item, key).items()}
        for check in self.checks:
            item = check(item)
        return item


class _Sibling(str):
    """A text beside an image in an item, such as MONAI Label's `image_path`, which `Spacingd` takes for meta data."""

    def update(self, *_: Any) -> None:
        """Stay as it is (MONAI 1.6 calls this for every entry whose name begins with the image's)."""


def _texts_beside(item: Mapping[Hashable, Any], key: Hashable) -> dict[Hashable, str]:
    return {name: text for name, text in item.items() if isinstance(text, str) and str(name).startswith(f"{key}_")}


def _placed(volume: Any, key: str) -> MetaTensor:
    """Return the volume with its channel first, and with the meta data that later steps read."""
    if isinstance(volume, (str, os.PathLike, list, tuple)):
        raise ValueError(f"{key} must be a loaded volume, got {str(volume)!r}: the step that loads it was left out.")
    if not isinstance(volume, MetaTensor) or not _has_place(volume):
        raise ValueError(
            f"{key} must say where its voxels lie, got a {type(volume).__name__} of shape"
            f" {list(getattr(volume, 'shape', []))} without an affine: pass MetaTensor(volume, affine=affine), whose"
            ' affine leads from voxels to RAS in mm (for the identity give meta["original_affine"] as well).'
        )
    affine = np.asarray(volume.affine, dtype=float)
    channel = volume.meta.get(MetaKeys.ORIGINAL_CHANNEL_DIM)
    voxels = volume.as_subclass(torch.Tensor)
    voxels = voxels.float() if voxels.dtype in UNSIGNED else voxels
    if voxels.dim() == 3:
        voxels = voxels[None]
    elif voxels.dim() == 4 and isinstance(channel, (int, np.integer)) and voxels.shape[0] != 1:
        voxels = voxels.movedim(int(channel), 0)
    shape = tuple(voxels.shape[1:])
    if affine.shape == (4, 4) and len(shape) == 3:
        check_grid(Path(file_name(volume).strip("'")), nib.Nifti1Image(np.broadcast_to(np.int16(0), shape), affine))
    facts = {
        MetaKeys.ORIGINAL_CHANNEL_DIM: 0,
        MetaKeys.SPATIAL_SHAPE: volume.meta.get(MetaKeys.SPATIAL_SHAPE, np.asarray(shape)),
    }
    if volume.meta.get(MetaKeys.ORIGINAL_AFFINE) is None:
        facts[MetaKeys.ORIGINAL_AFFINE] = affine
    return MetaTensor(voxels, meta={**volume.meta, **facts}, applied_operations=volume.applied_operations)


def _has_place(volume: MetaTensor) -> bool:
    """Return whether a volume was given an affine: MONAI gives the identity to one that has none."""
    affine = np.asarray(volume.affine, dtype=float)
    given = volume.meta.get(MetaKeys.ORIGINAL_AFFINE) is not None
    return affine.shape == (4, 4) and (given or not np.array_equal(affine, np.eye(4)))


class EnsurePredictiond(MapTransform):
    """Take over predictions of the inferer for decoding, on the CPU.

    Args:
        keys: Keys of predictions in [-1, 1].
        orig_keys: Key of the preprocessed image that was predicted from.
        allow_missing_keys: Whether items may lack some of the keys.

    Raises:
        ValueError: When called, if the image did not pass `preprocessing`, is not encoded, or the prediction is decoded
            already.

    Example:
        >>> EnsurePredictiond("pred", "image")({"pred": torch.zeros(1, 4, 4, 2), "image": torch.zeros(1, 4, 4, 2)})
        Traceback (most recent call last):
        ...
        ValueError: `image` must be what `preprocessing` returned, got a Tensor ...
    """

    def __init__(self, keys: KeysCollection, orig_keys: str, *, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.orig_keys = orig_keys

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        image = item.get(self.orig_keys)
        if not isinstance(image, MetaTensor) or not (image.applied_operations or GUARDS in image.meta):
            raise ValueError(
                f"`{self.orig_keys}` must be what `preprocessing` returned, got a {type(image).__name__} that it did"
                " not make: apply `preprocessing`, `inferer` and `postprocessing` of inference.yaml one after the"
                " other, and keep the other entries of the item."
            )
        check_encoded(image, f"`{self.orig_keys}`")
        for key in self.key_iterator(item):
            low, high = extremes(torch.as_tensor(item[key]))
            if not (low >= -OVERSHOOT and high <= OVERSHOOT):  # NaN is neither
                raise ValueError(
                    f"`{key}` must be a network's output near [-1, 1], its values run from {low:g} to {high:g}: was it"
                    " decoded before?"
                )
            item[key] = item[key].cpu()
        return item


def check_encoded(images: torch.Tensor, name: str = "`inputs`") -> None:
    """Refuse images that are not encoded to [-1, 1], which a network would translate to something else.

    Args:
        images: Images of any shape.
        name: What to call them in the message.

    Raises:
        ValueError: If a value lies outside of [-1, 1].

    Example:
        >>> check_encoded(torch.tensor([-1000.0, 40.0]))
        Traceback (most recent call last):
        ...
        ValueError: `inputs` must be encoded to [-1, 1], got values from -1000 to 40: apply `preprocessing` of \
inference.yaml first.
    """
    if images.numel() == 0:
        return
    low, high = (float(value) for value in torch.aminmax(images.as_subclass(torch.Tensor)))
    if not (low >= -1 - SLACK and high <= 1 + SLACK):
        raise ValueError(
            f"{name} must be encoded to [-1, 1], got values from {low:g} to {high:g}: apply `preprocessing` of"
            " inference.yaml first."
        )
