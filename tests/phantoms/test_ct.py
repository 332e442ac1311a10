"""The physics of the CT phantoms."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from common.phantoms.ct import KERNELS, MU_WATER, ParallelBeamScanner, modulation

PIXEL_MM = 0.684
SIZE = 256


def pixel_positions(size, pixel_mm=PIXEL_MM):
    return (np.arange(size) - size // 2) * pixel_mm


def disc(shape, *, radius_mm, centre_mm=(0.0, 0.0), pixel_mm=PIXEL_MM):
    """(1, rows, columns) share of each pixel inside a disc, and the distance to its centre."""
    y, x = (pixel_positions(n, pixel_mm) for n in shape)
    distance = np.hypot(y[:, None] - centre_mm[0], x - centre_mm[1])
    return np.clip((radius_mm - distance) / pixel_mm + 0.5, 0, 1)[None], distance


def to_hu(attenuation):
    return 1000 * (attenuation / MU_WATER - 1)


@pytest.fixture(scope="module")
def scanner():
    return ParallelBeamScanner((SIZE, SIZE + 64), image_size=SIZE, pixel_mm=PIXEL_MM, views=360)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("size", "views"), [(512, 720), (256, 360), (128, 180), (64, 180)])
def test_noise_free_water_is_right_to_half_a_hounsfield_unit(kernel, size, views):
    pixel = 350 / size
    scanner = ParallelBeamScanner((size, size + 8), image_size=size, pixel_mm=pixel, views=views)
    water, distance = disc((size, size + 8), radius_mm=100, centre_mm=(10, -20), pixel_mm=pixel)
    image = to_hu(scanner.reconstruct(scanner.project(MU_WATER * water), partial(modulation, kernel)))[0]
    distance = distance[:, 4:-4]
    # B70f's modulation has a cusp at frequency 0 (n < 2): its point spread has a long tail, which takes 0.4 HU.
    assert np.abs(image[distance < 70].mean()) < (0.5 if kernel == "B70f" else 0.1)
    assert np.abs(image[distance > 100 + 8 * pixel].mean() + 1000) < 0.5
    if size == 512:
        assert np.abs(image[distance < 70]).max() < 1.0


def test_filtered_back_projection_itself_is_right_to_a_tenth_of_a_hounsfield_unit(scanner):
    water, distance = disc(scanner.object_shape, radius_mm=60)
    image = to_hu(scanner.reconstruct(scanner.project(MU_WATER * water), np.ones_like))[0]
    assert np.abs(image[distance[:, 32:-32] < 50].mean()) < 0.1


def test_projection_of_a_disc_is_its_chord_length(scanner):
    centre, radius = np.array([15.0, -30.0]), 60.0
    image, _ = disc(scanner.object_shape, radius_mm=radius, centre_mm=centre)
    views = scanner.project(image)[0]
    middle = np.stack([np.sin(scanner.angles_rad), np.cos(scanner.angles_rad)], axis=1) @ centre
    offset = (np.arange(scanner.detector_samples) - scanner.detector_samples // 2) * scanner.sample_mm - middle[:, None]
    chord = 2 * np.sqrt(np.maximum(radius**2 - offset**2, 0))
    inside = np.abs(offset) < radius - 3
    np.testing.assert_allclose(views[inside], chord[inside], atol=0.6)  # mm, of up to 120
    assert np.abs((views - chord)[inside].mean()) < 0.02
    assert np.abs(views[np.abs(offset) > radius + 3]).max() < 0.6


def test_total_attenuation_is_the_same_in_every_view(scanner):
    image, _ = disc(scanner.object_shape, radius_mm=40, centre_mm=(5, 50))
    totals = scanner.project(image)[0].sum(axis=1) * scanner.sample_mm
    np.testing.assert_allclose(totals, image.sum() * PIXEL_MM**2, rtol=1e-3)


@pytest.mark.parametrize("kernel", KERNELS)
def test_measured_modulation_is_the_kernel_curve(scanner, kernel):
    y, x = (pixel_positions(n) for n in scanner.object_shape)
    wire = np.exp(-((y[:, None] - 6.2) ** 2 + (x + 9.7) ** 2) / (2 * 0.45**2))[None]
    image = scanner.reconstruct(scanner.project(wire), partial(modulation, kernel))[0]
    ratio = np.abs(np.fft.fft2(image)) / np.abs(np.fft.fft2(wire[0, :, 32:-32]))
    axis = np.fft.fftfreq(SIZE, PIXEL_MM)
    frequency = np.hypot(axis[:, None], axis)
    for low in np.arange(0.05, 0.68, 0.09):  # lp/mm, up to the Nyquist frequency 0.73
        ring = (frequency > low) & (frequency < low + 0.02)
        assert ratio[ring].mean() == pytest.approx(modulation(kernel, low + 0.01), abs=0.02)


def test_an_image_smaller_than_the_object_is_the_centre_of_a_large_one():
    y, x = (pixel_positions(n, 1.5) for n in (128, 160))
    smooth = MU_WATER * np.exp(-((y[:, None] - 4) ** 2 + (x - 9) ** 2) / (2 * 15.0**2))[None]
    images = []
    for size in (160, 64):
        scanner = ParallelBeamScanner((128, 160), image_size=size, pixel_mm=1.5, views=240)
        images.append(to_hu(scanner.reconstruct(scanner.project(smooth), partial(modulation, "B50f"))))
    np.testing.assert_allclose(images[0][:, 48:-48, 48:-48], images[1], atol=0.3)


@pytest.mark.parametrize("period_parity", range(4))
def test_every_object_width_gives_the_right_scale(period_parity):
    shape = (64, 100 + 2 * period_parity)
    scanner = ParallelBeamScanner(shape, image_size=64, pixel_mm=2.0, views=180)
    water, distance = disc(shape, radius_mm=45, pixel_mm=2.0)
    image = to_hu(scanner.reconstruct(scanner.project(MU_WATER * water), np.ones_like))
    margin = (shape[1] - 64) // 2
    assert image[0][distance[:, margin:-margin] < 35].mean() == pytest.approx(0, abs=0.5)


def test_noise_rises_with_the_sharpness_of_the_kernel_as_measured():
    scanner = ParallelBeamScanner((320, 448), image_size=256, pixel_mm=PIXEL_MM)
    y, x = (pixel_positions(n) for n in scanner.object_shape)
    # An ellipse of chest size with the mean attenuation of a chest (the prototype's test object).
    chest = 0.62 * MU_WATER * (((y[:, None] / 105) ** 2 + (x / 150) ** 2) < 1)[None]
    noisy = scanner.add_noise(np.random.default_rng(0), scanner.project(chest), photons=1e5)
    centre = (0, slice(80, -80), slice(80, -80))
    deviation = {
        kernel: to_hu(scanner.reconstruct(noisy, partial(modulation, kernel)))[centre].std() for kernel in KERNELS
    }
    # Prototype, in blood: 17-21, 36-44 and 95-117 HU.
    assert deviation["B50f"] / deviation["B30f"] == pytest.approx(2.1, abs=0.25)
    assert deviation["B70f"] / deviation["B30f"] == pytest.approx(5.6, abs=0.6)
    assert 8 < deviation["B30f"] < 25


def test_noise_has_the_variance_of_poisson_and_electronics():
    scanner = ParallelBeamScanner((64, 64), image_size=64, pixel_mm=1.368, views=720)  # 1 reference element a sample
    noisy = scanner.add_noise(np.random.default_rng(0), np.full((200, 500), 4.0), photons=1e5)
    mean_count = 1e5 * np.exp(-4.0)
    assert noisy.mean() == pytest.approx(4.0, abs=2e-3)
    assert noisy.std() == pytest.approx(np.sqrt(mean_count + 10.0**2) / mean_count, rel=0.01)


def test_noise_does_not_depend_on_pixel_size_and_number_of_views():
    deviations = []
    for pixel, views in ((1.0, 360), (0.5, 720)):
        n = 2 * round(64 / pixel)
        scanner = ParallelBeamScanner((n, n), image_size=n, pixel_mm=pixel, views=views)
        noisy = scanner.add_noise(np.random.default_rng(1), np.zeros((1, views, scanner.detector_samples)), photons=1e4)
        deviations.append(scanner.reconstruct(noisy, partial(modulation, "B30f"))[0].std())
    assert deviations[0] == pytest.approx(deviations[1], rel=0.15)


def test_starved_detectors_stay_finite():
    scanner = ParallelBeamScanner((64, 64), image_size=64, pixel_mm=1.0, views=180)
    noisy = scanner.add_noise(np.random.default_rng(0), np.full((100, 100), 30.0), photons=1e4)
    assert np.isfinite(noisy).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"object_shape": (64, 63)}, r"`object_shape` and `image_size` must be even, got \(64, 63, 32\)\."),
        ({"image_size": 31}, r"must be even, got \(64, 64, 31\)\."),
        ({"image_size": 0}, r"`image_size` must be >= 2 pixels, got 0\."),
        ({"object_shape": (64, -2)}, r"`object_shape` must be >= 2 pixels, got -2\."),
        ({"pixel_mm": 0.0}, r"`pixel_mm` must be > 0, got 0\.0\."),
        ({"views": 0}, r"`views` must be >= 1, got 0\."),
    ],
)
def test_wrong_geometry_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        ParallelBeamScanner(**{"object_shape": (64, 64), "image_size": 32, "pixel_mm": 1.0, "views": 180, **arguments})


def test_wrong_shapes_and_doses_are_named():
    scanner = ParallelBeamScanner((64, 64), image_size=32, pixel_mm=1.0, views=180)
    with pytest.raises(ValueError, match=r"`attenuation` must have shape \(S, \(64, 64\)\), got \(64, 64\)\."):
        scanner.project(np.zeros((64, 64)))
    with pytest.raises(ValueError, match=r"`line_integrals` must have shape \(S, \(180, \d+\)\), got \(1, 180, 9\)\."):
        scanner.reconstruct(np.zeros((1, 180, 9)), np.ones_like)
    with pytest.raises(ValueError, match=r"`photons` must be > 0, got 0\."):
        scanner.add_noise(np.random.default_rng(0), np.zeros(3), photons=0)


# MTF50 and MTF10 in lp/cm as the kernels are specified (docs of the phantom), not read from the code.
PUBLISHED = {"B30f": (3.5, 6.0), "B50f": (5.5, 8.5), "B70f": (8.5, 12.0)}
FREQUENCY = np.linspace(0, 2.5, 2501)  # lp/mm


def test_the_kernels_are_the_published_ones():
    assert list(KERNELS) == list(PUBLISHED)


@pytest.mark.parametrize("kernel", PUBLISHED)
def test_modulation_falls_to_half_and_a_tenth_where_published(kernel):
    curve = modulation(kernel, FREQUENCY)
    for level, published in zip((0.5, 0.1), PUBLISHED[kernel], strict=True):
        last_above = FREQUENCY[np.flatnonzero(curve >= level)[-1]]
        assert 10 * last_above == pytest.approx(published, abs=0.02)


@pytest.mark.parametrize("kernel", PUBLISHED)
def test_modulation_is_one_at_zero_and_vanishes_at_high_frequencies(kernel):
    curve = modulation(kernel, FREQUENCY)
    assert curve[0] == 1
    assert (curve >= 0).all()
    assert curve[-1] < 1e-3


def test_only_the_sharpest_kernel_enhances_edges_much():
    peaks = {kernel: modulation(kernel, FREQUENCY).max() for kernel in PUBLISHED}
    assert peaks["B30f"] == 1
    assert peaks["B50f"] < 1.1
    assert peaks["B70f"] == pytest.approx(1.29, abs=0.02)  # the prototype's measurement


def test_a_smooth_kernel_without_overshoot_has_the_closed_form():
    # T(f) = exp(-(f / f0)^n): n = ln(ln 10 / ln 2) / ln(f10 / f50).
    exponent = np.log(np.log(10) / np.log(2)) / np.log(6.0 / 3.5)
    expected = 0.5 ** ((10 * FREQUENCY / 3.5) ** exponent)
    np.testing.assert_allclose(modulation("B30f", FREQUENCY), expected, atol=1e-9)


def test_sharper_kernels_pass_more_everywhere():
    soft, medium, sharp = (modulation(kernel, FREQUENCY[100:1200]) for kernel in PUBLISHED)  # from 1 lp/cm
    assert (medium > soft).all()
    assert (sharp > medium).all()


def test_shape_of_the_frequencies_is_kept():
    assert modulation("B50f", np.zeros((3, 2))).shape == (3, 2)
    assert modulation("B50f", 0.0) == 1


def test_an_unknown_kernel_is_named():
    with pytest.raises(ValueError, match=r"`kernel` must be one of 'B30f', 'B50f', 'B70f', got 'B31f'\."):
        modulation("B31f", 0.1)
