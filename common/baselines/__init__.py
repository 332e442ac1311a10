"""Classical translations that every network is measured against."""

from __future__ import annotations

from .base import Baseline
from .curve import IntensityCurve
from .enhancement_spread import load_spread, measure_and_save_spread
from .fitting import fit_baselines, load_baselines, load_facts, save_baselines
from .histogram import HistogramMatching, InvertedHistogramMatching
from .identity import Identity
from .interpolation import Interpolation
from .kernel_filters import KernelFilters, load_kernel_filters, load_kernel_references
from .kernel_reference import estimate_kernel, kernel_distances
from .kernel_training import FILTERS, fit_and_save_filters, kernel_estimator, start_from_filters
from .radial_filter import RadialFilter
from .training import fit_and_save

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
    "load_facts",
    "load_kernel_filters",
    "load_kernel_references",
    "load_spread",
    "measure_and_save_spread",
    "save_baselines",
    "start_from_filters",
]
