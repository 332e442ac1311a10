"""Datalists, training data sets and the sampler that makes a training resumable."""

from .datalist import (
    common_folder,
    describe,
    find_images,
    image_readers,
    label_names,
    load_datalist,
    load_domain,
    patients,
    read_datalist,
)
from .datasets import EpochSampler, UnpairedDataset, axial_slices, cache_volumes, validation_images

__all__ = [
    "EpochSampler",
    "UnpairedDataset",
    "axial_slices",
    "cache_volumes",
    "common_folder",
    "describe",
    "find_images",
    "image_readers",
    "label_names",
    "load_datalist",
    "load_domain",
    "patients",
    "read_datalist",
    "validation_images",
]
