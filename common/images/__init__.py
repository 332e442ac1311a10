"""Names, grids, reading and writing of volumes."""

from .grids import SliceStorage, finer_affine
from .names import file_name, output_layout, target_name
from .writing import NiftiSliceWriter, nifti_bytes, save_volume

__all__ = [
    "NiftiSliceWriter",
    "SliceStorage",
    "file_name",
    "finer_affine",
    "nifti_bytes",
    "output_layout",
    "save_volume",
    "target_name",
]
