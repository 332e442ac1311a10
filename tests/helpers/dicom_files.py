"""Changed, enhanced and otherwise peculiar DICOM files, made from the series of `dicom_series`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from pydicom import Dataset, dcmread, filereader
from pydicom.dataset import FileMetaDataset
from pydicom.uid import EnhancedCTImageStorage, EnhancedMRImageStorage, ExplicitVRLittleEndian, generate_uid

from .dicom_series import write_source_series

SHAPE = (6, 5, 4)
HU = np.random.default_rng(0).integers(-1000, 1500, SHAPE)
AFFINE = np.array([[-0.8, 0, 0, 12], [0, -0.7, 0, 34], [0, 0, 2.5, -56], [0, 0, 0, 1.0]])  # feet first in the file


def series(folder: Path, volume: np.ndarray = HU, affine: np.ndarray = AFFINE, **more: Any) -> Path:
    """A CT series of four slices, which are file `0004` (the lowest) to `0001`."""
    return write_source_series(folder, volume, affine, **more)


def change(file: Path, **attributes: Any) -> None:
    """Gives attributes other values, or, with None, removes them."""
    image = dcmread(file)
    for name, value in attributes.items():
        if value is None:
            delattr(image, name)
        else:
            setattr(image, name, value)
    image.save_as(file)


def change_all(folder: Path, new: Callable[[int, Any], dict[str, Any]]) -> None:
    """Changes each file of a series by its slice's number from 0 and its header."""
    for file in sorted(folder.iterdir()):
        image = dcmread(file)
        change(file, **new(int(image.InstanceNumber) - 1, image))


@contextmanager
def counted_parsing() -> Iterator[Counter[str]]:
    """Count how often each file is parsed by pydicom within the context, whoever asks for it."""
    parsed: Counter[str] = Counter()
    read = filereader.read_partial  # what `dcmread` calls under any of its names

    def counting(file: Any, *args: Any, **options: Any) -> Any:
        parsed[str(Path(file.name).resolve())] += 1
        return read(file, *args, **options)

    with mock.patch.object(filereader, "read_partial", counting):
        yield parsed


def write_enhanced(
    path: Path,
    volume: np.ndarray = HU,
    affine: np.ndarray = AFFINE,
    *,
    modality: str = "CT",
    order: Sequence[int] | None = None,
    scales: Sequence[tuple[float, float]] | None = None,
    per_frame: Callable[[int, Dataset], None] | None = None,
    **more: Any,
) -> Path:
    """
    Writes a volume (X, Y, Z) of integers as one enhanced multi-frame object.

    Args:
        path: of the file.
        volume: stored values.
        affine: (4, 4) to RAS in mm, orthogonal axes.
        modality: `CT` or `MR`.
        order: of the frames; default: as in the volume.
        scales: slope and intercept of each slice; default: 1 and 0.
        per_frame: changes the functional groups of a slice.
        more: attributes of the object.
    """
    lps = np.diag([-1, -1, 1, 1]) @ affine
    sizes = np.linalg.norm(lps[:3, :3], axis=0)
    order = range(volume.shape[2]) if order is None else order
    image = Dataset()
    image.SOPClassUID = EnhancedCTImageStorage if modality == "CT" else EnhancedMRImageStorage
    image.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    image.Modality, image.PatientID, image.PatientName = modality, "E7", "Doe^Jane"
    image.SOPInstanceUID, image.StudyInstanceUID, image.SeriesInstanceUID = (generate_uid() for _ in range(3))
    image.FrameOfReferenceUID, image.SeriesNumber, image.InstanceNumber = generate_uid(), 5, 1
    image.Columns, image.Rows, image.NumberOfFrames = *volume.shape[:2], len(order)
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
    shared = Dataset()
    shared.PlaneOrientationSequence = [_of(ImageOrientationPatient=list((lps[:3, :2] / sizes[:2]).T.ravel()))]
    shared.PixelMeasuresSequence = [_of(PixelSpacing=[sizes[1], sizes[0]], SliceThickness=float(sizes[2]))]
    image.SharedFunctionalGroupsSequence = [shared]
    image.PerFrameFunctionalGroupsSequence = []
    for index in order:
        frame = Dataset()
        frame.PlanePositionSequence = [
            _of(ImagePositionPatient=[float(f"{v:.9g}") for v in lps @ [0, 0, index, 1]][:3])
        ]
        slope, intercept = scales[index] if scales else (1.0, 0.0)
        frame.PixelValueTransformationSequence = [
            _of(RescaleSlope=slope, RescaleIntercept=intercept, RescaleType="HU" if modality == "CT" else "US")
        ]
        if per_frame:
            per_frame(index, frame)
        image.PerFrameFunctionalGroupsSequence.append(frame)
    for name, value in more.items():
        setattr(image, name, value)
    image.PixelData = np.stack([volume[:, :, index].T for index in order]).astype("<i2").tobytes()
    image["PixelData"].VR = "OW"
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save_as(path, enforce_file_format=True)
    return path


def _of(**attributes: Any) -> Dataset:
    item = Dataset()
    for name, value in attributes.items():
        setattr(item, name, value)
    return item
