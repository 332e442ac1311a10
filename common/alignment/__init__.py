"""Alignment of misaligned scans of one patient, what `python -m common align` does; needs SimpleITK."""

from .datalist import align_datalist
from .files import align_files, align_pairs
from .volumes import Options, align_volumes, load

__all__ = ["Options", "align_datalist", "align_files", "align_pairs", "align_volumes", "load"]
