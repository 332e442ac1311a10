"""The table of filters is fitted once, saved, and loaded exactly; its spectra recognise the kernel of an image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from common.baselines.kernels.radial_filter import RadialFilter
from common.baselines.kernels.reference import KernelReferences, estimate_kernel, kernel_references
from common.baselines.kernels.training import (
    fit_measured,
    load_kernel_filters,
    load_kernel_references,
    measure_domains,
    save_kernel_filters,
    start_from_filters,
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
    assert all(list(entry) == ["radial_filter", "radial_filter_unpaired"] for entry in filters.values())
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
        ("B30f", "B50f"): ["radial_filter_unpaired"],
        ("B50f", "B30f"): ["radial_filter_unpaired"],
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


def test_a_generator_starts_from_filters_fitted_on_pairs_except_between_linear_domains(tmp_path: Path) -> None:
    domains = list(SIGMAS_MM)
    gains = {"radial_filter": 0.5, "radial_filter_unpaired": 2.0}
    fitted = {name: RadialFilter([0.0, 0.1, 2.0], [1.0, gain, gain], "paired") for name, gain in gains.items()}
    table = {(s, t): dict(fitted) for s in domains for t in domains if s != t}
    save_kernel_filters(tmp_path / "filters.json", table)
    network = PhysicsGenerator(3, channels=0)
    for linear, expected in (
        (None, {"radial_filter_unpaired": 6}),
        (domains[:2], {"radial_filter": 4, "radial_filter_unpaired": 2}),
        ([], {"radial_filter": 6}),
    ):
        start_from_filters(network, tmp_path, domains, linear=linear)
        last = network.filters.initial[:, :, -1].flatten().tolist()
        assert {name: last.count(gains[name]) for name in expected} == expected
    without_pairs = {key: {"radial_filter_unpaired": fitted["radial_filter"]} for key in table}
    save_kernel_filters(tmp_path / "filters.json", without_pairs)
    with pytest.raises(ValueError, match=r"filters.json must hold filters fitted on pairs.*`training_paired`"):
        start_from_filters(network, tmp_path, domains, linear=[])
