"""Intensity codecs and input checks, as MONAI dictionary transforms."""

from .agent import CheckNoAgentd
from .axial import CheckAxiald, axial_geometry
from .body_part import CheckBodyPartd
from .check import CheckHeaderd, CheckImaged, WarnOfContrastd, file_name
from .codec import reference_percentiles
from .contrast import NOT_INVERTED, ContrastAlarmd, masked_correlation, mr_contrast
from .enhanced import CheckNonContrastd, Enhancement, enhancement
from .findings import Finding, Guards
from .finer_grid import SliceStorage, finer_affine
from .hu import AddSourced, CheckHUd, ToChangeInHUd
from .kernel import FindKerneld, header_kernel
from .load import LoadMappedd
from .lung_mask import LungMaskd, lung_mask
from .micro_grey import LUNG_HU_RANGE, GreyToHUd, grey_levels
from .misalign import misalign, misalign_patients, random_affine
from .modality import CheckModalityd
from .pixel_size import CheckPixelSized
from .region import FindRegiond
from .save import output_layout, save_volume, target_name
from .scale_checks import CheckAird, CheckResampledd

__all__ = [
    "LUNG_HU_RANGE",
    "NOT_INVERTED",
    "AddSourced",
    "CheckAird",
    "CheckAxiald",
    "CheckBodyPartd",
    "CheckHUd",
    "CheckHeaderd",
    "CheckImaged",
    "CheckModalityd",
    "CheckNoAgentd",
    "CheckNonContrastd",
    "CheckPixelSized",
    "CheckResampledd",
    "ContrastAlarmd",
    "Enhancement",
    "FindKerneld",
    "FindRegiond",
    "Finding",
    "GreyToHUd",
    "Guards",
    "LoadMappedd",
    "LungMaskd",
    "SliceStorage",
    "ToChangeInHUd",
    "WarnOfContrastd",
    "axial_geometry",
    "enhancement",
    "file_name",
    "finer_affine",
    "grey_levels",
    "header_kernel",
    "lung_mask",
    "masked_correlation",
    "misalign",
    "misalign_patients",
    "mr_contrast",
    "output_layout",
    "random_affine",
    "reference_percentiles",
    "save_volume",
    "target_name",
]
