"""Image quality of MR scaled to [0, 1]; expected values are closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from common.metrics import scaled_quality

REFERENCE = (100.0, 600.0)


def disc(size: int = 128) -> np.ndarray:
    """Tissue of 1000 on a quarter of the field of 0, two slices."""
    truth = np.zeros((size, size, 2))
    truth[size // 4 : 3 * size // 4, size // 4 : 3 * size // 4] = 1000.0
    return truth


def decoded(scaled: np.ndarray) -> np.ndarray:
    return REFERENCE[0] + scaled * (REFERENCE[1] - REFERENCE[0])


def test_a_prediction_that_only_has_the_references_units_is_perfect():
    truth = disc()
    values = scaled_quality(decoded(truth / 1000), truth, reference=REFERENCE)
    assert values == pytest.approx({"mse_x100": 0, "psnr_scaled": 100, "ssim_scaled": 1, "ms_ssim_kernel7": 1})


def test_the_error_is_that_of_the_networks_output():
    truth = disc()
    values = scaled_quality(decoded(truth / 1000 * 0.8), truth, reference=REFERENCE)
    assert values["mse_x100"] == pytest.approx(100 * 0.2**2 / 4)  # 0.2 on a quarter of the pixels
    assert values["psnr_scaled"] == pytest.approx(20.0)  # -10 log10(0.01)
    assert 0 < values["ms_ssim_kernel7"] < 1


def test_values_beyond_the_range_are_clipped():
    truth = disc()
    scaled = np.where(truth > 0, 1.5, -0.5)
    assert scaled_quality(decoded(scaled), truth, reference=REFERENCE)["mse_x100"] == pytest.approx(0)


@pytest.mark.parametrize(("size", "names"), [(64, set()), (128, {"ms_ssim_kernel7"}), (192, {"ms_ssim"})])
def test_the_kernel_of_the_similarity_is_named_where_the_image_is_small(size, names):
    found = scaled_quality(decoded(disc(size) / 1000), disc(size), reference=REFERENCE)
    assert {name for name in found if name.startswith("ms_ssim")} == names


def test_wrong_references_and_flat_truths_are_refused():
    with pytest.raises(ValueError, match=r"`reference` must be \(lowest, highest\) .*, got \(1\.0, 1\.0\)\."):
        scaled_quality(disc(), disc(), reference=(1.0, 1.0))
    with pytest.raises(ValueError, match=r"`truth` must have contrast between its percentiles .*, got 0\.0 for both\."):
        scaled_quality(disc(), 0 * disc(), reference=REFERENCE)
