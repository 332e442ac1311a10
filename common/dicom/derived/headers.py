"""Headers of the images of a derived series: what they keep of their source, and what made them from what."""

from __future__ import annotations

import copy
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from ...images.names import target_name
from ..files import SYNTHETIC_DATA
from ..geometry import Stack
from ..headers import Slice
from ..pixels import padding_limit, padding_value
from .rules import RESEARCH, DerivedRule
from .voxels import Placement, Storage

if TYPE_CHECKING:
    from pydicom import Dataset

MANUFACTURER = "monai-translation-bundles"
EQUIPMENT = (
    *("Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions", "InstitutionName"),
    "StationName",
)
SOURCE_IMAGE = ("121322", "Source image for image processing operation")  # codes of PS3.16, context group 7202
ACQUISITION, PROCESSING = ("109101", "Acquisition Equipment"), ("109102", "Processing Equipment")  # 7005
EMPTY = (  # type 2: present, even if nobody knows their value
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"),
    *("AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator", "AcquisitionNumber"),
)
MAX_SERIES_NUMBER = 2**31 - 1
NUMBERS_PER_SOURCE = 10_000  # series numbers that begin with the source's
LONG_TEXT = 10240  # characters of LT (PS3.5, table 6.2-1)
CUT = " ... (cut; the sidecar beside the series has all)"
BY_MODEL = ("123110", "Artificial Intelligence")
RESAMPLED = ("113085", "Spatial resampling")  # PS3.16, context group 7203
LOSSY_SYNTAXES = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 81, 91, 93, 111, 112, 203))
VIDEO_SYNTAXES = "1.2.840.10008.1.2.4.10"


@dataclass(frozen=True)
class Derivation:
    """What made a volume.

    Args:
        bundle: name of the bundle.
        version: version of the bundle.
        weights_sha256: checksum of its `model.pt`.
        target: domain of the output, or the weights of a blend.
        doubts: what the checks of input and output doubted, in words; empty if all passed, None if none was made.
    """

    bundle: str
    version: str
    weights_sha256: str
    target: str | Mapping[str, float]
    doubts: Sequence[str] | None = None

    @property
    def target_name(self) -> str:
        """Target in words."""
        return target_name(self.target)

    def description(self, rule: DerivedRule, storage: Storage) -> str:
        """Return the DerivationDescription.

        Args:
            rule: rule of what the series may say.
            storage: storage of its values.

        >>> from common.dicom.derived.rules import RULES
        >>> exact = Storage("int16", 1.0, 0.0, (-1024, 3071), 0.0)
        >>> print(Derivation("nect2cect", "0.1.0", "29ce", "CECT").description(RULES["contrast_enhancement"], exact))
        SYNTHETIC contrast, research use only, not for diagnosis. Made from the source images by the MONAI bundle \
nect2cect 0.1.0, target CECT, weights SHA-256 29ce. It was not checked. Values are exact.
        """
        return (
            f"{rule.title.format(target=self.target_name)}, {RESEARCH}, not for diagnosis. Made from the source images"
            f" by the MONAI bundle {self.bundle} {self.version}, target {self.target_name}, weights SHA-256"
            f" {self.weights_sha256}. {self.judgement()} {storage.sentence}"
        )

    def judgement(self) -> str:
        """Return in one short sentence what the checks said.

        >>> Derivation("ggcl", "0.1.0", "29ce", "B30f", doubts=["spacing: it is too wide."]).judgement()
        'DOUBTED by 1 check, see ImageComments.'
        """
        if self.doubts is None:
            return "It was not checked."
        count = len(self.doubts)
        return f"DOUBTED by {count} check{'s' * (count > 1)}, see ImageComments." if count else "All checks passed."

    def comments(self, description: str) -> str:
        """Return the ImageComments: the series' description, and every doubt in full.

        Args:
            description: the SeriesDescription.

        >>> Derivation("ggcl", "0.1.0", "29ce", "B30f", doubts=["spacing: it is too wide."]).comments("SYNTHETIC")
        'SYNTHETIC. DOUBTED: spacing: it is too wide.'
        """
        if not self.doubts:
            return f"{description}. {self.judgement()}"
        text = f"{description}. DOUBTED: {' '.join(self.doubts)}"
        return text if len(text) <= LONG_TEXT else f"{text[: LONG_TEXT - len(CUT)]}{CUT}"


def add_equipment(header: Any, source: Stack, derivation: Derivation, now: datetime) -> None:
    """Say that the software made these images and the scanner contributed to them (PS3.3, C.7.5.1 and C.12.1.1.5)."""
    header.Manufacturer, header.ManufacturerModelName = MANUFACTURER, derivation.bundle
    header.SoftwareVersions = derivation.version
    software = _purpose(PROCESSING)
    software.Manufacturer, software.ManufacturerModelName = MANUFACTURER, derivation.bundle
    software.SoftwareVersions = derivation.version
    software.ContributionDateTime = now.strftime("%Y%m%d%H%M%S")
    software.ContributionDescription = f"weights SHA-256 {derivation.weights_sha256}"
    header.ContributingEquipmentSequence = [software]
    first = source.headers[0]
    if first.get("Manufacturer"):
        scanner = _purpose(ACQUISITION)
        for name in EQUIPMENT:
            if first.get(name):
                scanner[name] = copy.deepcopy(first[name])
        header.ContributingEquipmentSequence.insert(0, scanner)


def series_reference(header: Any) -> Dataset:
    """Return an item of ReferencedSeriesSequence: the source image that an image derives from.

    One, not all of the series: an archive would else keep as many references as the square of the slices.

    Args:
        header: header of the source image.
    """
    from pydicom import Dataset

    reference = Dataset()
    reference.SeriesInstanceUID = header.SeriesInstanceUID
    reference.ReferencedInstanceSequence = [_reference(header)]
    return reference


def image_reference(header: Dataset, same_pixels: bool) -> Dataset:
    """Return an item of SourceImageSequence.

    Args:
        header: header of the source image.
        same_pixels: whether the derived image has the pixels of the source at the same places.
    """
    reference: Dataset = _purpose(SOURCE_IMAGE)
    reference.update(_reference(header))
    if same_pixels:
        reference.SpatialLocationsPreserved = "YES"
    return reference


def _reference(header: Any) -> Dataset:
    from pydicom import Dataset

    reference = Dataset()
    reference.ReferencedSOPClassUID = header.SOPClassUID
    reference.ReferencedSOPInstanceUID = header.SOPInstanceUID
    return reference


def _purpose(code: tuple[str, str]) -> Any:
    """Return a new item that begins with its purpose."""
    from pydicom import Dataset

    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [_code(code)]
    return item


def _code(code: tuple[str, str]) -> Any:
    """Return a code of DICOM's own terms as an item of a sequence."""
    from pydicom import Dataset

    item = Dataset()
    item.CodeValue, item.CodeMeaning = code
    item.CodingSchemeDesignator = "DCM"
    return item


def series_header(
    source: Stack,
    rule: DerivedRule,
    derivation: Derivation,
    storage: Storage,
    *,
    now: datetime,
    series_number: int | None = None,
    seed: Sequence[str] | None = None,
) -> Dataset:
    """Return what all images of a derived series have in common.

    Args:
        source: series that it derives from.
        rule: rule of what it may say.
        derivation: what made it.
        storage: storage of its values.
        now: date and time of its making.
        series_number: default: 10000 times the source's, plus a number from 1 to 9999 that depends on the bundle, its
            version and the target.
        seed: texts from which its UID is computed; default: a random UID.
    """
    from pydicom import Dataset

    header = Dataset()
    header.SOPClassUID = source.headers[0].SOPClassUID
    header.SeriesInstanceUID = new_uid(seed)
    header.SeriesNumber = series_number_of(source, derivation) if series_number is None else series_number
    made_by = {"bundle": derivation.bundle, "version": derivation.version}
    header.SeriesDescription = rule.description(derivation.target_name, origin=_origin(source, rule), **made_by)
    header.ImageComments = derivation.comments(header.SeriesDescription)
    header.ContentQualification = "RESEARCH"
    header.DerivationCodeSequence = [_code(BY_MODEL)]
    if len(source.headers) > 1:
        header.SpacingBetweenSlices = _decimal(between_slices(source.affine))
    header.DerivationDescription = derivation.description(rule, storage)
    header.add_new(SYNTHETIC_DATA, "CS", "YES")
    header.ImageType = list(rule.image_type)
    add_date(header, now)
    add_equipment(header, source, derivation, now)
    _copy_worst(header, source, "BurnedInAnnotation", bad="YES", good="NO")
    _copy_worst(header, source, "LossyImageCompression", bad="01", good="00")
    for name, value in rule.values(derivation.target_name).items():
        setattr(header, name, value)
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, 16, 15
    header.PixelRepresentation = int(storage.dtype == "int16")
    header.RescaleIntercept, header.RescaleSlope = storage.intercept, storage.slope
    header.RescaleType = "HU" if rule.modality == "CT" else "US"
    if "WindowCenter" not in rule.keep:
        header.WindowCenter = float(f"{np.mean(storage.limits):.6g}")
        header.WindowWidth = float(f"{np.ptp(storage.limits):.6g}") or 1.0
        header.VOILUTFunction = "LINEAR_EXACT"  # a plain linear window must be at least 1 wide
    return header


def new_uid(seed: Sequence[str] | None, *parts: str) -> str:
    """Return a new UID: a random one, or one that is always the same for the same texts (PS3.5, B.2).

    Args:
        seed: texts that it is computed from; None for a random one.
        parts: further texts.

    >>> new_uid(["a"], "1") == new_uid(["a"], "1"), new_uid(["a"], "1") == new_uid(["a"], "2")
    (True, False)
    """
    from pydicom.uid import generate_uid

    return generate_uid(entropy_srcs=None if seed is None else ["\n".join((*seed, *parts))])


def image_header(
    common: Dataset,
    source: Stack,
    index: int,
    rule: DerivedRule,
    placement: Placement,
    *,
    seed: Sequence[str] | None = None,
) -> Dataset:
    """Return the header of the image at one slice of the source.

    Args:
        common: what all images have in common, see `series_header`.
        source: series that it derives from.
        index: index of the source's slice.
        rule: rule of what it may say.
        placement: place of the volume in the source.
        seed: texts from which its UID is computed, with that of the source image; default: a random UID.
    """
    slice_header: Any = source.headers[index]
    header = copy.deepcopy(common)
    for name in rule.keep:
        if name in slice_header:
            header[name] = copy.deepcopy(slice_header[name])
    for name in EMPTY:
        if name not in header:
            setattr(header, name, None)
    if rule.modality == "CT" and "KVP" not in header:
        header.KVP = None  # type 2 of the CT image
    header.SOPInstanceUID = new_uid(seed, slice_header.SOPInstanceUID)
    header.ReferencedSeriesSequence = [series_reference(slice_header)]
    header.SourceImageSequence = [image_reference(slice_header, placement.same_pixels)]
    if rule.modality == "CT":
        _padding(header, source.slices[index])
    if not placement.same_pixels:
        header.DerivationCodeSequence.append(_code(RESAMPLED))
    header.Columns, header.Rows = placement.shape[:2]
    header.ImagePositionPatient, header.PixelSpacing = in_plane(slice_header, placement)
    header.remove_private_tags()
    return header


def _padding(header: Any, image: Slice) -> None:
    """Name the padding of the source, whose values a translation of a CT keeps, in whole HU as pixels are stored."""
    names = ("PixelPaddingValue", "PixelPaddingRangeLimit")
    for name, value in zip(names, (padding_value(image), padding_limit(image))):
        if value is None or not value.is_integer() or not -32768 <= value <= 32767:
            return
        header.add_new(name, "SS", int(value))


def in_plane(slice_header: Any, placement: Placement) -> tuple[Any, Any]:
    """Return ImagePositionPatient and PixelSpacing of a volume's slice at a slice of the source.

    They are the source's own numbers where the grids agree, so that viewers see one geometry and not two.

    Args:
        slice_header: header of the source's slice.
        placement: place of the volume in the source.
    """
    position = np.array(slice_header.ImagePositionPatient, dtype=float)
    along_row, along_column = np.reshape(np.array(slice_header.ImageOrientationPatient, dtype=float), (2, 3))
    between_rows, between_columns = (float(mm) for mm in slice_header.PixelSpacing)
    if placement.same_pixels:
        return copy.deepcopy(slice_header.ImagePositionPatient), copy.deepcopy(slice_header.PixelSpacing)
    column, row = placement.corner
    corner = position + column * between_columns * along_row + row * between_rows * along_column
    spacing = [between_rows * abs(placement.scale[1]), between_columns * abs(placement.scale[0])]
    return [_decimal(mm) for mm in corner], [_decimal(mm) for mm in spacing]


def _decimal(value: float) -> Any:
    """Return a number in the 16 characters of a decimal string."""
    from pydicom.valuerep import DSfloat

    return DSfloat(round(value, 9), auto_format=True)


def series_number_of(source: Stack, derivation: Derivation, *parts: str) -> int:
    """Return a number that begins with the source's; targets, bundles and versions differ, but for chance.

    Args:
        source: series that the new one derives from.
        derivation: what made it.
        parts: texts that tell one new series from another of the same derivation.
    """
    number = int(source.headers[0].get("SeriesNumber") or 0)
    name = " ".join((derivation.bundle, derivation.version, derivation.target_name, *parts))
    own = 1 + zlib.crc32(name.encode()) % (NUMBERS_PER_SOURCE - 1)
    return NUMBERS_PER_SOURCE * number + own if 0 <= number < MAX_SERIES_NUMBER // NUMBERS_PER_SOURCE else own


def between_slices(affine: np.ndarray) -> float:
    """Return the distance of neighbouring slices in mm along their normal (PS3.3, C.8.3.1).

    Args:
        affine: (4, 4) affine of a stack.
    """
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    return float(abs(affine[:3, 2] @ normal) / np.linalg.norm(normal))


def _origin(source: Stack, rule: DerivedRule) -> str:
    """Return what the target replaces, in words, such as the kernel, which with some vendors has two values."""
    element = source.headers[0].get_item(rule.origin) if rule.origin else None
    return str(element.value).replace("\\", " ") if element is not None and element.value else ""


def add_date(header: Any, now: datetime) -> None:
    """Set the dates and times of the making."""
    for name in ("InstanceCreation", "Series", "Content"):
        setattr(header, f"{name}Date", now.strftime("%Y%m%d"))
        setattr(header, f"{name}Time", now.strftime("%H%M%S"))


def _copy_worst(header: Any, source: Stack, name: str, *, bad: str, good: str) -> None:
    """Say `bad` where any slice does, `good` where all do, nothing where the source leaves it open."""
    said = [slice_header.get(name) for slice_header in source.headers]
    if name == "LossyImageCompression":
        said += [bad for slice_header in source.headers if _lossy(slice_header)]
    if bad in said:
        setattr(header, name, bad)
    elif all(value == good for value in said):
        setattr(header, name, good)


def _lossy(slice_header: Any) -> bool:
    """Return whether the file's compression is one that may lose something (PS3.5, A.4)."""
    syntax = str(slice_header.file_meta.get("TransferSyntaxUID", ""))
    return syntax in LOSSY_SYNTAXES or syntax.startswith(VIDEO_SYNTAXES)
