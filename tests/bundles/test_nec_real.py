"""The shipped weights of `nec_t1t2` on real patients of sets that they never saw: what README and metadata claim."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import ndimage

from benchmarks.real_scans import SETS, measure, prepare, translated, translators
from tests.helpers.bundles import BUNDLE
from tests.helpers.shared import require_shared

NEVER_SEEN = ("stroke", "glioma")


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """Rows and images of both patients, by method."""
    folder = tmp_path_factory.mktemp("real")
    prepare(str(require_shared("data", "brain_mri")), output_dir=str(folder), sets=list(NEVER_SEEN))
    found = {}
    for scan in NEVER_SEEN:
        for method, translate in translators(str(BUNDLE / "models"), "network", baselines=True).items():
            if method in ("network", "identity", "inverted_histogram_matching"):
                output, truth, source = (
                    np.asarray(i.dataobj, dtype=np.float32) for i in translated(folder, scan, translate)
                )
                row = measure(output, truth, source, (truth > 0) & (source > 0))
                found[scan, method] = (row, output, source, truth)
    return found


def test_the_weights_saw_no_subject_of_these_sets():
    told = json.loads((BUNDLE / "models" / "network.json").read_text())["training_data"]
    assert set(NEVER_SEEN) <= set(SETS)
    assert all(name not in told["name"] for name in NEVER_SEEN)


@pytest.mark.parametrize("scan", NEVER_SEEN)
def test_ahead_of_inverted_histogram_matching_and_of_the_source(scored, scan):
    rows = {method: row for (name, method), (row, *_) in scored.items() if name == scan}
    for metric in ("psnr", "ssim"):
        assert rows["network"][metric] > rows["inverted_histogram_matching"][metric]
        assert rows["network"][metric] > rows["identity"][metric]


def test_ahead_on_average(scored):
    gains = [
        scored[scan, "network"][0]["psnr"] - scored[scan, "inverted_histogram_matching"][0]["psnr"]
        for scan in NEVER_SEEN
    ]
    assert np.mean(gains) > 1.0  # the aim; 1.2 when they were trained


@pytest.mark.parametrize("scan", NEVER_SEEN)
def test_fluid_is_bright_without_a_checkerboard_and_as_sharp_as_the_truth(scored, scan):
    row = scored[scan, "network"][0]
    assert row["csf_to_white"] > 1.5  # brighter than white matter
    assert row["checkerboard"] < 3
    assert 0.7 < row["sharpness"] < 1.3


@pytest.mark.parametrize("scan", NEVER_SEEN)
def test_the_background_stays_zero(scored, scan):
    _, output, source, _ = scored[scan, "network"]
    far = source == 0
    assert (output[far] == 0).mean() > 0.97  # the rest: holes within the head, and the median filter's rim
    corner = (slice(0, 8), slice(0, 8))
    assert (output[corner] == 0).all()


@pytest.mark.parametrize("scan", NEVER_SEEN)
def test_the_brightest_voxels_of_a_source_become_no_dark_specks(scored, scan):
    """Deep in the brain, voxels below half of the median around them: far fewer than the true T2 has."""
    _, output, source, truth = scored[scan, "network"]
    deep = ndimage.binary_erosion(ndimage.binary_fill_holes(source > 0), iterations=6)
    dark = [
        ((image < 0.5 * ndimage.median_filter(image, size=(5, 5, 1))) & deep).sum() / deep.sum()
        for image in (output, truth)
    ]
    assert dark[0] < 0.2 * dark[1]
    assert dark[0] < 2e-4
