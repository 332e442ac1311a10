"""One image, file or series under two patients: their split would be no split."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from tqdm import tqdm

from .datalist_found import FoundImage


def refuse_leaks(images: Iterable[FoundImage]) -> None:
    """
    Refuses what two patients share: a file, a DICOM series, or the same voxels.

    Voxels are compared where shapes agree: the middle slices first, then all. So a copy is found under another name,
    compression, number format, place in space or identity.

    Args:
        images: with their facts.

    Raises:
        ValueError: naming both patients and both files.
    """
    found = list(images)
    _refuse(found, [image.path.resolve() for image in found], "are the same file")
    _refuse(found, [_facts(image).series or None for image in found], "have the same SeriesInstanceUID")
    alike = _of_two_patients(found, [_facts(image).shape for image in found])
    count = sum(len(group) for group in alike)
    with tqdm(total=count, desc="comparing images of patients", disable=count == 0) as bar:
        for group in alike:
            for same in _of_two_patients(group, [_middle(image, bar) for image in group]):
                _refuse(same, [_whole(image) for image in same], "have the same voxels")


def _refuse(images: Sequence[FoundImage], keys: Sequence[Hashable], how: str) -> None:
    for first, *others in _of_two_patients(images, keys):
        second = next(image for image in others if image.patient != first.patient)
        raise ValueError(
            f"Patients {first.patient!r} and {second.patient!r} share an image: {str(first.path)!r} and"
            f" {str(second.path)!r} {how}. One of them in training and the other in test would make the scores those of"
            " training data. Give both one name, or remove the copy."
        )


def _of_two_patients(images: Sequence[FoundImage], keys: Sequence[Hashable]) -> list[list[FoundImage]]:
    """The groups with one key, other than None, that belong to several patients."""
    groups: defaultdict[Hashable, list[FoundImage]] = defaultdict(list)
    for image, key in zip(images, keys, strict=True):
        if key is not None:
            groups[key].append(image)
    return [group for group in groups.values() if len({image.patient for image in group}) > 1]


def _facts(image: FoundImage) -> Any:
    return image.facts


def _middle(image: FoundImage, bar: Any) -> bytes | None:
    bar.update()
    files = _facts(image).files
    return _pixels([files[len(files) // 2]]) if files else _voxels(image.path, _facts(image).shape[-1] // 2)


def _whole(image: FoundImage) -> bytes | None:
    return _pixels(_facts(image).files) if _facts(image).files else _voxels(image.path, slice(None))


def _voxels(path: Path, place: int | slice) -> bytes | None:
    """The hash of the values, whatever their number format; of a file that is cut off None: training will name it."""
    try:
        image: Any = nib.load(path)
        return hashlib.sha256(np.asarray(image.dataobj[..., place], dtype=np.float64).tobytes()).digest()
    except Exception:  # nibabel raises whatever damaged data make it meet
        return None


def _pixels(files: Iterable[Path]) -> bytes:
    from pydicom import dcmread

    content = hashlib.sha256()
    for file in files:
        content.update(bytes(dcmread(file).get("PixelData", b"")))
    return content.digest()
