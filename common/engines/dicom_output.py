"""The output format that is asked for, and the DICOM series written from a NIfTI file."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform

from ..data.datalist import VOLUME_SUFFIXES
from ..data.dicom_reader import source_files
from ..transforms.check import file_name
from .sidecar import RunRecord

NIFTI, DICOM, BOTH = "nifti", "dicom", "both"
FORMATS = (NIFTI, DICOM, BOTH)
CURE = (
    "needs a DICOM source, whose patient, study and frame of reference the new series takes over, but {name} is none:"
    " give its DICOM series, or `--output_format nifti`."
)


def check_output_format(output_format: str, images: Sequence[Mapping[str, Any]], *, key: str = "image") -> None:
    """
    Refuses, before work starts, a format that the sources do not allow.

    Args:
        output_format: `nifti`, `dicom` or `both`.
        images: data items with the paths of the sources, see `find_images`.
        key: where an item's path is.

    Raises:
        ValueError: when the format is another, or a source is NIfTI though DICOM is asked for.

    Example:
        >>> check_output_format("dicom", [{"image": "scan.nii.gz"}])
        Traceback (most recent call last):
        ...
        ValueError: `output_format` 'dicom' needs a DICOM source, whose patient, study and frame of reference the new \
series takes over, but 'scan.nii.gz' is none: give its DICOM series, or `--output_format nifti`.
    """
    _check_known(output_format)
    for item in images if output_format != NIFTI else ():
        if str(item[key]).lower().endswith(VOLUME_SUFFIXES):
            raise ValueError(f"`output_format` {output_format!r} {CURE.format(name=repr(str(item[key])))}")


class CheckSourceSeriesd(MapTransform):
    """
    Refuses, before it is translated, an image to whose source no derived series could refer.

    Args:
        keys: keys of loaded volumes.
        output_format: with `nifti` all pass.

    Raises:
        ValueError: when the format is unknown; when called, for a source that is not one even series of single-frame
            DICOM images, see `read_source_series`.
    """

    def __init__(self, keys: KeysCollection, output_format: str, *, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        _check_known(output_format)
        self.output_format = output_format

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        if self.output_format != NIFTI:
            for key in self.key_iterator(dict(data)):
                _source_series(data[key], self.output_format)
        return dict(data)


def write_dicom(nifti: Path, folder: Path, source: Any, record: RunRecord, *, output_format: str = DICOM) -> Path:
    """
    Write a translation as a series derived from its source.

    Args:
        nifti: the translation.
        folder: of the new series; must not exist.
        source: the volume that was translated, whose meta data name its DICOM files.
        record: of the run.
        output_format: as the user gave it, for messages.

    Returns:
        the folder.

    Raises:
        ValueError: see `write_derived_series`.
    """
    from ..data.derived_series import Derivation, write_derived_series

    image: Any = nib.load(nifti)  # type: ignore[attr-defined]
    # A super-resolved volume may exceed the memory, so slices are read one by one; a compressed file has no parts.
    volume = np.asarray(image.dataobj) if nifti.suffix == ".gz" else image.dataobj
    write_derived_series(
        volume,
        image.affine,
        source=_source_series(source, output_format),
        derivation=Derivation(record.bundle, record.version, record.weights_sha256, record.target),
        output_dir=folder,
    )
    return folder


def _source_series(image: Any, output_format: str) -> Any:
    from ..data.derived_source import read_source_series

    files = source_files(getattr(image, "meta", {}))
    if not files:
        raise ValueError(f"`output_format` {output_format!r} {CURE.format(name=file_name(image))}")
    return read_source_series(files)


def _check_known(output_format: str) -> None:
    if output_format not in FORMATS:
        raise ValueError(f"`output_format` must be one of {', '.join(FORMATS)}, got {output_format!r}.")
