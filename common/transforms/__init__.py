"""Loading, intensity codecs and input checks, as MONAI dictionary transforms."""

from __future__ import annotations

from typing import Any

from ..metrics.score import NOT_INVERTED
from ..moved import moved_attribute
from .downsample import DownSampleSlicesd
from .guards.anatomy import CheckAxiald, CheckBodyPartd, axial_geometry
from .guards.contract import EnsurePredictiond, EnsureVolumed, check_encoded
from .guards.contrast import CheckModalityd, CheckNoContrastAgentd, masked_correlation, mr_contrast
from .guards.enhanced import CheckNonContrastd, Enhancement, enhancement
from .guards.findings import Finding, Guards
from .guards.image import CheckHeaderd, CheckImaged, WarnOfContrastd
from .guards.kernel import FindKerneld, header_kernel
from .guards.loading import LoadImageAndCheckd, LoadMappedd
from .guards.plausible import CheckPlausibled
from .guards.scales import CheckAird, CheckClippedd, CheckPixelSized, CheckPlaned, CheckResampledd
from .intensity import AddSourced, CheckHUd, GreyToHUd, ToChangeInHUd, grey_levels, reference_percentiles
from .lung import FindRegiond, LungMaskd, lung_mask
from .misalign import misalign, misalign_patients, random_affine
from .randomize import RandInverseLookd, RandLesiond, RandLookd, RandPosed, RandRimd, RandScannedd
from .standardize import StandardizeForegroundd, foreground_ranks, intensity_encoder, landmark_scale
from .twins import contrast_agent, contrast_twins, write_contrast_twins
from .unchanged import KeepPaddingd, LimitChanged, UnchangedRegion

__all__ = [
    "NOT_INVERTED",
    "AddSourced",
    "CheckAird",
    "CheckAxiald",
    "CheckBodyPartd",
    "CheckClippedd",
    "CheckHUd",
    "CheckHeaderd",
    "CheckImaged",
    "CheckModalityd",
    "CheckNoContrastAgentd",
    "CheckNonContrastd",
    "CheckPixelSized",
    "CheckPlaned",
    "CheckPlausibled",
    "CheckResampledd",
    "DownSampleSlicesd",
    "Enhancement",
    "EnsurePredictiond",
    "EnsureVolumed",
    "FindKerneld",
    "FindRegiond",
    "Finding",
    "GreyToHUd",
    "Guards",
    "KeepPaddingd",
    "LimitChanged",
    "LoadImageAndCheckd",
    "LoadMappedd",
    "LungMaskd",
    "RandInverseLookd",
    "RandLesiond",
    "RandLookd",
    "RandPosed",
    "RandRimd",
    "RandScannedd",
    "StandardizeForegroundd",
    "ToChangeInHUd",
    "UnchangedRegion",
    "WarnOfContrastd",
    "axial_geometry",
    "check_encoded",
    "contrast_agent",
    "contrast_twins",
    "enhancement",
    "foreground_ranks",
    "grey_levels",
    "header_kernel",
    "intensity_encoder",
    "landmark_scale",
    "lung_mask",
    "masked_correlation",
    "misalign",
    "misalign_patients",
    "mr_contrast",
    "random_affine",
    "reference_percentiles",
    "write_contrast_twins",
]


def __getattr__(name: str) -> Any:
    return moved_attribute(__name__, name)
