"""Datalists, training data sets and the sampler that makes a training resumable."""

from .conversion_images import find_conversions
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
from .patches import PatchVolume, UnpairedPatchDataset, draw_patch, load_patch_volumes
from .slice_writer import NiftiSliceWriter, nifti_bytes
from .triplets import axial_triplets, check_depth

__all__ = [
    "DomainVolume",
    "EpochSampler",
    "MultiDomainDataset",
    "NiftiSliceWriter",
    "PatchVolume",
    "UnpairedDataset",
    "UnpairedPatchDataset",
    "axial_slices",
    "axial_triplets",
    "cache_volumes",
    "check_depth",
    "common_folder",
    "conversions",
    "describe",
    "draw_patch",
    "find_conversions",
    "find_images",
    "image_readers",
    "label_names",
    "load_datalist",
    "load_domain",
    "load_domains",
    "load_patch_volumes",
    "nifti_bytes",
    "patients",
    "read_datalist",
    "spacing_range",
    "validation_images",
]
