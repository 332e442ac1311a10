"""The brain phantoms: one patient's T1- and T2-weighted images, or T2 and PD, with the label map, all from a seed.

Varied patients come from scanners of all kinds, with and without their skull, and some have white-matter lesions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from ..dataset import Parameters, PhantomKind, Volume, check_stack, spread_evenly
from ..fields import FloatArray
from .anatomy import LABEL_NAMES, MENINGES_MM, VARIED_LABEL_NAMES, Change, Tumour, label_map, tissue_fractions
from .signal import T1_T2, T2_PD, WHITE_MATTER_LEVEL, Protocol, mr_images
from .subject import Subject
from .varied import HEAD_TISSUES, FieldOfView, Head, WhiteMatterLesions, draw_protocol, draw_scanner, stored

TASK_ID = 4  # first entry of every patient's seed: the phantoms of different tasks share no random numbers
VERSION = 1  # version of the generator: increase it when the same seed gives other data

FIELD_OF_VIEW_MM = 256.0
STACK_CENTRE_MM = 15.0  # above the basal ganglia
LARGEST_SPAN_MM = 90.0  # between the first and the last slice
TUMOUR_SHARE = 0.6  # fraction of patients
VARIED_VERSION = 1  # likewise, of varied patients
VARIED = 1  # entry of the seed of varied patients, who thus share no random numbers with the others
# Fractions of varied patients, and irrational steps of the sequences by which they are spread, see `spread_evenly`.
SKULL_SHARE, SKULL_STEP = 0.5, 2**0.5
LESION_SHARE, LESION_STEP = 0.6, 3**0.5
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


def varied_brain_parameters(**arguments: Any) -> dict[str, Any]:
    """Return the parameters of `brain_parameters` under the name and the version of this kind."""
    return {**brain_parameters(**arguments), "kind": "brain_varied", "version": VARIED_VERSION}


def make_varied_brain(patient: int, parameters: Parameters) -> dict[str, Volume]:
    """Generate one patient of any atrophy, as one of many scanners shows him or her.

    At random are sequence (spin echo or inversion-prepared gradient echo for T1), its times, field strength, bias
    fields, noise, blur, field of view, padding with zeros, and the unit of each image. Half of the patients show the
    head around the brain, with noise in the air; three in five have white-matter lesions, as in multiple sclerosis.
    There are no eyes and no face.

    Args:
        patient: Index of the patient, as for `make_brain`.
        parameters: Parameters as `varied_brain_parameters` returns them.

    Returns:
        Volumes of `make_brain`, T1 and T2 up to 32767 in units of their own; label has the values of
        `VARIED_LABEL_NAMES` and is 0 outside the brain, with and without skull.

    Example:
        >>> volumes = make_varied_brain(0, varied_brain_parameters(slices=2, size=32))
        >>> {name: volume.data.shape for name, volume in volumes.items()}
        {'T1': (32, 32, 2), 'T2': (32, 32, 2), 'label': (32, 32, 2)}
    """
    seed, slice_mm = parameters["seed"], parameters["slice_mm"]
    rng = np.random.default_rng([TASK_ID, seed, patient, VARIED])
    view = FieldOfView.draw(rng)
    pixel_mm = view.total_mm / parameters["size"]
    levels, in_plane, affine = _grid(rng, parameters, pixel_mm=pixel_mm)
    subject = Subject.draw_varied(rng)
    tumour = _tumour(rng, patient, seed=seed, levels=levels)
    head = Head.draw(rng) if has_skull(patient, seed=seed) else None
    changes: list[Change] = []
    if has_lesions(patient, seed=seed):
        changes.append(WhiteMatterLesions.draw(rng, (levels[0], levels[-1])))
    if head is not None:
        changes.append(head)
    fractions = tissue_fractions(
        subject,
        tumour,
        slice_positions_mm=levels,
        slice_mm=slice_mm,
        in_plane_mm=(in_plane, in_plane),
        changes=changes,
        margin_mm=MENINGES_MM if head is None else head.reach_mm,
    )
    images = mr_images(
        rng,
        subject,
        fractions,
        spacing_mm=(slice_mm, pixel_mm, pixel_mm),
        protocol=draw_protocol(rng),
        scanner=draw_scanner(rng, noise_outside=head is not None),
    )
    acquired = view.acquired((in_plane, in_plane))
    arrays: dict[str, NDArray[Any]] = {
        name: image * acquired for name, image in stored(rng, images, level=WHITE_MATTER_LEVEL).items()
    }
    arrays["label"] = label_map({name: values for name, values in fractions.items() if name not in HEAD_TISSUES})
    return {name: Volume(_to_scanner_order(array), affine) for name, array in arrays.items()}


def _image_patient(patient: int, parameters: Parameters, protocol: Protocol) -> dict[str, Volume]:
    rng = np.random.default_rng([TASK_ID, parameters["seed"], patient])
    slice_mm, pixel_mm = parameters["slice_mm"], FIELD_OF_VIEW_MM / parameters["size"]
    levels, in_plane, affine = _grid(rng, parameters, pixel_mm=pixel_mm)
    subject = Subject.draw(rng)
    tumour = _tumour(rng, patient, seed=parameters["seed"], levels=levels)
    fractions = tissue_fractions(
        subject, tumour, slice_positions_mm=levels, slice_mm=slice_mm, in_plane_mm=(in_plane, in_plane)
    )
    volumes = mr_images(rng, subject, fractions, spacing_mm=(slice_mm, pixel_mm, pixel_mm), protocol=protocol)
    arrays = {**volumes, "label": label_map(fractions)}
    return {name: Volume(_to_scanner_order(array), affine) for name, array in arrays.items()}


def _grid(
    rng: np.random.Generator, parameters: Parameters, *, pixel_mm: float
) -> tuple[FloatArray, FloatArray, NDArray[np.float64]]:
    """Return the positions of the slices and of the pixels along each side, and an affine, which is drawn."""
    size, slices, slice_mm = parameters["size"], parameters["slices"], parameters["slice_mm"]
    levels = STACK_CENTRE_MM + slice_mm * _centred(slices)
    affine = scanner_affine(rng, shape=(size, size, slices), spacing_mm=(pixel_mm, pixel_mm, slice_mm))
    return levels, pixel_mm * _centred(size), affine


def _tumour(rng: np.random.Generator, patient: int, *, seed: int, levels: FloatArray) -> Tumour | None:
    """Draw the tumour of a patient who has one."""
    if not has_tumour(patient, seed=seed):
        return None
    middle = (levels[0] + levels[-1]) / 2
    reach = 0.4 * (levels[-1] - levels[0])
    return Tumour.draw(rng, (middle - reach, middle + reach))


def has_tumour(patient: int, *, seed: int) -> bool:
    """Return whether a patient has a tumour: 60 % do, and of three neighbours at least one but never all."""
    return spread_evenly(patient, seed=seed, task=TASK_ID) % 1 < TUMOUR_SHARE


def has_skull(patient: int, *, seed: int) -> bool:
    """Return whether a varied patient's images show the head around the brain: every other one's do."""
    return spread_evenly(patient, seed=seed, task=TASK_ID, step=SKULL_STEP, index=1) % 1 < SKULL_SHARE


def has_lesions(patient: int, *, seed: int) -> bool:
    """Return whether a varied patient has white-matter lesions: 60 % do."""
    return spread_evenly(patient, seed=seed, task=TASK_ID, step=LESION_STEP, index=2) % 1 < LESION_SHARE


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

VARIED_BRAIN = PhantomKind(
    name="brain_varied",
    domains=tuple(T1_T2),
    label_names=VARIED_LABEL_NAMES,
    description="Digital brain phantom of many scanners and any atrophy: T1 (spin echo or inversion-prepared) and T2 at"
    " 1.5 or 3 T, with or without skull, perfectly aligned, with label map of the brain.",
    check_parameters=varied_brain_parameters,
    make_patient=make_varied_brain,
)
