"""The chest phantom's scanners: sharpness that falls off, dose, arms, streaks and their filtration, kernel families."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from scipy import ndimage

from common.baselines.kernels.fits import fit_paired_domains
from common.phantoms.chest import scanner as clinic
from common.phantoms.chest.anatomy import LABELS, Anatomy
from common.phantoms.chest.phantom import chest_parameters, make_chest
from common.phantoms.chest.scanner import (
    ADAPTIVE,
    CHEST_SCANNER,
    FAMILIES,
    NOISE_LIMIT,
    SCANNER_KERNELS,
    blur_by_rotation,
    make_chest_scanner,
    scan_clinically,
    smooth_starved_rays,
    with_arms,
)
from common.phantoms.ct import MU_WATER, ParallelBeamScanner, kernel_curve, modulation
from common.phantoms.stack import Stack

PIXEL_MM, SIZE, VIEWS = 0.7, 256, 360
SPACING_MM = (1.3, 1.3, 5.0)  # about that of the patients
ARMS, NO_ARMS = 0, 5  # patients of seed 0 with and without them in the scan


@pytest.fixture(scope="module")
def scanner():
    return ParallelBeamScanner((SIZE, SIZE), image_size=SIZE, pixel_mm=PIXEL_MM, views=VIEWS)


@pytest.fixture(scope="module")
def patients():
    parameters = CHEST_SCANNER.check_parameters(slices=1, size=256)
    made = {patient: make_chest_scanner(patient, parameters) for patient in (ARMS, NO_ARMS)}
    return {patient: {key: volume.data[..., 0] for key, volume in volumes.items()} for patient, volumes in made.items()}


def positions() -> tuple[np.ndarray, np.ndarray]:
    axis = (np.arange(SIZE) - SIZE // 2) * PIXEL_MM
    return axis[:, None], axis[None]


def wire(x_mm: float) -> np.ndarray:
    y, x = positions()
    return np.exp(-(y**2 + (x - x_mm) ** 2) / (2 * 0.5**2))[None]


def spectra(image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return frequencies in lp/mm and the modulation of an image along its y and x axes."""
    along_y, along_x = (np.abs(np.fft.rfft(image.sum(axis=axis))) for axis in (1, 0))
    return np.fft.rfftfreq(SIZE, PIXEL_MM), along_y, along_x


@pytest.mark.parametrize("radius_mm", [0.0, 35.0, 70.0])
def test_rotation_blurs_across_the_radius_by_a_box_of_its_arc(scanner, radius_mm):
    """A point at the right end of a radius: y is across it. The transform of a box of width w is sinc(f w)."""
    view_rad = np.deg2rad(1.5)
    sharp = scanner.project(wire(radius_mm))
    images = [scanner.reconstruct(data, np.ones_like)[0] for data in (sharp, blur_by_rotation(sharp, view_rad))]
    (frequency, y_before, x_before), (_, y_after, x_after) = map(spectra, images)
    band = frequency < 0.5
    arc = radius_mm * view_rad  # up to 1.8 mm
    np.testing.assert_allclose((y_after / y_before)[band], np.sinc(frequency * arc)[band], atol=0.03)
    np.testing.assert_allclose((x_after / x_before)[band], 1, atol=0.03)


def test_it_is_the_mean_of_the_views_between():
    """Against nine times as many views, averaged by nine: a view turns by as much as lies between two of the few."""
    y, x = positions()
    blob = np.exp(-((y - 10) ** 2 + (x + 60) ** 2) / (2 * 4.0**2))[None]
    few, many = (ParallelBeamScanner((SIZE, SIZE), SIZE, PIXEL_MM, views) for views in (120, 9 * 120))
    blurred = blur_by_rotation(few.project(blob), np.pi / 120)
    averaged = many.project(blob).reshape(1, 120, 9, -1).mean(axis=2)
    error, effect = blurred - averaged, few.project(blob) - averaged
    assert np.sqrt(np.mean(error**2)) < 0.05 * np.sqrt(np.mean(effect**2))


@pytest.mark.parametrize("kernel", [kernel for family in FAMILIES.values() for kernel in family])
def test_kernels_have_the_stated_frequencies_and_fall_monotonically_beyond_their_peak(kernel):
    described = SCANNER_KERNELS[kernel]
    np.testing.assert_allclose(kernel_curve(described, [0, described.mtf50 / 10, described.mtf10 / 10]), [1, 0.5, 0.1])
    curve = kernel_curve(described, np.linspace(0, 2, 400))
    assert curve.max() < 1.35
    assert (np.diff(curve[curve.argmax() :]) <= 0).all()


def test_a_family_goes_from_soft_to_sharp_and_the_default_kernels_are_those_of_the_chest_phantom():
    for family in FAMILIES.values():
        fifty = [kernel.mtf50 for kernel in family.values()]
        assert fifty == sorted(fifty)
        assert len(family) == 3
    frequency = np.linspace(0, 1.5, 50)
    for name in FAMILIES["Siemens"]:
        np.testing.assert_array_equal(modulation(name, frequency), kernel_curve(SCANNER_KERNELS[name], frequency))


def test_noise_is_the_inverse_root_of_the_dose(monkeypatch):
    """A disc of water of 140 mm, where electronic noise counts little: four times the SD at a sixteenth of the dose."""
    y, x = positions()
    water = np.clip((70 - np.hypot(y, x)) / PIXEL_MM + 0.5, 0, 1)[None] * 1000 - 1000
    inside = np.hypot(y, x) < 40
    found = []
    for dose_mas in (300.0, 300.0 / 16):
        monkeypatch.setattr(clinic, "TUBE_CURRENT_TIME_MAS", (dose_mas, dose_mas))
        images = scan_clinically(np.random.default_rng(1), water, pixel_mm=PIXEL_MM, size=SIZE)
        found.append([images[name][0][inside].std() for name in ("B30f", "STANDARD", "YA")])
    np.testing.assert_allclose(np.divide(found[1], found[0]), 4, rtol=0.05)


def test_smoothing_brings_the_noise_to_the_limit_and_leaves_other_rays_alone(scanner):
    """Constant rays: some 50 photons on a sample are starved, 50,000 are not."""
    rays = np.zeros((1, VIEWS, scanner.detector_samples), dtype=np.float32)
    rays[:, : VIEWS // 2] = np.log(1000)
    photons = 5e4
    expected = scanner.noise_sd(np.exp(-rays), photons=photons)
    assert expected[0, -1, 0] < NOISE_LIMIT < expected[0, 0, 0]
    noisy = scanner.add_noise(np.random.default_rng(2), rays, photons=photons)
    np.testing.assert_allclose(noisy[0, -20:].std(), expected[0, -1, 0], rtol=0.05)
    smooth = smooth_starved_rays(scanner, noisy, photons=photons)
    np.testing.assert_array_equal(smooth[0, -60:], noisy[0, -60:])
    starved = smooth[0, 20:100]
    assert starved.std() == pytest.approx(NOISE_LIMIT, rel=0.25)
    assert np.exp(-starved).mean() == pytest.approx(1 / 1000, rel=0.02)


def streaks(image: np.ndarray, truth: np.ndarray) -> float:
    """Return the SD in HU, between the arms, of what is long from left to right and short from front to back."""
    error = ndimage.gaussian_filter1d((image - truth).astype(float), 10, axis=0)  # (X, Y)
    error -= ndimage.gaussian_filter1d(error, 3, axis=1)
    return float(error[64:192, 96:192].std())


def test_adaptive_filtration_takes_the_streaks_between_the_arms(patients):
    volumes = patients[ARMS]
    for name, kernel in ADAPTIVE.items():
        assert streaks(volumes[name], volumes["truth"]) < 0.5 * streaks(volumes[kernel], volumes["truth"])
        pool = volumes["label"] == LABELS["blood_pool"]
        assert volumes[name][pool].mean() == pytest.approx(volumes["truth"][pool].mean(), abs=12)
    raised = patients[NO_ARMS]
    assert streaks(volumes["B30f"], volumes["truth"]) > 3 * streaks(raised["B30f"], raised["truth"])


def test_no_radial_filter_makes_or_undoes_it(patients):
    """Fitted on the very slice: how much it leaves of the difference, and of the one between two linear kernels."""
    left = {}
    for patient, pairs in ((ARMS, [("A50f", "B50f"), ("B50f", "A50f")]), (NO_ARMS, [("LUNG", "B50f")])):
        images = {name: np.rint(patients[patient][name])[..., None] for pair in pairs for name in pair}
        filters = fit_paired_domains([(images, SPACING_MM)], pairs)
        for pair in pairs:
            source, target = (images[name] for name in pair)
            error = filters[pair].apply(source, SPACING_MM) - target
            left[pair] = np.sqrt(np.mean(error**2) / np.mean((source - target) ** 2))
    assert left["A50f", "B50f"] > 0.95
    assert left["B50f", "A50f"] > 0.7
    assert left["LUNG", "B50f"] < 0.5  # what remains is aliased at this pixel size


def test_it_costs_sharpness_across_the_streaks_alone():
    """A wire between two dense discs 75 mm to its sides: the rays through both are starved, all others are not."""
    scanner = ParallelBeamScanner((SIZE, SIZE), image_size=SIZE, pixel_mm=PIXEL_MM, views=VIEWS)
    y, x = positions()
    discs = 3 * MU_WATER * (np.hypot(y, np.abs(x) - 70) < 18)[None]
    raw = [scanner.project(discs + 0.02 * on * wire(0)) for on in (0, 1)]
    smooth = [smooth_starved_rays(scanner, data, photons=2e3) for data in raw]
    assert np.mean(smooth[0] != raw[0]) < 0.5
    before, after = (scanner.reconstruct(pair[1] - pair[0], partial(modulation, "B50f"))[0] for pair in (raw, smooth))
    frequency, y_before, x_before = spectra(before)
    _, y_after, x_after = spectra(after)
    band = (frequency > 0.1) & (frequency < 0.6)
    np.testing.assert_allclose((x_after / x_before)[band], 1, atol=0.02)
    assert (y_after / y_before)[band].max() < 0.95


def test_kernels_differ_by_no_slow_change(patients):
    """One raw data set: away from starved rays, what two kernels differ by vanishes when averaged over 12 mm."""
    volumes = patients[NO_ARMS]
    spine_and_heart = ndimage.binary_erosion(volumes["truth"] > -200, iterations=10)
    for first, second in (("B30f", "LUNG"), ("STANDARD", "YA"), ("B", "B70f")):
        change = volumes[first] - volumes[second]
        slow = ndimage.gaussian_filter(change, 12 / 1.4)
        assert np.abs(slow[spine_and_heart]).mean() < 0.06 * change[spine_and_heart].std()


def test_arms_are_in_the_truth_and_their_bone_in_the_labels():
    stack = Stack(np.array([0.0]), 5.0, (200, 300), 1.4)
    body = np.broadcast_to(np.where(np.hypot(stack.y / 100, stack.x / 160) < 1, 40.0, -1000.0), stack.shape)
    anatomy = with_arms(
        np.random.default_rng(0), Anatomy(body.astype(np.float32), np.ones(stack.shape, np.uint8)), stack
    )
    bone = anatomy.label == LABELS["bone"]
    assert bone.sum() * 1.4**2 == pytest.approx(2 * np.pi * 11.5**2, rel=0.05)
    assert anatomy.hu[bone].max() > 1000
    assert (anatomy.label[..., 140:-140] == 1).all()


def test_the_same_seed_gives_the_same_patient_and_the_body_of_the_chest_phantom():
    first, again = (
        make_chest_scanner(3, CHEST_SCANNER.check_parameters(size=64, slices=1, patients=n)) for n in (4, 30)
    )
    assert list(first) == [*CHEST_SCANNER.domains, "truth", "label"]
    for key in first:
        np.testing.assert_array_equal(first[key].data, again[key].data)
    plain = make_chest(3, chest_parameters(size=64, slices=1))
    body = (slice(12, 52), slice(12, 52))
    for key in ("truth", "label"):
        np.testing.assert_array_equal(first[key].data[body], plain[key].data[body])


def test_stored_values_and_doses_are_those_of_a_scanner(patients):
    noise = []
    for patient in range(10):
        volumes = make_chest_scanner(patient, CHEST_SCANNER.check_parameters(size=64, slices=1))
        soft = volumes["B30f"].data - ndimage.gaussian_filter(volumes["B30f"].data, (1, 1, 0))
        noise.append(soft[volumes["label"].data == LABELS["blood_pool"]].std())
    assert max(noise) / min(noise) > 2.2  # the square root of the dose's ratio
    for volumes in patients.values():
        for name in CHEST_SCANNER.domains:
            assert volumes[name].min() >= -1024
            assert volumes[name].max() <= 3071
