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
from .multi_domain import DomainVolume, MultiDomainDataset, conversions, load_domains, spacing_range

__all__ = [
    "DomainVolume",
    "EpochSampler",
    "MultiDomainDataset",
    "UnpairedDataset",
    "axial_slices",
    "cache_volumes",
    "common_folder",
    "conversions",
    "describe",
    "find_images",
    "image_readers",
    "label_names",
    "load_datalist",
    "load_domain",
    "load_domains",
    "patients",
    "read_datalist",
    "spacing_range",
    "validation_images",
]
