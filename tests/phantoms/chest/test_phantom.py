from __future__ import annotations

import json
import time

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from common.phantoms import generate_phantom
from common.phantoms.chest import wall
from common.phantoms.chest.anatomy import LABEL_NAMES, LABELS, make_anatomy
from common.phantoms.chest.phantom import CHEST, chest_parameters, has_emphysema, make_chest
from common.phantoms.chest.subject import ChestSubject
from common.phantoms.dataset import make_datalist, split_counts
from common.phantoms.stack import Stack

KERNELS = ("B30f", "B50f", "B70f")
HEALTHY, EMPHYSEMATOUS = 7, 6  # patients of seed 0


def arrays(patient, **parameters):
    volumes = make_chest(patient, chest_parameters(**parameters))
    return {key: volume.data for key, volume in volumes.items()}


@pytest.fixture(scope="module")
def patients():
    """Full-size slices of three patients: two heart levels and one arch, spacings 0.57 to 0.79 mm."""
    return {patient: arrays(patient, slices=2) for patient in (4, EMPHYSEMATOUS, HEALTHY)}


@pytest.fixture(scope="module")
def tall():
    """A coarse stack from arch to diaphragm."""
    return make_chest(2, chest_parameters(slices=13, slice_mm=10.0, size=96))


def psnr(a, b):
    return 10 * np.log10(4095**2 / np.mean((a.astype(float) - b) ** 2))


def test_volumes_are_three_kernels_truth_and_label(patients):
    for volumes in patients.values():
        assert list(volumes) == [*KERNELS, "truth", "label"]
        assert {data.shape for data in volumes.values()} == {(512, 512, 2)}
        assert volumes["label"].dtype == np.uint8
        for key in (*KERNELS, "truth"):
            assert volumes[key].min() >= -1024
            assert volumes[key].max() <= 3071
            assert np.isfinite(volumes[key]).all()


def test_same_seed_gives_the_same_patient_whatever_their_number():
    first, again = (make_chest(3, chest_parameters(size=64, slices=1, patients=n)) for n in (4, 30))
    for key in first:
        np.testing.assert_allclose(first[key].data, again[key].data, atol=1e-3)
        np.testing.assert_allclose(first[key].affine, again[key].affine)


def test_patients_and_seeds_differ():
    images = [arrays(p, size=64, slices=1, seed=s)["truth"] for p, s in ((0, 0), (1, 0), (0, 1), (1, 1))]
    for i in range(4):
        for j in range(i):
            assert np.abs(images[i] - images[j]).mean() > 20


def test_spacings_spread_over_the_range_and_keep_the_field_of_view():
    affines = [make_chest(p, chest_parameters(size=32, slices=1, slice_mm=4.0))["B30f"].affine for p in range(6)]
    spacings = np.array([-affine[0, 0] * 32 / 512 for affine in affines])
    assert ((spacings >= 0.55) & (spacings <= 0.85)).all()
    assert np.ptp(spacings) > 0.15
    larger = make_chest(0, chest_parameters(size=64, slices=1))["B30f"].affine
    assert larger[0, 0] * 64 == pytest.approx(affines[0][0, 0] * 32)


def test_affine_is_axial_with_a_table_offset(tall):
    affine = tall["B50f"].affine
    np.testing.assert_allclose(affine[:3, :3], np.diag(np.diag(affine)[:3]))
    assert affine[0, 0] == affine[1, 1] < 0  # to the left and backwards, in RAS+
    assert affine[2, 2] == 10.0
    middle = (affine @ [47.5, 47.5, 6, 1])[:3]
    assert 0.1 < np.abs(middle).max() < 50


def world(volume, inside):
    return np.argwhere(inside) @ volume.affine[:3, :3].T + volume.affine[:3, 3]


def test_spine_lies_behind_and_the_heart_to_the_left(tall):
    label = tall["label"].data
    lung = world(tall["label"], np.isin(label, (1, 2))).mean(axis=0)
    heart = world(tall["label"], label == LABELS["blood_pool"])
    low = heart[:, 2] < np.quantile(heart[:, 2], 0.5)
    assert heart[low, 0].mean() < lung[0] - 5  # RAS+: the left is negative
    assert heart[low, 1].mean() > lung[1]
    near_midline = np.abs(world(tall["label"], label == LABELS["bone"])[:, 0] - lung[0]) < 10
    bone = world(tall["label"], label == LABELS["bone"])[near_midline]
    assert (bone[:, 1] < lung[1]).mean() > 0.6


def test_trachea_is_above_and_heart_and_diaphragm_below(tall):
    label = tall["label"].data
    height = tall["label"].affine[2, 2] * np.arange(label.shape[2])
    area = {name: (label == value).sum(axis=(0, 1)) for name, value in LABELS.items()}
    assert np.corrcoef(height, area["blood_pool"])[0, 1] < -0.5
    assert area["airway_lumen"][-4:].min() > 0
    assert area["lung_parenchyma"][0] < area["lung_parenchyma"][4]


def test_every_label_occurs_and_only_those_declared(patients):
    for patient, volumes in patients.items():
        present = set(np.unique(volumes["label"]).tolist())
        assert present <= {0, *LABEL_NAMES}
        assert {LABELS[n] for n in ("lung_parenchyma", "airway_lumen", "blood_pool", "lung_vessel", "bone")} <= present
        assert (LABELS["emphysema"] in present) == has_emphysema(patient, seed=0)
    assert any((volumes["label"] == LABELS["nodule"]).any() for volumes in patients.values())


def test_emphysema_is_lung_below_minus_950_in_the_truth(patients):
    for volumes in patients.values():
        label, truth = volumes["label"], volumes["truth"]
        assert (truth[label == LABELS["emphysema"]] < -950).all()
        assert (truth[label == LABELS["lung_parenchyma"]] >= -950).all()


@pytest.mark.parametrize("patient", range(8))
def test_emphysema_share_is_zero_or_three_to_twenty_five_percent(patient):
    label = arrays(patient, size=128, slices=2)["label"]
    counts = np.bincount(label.ravel(), minlength=3)
    share = counts[2] / (counts[1] + counts[2])
    if has_emphysema(patient, seed=0):
        assert 0.01 < share < 0.27
    else:
        assert share < 0.001


@pytest.mark.parametrize("seed", range(4))
def test_emphysema_in_sixty_percent_and_in_every_neighbourhood(seed):
    diseased = np.array([has_emphysema(patient, seed=seed) for patient in range(200)])
    assert diseased.mean() == pytest.approx(0.6, abs=0.03)
    for start in range(198):
        assert 0 < diseased[start : start + 3].sum() < 3


def test_blood_pool_is_uniform_and_three_millimetres_from_its_border(patients):
    for volumes in patients.values():
        pool, truth = volumes["label"] == LABELS["blood_pool"], volumes["truth"]
        level = np.median(truth[pool])
        assert 36 <= level <= 48
        np.testing.assert_allclose(truth[pool], level, atol=0.5)
        grown = ndimage.binary_dilation(pool, np.ones((5, 5, 1)))  # 2 pixels, at most 1.7 mm or 2.4 on the diagonal
        np.testing.assert_allclose(truth[grown], level, atol=0.5)


def test_reconstructions_have_the_hounsfield_units_of_the_truth(patients):
    for volumes in patients.values():
        for value, tolerance in ((LABELS["blood_pool"], 3.0), (LABELS["lung_parenchyma"], 6.0)):
            inside = volumes["label"] == value
            if value == LABELS["lung_parenchyma"]:  # clear of pleura and vessels
                inside = ndimage.binary_erosion(inside, np.ones((7, 7, 1)))
            for kernel in KERNELS:
                assert volumes[kernel][inside].mean() == pytest.approx(volumes["truth"][inside].mean(), abs=tolerance)
        air = volumes["B30f"][150:350, :10]  # in front of the chest
        assert air.mean() == pytest.approx(-1000, abs=8)
        assert -890 < np.median(volumes["truth"][volumes["label"] == LABELS["lung_parenchyma"]]) < -830
        assert np.median(volumes["truth"][volumes["label"] == LABELS["bone"]]) > 120


def test_noise_in_blood_rises_with_sharpness_as_measured(patients):
    for volumes in patients.values():
        pool = volumes["label"] == LABELS["blood_pool"]
        soft, medium, sharp = (volumes[kernel][pool].std() for kernel in KERNELS)
        # Prototype: 17-21, 36-44 and 95-117 HU.
        assert 14 < soft < 25
        assert medium / soft == pytest.approx(2.1, abs=0.25)
        assert sharp / soft == pytest.approx(5.5, abs=0.6)


def test_distance_between_kernels_is_near_the_prototype_s(patients):
    expected = {("B30f", "B50f"): 43.5, ("B50f", "B70f"): 37.4, ("B30f", "B70f"): 34.3}
    for (a, b), decibels in expected.items():
        measured = np.mean([psnr(volumes[a], volumes[b]) for volumes in patients.values()])
        assert measured == pytest.approx(decibels, abs=2.5)


def test_kernels_share_one_noise_realisation(patients):
    for volumes in patients.values():
        pool = volumes["label"] == LABELS["blood_pool"]
        noise = [volumes[kernel][pool] for kernel in KERNELS]
        assert np.corrcoef(noise[0], noise[1])[0, 1] > 0.7
        assert np.corrcoef(noise[1], noise[2])[0, 1] > 0.6
    other = arrays(4, slices=2, seed=1)["B50f"]
    pool = patients[4]["label"] == LABELS["blood_pool"]
    assert abs(np.corrcoef(patients[4]["B30f"][pool], other[pool])[0, 1]) < 0.2


def test_liver_and_spleen_lie_below_the_domes():
    rng = np.random.default_rng(0)
    subject = ChestSubject.draw(rng, field_mm=350, emphysema=False)
    stack = Stack(levels_mm=np.array([150.0, 205.0]), slice_mm=55.0, in_plane_shape=(192, 256), pixel_mm=2.0)
    hu, label = make_anatomy(rng, subject, stack)
    right, left = 128 - 70 // 2, 128 + 85 // 2
    assert hu[1, 96, right] == pytest.approx(58, abs=0.5)
    assert hu[1, 96, left] == pytest.approx(48, abs=0.5)
    assert set(label[0, 90:100, right].tolist()) <= {LABELS["lung_parenchyma"], LABELS["lung_vessel"]}


@pytest.mark.parametrize("patient", range(6))
def test_the_scanned_object_holds_the_whole_body(monkeypatch, patient):
    objects = []

    def scan(rng, hu, *, pixel_mm, size):
        objects.append(hu)
        return {}

    monkeypatch.setattr("common.phantoms.chest.phantom.scan", scan)
    truth = arrays(patient, size=96, slices=2)["truth"]
    (hu,) = objects
    border = np.concatenate([hu[:, 0].ravel(), hu[:, -1].ravel(), hu[:, :, 0].ravel(), hu[:, :, -1].ravel()])
    assert (border == -1000).all()
    assert hu.shape[1] >= 96
    assert hu.shape[2] >= 96
    middle = [n // 2 for n in hu.shape[1:]]
    np.testing.assert_array_equal(truth[48, 48, ::-1], hu[:, middle[0], middle[1]])


def test_distance_to_a_path_is_that_to_a_capsule():
    stack = Stack(levels_mm=np.array([0.0, 10.0]), slice_mm=10.0, in_plane_shape=(64, 64), pixel_mm=1.0)
    distance = stack.path(((-50, 5, -3), (50, 5, -3)), 8.0)
    y, x = np.mgrid[-32:32, -32:32]
    expected = 8 - np.hypot(y - 5, x + 3)
    near = expected > -5
    np.testing.assert_allclose(distance[:, near], np.stack([expected[near]] * 2), atol=1e-4)
    assert (distance[:, ~near] < -4).all()


def test_lungs_are_inside_the_cage_inside_the_muscles_inside_the_skin():
    subject = ChestSubject.draw(np.random.default_rng(1), field_mm=300, emphysema=True)
    z, y, x = np.random.default_rng(2).uniform([60, -150, -200], [200, 150, 200], (20000, 3)).T
    lung, cage = wall.lung(subject, z, y, x) > 0, wall.cage(subject, z, y, x) > 0
    muscle, skin = wall.muscle(subject, y, x) > 0, wall.skin(subject, y, x) > 0
    assert 0.05 < lung.mean() < 0.4
    for inner, outer in ((lung, cage), (cage, muscle), (muscle, skin)):
        assert (outer | ~inner).all()
    assert not (lung & (wall.heart_shape(subject, z, y, x) > 0)).any()


def test_small_data_set_is_quick_and_its_entries_carry_the_truth(tmp_path):
    start = time.process_time()
    path = generate_phantom("chest", tmp_path, patients=4, slices=1, size=128, workers=1)
    assert time.process_time() - start < 10
    datalist = json.loads(path.read_text())
    assert datalist["domains"] == list(KERNELS)
    assert datalist["label_names"]["2"] == "emphysema"
    for entry in (*datalist["training_paired"], *datalist["validation"], *datalist["test"]):
        assert set(entry) == {"patient", *KERNELS, "truth", "label"}
        for key in set(entry) - {"patient"}:
            image = nibabel.load(tmp_path / entry[key])
            assert image.shape == (128, 128, 1)
            assert image.get_data_dtype() == np.int16
    assert {item["domain"] for item in datalist["training"]} <= set(KERNELS)


def test_default_split_has_enough_patients_of_every_kernel_and_both_states_of_health():
    parameters = chest_parameters()
    training, validation, test = split_counts(parameters["patients"])
    assert training >= 10
    assert validation >= 3
    assert test >= 8
    entries = [{"patient": str(p), **dict.fromkeys(KERNELS, "")} for p in range(parameters["patients"])]
    domains = [item["domain"] for item in make_datalist(CHEST, parameters, entries)["training"]]
    assert min(domains.count(kernel) for kernel in KERNELS) >= 3
    held_out = range(training + validation, parameters["patients"])
    assert {has_emphysema(patient, seed=0) for patient in held_out} == {True, False}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"patients": 3}, r"`patients` must be an integer >= 4, got 3\."),
        ({"slices": 0}, r"`slices` must be an integer >= 1, got 0\."),
        ({"size": 100}, r"`size` must be a multiple of 8 and >= 32, got 100\."),
        ({"seed": -1}, r"`seed` must be an integer >= 0, got -1\."),
        ({"slice_mm": 0}, r"`slice_mm` must be a number > 0 \(mm\), got 0\."),
        ({"slices": 40}, r"must be <= 130 mm.*got 195 mm: choose fewer slices or a smaller `slice_mm`"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        chest_parameters(**arguments)
