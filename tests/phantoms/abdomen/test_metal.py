"""Metal in the abdomen phantom: where it is, and what it does to a scan."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from common.phantoms.abdomen.canvas import Canvas
from common.phantoms.abdomen.clinical import scan_clinically
from common.phantoms.abdomen.metal import METAL_FROM_HU, TITANIUM_HU, hardened, paint_metal
from common.phantoms.abdomen.subject import AbdomenSubject
from common.phantoms.stack import Stack

SIZE, PIXEL_MM = 128, 2.0
RODS_MM = 40.0  # at x = -40 and 40


def rods() -> np.ndarray:
    axis = (np.arange(SIZE) - SIZE // 2) * PIXEL_MM
    y, x = axis[:, None], axis[None]
    hu = np.where(np.hypot(y, x) < 90, 0.0, -1000.0)
    hu[np.hypot(y, np.abs(x) - RODS_MM) < 5] = TITANIUM_HU
    return hu[None].astype(np.float32)


def scanned(rng, photons=1e9, hu=None) -> np.ndarray:
    hu = rods() if hu is None else hu
    return scan_clinically(rng, hu, arms=None, pixel_mm=PIXEL_MM, photons=photons, kernel="B30f")[0]


def test_hardening_keeps_thin_metal_and_lowers_thick_metal():
    """Against the sum over the three energies written out, and its slope at 0."""
    thickness = np.array([0.0, 1e-3, 1.0, 5.0])
    found = hardened(thickness)
    assert found[0] == 0
    assert found[1] == pytest.approx(1e-3, rel=1e-2)
    mean = 0.25 * 2.2 + 0.5 + 0.25 * 0.49
    by_hand = -np.log(0.25 * np.exp(-11 / mean) + 0.5 * np.exp(-5 / mean) + 0.25 * np.exp(-2.45 / mean))
    assert found[3] == pytest.approx(by_hand, rel=1e-5)
    assert found[3] < 3.6
    assert (np.diff(found) > 0).all()


def test_a_dark_band_joins_two_rods_and_the_truth_has_none():
    exact, hard = scanned(None), scanned(np.random.default_rng(0))
    between = (slice(63, 66), slice(55, 74))  # around the centre
    across = (slice(20, 30), slice(55, 74))  # 80 mm in front
    assert hard[between].mean() < -60
    assert abs(exact[between].mean()) < 12
    assert abs(hard[across].mean()) < 25
    assert 2900 < exact[64, 64 + 20] <= hard[64, 64 + 20] == 3071  # the largest value that is stored


def test_few_photons_pass_both_rods():
    """Noise of two scans: above all between the rods, and hardly without them."""
    ratios = []
    water = np.minimum(rods(), 0)
    for hu in (rods(), water):
        first, second = (scanned(np.random.default_rng(seed), 1e5, hu) for seed in (1, 2))
        noise = first - second
        ratios.append(noise[62:67, 52:77].std() / noise[88:93, 52:77].std())
    assert ratios[0] > 1.25 * ratios[1]


@pytest.mark.parametrize("implant", ["fixation", "clips"])
def test_implants_are_metal_without_a_label(implant):
    stack = Stack(np.arange(60.0, 130.0, 3.0), 3.0, (256, 256), 4 / 3)
    subject = replace(AbdomenSubject.draw(np.random.default_rng(0)), metal={implant: 95.0})
    canvas = Canvas.of_air(stack.shape)
    canvas.label[:] = 1
    paint_metal(subject, stack, canvas)
    np.testing.assert_array_equal(canvas.plain, canvas.enhanced)
    metal = canvas.plain > METAL_FROM_HU
    volume_ml = metal.sum() * 3 * (4 / 3) ** 2 / 1000
    assert (5 < volume_ml < 20) if implant == "fixation" else (0.1 < volume_ml < 1)
    assert (canvas.label[canvas.plain > 0.6 * TITANIUM_HU] == 0).all()
    behind = np.broadcast_to(stack.y, stack.shape)[metal] > subject.spine_y_mm - 12
    assert behind.all() if implant == "fixation" else not behind.any()
    untouched = Canvas.of_air(stack.shape)
    paint_metal(replace(subject, metal={}), stack, untouched)
    assert (untouched.plain == -1000).all()
