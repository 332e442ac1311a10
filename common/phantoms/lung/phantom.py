"""The lung phantom: a block of one patient's lung in clinical CT and in micro CT, its true HU and its label map.

Both images show the same occupancy, the fraction of a voxel that tissue fills. Occupancy 0 (air) is -1000 HU and micro
grey value 9000; occupancy 1 (tissue) is 45 HU and grey value 26000. An intensity codec of either domain should map
each of these pairs to one normalised value: an image in the style of the micro CT can then be decoded to HU by the
clinical codec and compared with `truth`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..dataset import Parameters, PhantomKind, Volume, check_integer
from ..stack import Stack, scanner_affine
from .anatomy import LABEL_NAMES, Growth, TreeKind, make_anatomy
from .imaging import (
    SEPTUM_MM,
    LungSubject,
    Scanner,
    clinical_image,
    coarser_affine,
    has_emphysema,
    has_tumour,
    micro_image,
    true_hu,
)

TASK_ID = 3  # first entry of every patient's seed: the phantoms of different tasks share no random numbers
WALLS_TASK_ID = 6  # of the kind `lung_walls`
VERSION = 1  # version of the generator: increase it when the same seed gives other data

DOMAINS = ("clinical", "micro")
VOXEL_MM = 5 / 64  # voxel size of the micro CT along all axes
FACTORS = (2, 4, 8)
REFERENCE_SIZE = 384  # 48 clinical pixels at factor 8: training patches of 32 have 289 places in each slice
SMALLEST_CLINICAL = 8  # rows and columns
WALLS_SEPTUM_MM = (0.05, 0.15)  # half the thickness of the septa in the kind `lung_walls`


def lung_parameters(
    *,
    patients: int | None = None,
    slices: int | None = None,
    size: int | None = None,
    seed: int = 0,
    slice_mm: float | None = None,
    factor: int | None = None,
    kind: str = "lung",
) -> dict[str, Any]:
    """Check the arguments; the defaults are 16 patients, 16 micro slices of 384 x 384, factor 8."""
    if slice_mm not in (None, VOXEL_MM):
        raise ValueError(
            f"`slice_mm` of the lung phantom must be {VOXEL_MM:g} mm, as its micro voxels are cubes, got {slice_mm!r}: "
            "leave it out."
        )
    factor = 8 if factor is None else factor
    if isinstance(factor, bool) or factor not in FACTORS:
        raise ValueError(f"`factor` must be 2, 4 or 8, got {factor!r}.")
    smallest = SMALLEST_CLINICAL * factor
    return {
        "kind": kind,
        "patients": check_integer("patients", 16 if patients is None else patients, minimum=4),
        "slices": check_integer("slices", 16 if slices is None else slices, minimum=factor, multiple_of=factor),
        "size": check_integer("size", REFERENCE_SIZE if size is None else size, minimum=smallest, multiple_of=smallest),
        "seed": check_integer("seed", seed, minimum=0),
        "slice_mm": VOXEL_MM,
        "factor": factor,
        "version": VERSION,
    }


def make_lung(patient: int, parameters: Parameters) -> dict[str, Volume]:
    """Generate one patient.

    Args:
        patient: Index of the patient; with the seed it determines everything, whatever the number of patients.
        parameters: Parameters as `lung_parameters` returns them; another factor changes only the clinical image.

    Returns:
        Volumes by name: clinical, a noisy CT in HU with voxels `factor` times as large along all axes as those of the
        others; micro, uint16 grey values (X, Y, Z); truth, the noise-free HU of the tissue itself; and label, uint8
        with the values of `LABEL_NAMES`. X runs to the patient's left, Y backwards, Z upwards; the outer corners of
        both grids agree.

    Example:
        >>> volumes = make_lung(0, lung_parameters(slices=8, size=64))
        >>> for name, volume in volumes.items():
        ...     print(name, volume.data.shape)
        clinical (8, 8, 1)
        micro (64, 64, 8)
        truth (64, 64, 8)
        label (64, 64, 8)
    """
    return _make_patient(patient, parameters, TASK_ID, SEPTUM_MM, lambda _: (Growth(), Scanner()))


def make_lung_walls(patient: int, parameters: Parameters) -> dict[str, Volume]:
    """Generate one patient with wide bronchi, vessels and thick septa, as `make_lung` does otherwise.

    Besides the tissue of `make_lung`, these differ from patient to patient: the width of bronchi and the thickness of
    their walls (0.1 to 0.6 mm), the width of vessels, of lobules and of the septa between them (0.1 to 0.3 mm, as in
    interstitial oedema), and the scanner's point spread, kernel and noise.
    """
    return _make_patient(patient, parameters, WALLS_TASK_ID, WALLS_SEPTUM_MM, _draw_walls)


def _draw_walls(rng: np.random.Generator) -> tuple[Growth, Scanner]:
    """Draw how a patient's structures grow, and the scanner."""
    growth = Growth(
        airways=TreeKind(density=rng.uniform(0.004, 0.008), twig_mm=rng.uniform(0.3, 0.45), exponent=2.9, balance=0.5,
                         largest_mm=2.2),
        veins=TreeKind(density=rng.uniform(0.006, 0.011), twig_mm=rng.uniform(0.12, 0.2), exponent=2.7, balance=0.4,
                       largest_mm=1.5),
        airway_wall=(rng.uniform(1.05, 1.15), rng.uniform(0.1, 0.25)),
        adjacent=True,
        lobule_mm=rng.uniform(7.0, 12.0),
    )  # fmt: skip
    scanner = Scanner(
        psf_voxels=rng.uniform(0.8, 1.3),
        sharpening=rng.uniform(0.0, 0.5),
        noise_hu=rng.uniform(10.0, 40.0),
        noise_voxels=rng.uniform(0.4, 0.7),
    )
    return growth, scanner


def _make_patient(
    patient: int,
    parameters: Parameters,
    task: int,
    septum_mm: tuple[float, float],
    draw: Callable[[np.random.Generator], tuple[Growth, Scanner]],
) -> dict[str, Volume]:
    """Generate one patient whose structures and scanner `draw` chooses."""
    seed, size, factor = (parameters[name] for name in ("seed", "size", "factor"))
    rng = np.random.default_rng([task, seed, patient])
    subject = LungSubject.draw(
        rng,
        tumour=has_tumour(patient, seed=seed, task=task),
        emphysema=has_emphysema(patient, seed=seed, task=task),
        septum_mm=septum_mm,
    )
    growth, scanner = draw(rng)
    levels = VOXEL_MM * (np.arange(parameters["slices"]) - (parameters["slices"] - 1) / 2)
    stack = Stack(levels_mm=levels, slice_mm=VOXEL_MM, in_plane_shape=(size, size), pixel_mm=VOXEL_MM)
    affine = scanner_affine(rng, parameters, pixel_mm=VOXEL_MM)
    occupancy, label = make_anatomy(rng, subject, stack, growth=growth)
    hu = true_hu(occupancy)
    # The clinical image comes last: the same lung and micro CT for every factor.
    fine = {"micro": micro_image(rng, occupancy), "truth": hu, "label": label}
    clinical = clinical_image(rng, hu, factor=factor, scanner=scanner)
    return {
        "clinical": Volume(_to_world_order(clinical), coarser_affine(affine, factor)),
        **{name: Volume(_to_world_order(array), affine) for name, array in fine.items()},
    }


def _to_world_order(array: NDArray[Any]) -> NDArray[Any]:
    """Reorder (z up, y backwards, x to the left) to (x to the left, y backwards, z up)."""
    return array.transpose(2, 1, 0)


LUNG = PhantomKind(
    name="lung",
    domains=DOMAINS,
    label_names=LABEL_NAMES,
    description="Digital lung phantom: a block of lung in clinical CT (HU) and in micro CT (grey values without a "
    "unit; 9000 is air, 26000 tissue), the true HU on the micro grid (key `truth`; -1000 is air, 45 tissue) and a "
    "label map on the micro grid. The outer corners of both grids agree.",
    check_parameters=lung_parameters,
    make_patient=make_lung,
)

LUNG_WALLS = PhantomKind(
    name="lung_walls",
    domains=DOMAINS,
    label_names=LABEL_NAMES,
    description="Digital lung phantom with wide bronchi, vessels and thick septa, and with scanners of different "
    "sharpness and noise: otherwise as the kind `lung`.",
    check_parameters=partial(lung_parameters, kind="lung_walls"),
    make_patient=make_lung_walls,
)
