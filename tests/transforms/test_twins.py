"""Contrast twins: planted organs lose or gain exactly what they should, and everything else stays."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from common.transforms import contrast_agent, contrast_twins, write_contrast_twins
from common.transforms.twins import BLOOD_HU, ORGANS

SPACING = (1.0, 1.0, 3.0)
LIVER, KIDNEY, AORTA, VERTEBRA = 5, 2, 52, 30
ENHANCED = {LIVER: 114.0, KIDNEY: 190.0, AORTA: 160.0}
PLAIN = {LIVER: 56.0, KIDNEY: 30.0, AORTA: BLOOD_HU}


def scan(levels, *, vessel=None, noise=0.0):
    """Fat with a liver, a kidney, an aorta, a vertebra and unlabelled muscle; and its labels."""
    x, y = np.mgrid[:120, :100]
    label = np.zeros((120, 100), dtype=np.uint8)
    hu = np.full(label.shape, -1000.0)
    hu[np.hypot((x - 60) / 56, (y - 50) / 46) < 1] = -100
    for value, (a, b, r) in {
        LIVER: (35, 60, 18),
        KIDNEY: (85, 40, 14),
        AORTA: (60, 40, 7),
        VERTEBRA: (60, 20, 9),
    }.items():
        inside = np.hypot(x - a, y - b) < r
        label[inside] = value
        hu[inside] = levels.get(value, 400.0)
    hu[np.hypot(x - 90, y - 70) < 8] = 50  # muscle
    if vessel is not None:
        hu[np.hypot(x - 35, y - 60) < 5] = vessel
    volume = np.repeat(hu[..., None], 4, axis=2)
    volume += noise * np.random.default_rng(0).normal(size=volume.shape)
    return volume.astype(np.float32), np.repeat(label[..., None], 4, axis=2)


def inner(label, value, pixels=5):
    return ndimage.binary_erosion(label == value, np.ones((2 * pixels + 1, 2 * pixels + 1, 1)))


def test_each_organ_loses_its_agent_exactly_and_the_rest_nothing():
    image, label = scan(ENHANCED)
    before, after = next(contrast_twins(image, label, SPACING, enhanced=True))
    assert np.array_equal(after, image)
    for value, plain in PLAIN.items():
        assert before[inner(label, value, 4)] == pytest.approx(plain, abs=0.01)
    far = ndimage.distance_transform_edt(~np.isin(label, list(PLAIN)), sampling=SPACING) > 6
    assert np.array_equal(before[far], image[far])  # fat, muscle, bone and air


def test_a_vessel_in_the_liver_is_as_dark_as_blood_without_agent():
    image, label = scan(ENHANCED, vessel=170.0)
    before, _ = next(contrast_twins(image, label, SPACING, enhanced=True))
    assert before[35, 60, 1] == pytest.approx(BLOOD_HU, abs=3)
    assert before[25, 60, 1] == pytest.approx(56, abs=0.5)


def test_an_unlabelled_vessel_goes_and_calcium_stays():
    image, label = scan(ENHANCED)
    x, y = np.mgrid[:120, :100]
    vessel, calcium = np.hypot(x - 60, y - 75) < 5, np.hypot(x - 60, y - 40) < 3
    image[vessel], image[calcium] = 140, 700
    before, _ = next(contrast_twins(image, label, SPACING, enhanced=True))
    assert before[60, 75, 1] < 60
    assert before[60, 40, 1] > 400


def test_texture_and_noise_stay():
    image, label = scan(ENHANCED, noise=15.0)
    clean, _ = scan(ENHANCED)
    before, after = next(contrast_twins(image, label, SPACING, enhanced=True))
    mask = inner(label, LIVER)
    noise = (image - clean)[mask]
    kept = before[mask] - before[mask].mean()
    assert np.corrcoef(noise, kept)[0, 1] > 0.97
    assert kept.std() == pytest.approx(noise.std(), rel=0.05)
    assert after - before == pytest.approx(contrast_agent(image, label, SPACING, enhanced=True), abs=1e-3)


def test_a_plain_scan_gains_what_removal_takes_away_again():
    image, label = scan(PLAIN)
    before, after = next(contrast_twins(image, label, SPACING, enhanced=False))
    assert np.array_equal(before, image)
    assert (after - before)[inner(label, LIVER)] == pytest.approx(ORGANS["liver"].enhancement_hu, abs=0.01)
    rim, core = after[75, 40, 1] - image[75, 40, 1], after[85, 40, 1] - image[85, 40, 1]
    assert core == pytest.approx(ORGANS["kidneys"].core_hu, abs=0.5)
    assert core < rim <= ORGANS["kidneys"].enhancement_hu
    again, _ = next(contrast_twins(after, label, SPACING, enhanced=True))
    for value, tolerance in {LIVER: 0.1, AORTA: 0.1, KIDNEY: 4.0}.items():  # a kidney's agent falls from rim to core
        assert again[inner(label, value, 4)] == pytest.approx(PLAIN[value], abs=tolerance)
    assert abs(again - image)[label == 0].max() < 45  # voxels that an organ shares with fat


def test_later_twins_differ_in_their_organs_and_not_in_their_agent():
    image, label = scan(PLAIN)
    pairs = list(contrast_twins(image, label, SPACING, enhanced=False, count=3, seed=1))
    again = list(contrast_twins(image, label, SPACING, enhanced=False, count=3, seed=1))
    assert np.array_equal(pairs[2][0], again[2][0])
    levels = [before[inner(label, LIVER)].mean() for before, _ in pairs]
    assert levels[0] == pytest.approx(56)
    assert len(set(np.round(levels, 2))) == 3
    assert all(abs(level - 56) <= ORGANS["liver"].spread_hu for level in levels)
    for before, after in pairs:
        assert after - before == pytest.approx(pairs[0][1] - pairs[0][0], abs=1e-3)
    assert np.array_equal(pairs[2][0][label == VERTEBRA], image[label == VERTEBRA])


def test_what_cannot_be_meant_is_refused():
    image, label = scan(PLAIN)
    with pytest.raises(ValueError, match="is this scan enhanced"):
        contrast_agent(image - 20, label, SPACING, enhanced=True)
    with pytest.raises(ValueError, match="must hold organs of known uptake"):
        contrast_agent(image, np.zeros_like(label), SPACING, enhanced=False)
    with pytest.raises(ValueError, match="must have the shape"):
        contrast_agent(image, label[1:], SPACING, enhanced=False)


def stored(folder, **changes):
    """A folder with one labelled scan after contrast."""
    image, label = scan(ENHANCED)
    affine = np.diag([*SPACING, 1.0])
    nib.save(nib.Nifti1Image(image.astype(np.int16), affine), folder / "p1.nii.gz")
    nib.save(nib.Nifti1Image(label, affine), folder / "p1_label.nii.gz")
    nib.save(nib.Nifti1Image(label, 2 * affine), folder / "other.nii.gz")
    entry = {"image": "p1.nii.gz", "label": "p1_label.nii.gz", "domain": "CECT", "patient": "p1", **changes}
    (folder / "datalist.json").write_text(json.dumps({"name": "mine", "training": [entry]}))
    return folder


def test_pairs_are_written_with_their_datalist(tmp_path):
    path, count = write_contrast_twins(stored(tmp_path), tmp_path / "out", twins=2)
    made = json.loads(path.read_text())
    assert count == len(made["training_paired"]) == 2
    assert len({pair["NECT"] for pair in made["training_paired"]}) == 2
    pair = made["training_paired"][0]
    before, after = (nib.load(path.parent / pair[key]) for key in ("NECT", "truth"))
    image, label = scan(ENHANCED)
    assert np.array_equal(after.dataobj, image.astype(np.int16))
    assert np.asarray(before.dataobj)[inner(label, LIVER)].mean() == 56
    assert np.allclose(before.affine, np.diag([*SPACING, 1.0]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": "other.nii.gz"}, r"other\.nii\.gz.*grid"),
        ({"domain": "T1"}, "domain of"),
        ({"patient": "../p1"}, "`patient` must be one name"),
        ({"label": "p1.nii.gz"}, r"p1\.nii\.gz.*known uptake"),
    ],
)
def test_an_unusable_scan_is_named(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        write_contrast_twins(stored(tmp_path, **changes), tmp_path / "out")
    with pytest.raises(ValueError, match="integer >= 1"):
        write_contrast_twins(tmp_path, tmp_path / "out", twins=0)
