"""What the DICOM series of a synthetic image may say, for each bundle: a table of attributes kept, set and left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

RESEARCH = "research use only"
SHORT_STRING = 16  # characters of the value representation SH (PS3.5, table 6.2-1)
LONG_STRING = 64  # of LO

# Who, which visit, and where in space. All that is not named in this file is left out, private attributes first.
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
# That the patient was given an agent stays true of an image made from the enhanced one.
AGENT = (
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
        modality: of the source and of the output, `CT` or `MR`.
        title: what the image is; `{target}` stands for the target's name. With `RESEARCH` it is the SeriesDescription.
        image_type: its ImageType.
        keep: attributes taken over from the source; no other is.
        set_to: attributes that get a value of their own; `{target}` as above, None is an empty value.
    """

    modality: str
    title: str
    image_type: tuple[str, ...]
    keep: tuple[str, ...]
    set_to: Mapping[str, str | None] = field(default_factory=dict)

    def description(self, target: str) -> str:
        """The SeriesDescription, cut where DICOM's 64 characters end, never in the words of warning.

        >>> RULES["nect2cect"].description("CECT")
        'SYNTHETIC contrast, research use only'
        """
        return self.title.format(target=target)[: LONG_STRING - len(RESEARCH) - 2] + f", {RESEARCH}"

    def values(self, target: str) -> dict[str, str | None]:
        """The attributes that are set, with the target's name in them.

        >>> RULES["ggcl"].values("B70f")
        {'ConvolutionKernel': 'B70f synthetic'}
        """
        return {name: _fill(value, target) for name, value in self.set_to.items()}


def _fill(value: str | None, target: str) -> str | None:
    """A name too long for SH becomes `synthetic` alone: the DerivationDescription has it in full."""
    filled = None if value is None else value.format(target=target)
    return "synthetic" if filled is not None and len(filled) > SHORT_STRING else filled


SYNTHETIC_KERNEL = {"ConvolutionKernel": "{target} synthetic"}
KERNEL = DerivedRule(
    "CT", "SYNTHETIC kernel {target}", CT_IMAGE, IDENTITY + CT_EXPOSURE + WINDOW + AGENT, SYNTHETIC_KERNEL
)
CONTRAST = DerivedRule(
    "CT", "SYNTHETIC contrast", CT_IMAGE, (*IDENTITY, *CT_EXPOSURE, *WINDOW, "ConvolutionKernel")
)  # nothing may suggest that an agent was given
RESOLUTION = DerivedRule(
    "CT",
    "SYNTHETIC resolution {target}",
    CT_IMAGE,
    IDENTITY + CT_EXPOSURE + WINDOW + AGENT,
    SYNTHETIC_KERNEL,
)
SEQUENCE = DerivedRule("MR", "SYNTHETIC {target}", MR_IMAGE, IDENTITY + AGENT, NO_SEQUENCE)

RULES = {
    "ggcl": KERNEL,
    "kcgan_kernel_conversion": KERNEL,
    "nect2cect": CONTRAST,
    "sr_cyclegan": RESOLUTION,
    "nec_t1t2": SEQUENCE,
}


def derived_rule(bundle: str) -> DerivedRule:
    """The rule of a bundle.

    Args:
        bundle: the name of its folder.

    Raises:
        ValueError: when the table has no such bundle: no series is written by guessed rules.
    """
    if bundle not in RULES:
        raise ValueError(
            f"`bundle` must be one of {sorted(RULES)}, for which it is known what a derived series may say, got"
            f" {bundle!r}. Rename the bundle's folder, or pass a `rule`."
        )
    return RULES[bundle]
