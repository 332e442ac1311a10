"""The chest phantom: one patient's CT with three reconstruction kernels, the true object and its label map."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..ct import KERNELS, MU_WATER, REFERENCE_VIEWS, ParallelBeamScanner, modulation
from ..dataset import Parameters, PhantomKind, Volume, check_stack, spread_evenly
from ..fields import FloatArray
from ..stack import Stack, scanner_affine, to_scanner_order
from .anatomy import HIGHEST_HU, LABEL_NAMES, Anatomy, make_anatomy
from .subject import ChestSubject
from .wall import COUCH_HALF_WIDTH_MM, couch_bottom_mm, skin_half_axes_mm

TASK_ID = 1  # first entry of every patient's seed: the phantoms of different tasks share no random numbers
VERSION = 1  # version of the generator: increase it when the same seed gives other data

REFERENCE_SIZE = 512
SPACING_MM = (0.55, 0.85)  # pixel size of a slice of 512 x 512
LEVELS_MM = (62.0, 192.0)  # below the apex: between manubrium and liver
SMALLEST_VIEWS = 180
BODY_MARGIN_MM = 8.0  # around skin and couch, for the irregularity of the skin
PHOTONS, DOSE_FACTOR = 1e5, (0.7, 1.4)
LOWEST_HU = -1024.0
EMPHYSEMA_SHARE = 0.6  # fraction of patients


def chest_parameters(*, kind: str = "chest", **arguments: Any) -> dict[str, Any]:
    """Check the arguments, see `check_stack`; the defaults are 25 patients, 4 slices of 512 x 512, 5 mm apart."""
    return check_stack(
        kind,
        version=VERSION,
        defaults=(25, 4, REFERENCE_SIZE, 5.0),
        largest_span_mm=LEVELS_MM[1] - LEVELS_MM[0],
        absent="neither neck nor abdomen",
        **arguments,
    )


def make_chest(patient: int, parameters: Parameters) -> dict[str, Volume]:
    """Generate one patient.

    Args:
        patient: Index of the patient; with the seed it determines everything, whatever the number of patients.
        parameters: Parameters as `chest_parameters` returns them.

    Returns:
        Volumes by name: one (X, Y, Z) in HU for each kernel of `KERNELS`, all from the same noisy scan; truth, the HU
        of the object itself; and label, uint8 with the values of `LABEL_NAMES`. X runs to the patient's left, Y
        backwards, Z upwards.

    Example:
        >>> volumes = make_chest(0, chest_parameters(slices=1, size=64))
        >>> {name: volume.data.shape for name, volume in volumes.items()}  # doctest: +NORMALIZE_WHITESPACE
        {'B30f': (64, 64, 1), 'B50f': (64, 64, 1), 'B70f': (64, 64, 1), 'truth': (64, 64, 1), 'label': (64, 64, 1)}
    """
    return make_patient(patient, parameters, scan)


def make_patient(
    patient: int,
    parameters: Parameters,
    scan: Callable[..., dict[str, FloatArray]],
    *,
    surround: Callable[[np.random.Generator, Anatomy, Stack], Anatomy] | None = None,
) -> dict[str, Volume]:
    """Generate one patient whose images a function with the arguments of `scan` makes; see `make_chest`.

    Args:
        patient: Index of the patient.
        parameters: Parameters as `chest_parameters` returns them.
        scan: Function with the arguments of `scan`.
        surround: Function that puts something beside the patient, on slices that may be larger; by default nothing.

    Returns:
        Volumes by name: the images of `scan`, truth and label.
    """
    rng = np.random.default_rng([TASK_ID, parameters["seed"], patient])
    size = parameters["size"]
    spacing_mm = rng.uniform(*SPACING_MM)
    emphysema = has_emphysema(patient, seed=parameters["seed"])
    subject = ChestSubject.draw(rng, field_mm=REFERENCE_SIZE * spacing_mm, emphysema=emphysema)
    pixel_mm = spacing_mm * REFERENCE_SIZE / size
    stack = Stack(
        levels_mm=_levels(rng, parameters),
        slice_mm=parameters["slice_mm"],
        in_plane_shape=_object_shape(subject, pixel_mm=pixel_mm, size=size),
        pixel_mm=pixel_mm,
    )
    affine = scanner_affine(rng, parameters, pixel_mm=pixel_mm)
    anatomy = make_anatomy(rng, subject, stack)
    if surround is not None:
        anatomy = surround(rng, anatomy, stack)
    images = scan(rng, anatomy.hu, pixel_mm=pixel_mm, size=size)
    field = Anatomy(*(_central(array, size) for array in anatomy))
    arrays = {**images, "truth": field.hu, "label": field.label}
    return {name: Volume(to_scanner_order(array), affine) for name, array in arrays.items()}


def scan(rng: np.random.Generator, hu: FloatArray, *, pixel_mm: float, size: int) -> dict[str, FloatArray]:
    """Scan an object once and reconstruct it with every kernel.

    Args:
        rng: Source of dose and noise.
        hu: Object (slices, rows, columns) in HU, surrounded by air.
        pixel_mm: Pixel size of the object and of the images.
        size: Rows and columns of the images.

    Returns:
        Image (slices, size, size) in HU, -1024 to 3071, for each kernel.
    """
    images = reconstruct_kernels(rng, hu, pixel_mm=pixel_mm, size=size, photons=PHOTONS * rng.uniform(*DOSE_FACTOR))
    return {name: np.clip(image, LOWEST_HU, HIGHEST_HU) for name, image in images.items()}


def reconstruct_kernels(
    rng: np.random.Generator, hu: FloatArray, *, pixel_mm: float, size: int, photons: float
) -> dict[str, FloatArray]:
    """Scan an object as `scan` does, at a dose in photons (`ParallelBeamScanner.add_noise`); HU are not limited."""
    scanner = chest_scanner(hu, pixel_mm=pixel_mm, size=size)
    attenuation = MU_WATER * (1 + hu / 1000)
    line_integrals = scanner.project(attenuation)
    line_integrals = scanner.add_noise(rng, line_integrals, photons=photons)
    images = {name: scanner.reconstruct(line_integrals, partial(modulation, name)) for name in KERNELS}
    return {name: 1000 * (mu / MU_WATER - 1) for name, mu in images.items()}


def chest_scanner(hu: FloatArray, *, pixel_mm: float, size: int) -> ParallelBeamScanner:
    """Return the scanner of an object (slices, rows, columns), with views in proportion to the image's size."""
    views = max(SMALLEST_VIEWS, round(REFERENCE_VIEWS * size / REFERENCE_SIZE))
    return ParallelBeamScanner(hu.shape[1:], image_size=size, pixel_mm=pixel_mm, views=views)


def has_emphysema(patient: int, *, seed: int) -> bool:
    """Return whether a patient has emphysema: 60 % do, and of three neighbours at least one but never all."""
    return spread_evenly(patient, seed=seed, task=TASK_ID) % 1 < EMPHYSEMA_SHARE


def _levels(rng: np.random.Generator, parameters: Parameters) -> FloatArray:
    """Draw the positions of the slices in mm below the apex."""
    steps = np.arange(parameters["slices"]) * parameters["slice_mm"]
    first, last = LEVELS_MM
    return np.asarray(rng.uniform(first, last - steps[-1]) + steps)


def _object_shape(subject: ChestSubject, *, pixel_mm: float, size: int) -> tuple[int, int]:
    """Return rows and columns that hold both the image and the whole body on its couch: nothing is truncated."""
    half_y = couch_bottom_mm(subject) + BODY_MARGIN_MM
    half_x = max(skin_half_axes_mm(subject)[0], COUCH_HALF_WIDTH_MM) + BODY_MARGIN_MM
    rows, columns = (max(size, 2 * int(np.ceil(half / pixel_mm))) for half in (half_y, half_x))
    return rows, columns


def _central(array: NDArray[Any], size: int) -> NDArray[Any]:
    """Crop slices (slices, rows, columns) to the central `size` x `size` pixels, around pixel (n // 2, n // 2)."""
    rows, columns = ((n - size) // 2 for n in array.shape[1:])
    return array[:, rows : rows + size, columns : columns + size]


CHEST = PhantomKind(
    name="chest",
    domains=tuple(KERNELS),
    label_names=LABEL_NAMES,
    description="Digital chest phantom: one noisy CT scan per patient with three reconstruction kernels, its true HU "
    "(key `truth`) and label map.",
    check_parameters=chest_parameters,
    make_patient=make_chest,
)
