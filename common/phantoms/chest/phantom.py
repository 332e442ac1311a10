"""The chest phantom: one patient's CT with three reconstruction kernels, the true object and its label map."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..ct import KERNELS, MU_WATER, REFERENCE_VIEWS, ParallelBeamScanner, modulation
from ..dataset import Parameters, PhantomKind, Volume, check_integer, check_positive
from ..fields import FloatArray
from ..stack import Stack, scanner_affine
from .anatomy import HIGHEST_HU, LABEL_NAMES, Anatomy, make_anatomy
from .subject import ChestSubject
from .wall import COUCH_HALF_WIDTH_MM, couch_bottom_mm, skin_half_axes_mm

TASK_ID = 1  # first entry of every patient's seed: the phantoms of different tasks share no random numbers
VERSION = 1  # of the generator: raise it when the same seed gives other data

REFERENCE_SIZE = 512
SPACING_MM = (0.55, 0.85)  # of a slice of 512 x 512
LEVELS_MM = (62.0, 192.0)  # below the apex: between manubrium and liver
SMALLEST_VIEWS = 180
BODY_MARGIN_MM = 8.0  # around skin and couch, for the irregularity of the skin
PHOTONS, DOSE_FACTOR = 1e5, (0.7, 1.4)
LOWEST_HU = -1024.0
EMPHYSEMA_SHARE = 0.6  # of the patients
GOLDEN_RATIO = (5**0.5 - 1) / 2


def chest_parameters(
    *,
    patients: int | None = None,
    slices: int | None = None,
    size: int | None = None,
    seed: int = 0,
    slice_mm: float | None = None,
) -> dict[str, Any]:
    """Check the arguments, fill in the defaults (25 patients, 4 slices of 512 x 512, 5 mm apart)."""
    parameters: dict[str, Any] = {
        "kind": "chest",
        "patients": check_integer("patients", 25 if patients is None else patients, minimum=4),
        "slices": check_integer("slices", 4 if slices is None else slices, minimum=1),
        "size": check_integer("size", REFERENCE_SIZE if size is None else size, minimum=32, multiple_of=8),
        "seed": check_integer("seed", seed, minimum=0),
        "slice_mm": check_positive("slice_mm", 5.0 if slice_mm is None else slice_mm, unit="mm"),
        "version": VERSION,
    }
    span, largest = (parameters["slices"] - 1) * parameters["slice_mm"], LEVELS_MM[1] - LEVELS_MM[0]
    if span > largest:
        raise ValueError(
            f"(`slices` - 1) x `slice_mm` must be <= {largest:g} mm, as the phantom has neither neck nor abdomen, "
            f"got {span:g} mm: choose fewer slices or a smaller `slice_mm`."
        )
    return parameters


def make_chest(patient: int, parameters: Parameters) -> dict[str, Volume]:
    """Generate one patient.

    Args:
        patient: index of the patient; with the seed it determines everything, whatever the number of patients.
        parameters: as `chest_parameters` returns them.

    Returns:
        one volume (X, Y, Z) in HU for each kernel of ``KERNELS``, all from the same noisy scan; truth, the HU of the
        object itself; and label, uint8 with the values of ``LABEL_NAMES``. X runs to the patient's left, Y backwards,
        Z upwards.

    Example:
        >>> volumes = make_chest(0, chest_parameters(slices=1, size=64))
        >>> {name: volume.data.shape for name, volume in volumes.items()}  # doctest: +NORMALIZE_WHITESPACE
        {'B30f': (64, 64, 1), 'B50f': (64, 64, 1), 'B70f': (64, 64, 1), 'truth': (64, 64, 1), 'label': (64, 64, 1)}
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
    images = scan(rng, anatomy.hu, pixel_mm=pixel_mm, size=size)
    field = Anatomy(*(_central(array, size) for array in anatomy))
    arrays = {**images, "truth": field.hu, "label": field.label}
    return {name: Volume(_to_scanner_order(array), affine) for name, array in arrays.items()}


def scan(rng: np.random.Generator, hu: FloatArray, *, pixel_mm: float, size: int) -> dict[str, FloatArray]:
    """Scan an object once and reconstruct it with every kernel.

    Args:
        rng: source of dose and noise.
        hu: the object (slices, rows, columns) in HU, air around it.
        pixel_mm: its pixel size, and that of the images.
        size: rows and columns of the images.

    Returns:
        (slices, size, size) in HU, -1024 to 3071, for each kernel.
    """
    views = max(SMALLEST_VIEWS, round(REFERENCE_VIEWS * size / REFERENCE_SIZE))
    scanner = ParallelBeamScanner(hu.shape[1:], image_size=size, pixel_mm=pixel_mm, views=views)
    attenuation = MU_WATER * (1 + hu / 1000)
    line_integrals = scanner.project(attenuation)
    line_integrals = scanner.add_noise(rng, line_integrals, photons=PHOTONS * rng.uniform(*DOSE_FACTOR))
    images = {name: scanner.reconstruct(line_integrals, partial(modulation, name)) for name in KERNELS}
    return {name: np.clip(1000 * (mu / MU_WATER - 1), LOWEST_HU, HIGHEST_HU) for name, mu in images.items()}


def has_emphysema(patient: int, *, seed: int) -> bool:
    """Whether a patient has emphysema: 60 % have it, and of three neighbours never none and never all.

    A golden-ratio sequence with an offset from the seed, so that every split has both for every seed.
    """
    offset = np.random.default_rng([TASK_ID, seed]).random()
    return bool((offset + patient * GOLDEN_RATIO) % 1 < EMPHYSEMA_SHARE)


def _levels(rng: np.random.Generator, parameters: Parameters) -> FloatArray:
    """Positions of the slices in mm below the apex."""
    steps = np.arange(parameters["slices"]) * parameters["slice_mm"]
    first, last = LEVELS_MM
    return np.asarray(rng.uniform(first, last - steps[-1]) + steps)


def _object_shape(subject: ChestSubject, *, pixel_mm: float, size: int) -> tuple[int, int]:
    """Rows and columns that hold both the image and the whole body on its couch: nothing is truncated."""
    half_y = couch_bottom_mm(subject) + BODY_MARGIN_MM
    half_x = max(skin_half_axes_mm(subject)[0], COUCH_HALF_WIDTH_MM) + BODY_MARGIN_MM
    rows, columns = (max(size, 2 * int(np.ceil(half / pixel_mm))) for half in (half_y, half_x))
    return rows, columns


def _central(array: NDArray[Any], size: int) -> NDArray[Any]:
    """The central ``size`` x ``size`` pixels of slices (slices, rows, columns), around pixel (n // 2, n // 2)."""
    rows, columns = ((n - size) // 2 for n in array.shape[1:])
    return array[:, rows : rows + size, columns : columns + size]


def _to_scanner_order(array: NDArray[Any]) -> NDArray[Any]:
    """(z down, y backwards, x to the left) to (x to the left, y backwards, z up)."""
    return array.transpose(2, 1, 0)[:, :, ::-1]


CHEST = PhantomKind(
    name="chest",
    domains=tuple(KERNELS),
    label_names=LABEL_NAMES,
    description="Digital chest phantom: one noisy CT scan a patient with three reconstruction kernels, its true HU "
    "(key `truth`) and label map.",
    check_parameters=chest_parameters,
    make_patient=make_chest,
)
