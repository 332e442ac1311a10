"""Datalists, data sets for training and validation, and the images of an inference."""

from __future__ import annotations

from typing import Any

from ..moved import moved_attribute
from .brats import prepare_brats
from .confounders import warn_of_confounders
from .datalist import check_validation, describe, label_names, load_datalist, load_domain, patients, read_datalist
from .datasets import (
    UnpairedDataset,
    axial_slices,
    axial_stacks,
    blank_outside,
    check_depth,
    validation_images,
    validation_patches,
)
from .domains import (
    DomainVolume,
    MultiDomainDataset,
    PairedDomainsDataset,
    TwoDomainDataset,
    conversions,
    load_domains,
    spacing_range,
)
from .inference_images import common_folder, find_conversions, find_images
from .many import sampled
from .patches import PairedPatchDataset, PatchVolume, UnpairedPatchDataset, draw_patch, random_patches
from .seeded import EpochSampler, epoch_loader
from .volume_cache import VolumeCache, cache_volumes, load_patch_volumes

__all__ = [
    "DomainVolume",
    "EpochSampler",
    "MultiDomainDataset",
    "PairedDomainsDataset",
    "PairedPatchDataset",
    "PatchVolume",
    "TwoDomainDataset",
    "UnpairedDataset",
    "UnpairedPatchDataset",
    "VolumeCache",
    "axial_slices",
    "axial_stacks",
    "blank_outside",
    "cache_volumes",
    "check_depth",
    "check_validation",
    "common_folder",
    "conversions",
    "describe",
    "draw_patch",
    "epoch_loader",
    "find_conversions",
    "find_images",
    "label_names",
    "load_datalist",
    "load_domain",
    "load_domains",
    "load_patch_volumes",
    "patients",
    "prepare_brats",
    "random_patches",
    "read_datalist",
    "sampled",
    "spacing_range",
    "validation_images",
    "validation_patches",
    "warn_of_confounders",
]


def __getattr__(name: str) -> Any:
    return moved_attribute(__name__, name)
