"""The verdict of an alignment, its measures, and the loading of volumes in any unit."""

from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from common.alignment import volumes
from common.alignment.volumes import Loaded, Options, align_volumes, load
from common.images.registration import Deformation
from tests.helpers.misaligned import AFFINE, body_at, moved, noisy, points, rotated

pytest.importorskip("SimpleITK", reason="SimpleITK (the extra `align`) is not installed")

AFFINE_ALONE = Options(method="affine")
PLAIN = noisy(body_at(points(), enhanced=False), 0)
MOVED = moved(rotated())


def loaded(values, affine=AFFINE, *, hu=True, doubts=()):
    return Loaded(values, affine, hu, {}, list(doubts))


@pytest.fixture(scope="module")
def result():
    return align_volumes(loaded(PLAIN), loaded(MOVED), options=AFFINE_ALONE)


def test_an_alignment_comes_nearer_to_the_aligned_truth(result):
    aligned, inside, facts, _ = result
    truth, body = body_at(points(), enhanced=True), PLAIN > -300
    before, after = (np.abs(values - truth)[body & inside].mean() for values in (MOVED, aligned))
    assert facts["verdict"] == "passed"
    assert after < 0.5 * before
    assert facts["similarity"]["after"] > facts["similarity"]["before"]


def test_what_was_not_scanned_is_padding_and_counted(result):
    aligned, inside, facts, _ = result
    assert (aligned[~inside] == -1024).all()
    body = volumes._body(loaded(PLAIN))
    assert facts["outside_share"] == pytest.approx(1 - inside[body].mean())
    assert 0 < facts["outside_share"] < 0.5


def test_levels_of_the_progress_are_told():
    told: list[str] = []
    align_volumes(loaded(PLAIN), loaded(MOVED), options=AFFINE_ALONE, step=told.append)
    assert told == ["affine, 8 mm", "affine, 4 mm", "affine, 2 mm"]


@pytest.mark.parametrize(
    ("name", "change"),
    [("folding", {"smallest_jacobian": -0.1, "folded": 0.01}), ("folding", {"smallest_jacobian": 0.0})],
)
def test_a_fold_never_passes(name, change, monkeypatch):
    fold = replace(Deformation(1.0, 0.0, 1.0, 2.0), **change)
    monkeypatch.setattr(volumes, "deformation", lambda *_, **__: fold)
    *_, facts, _ = align_volumes(loaded(PLAIN), loaded(MOVED), options=AFFINE_ALONE)
    assert facts["verdict"] == "warned"
    assert [check["check"] for check in facts["checks"] if check["verdict"] == "warned"] == [name]


def test_a_result_that_is_not_more_similar_never_passes(monkeypatch):
    monkeypatch.setattr(volumes, "similarity", lambda *_, **__: 1.2)
    *_, facts, _ = align_volumes(loaded(PLAIN), loaded(MOVED), options=AFFINE_ALONE)
    (finding,) = (check for check in facts["checks"] if check["check"] == "similarity")
    assert facts["verdict"] == finding["verdict"] == "warned"


def test_a_body_that_lies_mostly_outside_never_passes():
    thin, affine = MOVED[..., 8:13], AFFINE.copy()
    affine[2, 3] += 8 * AFFINE[2, 2]
    _, inside, facts, _ = align_volumes(loaded(PLAIN), loaded(thin, affine), options=AFFINE_ALONE)
    (finding,) = (check for check in facts["checks"] if check["check"] == "outside")
    assert finding["value"] > 0.5
    assert facts["verdict"] == finding["verdict"] == "warned"
    assert inside.any()


def test_a_doubtful_header_never_passes():
    doubtful = loaded(MOVED, doubts=["it states no orientation"])
    *_, facts, _ = align_volumes(loaded(PLAIN), doubtful, options=AFFINE_ALONE)
    assert facts["verdict"] == "warned"
    assert facts["checks"][-1]["evidence"] == "moving: it states no orientation"


def test_padding_of_the_scanner_does_not_mix_with_tissue():
    padded = MOVED.copy()
    padded[:6] = -3024
    aligned, inside, *_ = align_volumes(loaded(PLAIN), loaded(padded), options=AFFINE_ALONE)
    assert (aligned[~inside] == -1024).all()
    assert aligned[inside].min() > -1100
    assert not inside[:4].any()


def test_intensities_without_hu_keep_their_range_and_have_no_hu_measures():
    fixed, moving = PLAIN + 1024, 500 - 0.3 * MOVED
    aligned, inside, facts, _ = align_volumes(
        loaded(fixed, hu=False), loaded(moving, hu=False), options=Options(method="affine", padding=7)
    )
    assert (aligned[~inside] == 7).all()
    assert "mean_absolute_difference_hu" not in facts
    assert facts["windows"]["fixed"] != facts["windows"]["moving"]


@pytest.mark.parametrize(("offset", "hu"), [(0, True), (1024, False)])
def test_a_volume_is_loaded_as_it_is_stored(offset, hu, tmp_path):
    values = (PLAIN + offset).astype(np.int16)
    nib.save(nib.Nifti1Image(values, AFFINE), tmp_path / "a.nii.gz")
    found = load(str(tmp_path / "a.nii.gz"))
    np.testing.assert_array_equal(found.values, values)
    np.testing.assert_allclose(found.affine, AFFINE)
    assert found.hu is hu


def test_a_dicom_series_is_loaded_in_hu_with_its_grid(tmp_path):
    pytest.importorskip("pydicom", reason="pydicom (the extra `dicom`) is not installed")
    from tests.helpers.dicom_series import write_source_series
    from tests.helpers.translations import CT_AFFINE, trunk

    found = load(str(write_source_series(tmp_path / "series", trunk(), CT_AFFINE)))
    assert found.hu
    assert sorted(found.values.shape) == sorted(trunk().shape)
    np.testing.assert_allclose(np.sort(found.values.ravel()), np.sort(trunk().ravel()), atol=1)


def test_what_is_no_volume_is_named(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(b"no volume")
    with pytest.raises(ValueError, match=r"a\.nii\.gz.*not a readable NIfTI"):
        load(str(tmp_path / "a.nii.gz"))
