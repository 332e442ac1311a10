"""Classical translations against which every network is measured."""

from .base import Baseline, Identity, Interpolation
from .curve import IntensityCurve
from .enhancement_spread import load_spread, measure_and_save_spread
from .fitting import fit_and_save, fit_baselines, load_baselines, match_to_mean, save_baselines, start_from_inverted
from .histogram import HistogramMatching, InvertedHistogramMatching
from .kernels.radial_filter import RadialFilter
from .kernels.reference import estimate_kernel, kernel_distances
from .kernels.training import (
    FILTERS,
    KernelFilters,
    fit_and_save_filters,
    kernel_estimator,
    load_kernel_filters,
    load_kernel_references,
    start_from_filters,
    start_from_pairs,
)

__all__ = [
    "FILTERS",
    "Baseline",
    "HistogramMatching",
    "Identity",
    "IntensityCurve",
    "Interpolation",
    "InvertedHistogramMatching",
    "KernelFilters",
    "RadialFilter",
    "estimate_kernel",
    "fit_and_save",
    "fit_and_save_filters",
    "fit_baselines",
    "kernel_distances",
    "kernel_estimator",
    "load_baselines",
    "load_kernel_filters",
    "load_kernel_references",
    "load_spread",
    "match_to_mean",
    "measure_and_save_spread",
    "save_baselines",
    "start_from_filters",
    "start_from_inverted",
    "start_from_pairs",
]
