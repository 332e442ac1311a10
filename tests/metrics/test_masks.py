"""The foreground mask: exact on clean data, robust to noise, units and holes, sensible on real brains and chests."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from common.metrics import foreground_mask

DATA = next((p / "shared" / "data" for p in Path(__file__).resolve().parents if (p / "shared" / "data").is_dir()), None)


def real(name: str) -> np.ndarray:
    if DATA is None or not (DATA / name).is_file():
        pytest.skip(f"real test data shared/data/{name} is not beside this checkout")
    return np.asarray(nibabel.as_closest_canonical(nibabel.load(DATA / name)).dataobj, dtype=np.float32)


def ball(shape: tuple[int, int, int], radius: float, centre: tuple[float, float] | None = None) -> np.ndarray:
    """A cylinder along Z, as a boolean mask."""
    x, y = np.meshgrid(*(np.arange(n) for n in shape[:2]), indexing="ij")
    cx, cy = centre or (shape[0] / 2, shape[1] / 2)
    disc = np.hypot(x - cx, y - cy) < radius
    return np.repeat(disc[..., None], shape[2], axis=2)


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return 2.0 * float((first & second).sum()) / float(first.sum() + second.sum())


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.0, 1500.0), (-1.0, 1.0), (-1024.0, 40.0)])
def test_recovers_a_disc_in_any_unit(low: float, high: float) -> None:
    truth = ball((64, 60, 3), 20)
    assert dice(foreground_mask(np.where(truth, high, low)), truth) > 0.995


@pytest.mark.parametrize("seed", range(3))
def test_survives_a_rician_background(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = ball((96, 96, 4), 30)
    clean = np.where(truth, rng.uniform(0.3, 1.0, truth.shape), 0.0)
    noisy = np.hypot(clean + 0.03 * rng.standard_normal(truth.shape), 0.03 * rng.standard_normal(truth.shape))
    assert dice(foreground_mask(noisy), truth) > 0.99


def test_fills_holes_and_drops_specks() -> None:
    body, hole, speck = ball((64, 64, 3), 24), ball((64, 64, 3), 6), ball((64, 64, 3), 2, (4, 4))
    mask = foreground_mask(np.where((body & ~hole) | speck, 100.0, 0.0))
    assert mask[hole].all()
    assert not mask[speck].any()


def test_keeps_two_legs() -> None:
    left, right = ball((96, 48, 2), 16, (24, 24)), ball((96, 48, 2), 12, (72, 24))
    mask = foreground_mask(np.where(left | right, 50.0, 0.0))
    assert mask[left].mean() > 0.95
    assert mask[right].mean() > 0.95


def test_tissue_below_one_percent_of_the_field_is_found() -> None:
    truth = ball((128, 128, 1), 6)
    assert truth.mean() < 0.01
    assert dice(foreground_mask(truth * 7.0), truth) > 0.9


def test_a_constant_volume_has_no_foreground() -> None:
    assert not foreground_mask(np.full((16, 16, 2), 3.0)).any()


@pytest.mark.parametrize("name", ["TCGA-FG-6692_t1", "TCGA-FG-6692_t2"])
def test_real_skull_stripped_brain(name: str) -> None:
    volume = real(f"brain_mri/{name}_brain.nii.gz")
    mask = foreground_mask(volume)
    assert dice(mask, volume != 0) > 0.98
    assert 1.2e6 < mask.sum() < 1.8e6  # adult brains have 1.2 to 1.8 litres, voxels 1 mm3


def test_real_chest_ct_keeps_the_lungs() -> None:
    volume = real("chest_ct/lidc_idri_0314_native_40slices.nii.gz")
    middle = volume[:, :, volume.shape[2] // 2]
    mask = foreground_mask(volume)[:, :, volume.shape[2] // 2]
    assert mask[(middle > -50) & (middle < 150)].mean() > 0.95
    assert mask.mean() > 0.5


@pytest.mark.parametrize(
    ("volume", "share", "message"),
    [
        (np.zeros((4, 4)), 0.1, r"`volume` must have 3 dimensions \(X, Y, Z\), got shape \(4, 4\)"),
        (np.full((4, 4, 1), np.nan), 0.1, "`volume` must be finite"),
        (np.zeros((4, 4, 1)), 1.5, r"`threshold_share` must lie in \(0, 1\), got 1.5"),
    ],
)
def test_errors(volume: np.ndarray, share: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        foreground_mask(volume, threshold_share=share)
