"""Images of the brain phantom: relaxation of its tissues at 3 T, their texture, and the scanner.

The scanner has the spin echo equation, coil sensitivity and Rician noise, and two protocols: T1 and T2, and T2 and PD
as in the IXI data set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from ..fields import FloatArray, gaussian_random_field, multiscale_noise
from .anatomy import Fractions, brain_mask, perivascular_share, vessel_share
from .subject import Subject

FLUID_T1_SD = 0.1
# Pulsating fluid loses signal in a long echo where the noise exceeds the threshold.
FLOW_THRESHOLD, FLOW_LOSS = 0.8, 0.3

FLUIDS = ("ventricles", "sulcal_csf", "outer_csf", "vessels")
PERFORATED = ("white_matter", "gliosis", "putamen", "pallidum")  # tissues with visible perivascular spaces
IRON_WITH_AGE = {"pallidum": 0.25, "putamen": 0.15, "caudate": 0.08}  # T2 falls by this fraction (ln) over the ages

SEQUENCE_SD = 0.05  # variation of TR and TE between patients
TISSUE_SD = (0.03, 0.03, 0.01)  # variation of T1, T2 and proton density of a tissue between patients

# Texture within tissue: (filter width in mm, weight) of its scales, and SD of ln T1, ln T2, ln PD per SD of the noise.
# Water content moves all three together and so shows in both images, iron shortens T2, macromolecules T1. Together
# with noise they give the within-tissue SD of patients (5-7 % of the white matter in T1, 10-20 % in T2).
WATER_SCALES_MM, WATER_SD = ((7.0, 0.7), (1.3, 0.7)), (0.04, 0.05, 0.015)
IRON_SCALES_MM, IRON_T2_SD = ((9.0, 0.7), (1.2, 0.7)), 0.09
MACROMOLECULE_SCALES_MM, MACROMOLECULE_T1_SD = ((8.0, 0.7), (1.2, 0.7)), 0.04

FLOW_SCALES_MM = ((4.0, 1.0),)  # scales of the noise that represents flow

RECEIVE_BIAS_SD = 0.09  # one coil receives both images ...
SEQUENCE_BIAS_SD = 0.07  # ... but their flip angles vary differently over the head
WHITE_MATTER_LEVEL = 1000.0  # mean of white matter in the stored images


class Relaxation(NamedTuple):
    """Relaxation times in ms and proton density relative to water."""

    t1_ms: float
    t2_ms: float
    pd: float


class SpinEcho(NamedTuple):
    """Repetition time and echo time in ms."""

    tr_ms: float
    te_ms: float


class InversionRecovery(NamedTuple):
    """Repetition, inversion and echo time in ms of an inversion-prepared gradient echo, such as MPRAGE."""

    tr_ms: float
    ti_ms: float
    te_ms: float


PulseSequence = SpinEcho | InversionRecovery


class Texture(NamedTuple):
    """Deviations from a tissue's mean relaxation, as natural logarithms of factors; arrays or 0."""

    t1: FloatArray | float = 0.0
    t2: FloatArray | float = 0.0
    pd: FloatArray | float = 0.0


NO_TEXTURE = Texture()


def spin_echo(tissue: Relaxation, sequence: SpinEcho, *, texture: Texture = NO_TEXTURE) -> FloatArray:
    """Compute the spin echo signal S = PD (1 - exp(-TR / T1)) exp(-TE / T2), relative to fully relaxed water.

    E. M. Haacke et al., "Magnetic Resonance Imaging: Physical Principles and Sequence Design", 1999, section 8.

    Example:
        >>> round(float(spin_echo(Relaxation(832, 75, 0.71), SpinEcho(600, 10))), 3)
        0.319
    """
    saturation = 1 - np.exp(-sequence.tr_ms / (tissue.t1_ms * np.exp(texture.t1)))
    decay = np.exp(-sequence.te_ms / (tissue.t2_ms * np.exp(texture.t2)))
    return np.asarray(tissue.pd * np.exp(texture.pd) * saturation * decay, dtype=np.float32)


def inversion_recovery(tissue: Relaxation, sequence: InversionRecovery, *, texture: Texture = NO_TEXTURE) -> FloatArray:
    """Compute the magnitude S = PD |1 - 2 exp(-TI / T1) / (1 + exp(-TR / T1))| exp(-TE / T2), relative to water.

    It is the steady state of inversions every TR, read at TI by pulses too small to disturb it. J. P. Mugler III,
    J. R. Brookeman, "Three-dimensional magnetization-prepared rapid gradient-echo imaging (3D MP RAGE)", Magnetic
    Resonance in Medicine 15(1), 1990, 152-157, has the sequence.

    Example:
        >>> round(float(inversion_recovery(Relaxation(832, 75, 0.71), InversionRecovery(2000, 1000, 3))), 3)
        0.306
    """
    t1 = tissue.t1_ms * np.exp(texture.t1)
    recovered = np.abs(1 - 2 * np.exp(-sequence.ti_ms / t1) / (1 + np.exp(-sequence.tr_ms / t1)))
    decay = np.exp(-sequence.te_ms / (tissue.t2_ms * np.exp(texture.t2)))
    return np.asarray(tissue.pd * np.exp(texture.pd) * recovered * decay, dtype=np.float32)


def bias_field(
    rng: np.random.Generator, shape: Sequence[int], *, spacing_mm: Sequence[float], sd: float, sigma_mm: float = 60.0
) -> FloatArray:
    """Draw the logarithm of a smooth coil sensitivity: noise of standard deviation `sd` and filter width `sigma_mm`."""
    return np.float32(sd) * gaussian_random_field(rng, shape, sigma=[sigma_mm / s for s in spacing_mm])


def rician_noise(rng: np.random.Generator, signal: FloatArray, *, sd: float) -> FloatArray:
    """Return the magnitude of the signal with complex Gaussian noise of standard deviation `sd` in each part.

    H. Gudbjartsson, S. Patz, "The Rician Distribution of Noisy MRI Data", Magnetic Resonance in Medicine 34(6),
    1995, 910-914.
    """
    real = signal + np.float32(sd) * rng.standard_normal(signal.shape, dtype=np.float32)
    imaginary = np.float32(sd) * rng.standard_normal(signal.shape, dtype=np.float32)
    return np.hypot(real, imaginary)


def inflow(flow: FloatArray) -> FloatArray:
    """Compute the gain of fluid in a T1-weighted image from noise of SD 1."""
    return np.exp(FLUID_T1_SD * flow)


def pulsation(flow: FloatArray) -> FloatArray:
    """Compute the gain of fluid in a T2-weighted image from noise of SD 1."""
    return np.exp(-FLOW_LOSS * np.clip(flow - FLOW_THRESHOLD, 0, 2))


def at_rest(flow: FloatArray) -> FloatArray:
    """Return the gain 1 of fluid in a short echo, during which it hardly moves."""
    return np.ones_like(flow)


class Weighting(NamedTuple):
    """Acquisition of one image.

    Attributes:
        sequence: Repetition and echo time, and inversion time where there is one.
        point_spread_mm: Standard deviation of the in-plane blur; echo trains blur.
        noise_sd: Standard deviation of the noise relative to white matter.
        fluid_gain: Function from noise of SD 1 to the factor of the signal of moving fluid.
    """

    sequence: PulseSequence
    point_spread_mm: float
    noise_sd: float
    fluid_gain: Callable[[FloatArray], FloatArray]


Protocol = Mapping[str, Weighting]
T1_T2: Protocol = {
    "T1": Weighting(SpinEcho(600, 10), 0.35, 0.035, inflow),
    "T2": Weighting(SpinEcho(4500, 95), 0.50, 0.045, pulsation),
}
# The two echoes of IXI's fast spin echo at 3 T (Hammersmith Hospital, brain-development.org): TR 5726 ms, TE 8 and 100
# ms. One receiver gives both the same noise, and white matter has 3.5 times the signal in the first echo.
T2_PD: Protocol = {
    "T2": Weighting(SpinEcho(5726, 100), 0.50, 0.045, pulsation),
    "PD": Weighting(SpinEcho(5726, 8), 0.50, 0.013, at_rest),
}
# At 3 T: J. P. Wansapura et al., JMRI 9(4), 1999, 531-538; G. J. Stanisz et al., MRM 54(3), 2005, 507-512;
# S. C. L. Deoni et al., MRM 53(1), 2005, 237-241. Proton densities: BrainWeb. Vessels, meninges, gliosis, choroid
# plexus and lesions: chosen to look as they do in patients.
TISSUES = {
    "white_matter": Relaxation(832, 75, 0.71),
    "gliosis": Relaxation(1050, 125, 0.79),
    "grey_matter": Relaxation(1400, 102, 0.80),
    "caudate": Relaxation(1280, 90, 0.80),
    "putamen": Relaxation(1200, 84, 0.80),
    "pallidum": Relaxation(1010, 62, 0.76),
    "thalamus": Relaxation(1180, 86, 0.78),
    "choroid_plexus": Relaxation(1500, 110, 0.85),
    "ventricles": Relaxation(4000, 1000, 1.00),
    "sulcal_csf": Relaxation(4000, 1000, 1.00),
    "vessels": Relaxation(1650, 5, 0.10),  # flow void
    "meninges": Relaxation(900, 45, 0.65),
    "oedema": Relaxation(1500, 165, 0.88),
    "tumour": Relaxation(1550, 135, 0.86),
    "necrosis": Relaxation(2400, 330, 0.95),
}


class Scanner(NamedTuple):
    """What a scanner does to all weightings.

    Attributes:
        tissues: Relaxation of each tissue at the scanner's field strength.
        receive_bias_sd: SD of the logarithm of the bias field that all images share.
        sequence_bias_sd: SD of that of each image alone.
        noise_outside: Whether air has noise, as scanners store it, and not 0.
    """

    tissues: Mapping[str, Relaxation] = TISSUES
    receive_bias_sd: float = RECEIVE_BIAS_SD
    sequence_bias_sd: float = SEQUENCE_BIAS_SD
    noise_outside: bool = False


SCANNER = Scanner()


def mr_images(
    rng: np.random.Generator,
    subject: Subject,
    fractions: Fractions,
    *,
    spacing_mm: Sequence[float],
    protocol: Protocol = T1_T2,
    scanner: Scanner = SCANNER,
) -> dict[str, FloatArray]:
    """Image the tissues with each weighting of a protocol.

    Args:
        rng: Source of texture, bias and noise.
        subject: Subject, whose age sets the iron in the basal ganglia.
        fractions: Fraction (nz, ny, nx) of each tissue.
        spacing_mm: Voxel size along z, y, x.
        protocol: Weightings by the names of the images; texture and anatomy do not depend on it.
        scanner: Scanner of all images.

    Returns:
        Images (nz, ny, nx) by name, white matter near `WHITE_MATTER_LEVEL`, 0 outside the tissues unless the scanner
        stores noise there.
    """
    shape = fractions["white_matter"].shape
    shown = (brain_mask(fractions) > 0.5) | scanner.noise_outside
    detailed = _with_vessels(rng, fractions, spacing_mm)
    texture = _tissue_texture(rng, shape, spacing_mm)
    flow = multiscale_noise(rng, shape, scales=FLOW_SCALES_MM, spacing=spacing_mm)
    tissues = {
        name: _patient_relaxation(rng, name, relaxation, subject) for name, relaxation in scanner.tissues.items()
    }
    receive_bias = bias_field(rng, shape, spacing_mm=spacing_mm, sd=scanner.receive_bias_sd)
    images = {}
    for name, weighting in protocol.items():
        sequence = type(weighting.sequence)(*(value * rng.normal(1, SEQUENCE_SD) for value in weighting.sequence))
        fluid_gain = weighting.fluid_gain(flow)
        signal = np.zeros(shape, dtype=np.float32)
        for tissue, share in detailed.items():
            if tissue in FLUIDS:
                signal += share * fluid_gain * _echo(tissues[tissue], sequence)
            else:
                signal += share * _echo(tissues[tissue], sequence, texture=texture)
        signal = ndimage.gaussian_filter(signal, [0, *(weighting.point_spread_mm / s for s in spacing_mm[1:])])
        signal *= np.exp(receive_bias + bias_field(rng, shape, spacing_mm=spacing_mm, sd=scanner.sequence_bias_sd))
        signal *= WHITE_MATTER_LEVEL / _white_matter_mean(signal, fractions["white_matter"])
        images[name] = shown * rician_noise(rng, signal, sd=weighting.noise_sd * WHITE_MATTER_LEVEL)
    return images


def _echo(tissue: Relaxation, sequence: PulseSequence, *, texture: Texture = NO_TEXTURE) -> FloatArray:
    if isinstance(sequence, InversionRecovery):
        return inversion_recovery(tissue, sequence, texture=texture)
    return spin_echo(tissue, sequence, texture=texture)


def _with_vessels(rng: np.random.Generator, fractions: Fractions, spacing_mm: Sequence[float]) -> Fractions:
    """Copy the fractions with pial vessels in the sulcal fluid and fluid around the perforating vessels."""
    shape = fractions["white_matter"].shape
    detailed = dict(fractions)
    perivascular = perivascular_share(rng, shape, spacing_mm=spacing_mm)
    fluid = fractions["sulcal_csf"]
    detailed["vessels"] = fluid * vessel_share(rng, shape, spacing_mm=spacing_mm)
    detailed["sulcal_csf"] = fluid - detailed["vessels"]
    for tissue in PERFORATED:
        detailed["sulcal_csf"] = detailed["sulcal_csf"] + perivascular * fractions[tissue]
        detailed[tissue] = (1 - perivascular) * fractions[tissue]
    return detailed


def _tissue_texture(rng: np.random.Generator, shape: Sequence[int], spacing_mm: Sequence[float]) -> Texture:
    water = multiscale_noise(rng, shape, scales=WATER_SCALES_MM, spacing=spacing_mm)
    iron = multiscale_noise(rng, shape, scales=IRON_SCALES_MM, spacing=spacing_mm)
    macromolecules = multiscale_noise(rng, shape, scales=MACROMOLECULE_SCALES_MM, spacing=spacing_mm)
    return Texture(
        t1=WATER_SD[0] * water - MACROMOLECULE_T1_SD * macromolecules,
        t2=WATER_SD[1] * water - IRON_T2_SD * iron,
        pd=WATER_SD[2] * water,
    )


def _patient_relaxation(rng: np.random.Generator, tissue: str, relaxation: Relaxation, subject: Subject) -> Relaxation:
    t1, t2, pd = (value * rng.normal(1, sd) for value, sd in zip(relaxation, TISSUE_SD, strict=True))
    iron = IRON_WITH_AGE.get(tissue, 0.0) * subject.ageing
    return Relaxation(t1, t2 * float(np.exp(-iron)), pd)


def _white_matter_mean(signal: FloatArray, white_matter: FloatArray) -> float:
    """Compute the mean signal, weighted in favour of pure white matter; 1 where a thin stack has none."""
    weights = white_matter**4
    total = float(weights.sum())
    return float((weights * signal).sum()) / total if total > 0 else 1.0
