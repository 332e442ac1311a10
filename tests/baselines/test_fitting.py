"""Baselines are fitted once, saved, loaded exactly, and never look at what they are tested on.

Fitting at the start of a training: pairs that are not on one grid are left out, and said to be.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

import nibabel
import nibabel as nib
import numpy as np
import pytest
import torch

from common.baselines import (
    Baseline,
    HistogramMatching,
    Identity,
    IntensityCurve,
    InvertedHistogramMatching,
    fit_and_save,
    fit_baselines,
    load_baselines,
    match_to_mean,
    save_baselines,
    start_from_inverted,
)
from common.metrics import score
from common.networks import ResidualGenerator
from tests.helpers.shared import require_shared

NAMES = ["identity", "histogram_matching", "inverted_histogram_matching", "intensity_curve"]


def subject(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """An encoded (source, target) pair with inverted contrast, shape (32, 30, 3)."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((32, 30, 3), dtype=bool)
    mask[4:28, 4:26] = True
    tissue = rng.uniform(0, 1, mask.shape)
    source, target = 1.6 * tissue - 0.7, 0.8 - 1.4 * tissue**2 + rng.normal(0, 0.05, mask.shape)
    return tuple(np.where(mask, v, -1.0).clip(-1, 1).astype(np.float32) for v in (source, target))  # type: ignore


@pytest.fixture(scope="module")
def baselines() -> dict[str, Baseline]:
    return fit_baselines((subject(seed)[1] for seed in range(3)), (subject(seed) for seed in range(3, 6)))


def test_names_and_protocol(baselines: dict[str, Baseline]) -> None:
    assert list(baselines) == NAMES
    assert [type(b) for b in baselines.values()] == [
        Identity,
        HistogramMatching,
        InvertedHistogramMatching,
        IntensityCurve,
    ]
    assert all(isinstance(baseline, Baseline) for baseline in baselines.values())
    assert list(fit_baselines([subject(0)[1]])) == NAMES[:3]  # no pairs, no curve


def test_the_round_trip_is_exact(baselines: dict[str, Baseline], tmp_path: Path) -> None:
    path = save_baselines(tmp_path / "models" / "baselines.json", baselines, {"patients": ["a", "b"], "seed": 3})
    loaded = load_baselines(path)
    source = subject(9)[0]
    for name, baseline in baselines.items():
        np.testing.assert_array_equal(loaded[name].predict(source), baseline.predict(source))
        assert loaded[name].to_dict() == baseline.to_dict()
    assert json.loads(path.read_text())["facts"] == {"patients": ["a", "b"], "seed": 3}


def test_the_file_holds_coefficients_only(baselines: dict[str, Baseline], tmp_path: Path) -> None:
    content = json.loads(save_baselines(tmp_path / "b.json", baselines).read_text())["baselines"]
    assert {name: sorted(entry) for name, entry in content.items()} == {
        "identity": ["kind"],
        "histogram_matching": ["kind", "quantiles"],
        "inverted_histogram_matching": ["kind", "quantiles"],
        "intensity_curve": ["kind", "source_values", "target_values"],
    }


def test_permuted_test_targets_change_nothing(tmp_path: Path, baselines: dict[str, Baseline]) -> None:
    path = save_baselines(tmp_path / "b.json", baselines)
    tests = [subject(seed) for seed in (20, 21, 22)]

    def evaluate(targets: list[np.ndarray]) -> tuple[list[np.ndarray], list[float]]:
        loaded = load_baselines(path)
        outputs = [b.predict(source) for source, _ in tests for b in loaded.values()]
        scores = [
            score(b.predict(source), target, spacing_mm=(1, 1, 1), data_range=2.0)["psnr"]
            for (source, _), target in zip(tests, targets, strict=True)
            for b in loaded.values()
        ]
        return outputs, scores

    straight, permuted = evaluate([t for _, t in tests]), evaluate([tests[k][1] for k in (1, 2, 0)])
    for first, second in zip(straight[0], permuted[0], strict=True):
        np.testing.assert_array_equal(first, second)
    assert straight[1] != permuted[1]  # the scores see the targets, the baselines do not


def test_predictions_depend_on_one_volume_only(baselines: dict[str, Baseline]) -> None:
    source = subject(30)[0]
    before = {name: baseline.predict(source) for name, baseline in baselines.items()}
    for baseline in baselines.values():
        baseline.predict(subject(31)[0])
    for name, baseline in baselines.items():
        np.testing.assert_array_equal(baseline.predict(source), before[name])
    np.testing.assert_array_equal(before["identity"], source)


def test_error_messages(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"must exist at .*none.json.*monai.bundle run training"):
        load_baselines(tmp_path / "none.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ValueError, match=r"must be JSON, got .*fits and saves them"):
        load_baselines(tmp_path / "broken.json")
    (tmp_path / "other.json").write_text('{"format": 7}')
    with pytest.raises(ValueError, match="must be a file of baselines of format 1, got 7"):
        load_baselines(tmp_path / "other.json")
    (tmp_path / "new.json").write_text('{"format": 1, "facts": {}, "baselines": {"x": {"kind": "magic"}}}')
    with pytest.raises(ValueError, match=r"got \['magic'\]; update the package"):
        load_baselines(tmp_path / "new.json")


def real_pair(first: str, second: str) -> tuple[np.ndarray, np.ndarray]:
    """Every third slice of a real pair, encoded by its own percentiles 1 and 99, as in the NEC paper."""
    volumes = []
    for name in (first, second):
        volume = np.asarray(nibabel.load(require_shared("data", "brain_mri", name)).dataobj, dtype=np.float32)
        low, high = np.percentile(volume, [1, 99])
        volumes.append((np.clip((volume - low) / (high - low), 0, 1) * 2 - 1)[:, :, 30:110:3])
    return volumes[0], volumes[1]


@pytest.mark.parametrize("direction", ["T1->T2", "T2->T1"])
def test_inverted_matching_counts_on_real_pairs(direction: str) -> None:
    glioma = real_pair("TCGA-FG-6692_t1_brain.nii.gz", "TCGA-FG-6692_t2_brain.nii.gz")
    stroke = real_pair("cstar_stroke_T1.nii.gz", "cstar_stroke_T2.nii.gz")
    step = 1 if direction == "T1->T2" else -1
    for fitted_on, (source, target) in ((stroke, glioma[::step]), (glioma, stroke[::step])):
        made = fit_baselines([fitted_on[::step][1]], [fitted_on[::step]])
        psnr = {
            name: score(baseline.predict(source), target, spacing_mm=(1, 1, 1), data_range=2.0)["psnr"]
            for name, baseline in made.items()
        }
        assert psnr["inverted_histogram_matching"] > psnr["identity"] + 1.0
        assert psnr["inverted_histogram_matching"] > psnr["histogram_matching"] + 1.0


def test_a_selection_is_fitted_without_reading_what_it_does_not_need() -> None:
    wanted = ["identity", "intensity_curve"]
    fitted = fit_baselines([], [subject(0)], names=wanted, keep_clipped=True)
    assert list(fitted) == wanted
    assert fitted["intensity_curve"].to_dict()["keep_clipped"] is True
    assert list(fit_baselines([], names=wanted)) == ["identity"]  # no pairs
    with pytest.raises(ValueError, match=r"`names` must be among \['identity', .* got \['curve'\]"):
        fit_baselines([], names=["curve"])


CT = ["identity", "intensity_curve"]


def datalist(folder: Path, shapes: list[tuple[int, int]]) -> Path:
    """One patient for each (rows of the source, rows of the target)."""
    entries = []
    for patient, (source, target) in enumerate(shapes):
        entry = {"patient": f"p{patient}"}
        for domain, rows in (("NECT", source), ("CECT", target)):
            ramp = np.linspace(-1, 1, rows * 20 * 3).reshape(rows, 20, 3).astype(np.float32)
            entry[domain] = f"{patient}_{domain}.nii.gz"
            nib.save(nib.Nifti1Image(ramp, np.eye(4)), folder / entry[domain])
        entries.append(entry)
    (folder / "datalist.json").write_text(json.dumps({"training_paired": entries}))
    return folder


def prepare(item: dict[str, str]) -> dict[str, torch.Tensor]:
    return {"image": torch.from_numpy(np.asarray(nib.load(item["image"]).dataobj))[None]}


def test_a_curve_is_fitted_on_the_pairs_that_share_a_grid(tmp_path, caplog):
    data = datalist(tmp_path, [(20, 20), (20, 24)])
    with caplog.at_level(logging.WARNING):
        path = fit_and_save(tmp_path / "models", data, "NECT", "CECT", prepare, [], names=CT)
    assert list(load_baselines(path)) == CT
    assert json.loads(path.read_text())["facts"]["paired"]
    assert "p1: NECT and CECT are not on one grid ((20, 20, 3) and (24, 20, 3) voxels)" in caplog.text
    assert "p0" not in caplog.text


def test_without_a_common_grid_there_is_no_curve_and_training_goes_on(tmp_path):
    data = datalist(tmp_path, [(20, 24)])
    path = fit_and_save(tmp_path / "models", data, "NECT", "CECT", prepare, [], names=CT)
    assert list(load_baselines(path)) == ["identity"]
    assert not json.loads(path.read_text())["facts"]["paired"]


def test_a_generator_starts_as_inverted_histogram_matching(tmp_path):
    """On ranks of the foreground, its curve is that baseline: Q(1 - rank)."""
    generator = ResidualGenerator(2, arguments={"channels": [4, 4, 4, 4, 4]}, points=201)
    quantiles = np.linspace(-0.8, 0.6, 50) ** 3
    save_baselines(tmp_path / "baselines.json", {"inverted_histogram_matching": InvertedHistogramMatching(quantiles)})
    start_from_inverted(generator, tmp_path)
    ranks = np.linspace(0.02, 0.98, 64 * 64)
    image = torch.as_tensor(-0.9 + 1.9 * ranks, dtype=torch.float32).reshape(1, 1, 64, 64)
    expected = np.interp(1 - ranks, np.linspace(0, 1, 50), quantiles)
    np.testing.assert_allclose(generator(image).detach().numpy().ravel(), expected, atol=3e-3)


def test_the_curve_of_a_generator_is_flat_where_the_source_is_brightest(tmp_path):
    """The darkest value of a T2 is none of a tissue: without this, the brightest T1 voxels become dark specks."""
    generator = ResidualGenerator(2, arguments={"channels": [4, 4, 4, 4, 4]}, points=1001)
    quantiles = np.concatenate([np.linspace(-1, -0.7, 3), np.linspace(-0.7, 0.6, 254)])  # falls steeply at its end
    save_baselines(tmp_path / "baselines.json", {"inverted_histogram_matching": InvertedHistogramMatching(quantiles)})
    start_from_inverted(generator, tmp_path)
    ranks = torch.tensor([0.97, 0.981, 0.99, 1.0])
    values = generator.classical(-0.9 + 1.9 * ranks)
    torch.testing.assert_close(values[1:], values[1].repeat(3), atol=1e-4, rtol=0)
    assert -0.7 < values[-1] < values[0]


def test_volumes_of_two_scanners_are_matched_to_one_histogram(tmp_path):
    """Each tissue keeps its order, equal ranks get equal values, and the background stays."""
    brain = torch.zeros(1, 20, 20, 3, dtype=torch.bool)
    brain[:, 4:16, 4:16] = True
    values = torch.rand(20, 20, 3, generator=torch.Generator().manual_seed(0))[None]
    volumes = [torch.where(brain, scale * values**power - 0.9, -1.0) for scale, power in ((0.5, 1.0), (1.5, 3.0))]
    quantiles = np.linspace(-0.8, 0.4, 20)
    save_baselines(tmp_path / "baselines.json", {"histogram_matching": HistogramMatching(quantiles)})
    first, second = match_to_mean(volumes, tmp_path)
    torch.testing.assert_close(first, second, atol=5e-3, rtol=0)  # a few values coincide in 32 bits
    assert (first[~brain] == -1).all()
    expected = np.quantile(quantiles, (np.arange(brain.sum()) + 0.5) / int(brain.sum()))
    np.testing.assert_allclose(np.sort(first[brain].numpy()), expected, atol=1e-3)
    assert (first[brain][volumes[0][brain].argsort()].diff() >= 0).all()
