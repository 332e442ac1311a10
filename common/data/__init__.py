"""Datalists, training data sets and the sampler that makes a training resumable."""

from .conversion_images import find_conversions
from .datalist import (
    describe,
    label_names,
    load_datalist,
    load_domain,
    patients,
    read_datalist,
)
from .datasets import EpochSampler, UnpairedDataset, axial_slices, validation_images
from .dicom_reader import DicomSeriesReader, source_files
from .encoded_volumes import cache_volumes, load_patch_volumes
from .inference_images import common_folder, find_images, image_readers
from .multi_domain import DomainVolume, MultiDomainDataset, conversions, load_domains, spacing_range
from .paired_domains import PairedDomainsDataset
from .paired_patches import PairedPatchDataset
from .patches import PatchVolume, UnpairedPatchDataset, draw_patch
from .slice_writer import NiftiSliceWriter, nifti_bytes
from .triplets import axial_triplets, check_depth
from .two_domain import TwoDomainDataset
from .volume_cache import VolumeCache

__all__ = [
    "DicomSeriesReader",
    "DomainVolume",
    "EpochSampler",
    "MultiDomainDataset",
    "NiftiSliceWriter",
    "PairedDomainsDataset",
    "PairedPatchDataset",
    "PatchVolume",
    "TwoDomainDataset",
    "UnpairedDataset",
    "UnpairedPatchDataset",
    "VolumeCache",
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
    "source_files",
    "spacing_range",
    "validation_images",
]
