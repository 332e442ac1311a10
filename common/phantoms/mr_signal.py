"""Magnetic resonance signal: spin echo equation, tissue texture, coil sensitivity and Rician noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .fields import FloatArray, gaussian_random_field


class Relaxation(NamedTuple):
    """Relaxation times in ms and proton density relative to water."""

    t1_ms: float
    t2_ms: float
    pd: float


class SpinEcho(NamedTuple):
    """Repetition time, echo time in ms."""

    tr_ms: float
    te_ms: float


class Texture(NamedTuple):
    """Deviations from a tissue's mean relaxation, as natural logarithms of factors; arrays or 0."""

    t1: FloatArray | float = 0.0
    t2: FloatArray | float = 0.0
    pd: FloatArray | float = 0.0


NO_TEXTURE = Texture()


def spin_echo(tissue: Relaxation, sequence: SpinEcho, *, texture: Texture = NO_TEXTURE) -> FloatArray:
    """Spin echo signal S = PD (1 - exp(-TR / T1)) exp(-TE / T2), relative to fully relaxed water.

    E. M. Haacke et al., "Magnetic Resonance Imaging: Physical Principles and Sequence Design", 1999, section 8.

    Example:
        >>> round(float(spin_echo(Relaxation(832, 75, 0.71), SpinEcho(600, 10))), 3)
        0.319
    """
    saturation = 1 - np.exp(-sequence.tr_ms / (tissue.t1_ms * np.exp(texture.t1)))
    decay = np.exp(-sequence.te_ms / (tissue.t2_ms * np.exp(texture.t2)))
    return np.asarray(tissue.pd * np.exp(texture.pd) * saturation * decay, dtype=np.float32)


def bias_field(
    rng: np.random.Generator, shape: Sequence[int], *, spacing_mm: Sequence[float], sd: float, sigma_mm: float = 60.0
) -> FloatArray:
    """Logarithm of a smooth coil sensitivity: noise of standard deviation ``sd`` and filter width ``sigma_mm``."""
    return np.float32(sd) * gaussian_random_field(rng, shape, sigma=[sigma_mm / s for s in spacing_mm])


def rician_noise(rng: np.random.Generator, signal: FloatArray, *, sd: float) -> FloatArray:
    """Magnitude of the signal with complex Gaussian noise of standard deviation ``sd`` in each part.

    H. Gudbjartsson, S. Patz, "The Rician Distribution of Noisy MRI Data", Magnetic Resonance in Medicine 34(6),
    1995, 910-914.
    """
    real = signal + np.float32(sd) * rng.standard_normal(signal.shape, dtype=np.float32)
    imaginary = np.float32(sd) * rng.standard_normal(signal.shape, dtype=np.float32)
    return np.hypot(real, imaginary)
