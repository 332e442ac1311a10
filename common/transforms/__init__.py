"""Intensity codecs and input checks, as MONAI dictionary transforms."""

from .check import CheckHeaderd, CheckImaged, WarnOfContrastd, file_name
from .codec import reference_percentiles
from .contrast import NOT_INVERTED, ContrastAlarmd, masked_correlation, mr_contrast
from .hu import AddSourced, CheckHUd, ToChangeInHUd
from .kernel import FindKerneld, header_kernel
from .save import save_volume, target_name

__all__ = [
    "NOT_INVERTED",
    "AddSourced",
    "CheckHUd",
    "CheckHeaderd",
    "CheckImaged",
    "ContrastAlarmd",
    "FindKerneld",
    "ToChangeInHUd",
    "WarnOfContrastd",
    "file_name",
    "header_kernel",
    "masked_correlation",
    "mr_contrast",
    "reference_percentiles",
    "save_volume",
    "target_name",
]
