"""The score of a volume against independent computations, and the traps of averaging over slices.

The foreground mask: exact on clean data, robust to noise, units and holes, sensible on real brains and chests.
"""

from __future__ import annotations

from typing import Any

import nibabel
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.stats import pearsonr
from skimage.exposure import match_histograms
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from common.metrics import foreground_mask, matched, score
from tests.helpers.shared import require_shared

SPACING = (1.0, 1.0, 3.0)


@pytest.fixture
def volumes() -> dict[str, np.ndarray]:
    """Truth, prediction and source with a body of 30x24 pixels on four slices; the fifth slice is empty."""
    rng = np.random.default_rng(11)
    mask = np.zeros((40, 36, 5), dtype=bool)
    mask[5:35, 6:30, :4] = True
    texture = gaussian_filter(rng.standard_normal(mask.shape), (2, 2, 1))
    truth = np.where(mask, 500 + 400 * texture / texture.std(), 0.0)
    prediction = np.where(mask, truth * 0.8 + rng.normal(0, 60, mask.shape) + 50, 0.0)
    return {"truth": truth, "prediction": prediction, "mask": mask, "source": np.where(mask, 900 - truth, 0.0)}


def call(volumes: dict[str, np.ndarray], **more: Any) -> dict[str, float]:
    return score(volumes["prediction"], volumes["truth"], **{"spacing_mm": SPACING, "mask": volumes["mask"], **more})


def test_quality_is_the_mean_over_slices_with_body(volumes: dict[str, np.ndarray]) -> None:
    low, high = np.percentile(volumes["truth"], [1, 99])
    values = call(volumes)
    slices = [(volumes["truth"][:, :, k], volumes["prediction"][:, :, k]) for k in range(4)]
    psnr = [peak_signal_noise_ratio(t, p, data_range=high - low) for t, p in slices]
    ssim = [
        structural_similarity(t, p, data_range=high - low, gaussian_weights=True, use_sample_covariance=False)
        for t, p in slices
    ]
    assert values["psnr"] == pytest.approx(np.mean(psnr))
    assert values["ssim"] == pytest.approx(np.mean(ssim))
    assert values["mae"] == pytest.approx(np.mean([np.abs(t - p).mean() for t, p in slices]))
    assert values["rmse"] == pytest.approx(np.mean([np.sqrt(((t - p) ** 2).mean()) for t, p in slices]))
    inside = [(t - p)[5:35, 6:30] for t, p in slices]
    assert values["mae_mask"] == pytest.approx(np.mean([np.abs(e).mean() for e in inside]))
    assert values["psnr_mask"] == pytest.approx(
        np.mean([20 * np.log10((high - low) / np.sqrt((e**2).mean())) for e in inside])
    )


def test_empty_slices_do_not_inflate_the_score(volumes: dict[str, np.ndarray]) -> None:
    more_air = {name: np.concatenate([v, np.zeros_like(v)], axis=2) for name, v in volumes.items()}
    assert call(more_air, data_range=900.0)["psnr"] == pytest.approx(call(volumes, data_range=900.0)["psnr"])


def test_the_default_mask_is_the_truths_foreground(volumes: dict[str, np.ndarray]) -> None:
    solid = np.where(volumes["mask"], volumes["truth"] + 2000.0, 0.0)
    values = score(solid + 10.0, solid, spacing_mm=SPACING)
    assert values["mae_mask"] == pytest.approx(10.0)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 2.0)])
def test_matched_equals_skimage_where_no_values_tie(spacing: tuple[float, float]) -> None:
    rng = np.random.default_rng(5)
    prediction, truth = rng.normal(5, 2, (60, 50)), rng.gamma(2.0, 100.0, (60, 50))
    expected = gaussian_filter(
        match_histograms(prediction, truth), [0.5 / spacing[0], 0.5 / spacing[1]], mode="nearest"
    )
    mine = matched(prediction, truth, spacing_mm=spacing)
    assert np.abs(mine - expected).mean() < 0.005 * truth.std()  # ranks differ by half a pixel


def test_matched_scores_do_not_depend_on_a_rising_map(volumes: dict[str, np.ndarray]) -> None:
    values = call(volumes)
    mapped = score(np.sqrt(volumes["prediction"] + 3000), volumes["truth"], spacing_mm=SPACING, mask=volumes["mask"])
    assert mapped["psnr_matched"] == pytest.approx(values["psnr_matched"])
    assert mapped["ssim_matched"] == pytest.approx(values["ssim_matched"])
    assert mapped["psnr"] < values["psnr"] - 3


def test_a_larger_constant_background_is_not_lifted_to_tissue(volumes: dict[str, np.ndarray]) -> None:
    body = volumes["mask"][:, :, 0]
    truth = np.where(body, np.abs(volumes["truth"][:, :, 0]) + 100.0, 0.0)
    prediction = truth.copy()
    prediction[5, :] = 0.0  # the output misses one line of tissue
    assert match_histograms(prediction, truth)[39, 0] > 100.0  # there the whole background turns into tissue
    assert np.abs(matched(prediction, truth, spacing_mm=SPACING)[38:, :]).max() < 1e-6


def test_regions(volumes: dict[str, np.ndarray]) -> None:
    labels = np.zeros(volumes["truth"].shape, dtype=np.uint8)
    labels[8:12, 8:12, 1] = 1
    labels[20:25, 10:20, 2] = 4
    values = call(volumes, labels=labels, label_names={"1": "tumour", 2: "oedema"})
    error = (volumes["prediction"] - volumes["truth"])[8:12, 8:12, 1]
    assert values["mae_tumour"] == pytest.approx(np.abs(error).mean())
    assert values["bias_tumour"] == pytest.approx(error.mean())
    unnamed = (volumes["prediction"] - volumes["truth"])[20:25, 10:20, 2]
    assert values["bias_label_4"] == pytest.approx(unnamed.mean())
    assert "mae_oedema" not in values


def test_correlations(volumes: dict[str, np.ndarray]) -> None:
    values = call(volumes, source=volumes["source"])
    inside = volumes["mask"]
    assert values["source_correlation"] == pytest.approx(
        pearsonr(volumes["source"][inside], volumes["prediction"][inside]).statistic
    )
    assert values["target_correlation"] == pytest.approx(-1.0)
    assert "source_correlation" not in call(volumes)


def test_slice_jump(volumes: dict[str, np.ndarray]) -> None:
    assert call({**volumes, "prediction": volumes["truth"]})["slice_jump"] == pytest.approx(1.0)
    assert call({**volumes, "prediction": 3 * volumes["truth"]})["slice_jump"] == pytest.approx(3.0)
    flicker = volumes["truth"] + 500 * (np.arange(5) % 2)
    assert call({**volumes, "prediction": flicker})["slice_jump"] > 1.5


def test_what_is_undefined_is_left_out(volumes: dict[str, np.ndarray]) -> None:
    single = {name: volume[:, :, :1] for name, volume in volumes.items()}
    assert "slice_jump" not in call(single)
    flat = {**volumes, "prediction": np.full_like(volumes["truth"], 7.0)}
    values = call(flat, source=volumes["source"])
    assert "source_correlation" not in values
    assert np.isfinite(list(values.values())).all()


def test_arguments_are_not_changed(volumes: dict[str, np.ndarray]) -> None:
    before = {name: volume.copy() for name, volume in volumes.items()}
    call(volumes, source=volumes["source"])
    for name, volume in volumes.items():
        np.testing.assert_array_equal(volume, before[name])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"prediction": np.zeros((3, 3, 3))},
            r"`prediction` must have the shape of `truth` \(40, 36, 5\), got \(3, 3, 3\)",
        ),
        ({"prediction": np.full((40, 36, 5), np.nan)}, "`prediction` must be finite, got 7200 NaN or infinite voxels"),
        ({"truth": np.zeros((40, 36))}, r"`truth` must have 3 dimensions \(X, Y, Z\)"),
        ({"truth": np.zeros((40, 36, 5))}, "`truth` must have p99 > p1"),
        ({"mask": np.zeros((40, 36, 5))}, "`mask` must cover at least 1% of one slice, got 0 voxels"),
    ],
)
def test_errors_in_volumes(volumes: dict[str, np.ndarray], change: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call({**volumes, **change})


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"data_range": -1.0}, "`data_range` must be a positive number .* got -1"),
        ({"spacing_mm": (1.0, 0.0)}, "`spacing_mm` must be 2 or 3 positive numbers"),
        ({"labels": np.zeros((2, 2, 2))}, "`labels` must have the shape of `truth`"),
        ({"source": np.zeros((2, 2, 2))}, "`source` must have the shape of `truth`"),
    ],
)
def test_errors_in_options(volumes: dict[str, np.ndarray], more: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(volumes, **more)


def real(name: str) -> np.ndarray:
    return np.asarray(
        nibabel.as_closest_canonical(nibabel.load(require_shared("data", name))).dataobj, dtype=np.float32
    )


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
