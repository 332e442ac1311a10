"""The brain phantoms: one patient's T1- and T2-weighted images, or T2 and PD, with the label map, all from a seed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from ..dataset import Parameters, PhantomKind, Volume, check_stack, spread_evenly
from .anatomy import LABEL_NAMES, Tumour, label_map, tissue_fractions
from .signal import T1_T2, T2_PD, Protocol, mr_images
from .subject import Subject

TASK_ID = 4  # first entry of every patient's seed: the phantoms of different tasks share no random numbers
VERSION = 1  # version of the generator: increase it when the same seed gives other data

FIELD_OF_VIEW_MM = 256.0
STACK_CENTRE_MM = 15.0  # above the basal ganglia
LARGEST_SPAN_MM = 90.0  # between the first and the last slice
TUMOUR_SHARE = 0.6  # fraction of patients
OBLIQUENESS_SD_DEG = (4.0, 1.5, 1.5)  # tilt of the slices about the left-right, front-back and vertical axis
TABLE_OFFSET_SD_MM = 8.0  # offset of the head from the scanner's isocentre


def brain_parameters(**arguments: Any) -> dict[str, Any]:
    """Check the arguments, see `check_stack`; the defaults are 24 patients, 8 slices of 256 x 256, 6 mm apart."""
    return check_stack(
        "brain",
        version=VERSION,
        defaults=(24, 8, 256, 6.0),
        largest_span_mm=LARGEST_SPAN_MM,
        absent="neither brain stem nor cerebellum",
        **arguments,
    )


def make_brain(patient: int, parameters: Parameters) -> dict[str, Volume]:
    """Generate one patient.

    Args:
        patient: Index of the patient; with the seed it determines everything, whatever the number of patients.
        parameters: Parameters as `brain_parameters` returns them.

    Returns:
        Volumes by name: T1 and T2 (X, Y, Z), float32 in arbitrary units (white matter about 1000, 0 outside the brain),
        and label (X, Y, Z), uint8 with the values of `LABEL_NAMES`; X runs to the patient's left, Y forward, Z upwards.

    Example:
        >>> volumes = make_brain(0, brain_parameters(slices=2, size=32))
        >>> {name: volume.data.shape for name, volume in volumes.items()}
        {'T1': (32, 32, 2), 'T2': (32, 32, 2), 'label': (32, 32, 2)}
    """
    return _image_patient(patient, parameters, T1_T2)


def make_brain_pd(patient: int, parameters: Parameters) -> dict[str, Volume]:
    """Generate one patient with T2 and PD (X, Y, Z) instead of T1 and T2; anatomy and labels are those of `make_brain`.

    Args:
        patient: Index of the patient.
        parameters: Parameters as `brain_pd_parameters` returns them.

    Returns:
        Volumes by name: T2, PD and label.

    Example:
        >>> volumes = make_brain_pd(0, brain_pd_parameters(slices=2, size=32))
        >>> {name: volume.data.shape for name, volume in volumes.items()}
        {'T2': (32, 32, 2), 'PD': (32, 32, 2), 'label': (32, 32, 2)}
    """
    return _image_patient(patient, parameters, T2_PD)


def brain_pd_parameters(**arguments: Any) -> dict[str, Any]:
    """Return the parameters of `brain_parameters` under the name of this kind."""
    return {**brain_parameters(**arguments), "kind": "brain_pd"}


def _image_patient(patient: int, parameters: Parameters, protocol: Protocol) -> dict[str, Volume]:
    rng = np.random.default_rng([TASK_ID, parameters["seed"], patient])
    slices, slice_mm = parameters["slices"], parameters["slice_mm"]
    pixel_mm = FIELD_OF_VIEW_MM / parameters["size"]
    levels = STACK_CENTRE_MM + slice_mm * _centred(slices)
    in_plane = pixel_mm * _centred(parameters["size"])
    shape = (parameters["size"], parameters["size"], slices)
    affine = scanner_affine(rng, shape=shape, spacing_mm=(pixel_mm, pixel_mm, slice_mm))
    subject = Subject.draw(rng)
    tumour = None
    if has_tumour(patient, seed=parameters["seed"]):
        middle = (levels[0] + levels[-1]) / 2
        reach = 0.4 * (levels[-1] - levels[0])
        tumour = Tumour.draw(rng, (middle - reach, middle + reach))
    fractions = tissue_fractions(
        subject, tumour, slice_positions_mm=levels, slice_mm=slice_mm, in_plane_mm=(in_plane, in_plane)
    )
    volumes = mr_images(rng, subject, fractions, spacing_mm=(slice_mm, pixel_mm, pixel_mm), protocol=protocol)
    arrays = {**volumes, "label": label_map(fractions)}
    return {name: Volume(_to_scanner_order(array), affine) for name, array in arrays.items()}


def has_tumour(patient: int, *, seed: int) -> bool:
    """Return whether a patient has a tumour: 60 % do, and of three neighbours at least one but never all."""
    return spread_evenly(patient, seed=seed, task=TASK_ID) % 1 < TUMOUR_SHARE


def scanner_affine(
    rng: np.random.Generator, *, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]
) -> NDArray[np.float64]:
    """Draw the affine of slightly oblique axial slices whose first axis runs to the left, as scanners store it."""
    rotation = Rotation.from_euler("xyz", rng.normal(0, OBLIQUENESS_SD_DEG), degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag([-spacing_mm[0], spacing_mm[1], spacing_mm[2]])
    centre = rng.normal(0, TABLE_OFFSET_SD_MM, 3)
    affine[:3, 3] = centre - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def _centred(count: int) -> NDArray[np.float32]:
    """Return 0, 1, 2 ... count - 1, minus their mean."""
    return np.arange(count, dtype=np.float32) - np.float32((count - 1) / 2)


def _to_scanner_order(array: NDArray[Any]) -> NDArray[Any]:
    """Reorder (z up, y forward, x to the right) to (x to the left, y forward, z up)."""
    return array.transpose(2, 1, 0)[::-1]


BRAIN = PhantomKind(
    name="brain",
    domains=tuple(T1_T2),
    label_names=LABEL_NAMES,
    description="Digital brain phantom: T1- and T2-weighted spin echo at 3 T, perfectly aligned, with label map.",
    check_parameters=brain_parameters,
    make_patient=make_brain,
)

BRAIN_PD = PhantomKind(
    name="brain_pd",
    domains=tuple(T2_PD),
    label_names=LABEL_NAMES,
    description="Digital brain phantom: T2- and PD-weighted spin echo at 3 T, perfectly aligned, with label map.",
    check_parameters=brain_pd_parameters,
    make_patient=make_brain_pd,
)
