"""What the DICOM series of a synthetic image may say, by task: a table of attributes kept, set and left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ...bundles import (
    CONTRAST_ENHANCEMENT,
    KERNEL_CONVERSION,
    SEQUENCE_TRANSLATION,
    SUPER_RESOLUTION,
    TASK,
    metadata_path,
    translation_task,
)

RESEARCH = "research use only"
SHORT_STRING = 16  # characters of the value representation SH (PS3.5, table 6.2-1)
LONG_STRING = 64  # of LO
FEW_LETTERS = 4  # of a bundle's name, below which it is left out

# Who, which visit, and where in space. Whatever this file does not name is left out, private attributes first.
IDENTITY = (
    *("SpecificCharacterSet", "TimezoneOffsetFromUTC", "Modality"),
    *("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "PatientAge", "PatientSize"),
    *("PatientWeight", "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence"),
    *("LongitudinalTemporalInformationModified", "ClinicalTrialSponsorName", "ClinicalTrialProtocolID"),
    *("ClinicalTrialProtocolName", "ClinicalTrialSiteID", "ClinicalTrialSubjectID", "ClinicalTrialTimePointID"),
    *("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "StudyDescription", "AccessionNumber"),
    *("ReferringPhysicianName", "FrameOfReferenceUID", "PositionReferenceIndicator", "PatientPosition"),
    *("BodyPartExamined", "Laterality", "ImageLaterality", "InstanceNumber", "AcquisitionNumber", "AcquisitionDate"),
    *("AcquisitionTime", "AcquisitionDateTime", "ImageOrientationPatient", "SliceLocation", "SliceThickness"),
)
# Facts of the exposure from which the image derives. No dose (it would be counted twice), no name of a filter or
# protocol (they name the source's kernel or phase).
CT_EXPOSURE = (
    *("KVP", "ScanOptions", "DataCollectionDiameter", "DistanceSourceToDetector", "DistanceSourceToPatient"),
    *("GantryDetectorTilt", "TableHeight", "RotationDirection", "ExposureTime", "XRayTubeCurrent", "Exposure"),
    *("GeneratorPower", "FocalSpots"),
)
WINDOW = ("WindowCenter", "WindowWidth", "WindowCenterWidthExplanation")
# An image made from an enhanced one still shows a patient who was given a contrast agent.
CONTRAST_AGENT = (
    *("ContrastBolusAgent", "ContrastBolusAgentSequence", "ContrastBolusRoute", "ContrastBolusVolume"),
    *("ContrastBolusStartTime", "ContrastBolusStopTime", "ContrastBolusTotalDose", "ContrastFlowRate"),
    *("ContrastFlowDuration", "ContrastBolusIngredient", "ContrastBolusIngredientConcentration"),
)
CT_IMAGE = ("DERIVED", "SECONDARY", "AXIAL")  # the CT Image IOD asks for the third value (PS3.3, C.8.2.1.1.1)
MR_IMAGE = ("DERIVED", "SECONDARY", "OTHER")  # C.8.3.1.1.1
# No sequence has made a synthetic MR image; type 2 attributes are present and empty (PS3.3, table C.8-4).
NO_SEQUENCE = {
    "ScanningSequence": "RM",  # research mode, the only term that names no pulse sequence
    "SequenceVariant": "NONE",
    **dict.fromkeys(("ScanOptions", "MRAcquisitionType", "RepetitionTime", "EchoTime", "EchoTrainLength")),
}


@dataclass(frozen=True)
class DerivedRule:
    """What a derived series says.

    Args:
        modality: modality of the source and of the output, `CT` or `MR`.
        title: description of the image; `{target}` stands for the target's name. With what it was made from and by,
            and `RESEARCH`, it becomes the SeriesDescription.
        image_type: values of ImageType.
        keep: keywords of the attributes that are copied from the source; no others are.
        set_to: keywords and values of further attributes; `{target}` as above, None is an empty value.
        origin: keyword of the source's attribute that names what the target replaces; empty if there is none.
    """

    modality: str
    title: str
    image_type: tuple[str, ...]
    keep: tuple[str, ...]
    set_to: Mapping[str, str | None] = field(default_factory=dict)
    origin: str = ""

    def description(self, target: str, *, origin: str = "", bundle: str = "", version: str = "") -> str:
        """Return the SeriesDescription, which tells series of one study apart.

        What exceeds DICOM's 64 characters is cut from the bundle's name and then from the title, but not from the
        warning.

        Args:
            target: Name of the target.
            origin: What the target replaces, in words, see `origin` of the rule; empty if unknown.
            bundle: Name of the bundle.
            version: Version of the bundle.

        Example:
            >>> RULES["contrast_enhancement"].description("CECT", bundle="nect2cect", version="0.1.0")
            'SYNTHETIC contrast, nect2cect 0.1.0, research use only'
            >>> RULES["kernel_conversion"].description("B70f", origin="B30f", bundle="ggcl", version="0.1.0")
            'SYNTHETIC kernel B70f from B30f, ggcl 0.1.0, research use only'
        """
        title = self.title.format(target=target) + (f" from {origin}" if origin else "")
        room = LONG_STRING - len(f"{title}, {version}, {RESEARCH}") - 1
        made_by = f", {bundle[:room]} {version}" if bundle and room >= FEW_LETTERS else ""
        return f"{title[: LONG_STRING - len(RESEARCH) - 2]}{made_by}, {RESEARCH}"

    def values(self, target: str) -> dict[str, str | None]:
        """Return the attributes of `set_to` with the target's name filled in.

        Example:
            >>> RULES["kernel_conversion"].values("B70f")
            {'ConvolutionKernel': 'B70f synthetic'}
        """
        return {name: _fill(value, target) for name, value in self.set_to.items()}


def _fill(value: str | None, target: str) -> str | None:
    """Shorten what is too long for SH to `synthetic`: the DerivationDescription has the target's name in full."""
    filled = None if value is None else value.format(target=target)
    return "synthetic" if filled is not None and len(filled) > SHORT_STRING else filled


SYNTHETIC_KERNEL = {"ConvolutionKernel": "{target} synthetic"}
KEPT_OF_CT = (*IDENTITY, *CT_EXPOSURE, *WINDOW)
RULES = {
    KERNEL_CONVERSION: DerivedRule(
        *("CT", "SYNTHETIC kernel {target}", CT_IMAGE, KEPT_OF_CT + CONTRAST_AGENT, SYNTHETIC_KERNEL),
        origin="ConvolutionKernel",
    ),
    # Nothing may suggest that a contrast agent was given.
    CONTRAST_ENHANCEMENT: DerivedRule("CT", "SYNTHETIC contrast", CT_IMAGE, (*KEPT_OF_CT, "ConvolutionKernel")),
    SUPER_RESOLUTION: DerivedRule(
        "CT", "SYNTHETIC resolution {target}", CT_IMAGE, KEPT_OF_CT + CONTRAST_AGENT, SYNTHETIC_KERNEL
    ),
    SEQUENCE_TRANSLATION: DerivedRule("MR", "SYNTHETIC {target}", MR_IMAGE, IDENTITY + CONTRAST_AGENT, NO_SEQUENCE),
}


def derived_rule(bundle_root: str | Path) -> DerivedRule:
    """Return the rule of a bundle, by the `translation_task` of its metadata.

    Args:
        bundle_root: the bundle's folder.

    Raises:
        ValueError: when the metadata name no task of the table: no series is written by guessed rules.
    """
    task = translation_task(bundle_root)
    if task not in RULES:
        raise ValueError(
            f"`{TASK}` in {str(metadata_path(bundle_root))!r} must be one of {sorted(RULES)}, for which it is known"
            f" what a derived DICOM series may say, got {task!r}: set it to what the bundle does."
        )
    return RULES[task]
