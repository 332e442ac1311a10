"""Intensity codecs and input checks, as MONAI dictionary transforms."""

from .check import CheckHeaderd, CheckImaged, WarnOfContrastd, file_name
from .codec import reference_percentiles
from .contrast import NOT_INVERTED, ContrastAlarmd, masked_correlation, mr_contrast

__all__ = [
    "NOT_INVERTED",
    "CheckHeaderd",
    "CheckImaged",
    "ContrastAlarmd",
    "WarnOfContrastd",
    "file_name",
    "masked_correlation",
    "mr_contrast",
    "reference_percentiles",
]
