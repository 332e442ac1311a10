from __future__ import annotations

import numpy as np
import pytest

from common.phantoms.brain.anatomy import LABEL_NAMES, Tumour, label_map, tissue_fractions
from common.phantoms.brain.phantom import TASK_ID, brain_parameters, has_tumour, make_brain
from common.phantoms.brain.signal import mr_images
from common.phantoms.brain.subject import Subject
from common.phantoms.dataset import split_counts

LABELS = {name: value for value, name in LABEL_NAMES.items()}
LESIONS = [LABELS[name] for name in ("oedema", "tumour", "necrosis")]
SIZE = 128
PATIENTS = range(6)


@pytest.fixture(scope="module")
def patients():
    parameters = brain_parameters(size=SIZE, slices=6)
    return [{name: v.data for name, v in make_brain(p, parameters).items()} for p in PATIENTS]


def fractions_at(subject, levels, *, slice_mm, tumour=None, size=64):
    in_plane = (256 / size * (np.arange(size) - (size - 1) / 2)).astype(np.float32)
    return tissue_fractions(
        subject,
        tumour,
        slice_positions_mm=np.asarray(levels, dtype=np.float32),
        slice_mm=slice_mm,
        in_plane_mm=(in_plane, in_plane),
    )


@pytest.fixture(scope="module")
def subject():
    return Subject.draw(np.random.default_rng(11))


def medians(patient, sequence):
    tissues = {name: patient["label"] == value for name, value in LABELS.items() if value not in LESIONS}
    return {name: np.median(patient[sequence][inside]) for name, inside in tissues.items()}


def test_same_seed_gives_the_same_patient_whatever_their_number():
    few, many = brain_parameters(size=64, slices=2, patients=4), brain_parameters(size=64, slices=2, patients=30)
    first, again = make_brain(3, few), make_brain(3, many)
    for name in first:
        np.testing.assert_allclose(first[name].data, again[name].data, atol=1e-3)
        np.testing.assert_allclose(first[name].affine, again[name].affine)


def test_patients_and_seeds_differ():
    zero, one = (brain_parameters(size=64, slices=2, seed=seed) for seed in (0, 1))
    images = [make_brain(*arguments)["T1"].data for arguments in ((0, zero), (1, zero), (0, one))]
    for i in range(3):
        for j in range(i):
            assert np.corrcoef(images[i].ravel(), images[j].ravel())[0, 1] < 0.97


def test_t1_weighting_shows_white_above_grey_above_fluid(patients):
    for patient in patients:
        level = medians(patient, "T1")
        assert level["white_matter"] > level["deep_nuclei"] > level["ventricles"]
        assert level["white_matter"] > 1.1 * level["grey_matter"] > 1.3 * level["ventricles"]


def test_t2_weighting_shows_fluid_above_grey_above_white(patients):
    for patient in patients:
        level = medians(patient, "T2")
        assert level["ventricles"] > 1.5 * level["grey_matter"] > 1.6 * level["white_matter"]
        assert level["sulcal_csf"] > level["grey_matter"]


def test_lesions_are_bright_in_t2_and_not_in_t1(patients):
    with_tumour = [p for p in patients if np.isin(p["label"], LESIONS).any()]
    assert with_tumour
    for patient in with_tumour:
        lesion = np.isin(patient["label"], LESIONS)
        assert np.median(patient["T2"][lesion]) > 1.2 * medians(patient, "T2")["white_matter"]
        assert np.median(patient["T1"][lesion]) < medians(patient, "T1")["white_matter"]


def test_pallidum_is_the_darkest_tissue_in_t2(subject):
    fractions = fractions_at(subject, [-6, 0, 6], slice_mm=3, size=128)
    t2 = mr_images(np.random.default_rng(0), subject, fractions, spacing_mm=(6, 2, 2))["T2"]
    level = {name: np.median(t2[fractions[name] > 0.8]) for name in ("pallidum", "putamen", "white_matter", "thalamus")}
    assert min(level, key=level.get) == "pallidum"


def test_sequences_correlate_as_in_patients(patients):
    # Skull-stripped T1/T2 pairs of real patients: -0.59 (stroke, C-STAR) and -0.52 (glioma, TCGA-FG-6692).
    for patient in patients:
        brain = (patient["T1"] > 0) & (patient["T2"] > 0)
        r = np.corrcoef(patient["T1"][brain], patient["T2"][brain])[0, 1]
        assert -0.65 < r < -0.2


def test_brain_fills_a_plausible_part_of_the_field_of_view(patients):
    for patient in patients:
        widths = [np.ptp(np.flatnonzero(patient["label"].any(axis=axes))) * 256 / SIZE for axes in ((1, 2), (0, 2))]
        assert 110 < widths[0] < 165  # mm, left to right
        assert 140 < widths[1] < 205  # mm, back to front


def test_images_are_zero_exactly_outside_the_labelled_brain(patients):
    for patient in patients:
        outside = patient["label"] == 0
        assert not patient["T1"][outside].any()
        assert not patient["T2"][outside].any()
        assert (patient["T1"][~outside] > 0).all()
        assert outside[[0, -1]].all()
        assert np.isfinite(patient["T1"]).all()
        assert np.isfinite(patient["T2"]).all()


def test_labels_are_the_declared_ones_and_all_tissues_occur(patients):
    for patient, label in enumerate(p["label"] for p in patients):
        present = set(np.unique(label).tolist())
        tissues = set(LABEL_NAMES) - set(LESIONS)
        assert tissues <= present <= {0, *LABEL_NAMES}
        assert bool(present & set(LESIONS)) == has_tumour(patient, seed=0)


def test_label_is_the_largest_share_with_lesions_on_top(subject):
    tumour = Tumour.draw(np.random.default_rng(5), (10, 20))
    fractions = fractions_at(subject, [5, 15, 25], slice_mm=6, tumour=tumour)
    label = label_map(fractions)
    solid = fractions["tumour"] + fractions["necrosis"]
    lesion = solid + fractions["oedema"]
    np.testing.assert_array_equal(np.isin(label, LESIONS), lesion > 0.5)
    np.testing.assert_array_equal(label == LABELS["necrosis"], fractions["necrosis"] > 0.5)
    assert (solid[label == LABELS["tumour"]] > 0.5).all()
    white = fractions["white_matter"] + fractions["gliosis"]
    chosen = label == LABELS["white_matter"]
    for other in ("grey_matter", "ventricles", "sulcal_csf", "thalamus"):
        assert (white[chosen] >= fractions[other][chosen]).all()
        assert (label[fractions[other] > 0.51] != LABELS["white_matter"]).all()


def test_tissue_shares_sum_to_one_inside_the_brain(subject):
    fractions = fractions_at(subject, [0, 15], slice_mm=6, tumour=Tumour.draw(np.random.default_rng(0), (0, 15)))
    total = sum(fractions.values())
    assert total[:, 32, 32] == pytest.approx(1, abs=1e-4)
    assert total.max() <= 1 + 1e-4
    assert min(share.min() for share in fractions.values()) >= -1e-6
    assert (total[:, :2] == 0).all()


def test_anatomy_is_a_function_of_position_alone(subject):
    alone = fractions_at(subject, [15], slice_mm=6)
    in_stack = fractions_at(subject, [3, 9, 15, 21], slice_mm=6)
    for name, share in alone.items():
        np.testing.assert_allclose(share[0], in_stack[name][2], atol=1e-4)


def test_thick_slice_is_the_mean_of_thin_ones(subject):
    thick = fractions_at(subject, [15], slice_mm=3)
    thin = fractions_at(subject, [14, 15, 16], slice_mm=1)
    for name, share in thick.items():
        np.testing.assert_allclose(share[0], thin[name].mean(axis=0), atol=1e-4)


def test_contiguous_slices_are_as_smooth_across_as_in_the_plane():
    volumes = make_brain(1, brain_parameters(size=SIZE, slices=12, slice_mm=2.0))
    inside = (slice(30, -30), slice(30, -30))
    for name in ("T1", "T2"):
        image = volumes[name].data[inside].astype(float)
        steps = [np.abs(np.diff(image, axis=axis)).mean() for axis in range(3)]
        assert steps[2] < 1.2 * max(steps[:2])


def test_affine_is_oblique_flipped_and_near_the_isocentre():
    parameters = brain_parameters(size=64, slices=5, slice_mm=4.0)
    affines = [make_brain(patient, parameters)["T2"].affine for patient in range(3)]
    for affine in affines:
        np.testing.assert_allclose(np.linalg.norm(affine[:3, :3], axis=0), [4.0, 4.0, 4.0])
        cosines = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
        np.testing.assert_allclose(cosines.T @ cosines, np.eye(3), atol=1e-12)
        assert np.linalg.det(affine[:3, :3]) < 0
        assert affine[0, 0] < 0
        angle = np.degrees(np.arccos(cosines[2, 2]))
        assert 0.1 < angle < 20
        assert np.abs(affine @ [31.5, 31.5, 2, 1])[:3].max() < 50
    assert not np.allclose(affines[0], affines[1])


@pytest.mark.parametrize("model_axis", [0, 1, 2])
def test_array_and_affine_agree_on_up_front_and_right(monkeypatch, model_axis):
    """The anatomy's axes (z up, y forward, x right) must come out along world z, y and x (RAS+)."""

    def coordinate(fractions):
        return np.indices(fractions["white_matter"].shape)[model_axis]

    monkeypatch.setattr("common.phantoms.brain.phantom.label_map", coordinate)
    data, affine = make_brain(0, brain_parameters(size=32, slices=4))["label"]
    indices = np.indices(data.shape).reshape(3, -1)
    world = (affine[:3, :3] @ indices)[2 - model_axis]
    assert np.corrcoef(world, data.ravel())[0, 1] > 0.8


@pytest.mark.parametrize("seed", range(5))
def test_tumours_in_sixty_percent_and_in_every_neighbourhood(seed):
    tumours = np.array([has_tumour(patient, seed=seed) for patient in range(200)])
    assert tumours.mean() == pytest.approx(0.6, abs=0.03)
    for start in range(198):
        assert 0 < tumours[start : start + 3].sum() < 3


def test_default_test_split_has_patients_with_and_without_tumour():
    training, validation, _ = split_counts(24)
    assert {has_tumour(patient, seed=0) for patient in range(training + validation, 24)} == {True, False}


def test_single_slice_still_holds_the_tumour():
    parameters = brain_parameters(size=96, slices=1)
    for patient in PATIENTS:
        label = make_brain(patient, parameters)["label"].data
        assert np.isin(label, LESIONS).any() == has_tumour(patient, seed=0)


def test_seed_is_task_seed_and_patient():
    # The streams of two (seed, patient) pairs whose sums agree must differ.
    assert np.random.default_rng([TASK_ID, 0, 1]).random() != np.random.default_rng([TASK_ID, 1, 0]).random()
    parameters = [brain_parameters(size=32, slices=1, seed=seed) for seed in (0, 1)]
    assert not np.allclose(make_brain(1, parameters[0])["T1"].data, make_brain(0, parameters[1])["T1"].data)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"patients": 3}, r"`patients` must be an integer >= 4, got 3\."),
        ({"patients": 8.0}, r"`patients` must be an integer >= 4, got 8\.0\."),
        ({"slices": 0}, r"`slices` must be an integer >= 1, got 0\."),
        ({"size": 100}, r"`size` must be a multiple of 8 and >= 32, got 100\."),
        ({"size": -8}, r"`size` must be a multiple of 8 and >= 32, got -8\."),
        ({"size": "256"}, r"`size` must be a multiple of 8 and >= 32, got '256'\."),
        ({"seed": -1}, r"`seed` must be an integer >= 0, got -1\."),
        ({"seed": True}, r"`seed` must be an integer >= 0, got True\."),
        ({"slice_mm": 0}, r"`slice_mm` must be a number > 0 \(mm\), got 0\."),
        ({"slice_mm": float("nan")}, r"`slice_mm` must be a number > 0 \(mm\), got nan\."),
        ({"slices": 64}, r"must be <= 90 mm.*got 378 mm: choose fewer slices or a smaller `slice_mm`"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        brain_parameters(**arguments)
