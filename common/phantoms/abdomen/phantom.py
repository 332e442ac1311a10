"""The abdomen phantom: one patient's CT before contrast and, misaligned, after it, with the aligned truth."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..ct import MU_WATER, ParallelBeamScanner, modulation
from ..dataset import Parameters, PhantomKind, Volume, check_stack
from ..fields import FloatArray
from ..stack import Stack, scanner_affine, to_scanner_order
from .anatomy import Anatomy, make_anatomy
from .canvas import LABEL_NAMES
from .organs import lesion_types
from .subject import AbdomenSubject

TASK_ID = 2  # first entry of every patient's seed: the phantoms of different tasks share no random numbers
VERSION = 1  # version of the generator: increase it when the same seed gives other data
VARIED_VERSION = 2  # of varied patients

DOMAINS = ("NECT", "CECT")
REFERENCE_SIZE = 256
PIXEL_MM = 4 / 3  # of a slice of 256 x 256
LEVELS_MM = (40.0, 150.0)  # below the dome of the liver: between the bases of the lungs and the pelvis
CENTRE_MM = (66.0, 104.0)  # centre of the stack: all patients show liver, kidneys and great vessels
VIEWS, SMALLEST_VIEWS = 360, 180
PHOTONS = 2.6e5
KERNEL = "B30f"
VARIED = 1  # entry of the seed of varied patients, who thus share no random numbers with the others
VARIED_PHOTONS = (6e4, 6e5)
VARIED_KERNELS = {"B30f": 0.75, "B50f": 0.25}  # and their share of the patients
LOWEST_HU, HIGHEST_HU = -1024.0, 3071.0
DISPLACEMENT_STEP_MM = 2.0**-7  # quantisation of the displacement, so that it compresses well


def abdomen_parameters(*, kind: str = "abdomen", **arguments: Any) -> dict[str, Any]:
    """Check the arguments, see `check_stack`; the defaults are 12 patients, 8 slices of 256 x 256, 3 mm apart."""
    return check_stack(
        kind,
        version=VERSION if kind == "abdomen" else VARIED_VERSION,
        defaults=(12, 8, REFERENCE_SIZE, 3.0),
        largest_span_mm=LEVELS_MM[1] - LEVELS_MM[0],
        absent="neither lungs nor pelvis",
        **arguments,
    )


def make_abdomen(patient: int, parameters: Parameters) -> dict[str, Volume]:
    """Generate one patient.

    Args:
        patient: Index of the patient; with the seed it determines everything, whatever the number of patients.
        parameters: Parameters as `abdomen_parameters` returns them.

    Returns:
        Volumes by name: NECT, a noisy scan (X, Y, Z) in HU before contrast; CECT, a second one in the portal-venous
        phase, between which the patient breathed and moved; truth, the CECT without noise and on NECT's grid;
        displacement (X, Y, Z, 3), float32 in mm along the axes of the world (RAS+, those of the affine), such that CECT
        shows at x what truth shows at x + displacement(x); and label, uint8 with the values of `LABEL_NAMES`, of NECT.
        X runs to the patient's left, Y backwards, Z upwards.

    Example:
        >>> volumes = make_abdomen(0, abdomen_parameters(slices=3, size=64))
        >>> for name, volume in volumes.items():
        ...     print(name, volume.data.shape)
        NECT (64, 64, 3)
        CECT (64, 64, 3)
        truth (64, 64, 3)
        displacement (64, 64, 3, 3)
        label (64, 64, 3)
    """
    rng = np.random.default_rng([TASK_ID, parameters["seed"], patient])
    anatomy, affine, pixel_mm = _make(rng, AbdomenSubject.draw(rng), patient, parameters)
    arrays = {
        "NECT": scan(rng, anatomy.plain, pixel_mm=pixel_mm),
        "CECT": scan(rng, anatomy.moved, pixel_mm=pixel_mm),
        "truth": scan(None, anatomy.enhanced, pixel_mm=pixel_mm),
        "displacement": to_world(anatomy.displacement_mm),
        "label": anatomy.label,
    }
    return {name: Volume(to_scanner_order(array), affine) for name, array in arrays.items()}


def make_varied_abdomen(patient: int, parameters: Parameters) -> dict[str, Volume]:
    """Generate one patient of a wider range of builds, tissues, doses of radiation and kernels.

    Args:
        patient: Index of the patient, as for `make_abdomen`.
        parameters: Parameters as `abdomen_parameters` returns them.

    Returns:
        Volumes of `make_abdomen`, and plain, the NECT without noise: together with truth a pair that differs by nothing
        but contrast agent.
    """
    rng = np.random.default_rng([TASK_ID, parameters["seed"], patient, VARIED])
    anatomy, affine, pixel_mm = _make(rng, AbdomenSubject.draw_varied(rng), patient, parameters)
    photons = float(np.exp(rng.uniform(*np.log(VARIED_PHOTONS))))
    kernel = str(rng.choice(list(VARIED_KERNELS), p=list(VARIED_KERNELS.values())))
    arrays = {
        "NECT": scan(rng, anatomy.plain, pixel_mm=pixel_mm, photons=photons, kernel=kernel),
        "CECT": scan(rng, anatomy.moved, pixel_mm=pixel_mm, photons=photons, kernel=kernel),
        "truth": scan(None, anatomy.enhanced, pixel_mm=pixel_mm, kernel=kernel),
        "plain": scan(None, anatomy.plain, pixel_mm=pixel_mm, kernel=kernel),
        "displacement": to_world(anatomy.displacement_mm),
        "label": anatomy.label,
    }
    return {name: Volume(to_scanner_order(array), affine) for name, array in arrays.items()}


def _make(
    rng: np.random.Generator, subject: AbdomenSubject, patient: int, parameters: Parameters
) -> tuple[Anatomy, NDArray[np.float64], float]:
    """Return a subject's anatomy on the slices of the scan, the affine and the pixel size in mm."""
    stack, affine = make_stack(rng, parameters)
    types = lesion_types(patient, seed=parameters["seed"], task=TASK_ID)
    return make_anatomy(rng, subject, stack, lesion_types=types), affine, stack.pixel_mm


def make_stack(rng: np.random.Generator, parameters: Parameters) -> tuple[Stack, NDArray[np.float64]]:
    """Draw the slices of a scan, and the affine (4, 4) of its volumes."""
    size = parameters["size"]
    pixel_mm = PIXEL_MM * REFERENCE_SIZE / size
    stack = Stack(
        levels_mm=_levels(rng, parameters),
        slice_mm=parameters["slice_mm"],
        in_plane_shape=(size, size),
        pixel_mm=pixel_mm,
    )
    return stack, scanner_affine(rng, parameters, pixel_mm=pixel_mm)


def scan(
    rng: np.random.Generator | None, hu: FloatArray, *, pixel_mm: float, photons: float = PHOTONS, kernel: str = KERNEL
) -> FloatArray:
    """Scan an object and reconstruct it.

    Args:
        rng: Source of the noise; None for a noise-free scan.
        hu: Object (slices, size, size) in HU, surrounded by air.
        pixel_mm: Pixel size of the object and of the image.
        photons: Dose, see `ParallelBeamScanner.add_noise`.
        kernel: One of `common.phantoms.ct.KERNELS`.

    Returns:
        Image (slices, size, size) in HU, -1024 to 3071.
    """
    size = hu.shape[-1]
    views = max(SMALLEST_VIEWS, round(VIEWS * size / REFERENCE_SIZE))
    scanner = ParallelBeamScanner((size, size), image_size=size, pixel_mm=pixel_mm, views=views)
    line_integrals = scanner.project(MU_WATER * (1 + hu / 1000))
    if rng is not None:
        line_integrals = scanner.add_noise(rng, line_integrals, photons=photons)
    attenuation = scanner.reconstruct(line_integrals, partial(modulation, kernel))
    return np.clip(1000 * (attenuation / MU_WATER - 1), LOWEST_HU, HIGHEST_HU)


def _levels(rng: np.random.Generator, parameters: Parameters) -> FloatArray:
    """Draw the positions of the slices in mm below the dome of the liver."""
    steps = np.arange(parameters["slices"]) * parameters["slice_mm"]
    half = steps[-1] / 2
    centre = np.clip(rng.uniform(*CENTRE_MM), LEVELS_MM[0] + half, LEVELS_MM[1] - half)
    return np.asarray(centre - half + steps)


def to_world(displacement_mm: FloatArray) -> FloatArray:
    """Reorder (3: down, backwards, left; slices, rows, columns) to (slices, rows, columns, 3: right, forward, up)."""
    steps = np.rint(-displacement_mm[::-1] / DISPLACEMENT_STEP_MM)
    return np.moveaxis(steps * np.float32(DISPLACEMENT_STEP_MM), 0, -1)


ABDOMEN = PhantomKind(
    name="abdomen",
    domains=DOMAINS,
    label_names=LABEL_NAMES,
    description="Digital abdomen phantom: a noisy CT before contrast (NECT) and one in the portal-venous phase with "
    "other breathing (CECT), the aligned noise-free CECT (key `truth`), the displacement between them in mm along the "
    "world's axes (RAS+; CECT at x shows truth at x + displacement) and a label map of NECT.",
    check_parameters=abdomen_parameters,
    make_patient=make_abdomen,
)

VARIED_ABDOMEN = PhantomKind(
    name="abdomen_varied",
    domains=DOMAINS,
    label_names=LABEL_NAMES,
    description="Digital abdomen phantom of a wider range of builds, tissues, doses and kernels: as the kind `abdomen`,"
    " with the NECT without noise (key `plain`).",
    check_parameters=partial(abdomen_parameters, kind="abdomen_varied"),
    make_patient=make_varied_abdomen,
)
