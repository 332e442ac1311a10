"""The chest phantom on scanners of a clinic: arms beside the body, three families of kernels, no mere filters between.

Three things make a reconstruction differ from another by more than a radial filter: sharpness falls off from the centre
of rotation, noise streaks run between the arms where few photons arrive, and some reconstructions smooth those rays.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType

import numpy as np
from scipy import fft, ndimage

from ..arms import Arms
from ..ct import KERNELS, MU_WATER, Kernel, ParallelBeamScanner, controlled_photons, kernel_curve
from ..dataset import Parameters, PhantomKind, Volume
from ..fields import FloatArray
from ..stack import Stack
from .anatomy import HIGHEST_HU, LABEL_NAMES, LABELS, Anatomy
from .iterative import REFERENCE_MAS, TUBE_CURRENT_TIME_MAS
from .phantom import LOWEST_HU, PHOTONS, chest_parameters, chest_scanner, make_patient

# Families in the style of three vendors: soft, medium and sharp. The figures are ours, of the usual size, and measured
# on no scanner; what they share with the kernels of that name is their order and which of them enhance edges.
FAMILIES: Mapping[str, Mapping[str, Kernel]] = MappingProxyType(
    {
        "Siemens": KERNELS,
        "GE": {"STANDARD": Kernel(4.2, 6.8, 0.0), "LUNG": Kernel(6.4, 9.4, 1.5), "BONE": Kernel(8.8, 11.4, 1.0)},
        "Philips": {"B": Kernel(3.8, 6.6, 0.1), "D": Kernel(5.0, 8.8, 0.5), "YA": Kernel(7.2, 10.4, 1.0)},
    }
)
SCANNER_KERNELS: Mapping[str, Kernel] = {
    name: kernel for family in FAMILIES.values() for name, kernel in family.items()
}
ADAPTIVE: Mapping[str, str] = MappingProxyType({"A30f": "B30f", "A50f": "B50f", "A70f": "B70f"})  # and their kernel

VIEW_DEG = (0.25, 0.75)  # rotation of the gantry during one view: 1440 to 480 views per turn
NOISE_LIMIT = 0.1  # SD of a line integral above which it is smoothed: 100 photons
ESTIMATE_SAMPLES = (1.0, 4.0)  # SDs of the Gaussian, in views and samples, that estimates how many photons arrive
WIDTHS_SAMPLES = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0)  # SDs of the Gaussians among which the smoothing interpolates

ARMS_DOWN_SHARE = 0.6  # fraction of the patients


def make_chest_scanner(patient: int, parameters: Parameters) -> dict[str, Volume]:
    """Generate one patient: the body of `make_chest`, perhaps with the arms beside it, on another scanner.

    Args:
        patient: Index of the patient, as for `make_chest`.
        parameters: Parameters as `chest_parameters` returns them.

    Returns:
        Volumes by name: one (X, Y, Z) in HU for each kernel of `FAMILIES` and each of `ADAPTIVE`, all from one noisy
        scan; truth and label.

    Example:
        >>> list(make_chest_scanner(0, CHEST_SCANNER.check_parameters(slices=1, size=64)))
        ['B30f', 'B50f', 'B70f', 'STANDARD', 'LUNG', 'BONE', 'B', 'D', 'YA', 'A30f', 'A50f', 'A70f', 'truth', 'label']
    """
    return make_patient(patient, parameters, scan_clinically, surround=perhaps_with_arms)


def scan_clinically(rng: np.random.Generator, hu: FloatArray, *, pixel_mm: float, size: int) -> dict[str, FloatArray]:
    """Scan an object once, with a random dose and length of the views, and reconstruct it with every kernel.

    Args:
        rng: Source of dose, length of the views and noise.
        hu: Object (slices, rows, columns) in HU, surrounded by air.
        pixel_mm: Pixel size of the object and of the images.
        size: Rows and columns of the images.

    Returns:
        Image (slices, size, size) in HU, -1024 to 3071, for each kernel of `FAMILIES` and each of `ADAPTIVE`.
    """
    doses = PHOTONS / REFERENCE_MAS * np.array(TUBE_CURRENT_TIME_MAS)
    photons = float(np.exp(rng.uniform(*np.log(doses))))
    view_rad = np.deg2rad(rng.uniform(*VIEW_DEG))
    scanner = chest_scanner(hu, pixel_mm=pixel_mm, size=size)
    exact = blur_by_rotation(scanner.project(MU_WATER * (1 + hu / 1000)), view_rad)
    photons = controlled_photons(exact, photons, largest=doses[1])
    raw = scanner.add_noise(rng, exact, photons=photons)
    smoothed = smooth_starved_rays(scanner, raw, photons=photons)
    sources = {name: (raw, kernel) for name, kernel in SCANNER_KERNELS.items()}
    sources |= {name: (smoothed, SCANNER_KERNELS[kernel]) for name, kernel in ADAPTIVE.items()}
    images = {}
    for name, (data, kernel) in sources.items():
        attenuation = scanner.reconstruct(data, partial(kernel_curve, kernel))
        images[name] = np.clip(1000 * (attenuation / MU_WATER - 1), LOWEST_HU, HIGHEST_HU)
    return images


def blur_by_rotation(line_integrals: FloatArray, view_rad: float) -> FloatArray:
    """Average line integrals over the angle by which the gantry turns during a view.

    An object at the distance r from the centre of rotation is blurred across the radius by a box of the width
    r * `view_rad`; at the centre it stays as it is.

    Args:
        line_integrals: Line integrals (S, views, samples) over 180 degrees, with sample (samples // 2) at the centre.
        view_rad: Angle of a view in radians.

    Returns:
        Line integrals of the same shape, float32.
    """
    views = line_integrals.shape[1]
    opposite = np.roll(line_integrals[..., ::-1], 1, axis=-1)  # a view from the other side is its mirror image
    turn = np.concatenate([line_integrals, opposite], axis=1).astype(np.float32)
    order = np.arange(views + 1, dtype=np.float32)
    spectrum = fft.rfft(turn, axis=1) * np.sinc(order * np.float32(view_rad / (2 * np.pi)))[:, None]
    return np.asarray(fft.irfft(spectrum, 2 * views, axis=1)[:, :views])


def smooth_starved_rays(scanner: ParallelBeamScanner, line_integrals: FloatArray, *, photons: float) -> FloatArray:
    """Smooth line integrals along the detector where few photons arrive, the more the noisier they are.

    The adaptive filtration of streaks of J. Hsieh, Med. Phys. 25(11), 1998, 2139-2147, and M. Kachelriess, O. Watzke,
    W. A. Kalender, Med. Phys. 28(4), 2001, 475-490, in a simple form: a Gaussian whose width brings the SD of the noise
    down to `NOISE_LIMIT`, as far as the widest one does. Rays below that limit stay as they are.

    Args:
        scanner: Scanner that measured the line integrals.
        line_integrals: Line integrals (S, views, samples) as measured.
        photons: Dose, see `ParallelBeamScanner.add_noise`.

    Returns:
        Line integrals of the same shape, float32.
    """
    transmission = np.exp(-line_integrals.astype(np.float32))
    arriving = ndimage.gaussian_filter(transmission, (0, *ESTIMATE_SAMPLES))
    excess = (scanner.noise_sd(arriving, photons=photons) / NOISE_LIMIT) ** 2 - 1
    # A Gaussian of SD s divides the variance of independent samples by 2 sqrt(pi) s.
    width = np.clip(excess / (2 * np.sqrt(np.pi)), 0, WIDTHS_SAMPLES[-1])
    place = np.interp(width, WIDTHS_SAMPLES, np.arange(len(WIDTHS_SAMPLES)))
    smoothed = np.zeros_like(transmission)
    for index, sd in enumerate(WIDTHS_SAMPLES):
        share = np.maximum(1 - np.abs(place - index), 0).astype(np.float32)
        smoothed += share * (ndimage.gaussian_filter1d(transmission, sd, axis=-1) if sd else transmission)
    return np.where(width > 0, -np.log(smoothed), line_integrals).astype(np.float32)


def perhaps_with_arms(rng: np.random.Generator, anatomy: Anatomy, stack: Stack) -> Anatomy:
    """Put the arms of some patients beside their bodies; those of the others are raised, out of the scan."""
    return with_arms(rng, anatomy, stack) if rng.random() < ARMS_DOWN_SHARE else anatomy


def with_arms(rng: np.random.Generator, anatomy: Anatomy, stack: Stack) -> Anatomy:
    """Put both upper arms beside the body, on slices that are widened to hold them.

    Args:
        rng: Source of size and place of the arms.
        anatomy: HU and labels (slices, rows, columns); air beside the body.
        stack: Voxel grid of the anatomy.

    Returns:
        Anatomy (slices, rows, wider columns); the humerus is labelled as bone.
    """
    arms = Arms.draw(rng, stack, anatomy.hu)
    return Anatomy(arms.beside(anatomy.hu), np.where(arms.bone, np.uint8(LABELS["bone"]), arms.widened(anatomy.label)))


CHEST_SCANNER = PhantomKind(
    name="chest_scanner",
    domains=(*SCANNER_KERNELS, *ADAPTIVE),
    label_names=LABEL_NAMES,
    description="Digital chest phantom on scanners of a clinic: one noisy CT scan per patient at 10 to 300 mAs, often "
    "with the arms beside the body, less sharp away from the centre; kernels in the style of three vendors, and three "
    "after adaptive filtration of streaks; its true HU (key `truth`) and label map.",
    check_parameters=partial(chest_parameters, kind="chest_scanner"),
    make_patient=make_chest_scanner,
)
