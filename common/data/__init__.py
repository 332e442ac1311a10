"""Datalists, training data sets and the sampler that makes a training resumable."""

from .datalist import (
    describe,
    find_images,
    folder_of_images,
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
    "describe",
    "find_images",
    "folder_of_images",
    "image_readers",
    "label_names",
    "load_datalist",
    "load_domain",
    "patients",
    "read_datalist",
    "validation_images",
]
