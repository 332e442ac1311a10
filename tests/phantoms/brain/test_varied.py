"""The varied brain phantom: its anatomy, its contrasts, its scanners; and that the default one stays as it was."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from common.phantoms import generate_phantom
from common.phantoms.brain.anatomy import LABEL_NAMES, MENINGES_MM, VARIED_LABEL_NAMES, tissue_fractions
from common.phantoms.brain.phantom import (
    has_lesions,
    has_skull,
    has_tumour,
    make_brain,
    make_varied_brain,
    varied_brain_parameters,
)
from common.phantoms.brain.signal import (
    InversionRecovery,
    Relaxation,
    Texture,
    inversion_recovery,
    spin_echo,
)
from common.phantoms.brain.subject import Subject
from common.phantoms.brain.varied import (
    HEAD_TISSUES,
    LAYERS_MM,
    FieldOfView,
    Head,
    WhiteMatterLesions,
    at_field,
    draw_protocol,
    draw_scanner,
    stored,
)

LABELS = {name: value for value, name in VARIED_LABEL_NAMES.items()}
COUNT = 6
TISSUE = Relaxation(t1_ms=900, t2_ms=80, pd=0.7)


@pytest.fixture(scope="module")
def patients():
    """Patients 0 to 5 of seed 0 on 3 slices of 64 x 64, 9 mm apart."""
    parameters = varied_brain_parameters(size=64, slices=3, slice_mm=9.0)
    return [{name: v.data for name, v in make_varied_brain(p, parameters).items()} for p in range(COUNT)]


def level(patient, sequence, name):
    return float(np.median(patient[sequence][patient["label"] == LABELS[name]]))


def test_every_t1_shows_white_above_grey_above_fluid_and_every_t2_the_reverse(patients):
    for patient in patients:
        t1, t2 = (
            [level(patient, name, tissue) for tissue in ("white_matter", "grey_matter", "ventricles")]
            for name in ("T1", "T2")
        )
        assert t1[0] > t1[1] > t1[2]
        assert t2[0] < t2[1] < t2[2]


def test_the_patients_of_one_seed_repeat_and_differ(patients):
    again = make_varied_brain(2, varied_brain_parameters(size=64, slices=3, slice_mm=9.0, patients=30))
    np.testing.assert_array_equal(again["T1"].data, patients[2]["T1"])
    np.testing.assert_array_equal(again["label"].data, patients[2]["label"])
    for first, second in ((0, 1), (2, 3)):
        assert not np.array_equal(patients[first]["label"], patients[second]["label"])


def test_they_share_no_random_numbers_with_the_default_patients(patients):
    default = make_brain(0, varied_brain_parameters(size=64, slices=3, slice_mm=9.0))
    assert not np.array_equal(default["label"].data, patients[0]["label"])


def test_the_label_map_is_the_brains_with_and_without_skull(patients):
    for number, patient in enumerate(patients):
        brain = patient["label"] > 0
        assert set(np.unique(patient["label"])) <= {0, *VARIED_LABEL_NAMES}
        outside = {
            name: float((patient[name][~brain] > 0.3 * level(patient, name, "white_matter")).mean())
            for name in ("T1", "T2")
        }
        if has_skull(number, seed=0):
            assert min(outside.values()) > 0.03  # scalp
        else:
            for name in ("T1", "T2"):
                assert not patient[name][~brain].any()
                assert (patient[name][brain] > 0).all()


def test_half_have_a_skull_and_most_lesions_whatever_else_they_have():
    for seed in range(3):
        traits = np.array(
            [(has_skull(p, seed=seed), has_lesions(p, seed=seed), has_tumour(p, seed=seed)) for p in range(400)]
        )
        assert traits.mean(axis=0) == pytest.approx([0.5, 0.6, 0.6], abs=0.02)
        assert np.abs(np.corrcoef(traits.T) - np.eye(3)).max() < 0.12
        assert {has_skull(p, seed=seed) for p in range(4)} == {True, False}


def test_the_volumes_percentiles_hold_no_fixed_place_for_a_tissue(patients):
    """White matter lies anywhere between the percentiles 1 and 99 of a volume, and units span orders of magnitude."""
    for name in ("T1", "T2"):
        places, units = [], []
        for patient in patients:
            low, high = np.percentile(patient[name], [1, 99])
            places.append((level(patient, name, "white_matter") - low) / (high - low))
            units.append(level(patient, name, "white_matter"))
        assert max(places) > 1.3 * min(places)
        assert max(units) > 2 * min(units)
    rng = np.random.default_rng(0)
    images = {str(n): np.full((1, 1, 1), 1000.0, dtype=np.float32) for n in range(300)}
    values = np.array([image.item() for image in stored(rng, images, level=1000.0).values()])
    assert 20 <= values.min() < 25
    assert 1600 < values.max() <= 2000
    bright = stored(rng, {"T2": np.full((1, 1, 1), 1e9)}, level=1000.0)["T2"]
    assert bright.item() == np.iinfo(np.int16).max


def test_padding_is_zero_around_what_was_acquired():
    rng = np.random.default_rng(0)
    views = [FieldOfView.draw(rng) for _ in range(200)]
    padded = [view for view in views if view.total_mm > view.acquired_mm]
    assert 0.3 < len(padded) / len(views) < 0.5
    assert all(250 <= view.acquired_mm <= 300 and view.total_mm <= 380 for view in views)
    axis = (np.arange(30) - 14.5) * 10
    np.testing.assert_array_equal(
        FieldOfView(240.0, 300.0).acquired((axis, axis)).sum(axis=0), [0] * 3 + [24] * 24 + [0] * 3
    )


def fractions_of(subject, changes=(), *, margin_mm=MENINGES_MM, size=64):
    axis = (260 / size * (np.arange(size) - (size - 1) / 2)).astype(np.float32)
    return tissue_fractions(
        subject,
        None,
        slice_positions_mm=np.array([20.0], dtype=np.float32),
        slice_mm=3.0,
        in_plane_mm=(axis, axis),
        changes=changes,
        margin_mm=margin_mm,
    )


@pytest.fixture(scope="module")
def subject():
    return Subject.draw_varied(np.random.default_rng(4))


def test_the_head_leaves_the_brain_and_its_layers_lie_from_fluid_to_skin(subject):
    head = Head({name: (low + high) / 2 for name, (low, high) in LAYERS_MM.items()})
    brain, whole = fractions_of(subject), fractions_of(subject, [head], margin_mm=head.reach_mm)
    for name, share in brain.items():
        np.testing.assert_allclose(whole[name], share, atol=1e-6)
    total = np.sum(list(whole.values()), axis=0)
    assert total.max() <= 1 + 1e-5
    assert total.sum() > 1.15 * np.sum(list(brain.values()))
    assert not total[0, [0, -1]].any()
    assert not total[0, :, [0, -1]].any()
    distance = np.hypot(*np.mgrid[-31.5:32, -31.5:32])
    reach = {name: float((whole[name][0] * distance).sum() / whole[name].sum()) for name in HEAD_TISSUES}
    order = [reach[name] for name in ("outer_csf", "dura", "bone", "fat", "skin")]
    assert order == sorted(order)


def test_lesions_replace_white_matter_alone(subject):
    lesions = WhiteMatterLesions.draw(np.random.default_rng(1), (12.0, 28.0))
    before, after = fractions_of(subject, size=128), fractions_of(subject, [lesions], size=128)
    made = after["white_matter_lesion"]
    assert made.max() > 0.6
    lost = sum(before[name] - after[name] for name in ("white_matter", "gliosis"))
    np.testing.assert_allclose(lost, made, atol=1e-5)
    for name in set(before) - {"white_matter", "gliosis"}:
        np.testing.assert_array_equal(after[name], before[name])
    assert made.sum() < 0.25 * before["white_matter"].sum()


def test_lesions_are_labelled_and_bright_in_t2_and_not_in_t1():
    parameters = varied_brain_parameters(size=128, slices=4, slice_mm=4.0)
    number = next(p for p in range(8) if has_lesions(p, seed=0))
    patient = {name: v.data for name, v in make_varied_brain(number, parameters).items()}
    assert (patient["label"] == LABELS["white_matter_lesion"]).sum() > 5
    assert level(patient, "T2", "white_matter_lesion") > 1.2 * level(patient, "T2", "white_matter")
    assert level(patient, "T1", "white_matter_lesion") < 1.05 * level(patient, "T1", "white_matter")


def test_fat_is_bright_and_bone_dark_in_every_drawn_contrast():
    rng = np.random.default_rng(3)
    for _ in range(40):
        scanner, protocol = draw_scanner(rng, noise_outside=True), draw_protocol(rng)
        for name, weighting in protocol.items():
            echo = inversion_recovery if isinstance(weighting.sequence, InversionRecovery) else spin_echo
            signal = {tissue: float(echo(each, weighting.sequence)) for tissue, each in scanner.tissues.items()}
            assert signal["fat"] > 1.2 * signal["white_matter"]
            assert signal["bone"] < 0.35 * signal["white_matter"]
            fluid = signal["outer_csf"] / signal["white_matter"]
            assert fluid > 1.5 if name == "T2" else fluid < 0.6
            lesion = signal["white_matter_lesion"] / signal["white_matter"]
            assert lesion > 1.3 if name == "T2" else 0.2 < lesion < 1.1


def test_sequences_fields_and_scanners_vary():
    rng = np.random.default_rng(5)
    protocols = [draw_protocol(rng) for _ in range(200)]
    inverted = [isinstance(protocol["T1"].sequence, InversionRecovery) for protocol in protocols]
    assert 0.4 < np.mean(inverted) < 0.6
    assert np.ptp([protocol["T2"].sequence.te_ms for protocol in protocols]) > 40
    noise = [protocol["T1"].noise_sd for protocol in protocols]
    assert 0.01 <= min(noise) < 0.012
    assert 0.1 < max(noise) <= 0.12
    scanners = [draw_scanner(rng, noise_outside=False) for _ in range(60)]
    assert len({round(scanner.tissues["white_matter"].t1_ms) for scanner in scanners}) == 2
    assert len({scanner.tissues["ventricles"].t1_ms for scanner in scanners}) == 1
    assert np.ptp([scanner.receive_bias_sd for scanner in scanners]) > 0.2


def test_relaxation_at_another_field():
    # Rooney et al. 2007: T1 grows with the power 0.38 of the field; fluid's does not depend on it.
    assert at_field("grey_matter", TISSUE, 1.5).t1_ms == pytest.approx(900 * 0.5**0.38)
    assert at_field("grey_matter", TISSUE, 1.5)[1:] == TISSUE[1:]
    assert at_field("grey_matter", TISSUE, 3.0) == TISSUE
    assert at_field("ventricles", TISSUE, 1.5) == TISSUE


def test_inversion_nulls_and_recovers():
    """Fully recovered between inversions, the signal is 0 after T1 ln 2, and half of the whole after T1 ln 4."""
    for time, expected in ((math.log(2), 0.0), (math.log(4), 0.35), (1e4, 0.7)):
        signal = inversion_recovery(TISSUE, InversionRecovery(1e7, 900 * time, 1e-6))
        assert signal == pytest.approx(expected, abs=1e-6)
    assert inversion_recovery(TISSUE, InversionRecovery(1e7, 1e-6, 1e-6)) == pytest.approx(0.7)  # a magnitude
    half = inversion_recovery(TISSUE, InversionRecovery(1e7, 1e7, 80 * math.log(2)))
    assert half == pytest.approx(0.35)
    # Repeated before recovery, the signal at TI = TR is 1 - 2 a / (1 + a) with a = exp(-TR / T1).
    a = math.exp(-1)
    repeated = inversion_recovery(TISSUE, InversionRecovery(900, 900, 1e-6))
    assert repeated == pytest.approx(0.7 * (1 - a) / (1 + a), rel=1e-5)
    textured = inversion_recovery(TISSUE, InversionRecovery(1e7, 900, 1e-6), texture=Texture(t1=np.log(2.0)))
    assert textured == pytest.approx(0.7 * abs(1 - 2 * math.exp(-0.5)), rel=1e-5)


def test_atrophy_spans_its_whole_range_whatever_the_age():
    subjects = [Subject.draw_varied(np.random.default_rng(seed)) for seed in range(40)]
    age, atrophy, ventricles = np.array([(s.age_years, s.atrophy, s.ventricle_size) for s in subjects]).T
    assert atrophy.min() < 0.4
    assert atrophy.max() > 0.9
    assert abs(np.corrcoef(age, atrophy)[0, 1]) < 0.35
    assert abs(np.corrcoef(age, ventricles)[0, 1]) < 0.35
    assert ventricles.min() >= 0.75
    assert ventricles.max() <= 1.5


def test_the_data_set_names_its_kind_and_its_lesions(tmp_path):
    path = generate_phantom("brain_varied", tmp_path, patients=4, slices=1, size=32, workers=1)
    datalist = json.loads(path.read_text())
    assert datalist["parameters"]["kind"] == "brain_varied"
    assert datalist["domains"] == ["T1", "T2"]
    assert datalist["label_names"] == {str(v): name for v, name in LABEL_NAMES.items()} | {"9": "white_matter_lesion"}
