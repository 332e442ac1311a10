"""The chest phantom's iterative images: quieter than their kernel's, with its edges, and no linear filter of them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from common.baselines.kernels.fits import fit_paired_domains
from common.phantoms.chest.anatomy import LABELS
from common.phantoms.chest.iterative import (
    CHEST_ITERATIVE,
    ITERATIVE,
    edge_preserving,
    local_noise,
    make_chest_iterative,
)
from common.phantoms.chest.phantom import KERNELS, chest_parameters, make_chest

RECORDED = {
    "B30f": (-591.526, 455.81),
    "B50f": (-591.519, 457.036),
    "B70f": (-591.562, 457.34),
    "truth": (-591.516, 457.057),
    "label": (0.651, 1.564),
}
RECORDED_ITERATIVE = {"B30f": (-591.522, 455.753), "I30f": (-591.525, 454.907), "I70f": (-591.587, 456.259)}


@pytest.fixture(scope="module")
def patients():
    """Full-size slices of two patients."""
    parameters = CHEST_ITERATIVE.check_parameters(slices=1)
    made = {patient: make_chest_iterative(patient, parameters) for patient in (4, 6)}
    return {patient: {key: volume.data for key, volume in volumes.items()} for patient, volumes in made.items()}


def noisy_disc(sd: float, contrast: float = 100.0) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[-64:64, -64:64]
    disc = np.where(np.hypot(x, y) < 30, contrast, 0.0)
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=disc.shape), 0.7)
    return disc + sd * noise / noise.std(), disc


def test_every_kernel_has_its_iterative_counterpart(patients):
    assert CHEST_ITERATIVE.domains == (*KERNELS, *ITERATIVE)
    assert tuple(ITERATIVE.values()) == tuple(KERNELS)
    for volumes in patients.values():
        assert list(volumes) == [*KERNELS, *ITERATIVE, "truth", "label"]
        for name in (*KERNELS, *ITERATIVE):
            assert volumes[name].shape == (512, 512, 1)
            assert volumes[name].min() >= -1024
            assert volumes[name].max() <= 3071


def test_the_same_seed_gives_the_same_patient_and_the_anatomy_of_the_chest_phantom():
    first, again = (
        make_chest_iterative(3, CHEST_ITERATIVE.check_parameters(size=64, slices=1, patients=n)) for n in (4, 30)
    )
    for key in first:
        np.testing.assert_array_equal(first[key].data, again[key].data)
    plain = make_chest(3, chest_parameters(size=64, slices=1))
    for key in ("truth", "label"):
        np.testing.assert_array_equal(first[key].data, plain[key].data)


def test_the_default_phantom_is_what_it_was():
    """Means and SDs in HU of patient 3, seed 0, written down at the commit before this kind (beb5cc6)."""
    volumes = make_chest(3, chest_parameters(size=96, slices=2))
    for key, (mean, deviation) in RECORDED.items():
        assert volumes[key].data.mean() == pytest.approx(mean, abs=2e-3)
        assert volumes[key].data.std() == pytest.approx(deviation, abs=2e-3)


def test_this_kind_is_what_shipped_weights_were_trained_on():
    """As above, at the commit before the kind `chest_scanner` (b7b9bdd)."""
    volumes = make_chest_iterative(3, CHEST_ITERATIVE.check_parameters(size=96, slices=2))
    for key, (mean, deviation) in RECORDED_ITERATIVE.items():
        assert volumes[key].data.mean() == pytest.approx(mean, abs=2e-3)
        assert volumes[key].data.std() == pytest.approx(deviation, abs=2e-3)


def test_iterative_images_are_quieter_with_the_same_mean(patients):
    for volumes in patients.values():
        pool = volumes["label"] == LABELS["blood_pool"]
        for name, kernel in ITERATIVE.items():
            assert 0.2 < volumes[name][pool].std() / volumes[kernel][pool].std() < 0.7
            assert volumes[name][pool].mean() == pytest.approx(volumes[kernel][pool].mean(), abs=2)


def test_the_dose_varies_more_than_fivefold():
    noise = []
    for patient in range(12):
        volumes = make_chest_iterative(patient, CHEST_ITERATIVE.check_parameters(size=64, slices=1))
        soft = volumes["B30f"].data - ndimage.gaussian_filter(volumes["B30f"].data, (1, 1, 0))
        noise.append(soft[volumes["label"].data == LABELS["blood_pool"]].std())
    assert max(noise) / min(noise) > 2.2  # the square root of the dose's ratio


@pytest.mark.parametrize("sd", [10.0, 40.0])
def test_noise_goes_and_an_edge_stays(sd):
    image, disc = noisy_disc(sd, contrast=8 * sd)
    output = edge_preserving(image, 0.7)
    distance = np.hypot(*np.mgrid[-64:64, -64:64])
    flat = distance < 22
    assert output[flat].std() < 0.7 * image[flat].std()
    inner, outer = ((distance > 26) & (distance < 29)), ((distance > 31) & (distance < 34))
    assert output[inner].mean() - output[outer].mean() > 0.9 * 8 * sd
    blurred = ndimage.gaussian_filter(image, 0.9)
    assert blurred[flat].std() == pytest.approx(output[flat].std(), rel=0.15)  # as quiet
    assert np.abs(output - disc).mean() < np.abs(blurred - disc).mean()


def test_the_strength_follows_the_noise():
    image, _ = noisy_disc(20.0)
    np.testing.assert_allclose(edge_preserving(3 * image, 0.7), 3 * edge_preserving(image, 0.7), rtol=1e-3, atol=0.1)
    np.testing.assert_array_equal(edge_preserving(np.full((32, 32), 7.0), 0.7), 7.0)


def test_local_noise_is_the_noise_s_and_no_edge_s():
    noise = np.random.default_rng(1).normal(0, 25, (160, 160))
    step = np.where(np.arange(160) < 80, 0.0, 1000.0) + noise
    assert local_noise(noise, 0.7)[20:-20, 20:-20].mean() == pytest.approx(25, rel=0.15)
    far = local_noise(step, 0.7)[20:-20, 20:50]
    assert far.mean() == pytest.approx(25, rel=0.15)


def test_no_radial_filter_undoes_it(patients):
    """Fitted on the very images: what it leaves is many times what it leaves between linear kernels."""
    for volumes in patients.values():
        images = {name: np.rint(volumes[name]) for name in ("B30f", "B50f", "I50f")}
        filters = fit_paired_domains([(images, (0.7, 0.7, 5.0))], [("B50f", "I50f"), ("B50f", "B30f")])
        errors = {
            target: np.sqrt(
                np.mean((filters["B50f", target].apply(images["B50f"], (0.7, 0.7, 5.0)) - images[target]) ** 2)
            )
            for target in ("I50f", "B30f")
        }
        assert errors["I50f"] > 3 * errors["B30f"]
