"""The table of filters is fitted once, saved, and loaded exactly; its spectra recognise the kernel of an image."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import LoadImaged

from common.baselines.kernels.radial_filter import RadialFilter
from common.baselines.kernels.reference import KernelReferences, estimate_kernel, kernel_references
from common.baselines.kernels.training import (
    fit_measured,
    load_kernel_filters,
    load_kernel_references,
    measure_domains,
    save_kernel_filters,
    start_from_pairs,
)
from common.networks import PhysicsGenerator

SIGMAS_MM = {"B30f": 0.7, "B50f": 0.45, "B70f": 0.2}
KNOTS = np.linspace(0.0, 2.0, 201)
Volumes = dict[str, list[tuple[np.ndarray, tuple[float, float, float]]]]


def image(domain: str, seed: int, sigma_mm: float | None = None) -> tuple[np.ndarray, tuple[float, float, float]]:
    """White noise of random level through a Gaussian kernel at a random pixel size."""
    rng = np.random.default_rng(seed)
    spacing = float(rng.uniform(0.6, 0.8))
    sigma = SIGMAS_MM[domain] if sigma_mm is None else sigma_mm
    kernel = RadialFilter(KNOTS, np.exp(-2 * (np.pi * sigma * KNOTS) ** 2), "paired")
    mm = (spacing, spacing, 5.0)
    return np.rint(kernel.apply(rng.normal(40, rng.uniform(80, 160), (128, 128, 3)), mm)), mm


@pytest.fixture(scope="module")
def volumes() -> Volumes:
    return {domain: [image(domain, 10 * k + i) for i in range(3)] for k, domain in enumerate(SIGMAS_MM)}


@pytest.fixture(scope="module")
def references(volumes: Volumes) -> KernelReferences:
    return kernel_references(measure_domains(volumes))


def test_both_filters_of_every_direction(volumes: Volumes, tmp_path: Path, references: KernelReferences) -> None:
    aligned = [({domain: image(domain, 50 + i)[0] for domain in SIGMAS_MM}, image("B30f", 50 + i)[1]) for i in (0, 1)]
    filters = fit_measured(measure_domains({d: iter(v) for d, v in volumes.items()}), iter(aligned))
    assert len(filters) == 6
    assert all(list(entry) == ["radial_filter", "radial_filter_unpaired", "band_energy"] for entry in filters.values())
    path = save_kernel_filters(tmp_path / "models" / "filters.json", filters, references, {"patients": ["a"]})
    loaded = load_kernel_filters(path)
    source, mm = image("B70f", 60)
    for direction, entry in filters.items():
        for name, fitted in entry.items():
            np.testing.assert_array_equal(loaded[direction][name].apply(source, mm), fitted.apply(source, mm))
    assert '"B30f->B70f"' in path.read_text()
    again = load_kernel_references(path)
    assert again is not None
    assert estimate_kernel(source, mm, again) == estimate_kernel(source, mm, references)


def test_without_pairs_there_is_no_paired_filter(volumes: Volumes, tmp_path: Path) -> None:
    filters = fit_measured(measure_domains({domain: volumes[domain] for domain in ("B30f", "B50f")}))
    assert {direction: list(entry) for direction, entry in filters.items()} == {
        ("B30f", "B50f"): ["radial_filter_unpaired", "band_energy"],
        ("B50f", "B30f"): ["radial_filter_unpaired", "band_energy"],
    }
    assert load_kernel_references(save_kernel_filters(tmp_path / "f.json", filters)) is None


@pytest.mark.parametrize("domain", list(SIGMAS_MM))
def test_the_kernel_of_an_unseen_image_is_recognised(domain: str, references: KernelReferences) -> None:
    for seed in (100, 101, 102):
        found, confidence = estimate_kernel(*image(domain, seed), references)
        assert found == domain
        assert confidence > 0.9


def test_an_unknown_kernel_gets_little_confidence(references: KernelReferences) -> None:
    assert estimate_kernel(*image("B30f", 100, sigma_mm=1.4), references)[1] < 0.1


def test_images_without_soft_tissue_are_recognised_by_the_whole_slice(references: KernelReferences) -> None:
    volume, mm = image("B50f", 103)
    assert estimate_kernel(volume - 600.0, mm, references)[0] == "B50f"


def test_missing_and_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="the fitted radial filters must exist at"):
        load_kernel_filters(tmp_path / "none.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ValueError, match=r"must be JSON, got .*config_file"):
        load_kernel_filters(tmp_path / "broken.json")
    (tmp_path / "other.json").write_text('{"format": 7}')
    with pytest.raises(ValueError, match="must be a file of radial filters of format 1, got 7"):
        load_kernel_references(tmp_path / "other.json")
    with pytest.raises(ValueError, match=r"`spectra` must hold a patient of each domain, got none for \['B30f'\]"):
        kernel_references({"B30f": []})


def test_a_generator_starts_from_filters_fitted_on_pairs_as_it_sees_them(tmp_path: Path) -> None:
    """A sharp image whose noise was cut off at -1024 HU, and the soft one made of the whole noise."""
    rng, soften = np.random.default_rng(0), RadialFilter(KNOTS, np.exp(-2 * (np.pi * 0.5 * KNOTS) ** 2), "paired")
    sharp = rng.normal(-1000, 60, (96, 96, 2))
    sharp[:48] += 1000
    pair = {"sharp": sharp.clip(-1024), "soft": soften.apply(sharp, (0.7, 0.7, 5.0))}
    for domain, volume in pair.items():
        image = nib.Nifti1Image(volume.round().astype(np.int16), np.diag([0.7, 0.7, 5, 1]))
        nib.save(image, tmp_path / f"{domain}.nii")
    entry = {"patient": "p", **{domain: f"{domain}.nii" for domain in pair}}
    (tmp_path / "datalist.json").write_text(json.dumps({"training_paired": [entry]}))
    load = LoadImaged("image", image_only=True, ensure_channel_first=True)
    encoded = torch.from_numpy((np.moveaxis(pair["sharp"], 2, 0)[:, None].astype(np.float32) + 1024) / 2047.5 - 1)
    label = torch.tensor([[0.0, 1.0, 1.0, 0.0, 0.7]])  # soft from sharp
    errors = {}
    for air_below in (None, -0.89):
        network = PhysicsGenerator(2, channels=0, air_below=air_below)
        start_from_pairs(network, tmp_path, list(pair), load, hu_range=(-1024, 3071))
        with torch.no_grad():
            output = (network(encoded, label)[:, 0].numpy() + 1) * 2047.5 - 1024
        errors[air_below] = np.sqrt(np.mean((np.moveaxis(output, 0, 2) - pair["soft"])[8:-8, 8:-8] ** 2))
    untouched = np.sqrt(np.mean((pair["sharp"] - pair["soft"])[8:-8, 8:-8] ** 2))
    assert errors[-0.89] < 0.9 * errors[None] < 0.9 * untouched
