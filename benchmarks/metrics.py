"""
Time a volume takes in each metric of the evaluations, beside scikit-image or the plain formula, whose values are equal.

    python benchmarks/metrics.py [--quick] [--result PATH]

The volumes are made: a body with two lungs and vessels, of the sizes of a chest, an abdomen and a piece of micro CT.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import fire
import numpy as np
import torch
from measuring import interleaved, print_table, result_path, write_result
from scipy.ndimage import gaussian_filter
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity

from common import metrics
from common.metrics.edge import curve_at, edge_pixels
from common.metrics.kernel import emphysema_index
from common.metrics.noise import UniformPatches, noise_power_spectrum, noise_sd, uniform_patches
from common.metrics.window import ms_ssim, ms_ssim_kernel

RANGE_HU = 4095.0
RING_LP_MM = 0.05
NAMES = {1: "lung_parenchyma", 2: "emphysema", 4: "blood_pool", 6: "vessel"}
BODY, LUNG, EMPHYSEMA, VESSEL = 40.0, -850.0, -970.0, 150.0
NOISE_HU = 20.0


class Case(NamedTuple):
    """A metric, and what gives the same number, if there is any."""

    name: str
    volume: np.ndarray
    measure: Callable[[], Any]
    reference: Callable[[], Any] | None = None
    reference_name: str = ""


def run(*, quick: bool = False, result: str | None = None) -> None:
    """Compare the values, time the metrics, print a table and write a JSON file.

    Args:
        quick: fewer repeats, and no file unless `result` names one.
        result: the JSON file; default `benchmarks/results/performance_metrics.json`.

    Raises:
        AssertionError: when a metric and its reference differ.
    """
    chest, abdomen, micro = ((512, 512, 8), 0.7), ((256, 256, 8), 1.4), ((384, 384, 4), 0.08)
    cases = [*_of_kernels(*_made(*chest)), *_of_contrast(*_made(*abdomen)), *_of_resolution(*_made(*micro))]
    rows = [_row(case, repeats=1 if quick else 5) for case in cases]
    print_table(rows)
    write_result(result_path("metrics", result, quick=quick), {"rows": rows})


def _made(shape: tuple[int, int, int], pixel_mm: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[float, ...]]:
    """A smoother volume, a sharper one, their labels, and the spacing."""
    x, y = (np.linspace(-1, 1, side)[:, None] for side in shape[:2])
    body = (x / 0.85) ** 2 + (y.T / 0.65) ** 2 < 1
    lungs = ((np.abs(x) - 0.4) / 0.3) ** 2 + (y.T / 0.45) ** 2 < 1
    emphysema = lungs & (np.hypot(np.abs(x) - 0.4, y.T) < 0.1)
    vessels = lungs & ~emphysema & (np.sin(40 * x) * np.sin(40 * y.T) > 0.9)
    pool = (np.hypot(x, y.T) < 0.09) & ~lungs
    labels = np.select([emphysema, vessels, lungs, pool], [2, 6, 1, 4])
    hu = np.select([emphysema, vessels, lungs, body], [EMPHYSEMA, VESSEL, LUNG, BODY], -1000.0)
    noisy = hu[:, :, None] + np.random.default_rng(0).normal(0, NOISE_HU, shape)
    smooth, sharp = (gaussian_filter(noisy, (sigma, sigma, 0)) for sigma in (1.2, 0.6))
    return smooth, sharp, np.repeat(labels[:, :, None], shape[2], axis=2), (pixel_mm, pixel_mm, 2.0)


def _row(case: Case, *, repeats: int) -> dict[str, Any]:
    row = {"metric": case.name, "shape": " x ".join(map(str, case.volume.shape))}
    if case.reference is None:
        found = interleaved({"ours": case.measure}, repeats=repeats)
        return {**row, "ms": 1000 * found["ours"]["seconds"], "reference": "", "reference_ms": "", "ratio": ""}
    np.testing.assert_allclose(case.measure(), case.reference(), rtol=1e-5, err_msg=case.name)
    found = interleaved({"ours": case.measure, "reference": case.reference}, repeats=repeats)
    ours, theirs = (found[name]["seconds"] for name in ("ours", "reference"))
    times = {"ms": 1000 * ours, "reference": case.reference_name, "reference_ms": 1000 * theirs}
    return {**row, **times, "ratio": theirs / ours}


def _of_kernels(source: np.ndarray, truth: np.ndarray, labels: np.ndarray, spacing: tuple[float, ...]) -> list[Case]:
    """Kernel bundles; the untranslated source stands for a prediction."""
    patches, pixels = uniform_patches(truth, spacing), edge_pixels(truth, spacing)
    lung = np.isin(labels, (1, 2))
    pair = partial(_over_slices, source, truth)
    similarity = partial(
        structural_similarity, data_range=RANGE_HU, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    decibels = partial(peak_signal_noise_ratio, data_range=RANGE_HU)
    encoded = [torch.from_numpy(np.moveaxis(each, 2, 0)[:, None] / RANGE_HU * 2).float() for each in (source, truth)]
    return [
        Case("PSNR", truth, partial(pair, partial(metrics.psnr, data_range=RANGE_HU)),
             lambda: _over_slices(truth, source, decibels), "scikit-image"),
        Case("SSIM", truth, partial(pair, _ssim), lambda: _over_slices(truth, source, similarity), "scikit-image"),
        Case("RMSE", truth, partial(pair, metrics.rmse), lambda: pair(mean_squared_error, root=True), "scikit-image"),
        Case("MAE", truth, partial(pair, metrics.mae), lambda: pair(lambda a, b: np.abs(a - b).mean()), "plain"),
        Case("noise SD", truth, lambda: noise_sd(truth, lung), lambda: _plain_noise_sd(truth, lung), "plain"),
        Case("noise power spectrum, patches", truth, lambda: uniform_patches(truth, spacing)),
        Case("noise power spectrum", truth, lambda: noise_power_spectrum(truth, patches, spacing)[1],
             lambda: _plain_nps(truth, patches, spacing), "plain"),
        Case("edge curve, places", truth, lambda: edge_pixels(truth, spacing)),
        Case("edge curve", truth, lambda: curve_at(truth, pixels, spacing)),
        Case("emphysema index", truth, lambda: emphysema_index(truth, lung),
             lambda: 100 * np.mean(truth[lung] < -950), "plain"),
        Case("body mask", truth, lambda: metrics.foreground_mask(truth)),
        Case("sliced Wasserstein distance", truth, lambda: metrics.sliced_wasserstein(*encoded)),
        Case("edge disagreement", truth, lambda: metrics.edge_disagreement(*encoded)),
        Case("all general metrics", truth, lambda: metrics.score(
            source, truth, spacing_mm=spacing, data_range=RANGE_HU, labels=labels, source=source, matched_too=False)),
        Case("all kernel metrics", truth,
             lambda: metrics.kernel_metrics(source, truth, labels=labels, spacing_mm=spacing, label_names=NAMES)),
    ]  # fmt: skip


def _of_contrast(source: np.ndarray, truth: np.ndarray, labels: np.ndarray, spacing: tuple[float, ...]) -> list[Case]:
    kernel = ms_ssim_kernel(truth.shape[:2])
    assert kernel is not None
    scaled = [np.clip((volume + 100.0) / 300.0, 0, 1) for volume in (source, truth)]
    options: dict[str, Any] = {"labels": labels, "spacing_mm": spacing, "source": source}
    return [
        Case("MS-SSIM", truth, lambda: ms_ssim(scaled[0], scaled[1], kernel=kernel)),
        Case("false enhancement", truth,
             lambda: metrics.false_enhancement(source, truth, source, spacing_mm=spacing,
                                               body=metrics.foreground_mask(truth), labels=labels)),
        Case("all contrast metrics", truth, lambda: metrics.contrast_metrics(source, truth, **options)),
    ]  # fmt: skip


def _of_resolution(source: np.ndarray, truth: np.ndarray, labels: np.ndarray, spacing: tuple[float, ...]) -> list[Case]:
    clinical = truth.reshape(truth.shape[0] // 8, 8, truth.shape[1] // 8, 8, -1).mean(axis=(1, 3))
    options: dict[str, Any] = {"labels": labels, "spacing_mm": spacing, "label_names": NAMES}
    return [
        Case("spectrum distance", truth, lambda: metrics.spectrum_distance(source, truth, spacing),
             lambda: _plain_spectrum_distance(source, truth, spacing), "plain"),
        Case("structures", truth, lambda: metrics.find_structures(labels, truth.shape[2], spacing, label_names=NAMES)),
        Case("all super-resolution metrics", truth, lambda: metrics.super_resolution_metrics(
            source, clinical, truth=truth, data_range=1600.0, **options)),
    ]  # fmt: skip


def _over_slices(first: np.ndarray, second: np.ndarray, measure: Callable[..., Any], *, root: bool = False) -> float:
    """Mean over slices, of the values or of their roots."""
    values = [measure(first[:, :, z], second[:, :, z]) for z in range(first.shape[2])]
    return float(np.mean(np.sqrt(values) if root else values))


def _ssim(prediction: np.ndarray, truth: np.ndarray) -> float:
    return float(metrics.ssim_map(prediction, truth, data_range=RANGE_HU)[5:-5, 5:-5].mean())


def _plain_noise_sd(volume: np.ndarray, mask: np.ndarray) -> float:
    inside = [volume[:, :, z][mask[:, :, z]] for z in range(volume.shape[2]) if mask[:, :, z].any()]
    squares = sum(np.var(values) * values.size for values in inside)
    return float(np.sqrt(squares / sum(values.size - 1 for values in inside)))


def _plain_nps(volume: np.ndarray, patches: UniformPatches, spacing: tuple[float, ...]) -> np.ndarray:
    """Each patch less its least-squares plane, by a system of equations; rings one after the other."""
    width, height = patches.size
    x, y = (places.ravel() for places in np.mgrid[:width, :height])
    plane = np.stack([np.ones(x.size), x, y], axis=1)
    window = np.outer(np.hanning(width + 2)[1:-1], np.hanning(height + 2)[1:-1])
    powers = []
    for i, j, z in patches.corners:
        values = volume[i : i + width, j : j + height, z].ravel()
        rest = values - plane @ np.linalg.lstsq(plane, values, rcond=None)[0]
        powers.append(np.abs(np.fft.fft2(window * rest.reshape(width, height))) ** 2)
    power = np.mean(powers, axis=0) * spacing[0] * spacing[1] / (window**2).sum()
    return _plain_rings(power, spacing, RING_LP_MM)


def _plain_spectrum_distance(prediction: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...]) -> float:
    spectra = []
    for volume in (prediction, truth):
        window = np.outer(*(np.hanning(side + 2)[1:-1] for side in volume.shape[:2]))
        slices = np.moveaxis(volume, 2, 0)
        power = np.mean([np.abs(np.fft.fft2(window * (each - each.mean()))) ** 2 for each in slices], axis=0)
        spectra.append(_plain_rings(power, spacing, max(1 / (n * s) for n, s in zip(volume.shape, spacing[:2]))))
    return float(np.abs(np.log10(spectra[0] / spectra[1])).mean())


def _plain_rings(power: np.ndarray, spacing: tuple[float, ...], ring: float) -> np.ndarray:
    frequency = np.hypot(*np.meshgrid(*map(np.fft.fftfreq, power.shape, spacing[:2]), indexing="ij"))
    number = np.where(frequency <= 0.5 / max(spacing[:2]), np.rint(frequency / ring), 0)
    return np.array([power[number == each].mean() for each in np.unique(number) if each > 0])


if __name__ == "__main__":
    fire.Fire(run)
