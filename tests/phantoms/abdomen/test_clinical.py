"""The abdomen phantom as in a clinic: two phases after contrast of one anatomy, arms, metal and couches."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from common.phantoms.abdomen.anatomy import make_anatomy
from common.phantoms.abdomen.canvas import LABELS
from common.phantoms.abdomen.clinical import (
    CLINICAL_ABDOMEN,
    draw_clinical,
    in_arterial_phase,
    make_clinical_abdomen,
    scan_clinically,
)
from common.phantoms.abdomen.phantom import abdomen_parameters, make_varied_abdomen, scan
from common.phantoms.arms import Arms
from common.phantoms.stack import Stack

# What a radiologist would expect some 30 s after injection: attenuation in HU after contrast, and uptake in HU.
EXPECTED_HU = {"aorta": (220, 440), "pancreas": (75, 140), "portal_vein": (55, 165)}
EXPECTED_UPTAKE_HU = {
    "liver": (0, 22),
    "kidney_cortex": (100, 225),
    "kidney_medulla": (10, 90),
    "hepatic_veins": (0, 10),
    "muscle": (0, 8),
    "spleen": (60, 130),
}


@pytest.fixture(scope="module")
def volumes():
    parameters = abdomen_parameters(kind="abdomen_clinical", size=96, slices=3, slice_mm=6.0)
    return {key: volume.data for key, volume in make_clinical_abdomen(4, parameters).items()}


@pytest.fixture(scope="module")
def phases():
    """Noise-free anatomies of one subject, CECT and ARTERIAL."""
    stack = Stack(np.array([80.0, 86.0, 92.0]), 6.0, (96, 96), 3.5)
    subject = draw_clinical(np.random.default_rng(3), middle_mm=86.0)
    return [
        make_anatomy(np.random.default_rng(5), one, stack, lesion_types=(), motion=np.random.default_rng(seed))
        for seed, one in enumerate((subject, in_arterial_phase(subject, timing=1.0)))
    ]


def test_organs_enhance_as_expected_in_the_arterial_phase():
    aortas = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        subject = draw_clinical(rng, middle_mm=90.0)
        arterial = in_arterial_phase(subject, timing=rng.uniform(0.5, 1.5))
        for name, (low, high) in EXPECTED_HU.items():
            assert low < arterial.hu(name)[1] < high, name
        for name, (low, high) in EXPECTED_UPTAKE_HU.items():
            plain, enhanced = arterial.hu(name)
            assert plain == subject.hu(name)[0]
            assert low <= enhanced - plain < high, name
        aortas.append(arterial.hu("aorta")[1])
        cortex, medulla = (arterial.hu(f"kidney_{part}")[1] for part in ("cortex", "medulla"))
        assert 60 < cortex - medulla < 180
        assert arterial.hu("aorta")[1] > subject.hu("aorta")[1] + 100
        assert arterial.hu("portal_vein")[1] < subject.hu("portal_vein")[1]
    assert 290 < np.mean(aortas) < 360


def test_both_phases_have_one_anatomy_and_a_breath_of_their_own(phases):
    portal, arterial = phases
    np.testing.assert_array_equal(portal.plain, arterial.plain)
    np.testing.assert_array_equal(portal.label, arterial.label)
    assert np.abs(portal.displacement_mm - arterial.displacement_mm).mean() > 0.5


def test_bands_of_the_spleen_last_for_the_arterial_phase(phases):
    portal, arterial = ((phase.enhanced - phase.plain) for phase in phases)
    spleen = ndimage.binary_erosion(phases[0].label == LABELS["spleen"], np.ones((1, 3, 3)))
    assert spleen.sum() > 50
    assert arterial[spleen].std() > 12
    assert portal[spleen].std() < 3
    liver = ndimage.binary_erosion(phases[0].label == LABELS["liver"], np.ones((1, 3, 3)))
    assert arterial[liver].std() < 3


def test_a_patient_has_three_scans_with_their_truths(volumes):
    assert list(volumes) == [
        *("NECT", "plain", "ARTERIAL", "truth_arterial", "displacement_arterial"),
        *("CECT", "truth", "displacement", "label"),
    ]
    assert CLINICAL_ABDOMEN.domains == ("NECT", "ARTERIAL", "CECT")
    label = volumes["label"]
    for name, phase, low, high in (
        ("aorta", "truth_arterial", 150, 380),
        ("aorta", "truth", 70, 150),
        ("liver", "truth_arterial", 0, 25),
        ("liver", "truth", 30, 75),
        ("muscle", "truth_arterial", 0, 8),
        ("bone", "truth_arterial", -3, 3),
        ("fat", "truth_arterial", -3, 3),
    ):
        change = (volumes[phase] - volumes["plain"])[label == LABELS[name]]
        assert low <= np.median(change) <= high, (name, phase)


def test_each_displacement_leads_to_its_own_scan(volumes):
    """Warping a truth by its displacement brings it nearer to the scan than the other's displacement does."""
    grid = np.indices(volumes["label"].shape).astype(float)
    spacing = np.array([-128 / 96 * 8 / 3, -128 / 96 * 8 / 3, 6.0])  # from the size, mm; X and Y run against RAS+

    def distance(scanned: str, truth: str, displacement: str) -> float:
        shift = np.moveaxis(volumes[displacement], -1, 0) / spacing[:, None, None, None]
        warped = ndimage.map_coordinates(volumes[truth], grid + shift, order=1, mode="nearest")
        error = np.clip(warped, -150, 300) - np.clip(volumes[scanned], -150, 300)
        return float(np.abs(error[..., 1]).mean())

    for scanned, truth, own, other in (
        ("ARTERIAL", "truth_arterial", "displacement_arterial", "displacement"),
        ("CECT", "truth", "displacement", "displacement_arterial"),
    ):
        assert distance(scanned, truth, own) < 0.9 * distance(scanned, truth, other)


def test_without_arms_and_metal_it_is_the_scan_of_the_other_kinds(phases):
    hu = np.minimum(phases[0].plain, 1500)
    options = {"pixel_mm": 3.5, "photons": 6e5, "kernel": "B50f"}
    for seed in (None, 7):
        first, second = (None if seed is None else np.random.default_rng(seed) for _ in range(2))
        clinical = scan_clinically(first, hu, arms=None, **options)
        np.testing.assert_array_equal(clinical, scan(second, hu, **options))


def test_arms_bring_streaks_between_them():
    stack = Stack(np.array([0.0]), 5.0, (128, 128), 2.6)
    body = np.hypot(stack.y / 90, stack.x / 140) < 1
    hu = np.broadcast_to(np.where(body, 40.0, -1000.0), stack.shape).astype(np.float32)
    arms = Arms.draw(np.random.default_rng(0), stack, hu)
    noise = []
    for beside in (arms, None):
        first, second = (
            scan_clinically(np.random.default_rng(n), hu, arms=beside, pixel_mm=2.6, photons=1e5, kernel="B30f")
            for n in (1, 2)
        )
        noise.append((first - second)[0, 60:72, 40:88].std())
    assert noise[0] > 2 * noise[1]


def test_patients_differ_in_metal_and_couch_and_are_not_those_of_the_other_kinds(volumes):
    rng = np.random.default_rng(0)
    subjects = [draw_clinical(rng, middle_mm=90.0) for _ in range(200)]
    implants = [name for subject in subjects for name in subject.metal]
    assert 60 < len(implants) < 100
    assert set(implants) == {"fixation", "clips"}
    assert np.ptp([subject.couch_curvature for subject in subjects]) > 0.0009
    varied = make_varied_abdomen(4, abdomen_parameters(kind="abdomen_varied", size=96, slices=3, slice_mm=6.0))
    assert np.abs(varied["plain"].data - volumes["plain"]).mean() > 20


def test_the_same_seed_gives_the_same_patient():
    first, again = (
        make_clinical_abdomen(1, abdomen_parameters(kind="abdomen_clinical", size=32, slices=1, patients=n))
        for n in (4, 9)
    )
    for key in first:
        np.testing.assert_array_equal(first[key].data, again[key].data)
