"""The abdomen phantom as in a clinic: arterial and portal-venous phase, arms beside the body, metal, other couches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arms import Arms
from ..ct import MU_WATER, ParallelBeamScanner, controlled_photons, modulation
from ..dataset import Parameters, PhantomKind, Volume
from ..fields import FloatArray
from ..stack import to_scanner_order
from .anatomy import make_anatomy
from .canvas import LABEL_NAMES
from .metal import IMPLANTS, METAL_FROM_HU, hardened
from .organs import lesion_types
from .phantom import (
    HIGHEST_HU,
    LOWEST_HU,
    REFERENCE_SIZE,
    SMALLEST_VIEWS,
    TASK_ID,
    VARIED_KERNELS,
    VARIED_PHOTONS,
    VIEWS,
    abdomen_parameters,
    make_stack,
    to_world,
)
from .subject import TISSUES, AbdomenSubject

CLINICAL = 2  # entry of the seed, which thus shares no random numbers with the other kinds
PHASES = ("ARTERIAL", "CECT")
# Mean uptake in HU some 30 s after injection. An aorta of 290 to 360 HU, and a liver that gains at most 20 to 30:
# Radiopaedia, "Late arterial phase"; 110 to 140 HU between cortex and medulla: Eur. J. Radiol. 63(3), 2007, 420-426; a
# pancreas of 108 HU: PubMed 7626748. The others are ours.
ARTERIAL: Mapping[str, float] = MappingProxyType(
    {
        "liver": 10,
        "spleen": 92,
        "pancreas": 68,
        "kidney_cortex": 165,
        "kidney_medulla": 42,
        "aorta": 285,
        "inferior_vena_cava": 34,
        "portal_vein": 52,
        "hepatic_veins": 4,
        "muscle": 3,
        "bowel_wall": 42,
    }
)
# What rises from second to second then, and by which factor patients differ in their timing.
RISING = ("liver", "kidney_medulla", "inferior_vena_cava", "portal_vein", "hepatic_veins", "muscle")
TIMING = (0.5, 1.5)
SPLEEN_BANDS_HU = 32.0
ARTERIAL_LESIONS = 0.4  # uptake of hypovascular lesions relative to the portal-venous phase

ARMS_DOWN_SHARE, METAL_SHARE = 0.35, 0.4  # fractions of the patients
COUCH_CURVATURE = (0.0, 0.0010)  # flat to dished


def make_clinical_abdomen(patient: int, parameters: Parameters) -> dict[str, Volume]:
    """Generate one patient with two phases after contrast, perhaps with arms down or metal.

    Args:
        patient: Index of the patient, as for `make_abdomen`.
        parameters: Parameters as `abdomen_parameters` returns them.

    Returns:
        Volumes by name: NECT, ARTERIAL and CECT (portal-venous), noisy scans with the artefacts of metal, each with a
        breath of its own; plain, truth_arterial and truth, those without noise and artefacts on NECT's grid;
        displacement_arterial and displacement, as in `make_abdomen`; label.

    Example:
        >>> list(make_clinical_abdomen(0, abdomen_parameters(kind="abdomen_clinical", slices=1, size=64)))
        ... # doctest: +NORMALIZE_WHITESPACE
        ['NECT', 'plain', 'ARTERIAL', 'truth_arterial', 'displacement_arterial', 'CECT', 'truth', 'displacement',
         'label']
    """
    seed = [TASK_ID, parameters["seed"], patient, CLINICAL]
    rng = np.random.default_rng(seed)
    stack, affine = make_stack(rng, parameters)
    subject = draw_clinical(rng, middle_mm=float(stack.levels_mm.mean()))
    subjects = {"ARTERIAL": in_arterial_phase(subject, timing=rng.uniform(*TIMING)), "CECT": subject}
    types = lesion_types(patient, seed=parameters["seed"], task=TASK_ID)
    anatomies = {
        # The same random numbers in both phases: the same shapes and textures.
        phase: make_anatomy(
            np.random.default_rng([*seed, 0]),
            subjects[phase],
            stack,
            lesion_types=types,
            motion=np.random.default_rng([*seed, 1 + index]),
        )
        for index, phase in enumerate(PHASES)
    }
    plain = anatomies["CECT"].plain
    arms = Arms.draw(rng, stack, plain) if rng.random() < ARMS_DOWN_SHARE else None
    photons = float(np.exp(rng.uniform(*np.log(VARIED_PHOTONS))))
    kernel = str(rng.choice(list(VARIED_KERNELS), p=list(VARIED_KERNELS.values())))
    image = partial(scan_clinically, arms=arms, pixel_mm=stack.pixel_mm, photons=photons, kernel=kernel)
    arrays: dict[str, NDArray[Any]] = {"NECT": image(rng, plain), "plain": image(None, plain)}
    for phase, suffix in zip(PHASES, ("_arterial", ""), strict=True):
        anatomy = anatomies[phase]
        arrays[phase] = image(rng, anatomy.moved)
        arrays[f"truth{suffix}"] = image(None, anatomy.enhanced)
        arrays[f"displacement{suffix}"] = to_world(anatomy.displacement_mm)
    arrays["label"] = anatomies["CECT"].label
    return {name: Volume(to_scanner_order(array), affine) for name, array in arrays.items()}


def draw_clinical(rng: np.random.Generator, *, middle_mm: float) -> AbdomenSubject:
    """Draw a varied subject on one of several couches, perhaps with an implant at the level `middle_mm`."""
    subject = AbdomenSubject.draw_varied(rng)
    implant, has_metal = str(rng.choice(IMPLANTS)), rng.random() < METAL_SHARE
    metal = {implant: middle_mm} if has_metal else {}
    return replace(subject, couch_curvature=rng.uniform(*COUCH_CURVATURE), metal=metal)


def in_arterial_phase(subject: AbdomenSubject, *, timing: float) -> AbdomenSubject:
    """Return the subject some 30 s after injection: the same anatomy, dose and deviations of the organs.

    Args:
        subject: Subject in the portal-venous phase.
        timing: Factor of what is still rising, see `RISING`.

    Returns:
        Subject with other uptake, and with bands in the spleen.
    """
    uptake = {
        name: value * subject.uptake_hu[name] / TISSUES[name].enhancement_hu * (timing if name in RISING else 1)
        for name, value in ARTERIAL.items()
    }
    lesions = ARTERIAL_LESIONS * subject.dose
    return replace(subject, uptake_hu=uptake, spleen_bands_hu=SPLEEN_BANDS_HU * subject.dose, dose=lesions)


def scan_clinically(
    rng: np.random.Generator | None,
    hu: FloatArray,
    *,
    arms: Arms | None,
    pixel_mm: float,
    photons: float,
    kernel: str,
) -> FloatArray:
    """Scan an object as `phantom.scan` does, with the arms, and with the beam hardened by metal.

    Args:
        rng: Source of the noise; None for a scan without noise and artefacts, in which metal has `HIGHEST_HU`.
        hu: Object (slices, size, size) in HU.
        arms: Arms beside it, if any.
        pixel_mm: Pixel size of the object and of the image.
        photons: Dose, see `ParallelBeamScanner.add_noise`; exposure control may raise it up to the largest.
        kernel: One of `common.phantoms.ct.KERNELS`.

    Returns:
        Image (slices, size, size) in HU, -1024 to 3071.
    """
    size = hu.shape[-1]
    whole = hu if arms is None else arms.beside(hu)
    metal = np.where(whole > METAL_FROM_HU, whole, 0)
    views = max(SMALLEST_VIEWS, round(VIEWS * size / REFERENCE_SIZE))
    scanner = ParallelBeamScanner(whole.shape[1:], image_size=size, pixel_mm=pixel_mm, views=views)
    if rng is None:
        line_integrals = scanner.project(MU_WATER * (1 + np.minimum(whole, HIGHEST_HU) / 1000))
    else:
        # Metal counts by what exceeds water, so that tissue stays a body without holes.
        line_integrals = scanner.project(MU_WATER * (1 + (whole - metal) / 1000))
        if metal.any():
            line_integrals = line_integrals + hardened(np.maximum(scanner.project(MU_WATER * metal / 1000), 0))
        photons = controlled_photons(line_integrals, photons, largest=VARIED_PHOTONS[1])
        line_integrals = scanner.add_noise(rng, line_integrals, photons=photons)
    attenuation = scanner.reconstruct(line_integrals, partial(modulation, kernel))
    return np.clip(1000 * (attenuation / MU_WATER - 1), LOWEST_HU, HIGHEST_HU)


CLINICAL_ABDOMEN = PhantomKind(
    name="abdomen_clinical",
    domains=("NECT", *PHASES),
    label_names=LABEL_NAMES,
    description="Digital abdomen phantom as in a clinic: noisy CT before contrast (NECT), in the arterial phase "
    "(ARTERIAL) and in the portal-venous phase (CECT), each with a breath of its own, of varied patients, some with "
    "arms beside the body or metal; aligned and without noise or artefacts: `plain`, `truth_arterial` and `truth`; "
    "`displacement_arterial` and `displacement` as in the kind `abdomen`; a label map of NECT.",
    check_parameters=partial(abdomen_parameters, kind="abdomen_clinical"),
    make_patient=make_clinical_abdomen,
)
