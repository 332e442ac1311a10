"""The check of an output: its measures against closed forms, each finding with a good and a bad output."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from common.inference import OutputCheck, output_check
from common.inference.output_check import PairedSlices, edge_agreement, overlap, paired_slices, slice_jump
from tests.helpers.shared import needs_shared, shared

WIDE = np.diag([3.0, 3.0, 5.0, 1.0])  # pixels that are not averaged any more


def scan(size: int = 24, slices: int = 5) -> np.ndarray:
    """A body whose contents and size change smoothly from slice to slice."""
    x, y, z = np.mgrid[:size, :size, :slices].astype(float)
    distance = np.hypot(x - size / 2, y - size / 2)
    body = 60 * np.sin(x / 3) * np.cos(y / 4) + 5 * z
    return np.where(distance < size / 3, body, -1000.0)


def verdicts(source: np.ndarray, output: np.ndarray, **more: float) -> dict[str, str]:
    findings = OutputCheck("CT", (-1024, 3071))(paired_slices(source, output, WIDE), "'scan'", **more)
    return {finding.check: finding.verdict for finding in findings}


def test_an_identity_passes_everything(caplog):
    found = verdicts(scan(), scan())
    assert found == dict.fromkeys(["finite", "range", "structure", "body", "slices"], "passed")
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("check", "damage"),
    [
        ("range", lambda v: np.where(v > 0, 9000.0, v)),
        ("structure", lambda v: np.where(v > -500, v[::-1].swapaxes(0, 1) * 10, v)),
        ("body", lambda v: np.roll(v, 9, axis=0)),
        ("slices", lambda v: np.where(v > -500, v + np.array([0, 150, 0, 150, 0]), v)),
    ],
)
def test_each_fault_is_found_and_logged(check, damage, caplog):
    found = verdicts(scan(), damage(scan()))
    assert found[check] == "warned"
    assert "The translation of 'scan' is doubtful" in caplog.text


def test_the_contrast_is_judged_where_a_correlation_is_given():
    assert verdicts(scan(), scan(), correlation=-0.4)["contrast"] == "passed"
    assert verdicts(scan(), scan(), correlation=0.2)["contrast"] == "warned"


def test_the_codec_bounds_mr_alone():
    source = scan() + 1100
    pair = paired_slices(source, np.clip(source, 0, 500), WIDE)
    (found,) = (f for f in OutputCheck("MR", (0, 500))(pair, "'scan'") if f.check == "range")
    assert found.verdict == "passed"
    (found,) = (f for f in OutputCheck("MR", (0, 400))(pair, "'scan'") if f.check == "range")
    assert found.verdict == "warned"
    assert found.value == (100.0, 500.0)


def test_values_that_no_file_should_hold_are_refused():
    check = OutputCheck("CT", (-1024, 3071))
    broken = scan()
    broken[0, 0, 0] = np.nan
    with pytest.raises(
        ValueError, match=r"The translation of 'scan' has 1 NaN or infinite values; it was not written."
    ):
        check(paired_slices(scan(), broken, WIDE), "'scan'")
    with pytest.raises(ValueError, match="40000 HU, more than 16 bits hold"):
        check(paired_slices(scan(), np.where(scan() > 0, 40000.0, scan()), WIDE), "'scan'")
    with pytest.raises(ValueError, match=r"`modality` must be 'CT' or 'MR', got 'PET'."):
        OutputCheck("PET", (0, 1))


def test_the_order_in_which_slices_come_and_are_stored_does_not_matter():
    source, output = scan(), scan() * 0.9
    forwards = paired_slices(source, output, WIDE)
    backwards = PairedSlices((3.0, 3.0))
    for level in reversed(range(5)):
        backwards.add(source[..., level], output[..., level], level)
    coronal = paired_slices(source.swapaxes(1, 2), output.swapaxes(1, 2), WIDE[:, [0, 2, 1, 3]])
    for other in (backwards, coronal):
        for first, second in zip(forwards.volumes(), other.volumes()):
            np.testing.assert_array_equal(first, second)
    assert backwards.output.low == output.min()


def test_a_finer_output_is_compared_at_the_pixels_of_its_source():
    source, pair = scan(24, 2), PairedSlices((1.0, 1.0), finer=4)
    for level in range(2):
        pair.add(source[..., level], np.kron(source[..., level], np.ones((4, 4))))
    first, second = pair.volumes()
    assert first.shape == (8, 8, 2)
    np.testing.assert_allclose(first, second, rtol=1e-5)
    expected = source.reshape(8, 3, 8, 3, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(first, expected, rtol=1e-5)


def test_measures_agree_with_numpy():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 6, 5, 4))
    mask = rng.random((6, 5, 4)) < 0.7
    both = mask[..., 1:] & mask[..., :-1]
    expected = np.mean([abs(first[i, j, k + 1] - first[i, j, k]) for i, j, k in np.argwhere(both)]) / first[mask].std()
    assert slice_jump(first, mask) == pytest.approx(expected)
    gx, gy = np.gradient(first, axis=(0, 1))
    hx, hy = np.gradient(second, axis=(0, 1))
    expected = np.corrcoef(np.hypot(gx, gy)[mask], np.hypot(hx, hy)[mask])[0, 1]
    assert edge_agreement(first, second, mask) == pytest.approx(expected)
    other = rng.random((6, 5, 4)) < 0.5
    assert overlap(mask, other) == pytest.approx(2 * (mask & other).sum() / (mask.sum() + other.sum()))


def test_flat_and_empty_volumes_have_values():
    flat, ramp = np.zeros((4, 4, 2)), np.arange(32.0).reshape(4, 4, 2) ** 2
    everywhere = np.ones(flat.shape, bool)
    assert edge_agreement(flat, flat, everywhere) == 1
    assert edge_agreement(flat, ramp, everywhere) == 0
    assert slice_jump(flat, everywhere) == 0
    assert slice_jump(ramp[..., :1], everywhere[..., :1]) == 0
    assert overlap(~everywhere, ~everywhere) == 1


@needs_shared("data", "brain_mri")
def test_a_real_t2_of_the_same_brain_passes_and_that_of_shuffled_slices_does_not():
    source, truth = (
        nib.load(shared("data", "brain_mri", f"cstar_stroke_{name}.nii.gz")).get_fdata(dtype=np.float32)
        for name in ("T1", "T2")
    )
    check = OutputCheck("MR", (float(truth.min()), float(truth.max())))
    found = check(paired_slices(source, truth, np.eye(4)), "'scan'")
    assert {finding.verdict for finding in found} == {"passed"}
    found = check(paired_slices(source, truth[..., ::-1], np.eye(4)), "'scan'")
    assert {f.check for f in found if f.verdict == "warned"} >= {"structure", "body"}


def test_a_long_volume_is_compared_in_wider_pixels(monkeypatch):
    monkeypatch.setattr(output_check, "MOST_VOXELS", 24 * 24 * 5 // 3)
    source = scan()
    pair = paired_slices(source, source, WIDE)
    assert pair.volumes()[0].shape == (12, 12, 5)
    coarse, sizes = pair.thick(pair.volumes()[0])
    assert sizes == (6.0, 6.0, 5.0)
    assert coarse.shape == (12, 12, 5)
    findings = OutputCheck("CT", (-1024, 3071), part="abdomen")(pair, "'scan'")
    assert {finding.check: finding.verdict for finding in findings}["structure"] == "passed"
