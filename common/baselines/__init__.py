"""Classical translations that every network is measured against."""

from __future__ import annotations

from .base import Baseline
from .curve import IntensityCurve
from .fitting import fit_baselines, load_baselines, load_facts, save_baselines
from .histogram import HistogramMatching, InvertedHistogramMatching
from .identity import Identity
from .training import fit_and_save

__all__ = [
    "Baseline",
    "HistogramMatching",
    "Identity",
    "IntensityCurve",
    "InvertedHistogramMatching",
    "fit_and_save",
    "fit_baselines",
    "load_baselines",
    "load_facts",
    "save_baselines",
]
