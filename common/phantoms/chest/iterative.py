"""The chest phantom with edge-preserving iterative reconstructions beside its linear kernels, and doses of a clinic.

An iterative reconstruction smooths uniform tissue and keeps edges, so that it is no linear function of the raw data: no
filter turns it into a linear kernel's image, or back.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType

import numpy as np
from scipy import ndimage

from ..dataset import Parameters, PhantomKind, Volume
from ..fields import FloatArray
from .anatomy import HIGHEST_HU, LABEL_NAMES
from .phantom import CHEST, LOWEST_HU, PHOTONS, chest_parameters, make_patient, reconstruct_kernels

ITERATIVE: Mapping[str, str] = MappingProxyType({"I30f": "B30f", "I50f": "B50f", "I70f": "B70f"})  # and their kernel
TUBE_CURRENT_TIME_MAS = (10.0, 300.0)
REFERENCE_MAS = 100.0  # with PHOTONS

STRENGTH = 0.5  # of the total variation, in SDs of the local noise
ITERATIONS = 40
DETAIL_MM = 1.2  # SD of the Gaussian whose difference from the image is noise and edges
NEIGHBOURHOOD_MM = 6.0  # SD of the Gaussian that averages it
EDGE_LIMIT = 2.0  # in means of the neighbourhood: larger differences are edges
SD_OVER_MEAN = np.sqrt(np.pi / 2)  # of the absolute value of normal noise


def make_chest_iterative(patient: int, parameters: Parameters) -> dict[str, Volume]:
    """Generate one patient: the anatomy of `make_chest`, another dose, and the iterative reconstructions.

    Args:
        patient: Index of the patient, as for `make_chest`.
        parameters: Parameters as `chest_parameters` returns them.

    Returns:
        Volumes by name: one (X, Y, Z) in HU for each kernel and each of `ITERATIVE`, all from one noisy scan; truth and
        label.

    Example:
        >>> list(make_chest_iterative(0, chest_parameters(kind="chest_iterative", slices=1, size=64)))
        ['B30f', 'B50f', 'B70f', 'I30f', 'I50f', 'I70f', 'truth', 'label']
    """
    return make_patient(patient, parameters, scan_iteratively)


def scan_iteratively(rng: np.random.Generator, hu: FloatArray, *, pixel_mm: float, size: int) -> dict[str, FloatArray]:
    """Scan an object once at a random dose, and reconstruct it with every kernel, linearly and iteratively.

    Args:
        rng: Source of dose and noise.
        hu: Object (slices, rows, columns) in HU, surrounded by air.
        pixel_mm: Pixel size of the object and of the images.
        size: Rows and columns of the images.

    Returns:
        Image (slices, size, size) in HU, -1024 to 3071, for each kernel and each of `ITERATIVE`.
    """
    current_mas = np.exp(rng.uniform(*np.log(TUBE_CURRENT_TIME_MAS)))
    images = reconstruct_kernels(rng, hu, pixel_mm=pixel_mm, size=size, photons=PHOTONS * current_mas / REFERENCE_MAS)
    limit = partial(np.clip, a_min=LOWEST_HU, a_max=HIGHEST_HU)
    stored = {kernel: limit(image) for kernel, image in images.items()}
    return stored | {
        name: limit(np.stack([edge_preserving(image, pixel_mm) for image in images[kernel]]))
        for name, kernel in ITERATIVE.items()
    }


def edge_preserving(image: FloatArray, pixel_mm: float) -> FloatArray:
    """Smooth an image where it is uniform and keep its edges; the strength follows the local noise.

    It minimises |u - image|^2 / 2 + sum_x w(x) |grad u(x)| with w = `STRENGTH` times the local SD of the noise: the
    model of L. I. Rudin, S. Osher, E. Fatemi, Physica D 60, 1992, 259-268, by the accelerated projected gradient of
    A. Beck, M. Teboulle, IEEE Trans. Image Process. 18(11), 2009, 2419-2434, section 4, after `ITERATIONS` steps.

    Args:
        image: Image (rows, columns) in HU.
        pixel_mm: Pixel size in mm.

    Returns:
        Image of the same shape, float32.
    """
    image = image.astype(np.float32)
    weight = (STRENGTH * local_noise(image, pixel_mm)).astype(np.float32)
    dual = np.zeros((2, *image.shape), dtype=np.float32)
    ahead, step = dual, 1.0
    for _ in range(ITERATIONS):
        smooth = image + _divergence(ahead)
        moved = ahead + _gradient(smooth) / 8  # 8 bounds the squared norm of the gradient
        moved *= np.minimum(1.0, weight / np.maximum(np.hypot(moved[0], moved[1]), 1e-6))
        next_step = (1 + np.sqrt(1 + 4 * step**2)) / 2
        ahead = moved + np.float32((step - 1) / next_step) * (moved - dual)
        dual, step = moved, next_step
    return np.asarray(image + _divergence(dual), dtype=np.float32)


def local_noise(image: FloatArray, pixel_mm: float) -> FloatArray:
    """Estimate the SD of the noise around each pixel (rows, columns), in HU; edges count up to a limit."""
    detail = np.abs(image - ndimage.gaussian_filter(image, DETAIL_MM / pixel_mm))
    average = partial(ndimage.gaussian_filter, sigma=NEIGHBOURHOOD_MM / pixel_mm)
    return np.asarray(SD_OVER_MEAN * average(np.minimum(detail, EDGE_LIMIT * average(detail))))


def _gradient(image: FloatArray) -> FloatArray:
    """Return the differences (2, rows, columns) to the next pixel; 0 at the last one."""
    gradient = np.zeros((2, *image.shape), dtype=np.float32)
    gradient[0, :-1] = np.diff(image, axis=0)
    gradient[1, :, :-1] = np.diff(image, axis=1)
    return gradient


def _divergence(field: FloatArray) -> FloatArray:
    """Return the divergence (rows, columns): minus the adjoint of `_gradient`."""
    divergence = field[0] + field[1]
    divergence[1:] -= field[0, :-1]
    divergence[:, 1:] -= field[1, :, :-1]
    divergence[-1] -= field[0, -1]
    divergence[:, -1] -= field[1, :, -1]
    return np.asarray(divergence)


CHEST_ITERATIVE = PhantomKind(
    name="chest_iterative",
    domains=(*CHEST.domains, *ITERATIVE),
    label_names=LABEL_NAMES,
    description="Digital chest phantom: one noisy CT scan per patient at 10 to 300 mAs with three linear "
    "reconstruction kernels and three edge-preserving iterative ones, its true HU (key `truth`) and label map.",
    check_parameters=partial(chest_parameters, kind="chest_iterative"),
    make_patient=make_chest_iterative,
)
