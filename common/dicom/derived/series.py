"""Writing of a synthetic volume as a DICOM series that is derived from its source series."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from ..files import quiet_pydicom
from ..geometry import Stack
from .headers import Derivation, image_header, series_header
from .rules import DerivedRule
from .source import read_source_series
from .voxels import choose_storage, place

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["Derivation", "read_source_series", "write_derived_series"]


def write_derived_series(
    volume: Any,
    affine: ArrayLike,
    *,
    source: Stack,
    derivation: Derivation,
    rule: DerivedRule,
    output_dir: str | Path,
    series_number: int | None = None,
    now: datetime | None = None,
    seed: Sequence[str] | None = None,
) -> list[Path]:
    """Write a volume as a new series of its source's study, in its frame of reference, with its patient.

    The volume may have any order and direction of axes, and finer pixels or fewer slices than the source; it is never
    resampled. CT is stored in whole HU (int16, slope 1, intercept 0). MR values are stored exactly if they are whole
    numbers up to 32767, else in as many steps, which the DerivationDescription states. The folder appears complete or
    not at all.

    Args:
        volume: object that is indexed like an array (X, Y, Z), such as nibabel's `dataobj`; seen slice by slice, twice.
        affine: (4, 4) affine, to RAS in mm.
        source: series that it was made from, see `read_source_series`.
        derivation: what made it.
        rule: rule of what the series may say, see `derived_rule`.
        output_dir: folder of the new series.
        series_number: default: 10000 times the source's, plus a number of the target, see `series_header`.
        now: date and time of the making; default: now.
        seed: texts from which all new UIDs are computed, so that the same series made again has the same; default:
            random UIDs.

    Returns:
        The files, in the order of the source's slices.

    Raises:
        FileExistsError: when `output_dir` exists.
        ValueError: when the volume does not lie on the source's grid or on a finer one, has values that are not finite
            or do not fit, or is of another modality than the rule's.

    Example:
        >>> write_derived_series(image.dataobj, image.affine, source=read_source_series("scan"),
        ...     derivation=Derivation("ggcl", "0.1.0", checksum, "B70f"), rule=derived_rule("bundles/ggcl"),
        ...     output_dir="out")  # doctest: +SKIP
    """
    folder = Path(output_dir)
    if folder.exists():
        raise FileExistsError(f"`output_dir` {str(folder)!r} exists already: name a new folder, or remove it.")
    if source.modality != rule.modality:
        raise ValueError(f"The source series must be {rule.modality} for {derivation.bundle}, got {source.modality}.")
    with quiet_pydicom():
        return _write(volume, affine, source, derivation, rule, folder, series_number, now or datetime.now(), seed)


def _write(
    volume: Any,
    affine: ArrayLike,
    source: Stack,
    derivation: Derivation,
    rule: DerivedRule,
    folder: Path,
    series_number: int | None,
    now: datetime,
    seed: Sequence[str] | None,
) -> list[Path]:
    placement = place(affine, tuple(volume.shape), source)
    storage = choose_storage((pixels for _, pixels in placement.slices(volume)), rule.modality)
    common = series_header(source, rule, derivation, storage, now=now, series_number=series_number, seed=seed)
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    partial.mkdir(parents=True)
    try:
        names = []
        for number, (index, pixels) in enumerate(placement.slices(volume), start=1):
            header: Any = image_header(common, source, index, rule, placement, seed=seed)
            header.PixelData = storage.encode(pixels).tobytes()
            names.append(f"{number:05d}.dcm")
            _save(header, partial / names[-1])
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return [folder / name for name in names]


def _save(image: Dataset, path: Path) -> None:
    import pydicom
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    image["PixelData"].VR = "OW"
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    if pydicom.__version_info__[0] == "2":  # the version that MONAI Label needs
        image.is_little_endian, image.is_implicit_VR = True, False
        image.save_as(path, write_like_original=False)
    else:
        image.save_as(path, enforce_file_format=True)
