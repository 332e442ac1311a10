"""What made a derived series and from what: the bundle, the equipment, the source images."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..transforms.save import target_name
from .derived_pixels import Storage
from .derived_rules import RESEARCH, DerivedRule
from .derived_source import SourceSeries

if TYPE_CHECKING:
    from pydicom import Dataset

MANUFACTURER = "monai-translation-bundles"
EQUIPMENT = (
    *("Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions", "InstitutionName"),
    "StationName",
)
SOURCE_IMAGE = ("121322", "Source image for image processing operation")  # codes of PS3.16, context group 7202
ACQUISITION, PROCESSING = ("109101", "Acquisition Equipment"), ("109102", "Processing Equipment")  # 7005


@dataclass(frozen=True)
class Derivation:
    """
    What made a volume.

    Args:
        bundle: the bundle's name.
        version: its version.
        weights_sha256: checksum of its `model.pt`.
        target: the domain of the output, or the weights of a blend.
    """

    bundle: str
    version: str
    weights_sha256: str
    target: str | Mapping[str, float]

    @property
    def target_name(self) -> str:
        """The target in words."""
        return target_name(self.target)

    def description(self, rule: DerivedRule, storage: Storage) -> str:
        """
        The DerivationDescription.

        >>> from common.data.derived_rules import RULES
        >>> exact = Storage("int16", 1.0, 0.0, (-1024, 3071), 0.0)
        >>> print(Derivation("nect2cect", "0.1.0", "29ce", "CECT").description(RULES["nect2cect"], exact))
        SYNTHETIC contrast, research use only, not for diagnosis. Made from the source images by the MONAI bundle \
nect2cect 0.1.0, target CECT, weights SHA-256 29ce. Values are exact.
        """
        return (
            f"{rule.title.format(target=self.target_name)}, {RESEARCH}, not for diagnosis. Made from the source images"
            f" by the MONAI bundle {self.bundle} {self.version}, target {self.target_name}, weights SHA-256"
            f" {self.weights_sha256}. {storage.sentence}"
        )


def add_equipment(header: Any, source: SourceSeries, derivation: Derivation, now: datetime) -> None:
    """The software made these images; the scanner contributed to them (PS3.3, C.7.5.1 and C.12.1.1.5)."""
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


def series_reference(source: SourceSeries) -> Dataset:
    """An item of ReferencedSeriesSequence, with all images of the source."""
    from pydicom import Dataset

    reference = Dataset()
    reference.SeriesInstanceUID = source.headers[0].SeriesInstanceUID
    reference.ReferencedInstanceSequence = [_reference(header) for header in source.headers]
    return reference


def image_reference(header: Dataset, same_pixels: bool) -> Dataset:
    """An item of SourceImageSequence.

    Args:
        header: of the source image.
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
    """A new item that begins with its purpose."""
    from pydicom import Dataset

    purpose, item = Dataset(), Dataset()
    purpose.CodeValue, purpose.CodeMeaning = code
    purpose.CodingSchemeDesignator = "DCM"
    item.PurposeOfReferenceCodeSequence = [purpose]
    return item
