"""DICOM series as scanners write them, with all that a derived series must not repeat."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

PATIENT = {"PatientName": "Phantom^Digital", "PatientID": "P1", "PatientBirthDate": "", "PatientSex": "O"}
STUDY = {"StudyDate": "20200102", "StudyTime": "101112", "StudyID": "7", "AccessionNumber": "A7"}
SCANNER = {"Manufacturer": "Scanner Works", "ManufacturerModelName": "One", "SoftwareVersions": "VB20"}
CT = {
    "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
    "KVP": "120",
    "ConvolutionKernel": "B30f",
    "FilterType": "B30f",
    "ProtocolName": "Abdomen portal venous",
    "CTDIvol": 7.5,
    "ContrastBolusAgent": "Iomeprol",
    "ContrastBolusRoute": "IV",
    "RescaleIntercept": "-1000",
    "RescaleSlope": "1",
    "WindowCenter": "40",
    "WindowWidth": "400",
}
MR = {
    "ImageType": ["ORIGINAL", "PRIMARY", "M", "SE"],
    "ScanningSequence": "SE",
    "SequenceVariant": "SK",
    "SequenceName": "se2d1",
    "ScanOptions": "SAT1",
    "MRAcquisitionType": "2D",
    "RepetitionTime": "500",
    "EchoTime": "12",
    "InversionTime": "900",
    "EchoTrainLength": "1",
    "FlipAngle": "90",
    "ProtocolName": "t1_se_tra",
}


def write_source_series(
    folder: Path,
    volume: np.ndarray,
    affine: np.ndarray,
    modality: str = "CT",
    *,
    study: str | None = None,
    **more: object,
) -> Path:
    """
    Writes a volume (X, Y, Z) of whole numbers, HU for CT, as a series; its axes become columns, rows and slices.

    Args:
        folder: of the new files, which are not named in the order of their slices.
        volume: values.
        affine: (4, 4) to RAS in mm, with orthogonal axes.
        modality: `CT` or `MR`.
        study: its UID; default: a new one.
        more: further attributes, or other values.
    """
    folder.mkdir(parents=True)
    lps = np.diag([-1, -1, 1, 1]) @ affine
    sizes = np.linalg.norm(lps[:3, :3], axis=0)
    series, frame, study = generate_uid(), generate_uid(), study or generate_uid()
    for index in range(volume.shape[2]):
        image = Dataset()
        given = {**PATIENT, **STUDY, **SCANNER, **(CT if modality == "CT" else MR), "Modality": modality}
        given |= {"ReferringPhysicianName": "", "PatientPosition": "HFS", "PositionReferenceIndicator": ""}
        given |= {"SeriesNumber": 3, "SeriesDescription": "source", "BodyPartExamined": "CHEST"}
        given |= {"AcquisitionNumber": 1, "StudyInstanceUID": study, "SeriesInstanceUID": series}
        given |= {"FrameOfReferenceUID": frame, "SOPInstanceUID": generate_uid(), "InstanceNumber": index + 1}
        given["SOPClassUID"] = CTImageStorage if modality == "CT" else MRImageStorage
        for name, value in {**given, **more}.items():
            setattr(image, name, value)
        image.ImagePositionPatient = [float(f"{mm:.9g}") for mm in (lps @ [0, 0, index, 1])[:3]]
        image.ImageOrientationPatient = [float(f"{x:.9g}") for x in (lps[:3, :2] / sizes[:2]).T.ravel()]
        image.PixelSpacing = [float(f"{sizes[1]:.9g}"), float(f"{sizes[0]:.9g}")]
        image.SliceThickness = float(f"{sizes[2]:.9g}")
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
        image.private_block(0x0029, "SCANNER WORKS", create=True).add_new(0x10, "LO", "a private matter")
        image.Columns, image.Rows = volume.shape[:2]
        stored = volume[:, :, index].T + (1000 if modality == "CT" else 0)
        image.PixelData = stored.astype("<i2").tobytes()
        image["PixelData"].VR = "OW"
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.save_as(folder / f"{volume.shape[2] - index:04d}", enforce_file_format=True)
    return folder


def write_nifti_as_series(path: Path, folder: Path, modality: str, copies: int = 1, **more: object) -> Path:
    """A NIfTI file as a series, its slices `copies` times, one after the other."""
    image = nib.load(path)
    turn = nib.orientations.ornt_transform(nib.io_orientation(image.affine), nib.orientations.axcodes2ornt("LPS"))
    image = image.as_reoriented(turn)
    volume = np.concatenate([np.asarray(image.dataobj)] * copies, axis=2)
    return write_source_series(folder, volume, image.affine, modality, **more)
