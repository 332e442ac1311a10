from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import nibabel
import numpy as np
import pytest
from monai.transforms import LoadImage, Orientation
from scipy import ndimage

from common.phantoms import generate_phantom
from common.phantoms.abdomen.anatomy import displaced, make_anatomy
from common.phantoms.abdomen.canvas import LABEL_NAMES, LABELS, Canvas, ellipsoid
from common.phantoms.abdomen.organs import LESION_TYPES, lesion_types
from common.phantoms.abdomen.phantom import (
    ABDOMEN,
    TASK_ID,
    VARIED_ABDOMEN,
    abdomen_parameters,
    make_abdomen,
    make_varied_abdomen,
    scan,
)
from common.phantoms.abdomen.subject import BLOOD, PLAIN_SHIFTS_HU, TISSUES, AbdomenSubject, Gallbladder, Pelvis
from common.phantoms.dataset import Volume, make_datalist, split_counts, write_nifti
from common.phantoms.stack import Stack

SMALL = {"size": 64, "slices": 3}
# As specified: mean uptake in HU, times a dose of 0.8 to 1.2 and 6 % an organ.
UPTAKE_HU = {
    "liver": 52,
    "spleen": 68,
    "kidney_cortex": 150,
    "kidney_medulla": 105,
    "aorta": 112,
    "inferior_vena_cava": 98,
    "portal_vein": 124,
    "muscle": 12,
}


@pytest.fixture(scope="module")
def patients():
    """Patients 0 to 3 of seed 0 on slices of 128 x 128, 6 mm apart."""
    return [make_abdomen(patient, abdomen_parameters(size=128, slices=4, slice_mm=6.0)) for patient in range(4)]


def arrays(volumes):
    return {key: volume.data for key, volume in volumes.items()}


def core(label, name):
    """Voxels of a structure whose neighbours in the slice belong to it too: little partial volume and blur."""
    return ndimage.binary_erosion(label == LABELS[name], np.ones((3, 3, 1)))


def windowed_psnr(a, b):
    a, b = (np.clip(volume, -100.0, 200.0) for volume in (a, b))
    return 10 * np.log10(300**2 / np.mean((a - b) ** 2))


def warped_truth(volumes):
    """The truth, looked up at x + displacement(x) through the affine: what CECT shows, but for noise."""
    truth, field = volumes["truth"], volumes["displacement"]
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in truth.data.shape), indexing="ij"), axis=-1)
    world = grid @ truth.affine[:3, :3].T + truth.affine[:3, 3] + field.data
    inverse = np.linalg.inv(truth.affine)
    voxels = world @ inverse[:3, :3].T + inverse[:3, 3]
    return ndimage.map_coordinates(truth.data, np.moveaxis(voxels, -1, 0), order=1, mode="nearest")


def soft_bright_ml(volume):
    """Largest connected region at 120 to 250 HU, after smoothing, that does not touch bone above 300 HU."""
    smooth = ndimage.uniform_filter(volume.data.astype(float), (3, 3, 1))
    dense, _ = ndimage.label(volume.data > 300)
    bone = np.isin(dense, np.flatnonzero(np.bincount(dense.ravel()) >= 8)[1:])  # not single voxels of noise
    regions, count = ndimage.label((smooth > 120) & (smooth < 250))
    sizes = np.bincount(regions.ravel(), minlength=count + 1)
    sizes[np.unique(regions[ndimage.binary_dilation(bone)])] = 0
    sizes[0] = 0
    return sizes.max() * abs(np.linalg.det(volume.affine[:3, :3])) / 1000


def test_volumes_share_a_grid_and_have_the_declared_types(patients):
    for volumes in patients:
        assert list(volumes) == ["NECT", "CECT", "truth", "displacement", "label"]
        for key, volume in volumes.items():
            assert volume.data.shape == ((128, 128, 4, 3) if key == "displacement" else (128, 128, 4))
            np.testing.assert_array_equal(volume.affine, volumes["NECT"].affine)
            assert np.isfinite(volume.data).all()
        assert volumes["label"].data.dtype == np.uint8
        assert volumes["displacement"].data.dtype == np.float32
        for key in ("NECT", "CECT", "truth"):
            assert -1024 <= volumes[key].data.min() < -900
            assert 300 < volumes[key].data.max() <= 3071


def test_same_seed_gives_the_same_patient_whatever_their_number():
    first, again = (make_abdomen(3, abdomen_parameters(patients=n, **SMALL)) for n in (4, 30))
    for key in first:
        np.testing.assert_allclose(first[key].data, again[key].data, atol=1e-2)
        np.testing.assert_allclose(first[key].affine, again[key].affine)


def test_patients_and_seeds_differ():
    images = [make_abdomen(p, abdomen_parameters(seed=s, **SMALL))["truth"].data for p, s in ((0, 0), (1, 0), (0, 1))]
    for i in range(3):
        for j in range(i):
            assert np.abs(images[i] - images[j]).mean() > 20


def test_pixel_size_keeps_the_field_of_view_of_256_pixels_of_4_thirds_mm():
    affine = make_abdomen(0, abdomen_parameters(slice_mm=2.5, **SMALL))["NECT"].affine
    np.testing.assert_allclose(np.diag(affine)[:3], [-256 / 64 * 4 / 3, -256 / 64 * 4 / 3, 2.5])
    np.testing.assert_array_equal(affine[:3, :3], np.diag(np.diag(affine)[:3]))
    assert 0.1 < np.abs(affine @ [31.5, 31.5, 1, 1])[:3].max() < 50


def test_liver_lies_right_spleen_left_spine_behind_and_kidneys_on_both_sides(patients):
    for volumes in patients:
        label, affine = volumes["label"].data, volumes["label"].affine

        def world(name, label=label, affine=affine):
            return np.argwhere(label == LABELS[name]) @ affine[:3, :3].T + affine[:3, 3]

        middle = (affine @ [63.5, 63.5, 1.5, 1])[:3]  # in RAS+: the left and the back are negative
        assert world("liver")[:, 0].mean() > middle[0] + 25
        assert world("spleen")[:, 0].mean() < middle[0] - 60
        assert world("aorta")[:, 1].mean() > world("bone")[:, 1].mean()
        assert abs(world("aorta")[:, 0].mean() - middle[0]) < 20
        assert world("inferior_vena_cava")[:, 0].mean() > world("aorta")[:, 0].mean() + 10
        sides = world("kidney_cortex")[:, 0] - middle[0]
        assert min((sides > 30).sum(), (sides < -30).sum()) > 50


def test_label_values_and_names_are_the_agreed_ones(patients):
    names = (
        "liver spleen pancreas kidney_cortex kidney_medulla aorta inferior_vena_cava portal_vein hepatic_veins muscle "
        "bone bowel cyst hypovascular_lesion enhancing_lesion fat"
    )
    assert dict(enumerate(names.split(), start=1)) == LABEL_NAMES
    for volumes in patients:
        label = volumes["label"].data
        assert set(np.unique(label).tolist()) <= {0, *LABEL_NAMES}
        for name in set(LABEL_NAMES.values()) - set(LESION_TYPES):
            assert (label == LABELS[name]).any(), name
        assert (label[:, :3] == 0).all()  # air in front of the body


def test_every_organ_takes_up_its_documented_share_within_dose_and_deviation(patients):
    for volumes in map(arrays, patients):
        change = volumes["truth"] - volumes["NECT"]
        relative = {}
        for name, uptake in UPTAKE_HU.items():
            inside = core(volumes["label"], name)
            if inside.sum() >= 20:
                relative[name] = np.median(change[inside]) / uptake
        assert {"liver", "aorta", "inferior_vena_cava", "muscle"} <= set(relative)
        for name, factor in relative.items():
            tolerance = 0.2 if name == "muscle" else 0.07  # 12 HU in noise; blur and partial volume
            assert 0.8 * 0.88 - tolerance < factor < 1.2 * 1.12 + tolerance, name


def test_uptake_is_the_dose_times_the_mean_within_two_deviations():
    doses = []
    for seed in range(60):
        subject = AbdomenSubject.draw(np.random.default_rng(seed))
        doses.append(subject.dose)
        for name, uptake in UPTAKE_HU.items():
            plain, enhanced = subject.hu(name)
            assert (enhanced - plain) / uptake == pytest.approx(subject.dose, rel=0.1201)
    assert 0.8 <= min(doses) < 0.85
    assert 1.15 < max(doses) <= 1.2


def test_fat_bone_and_cysts_do_not_enhance(patients):
    change = {"fat": [], "bone": [], "cyst": []}
    for volumes in map(arrays, patients):
        for name, values in change.items():
            values.append((volumes["truth"] - volumes["NECT"])[core(volumes["label"], name)])
    fat, bone, cyst = (np.concatenate(values) for values in change.values())
    assert abs(np.median(fat)) < 2.0
    assert abs(np.median(bone)) < 2.0
    assert len(cyst) > 20
    assert abs(np.median(cyst)) < 7.0  # small ones: noise, and the blur of the liver around, which gains 52 HU


def test_lesions_differ_in_how_they_enhance(patients):
    change = {name: [] for name in ("liver", *LESION_TYPES)}
    for volumes in map(arrays, patients):
        for name, values in change.items():
            inside = core(volumes["label"], name)
            values.append((volumes["truth"] - volumes["NECT"])[inside])
    cyst, hypovascular, enhancing, liver = (
        np.median(np.concatenate(change[name])) for name in (*LESION_TYPES, "liver")
    )
    assert cyst + 10 < hypovascular < liver - 10
    assert enhancing > liver + 20


def test_types_in_the_label_map_are_those_of_the_schedule(patients):
    for patient, volumes in enumerate(patients):
        present = {name for name in LESION_TYPES if (volumes["label"].data == LABELS[name]).any()}
        assert present == set(lesion_types(patient, seed=0, task=TASK_ID))


@pytest.mark.parametrize("seed", range(5))
def test_any_two_neighbours_have_all_types_of_lesion_and_none_has_all(seed):
    types = [set(lesion_types(patient, seed=seed, task=TASK_ID)) for patient in range(200)]
    for first, second in pairwise(types):
        assert first | second == set(LESION_TYPES)
        assert 1 <= len(first) <= 2


def test_displacement_leads_from_the_scan_after_contrast_to_the_truth(patients):
    for volumes in patients:
        scanned, truth = volumes["CECT"].data, volumes["truth"].data
        inner = (slice(None), slice(None), slice(1, -1))  # the end slices show what lies outside the stack
        before = windowed_psnr(scanned[inner], truth[inner])
        after = windowed_psnr(scanned[inner], warped_truth(volumes)[inner])
        assert after > before + 3.0
        assert after > 19.0


def test_displacement_is_mostly_cranio_caudal_and_of_the_documented_size(patients):
    lengths, axes = [], []
    for volumes in patients:
        field = volumes["displacement"].data
        lengths.append(np.percentile(np.linalg.norm(field, axis=-1), (50, 95)))
        axes.append(np.abs(field[volumes["label"].data == LABELS["liver"]]).mean(axis=0))
    median, high = np.mean(lengths, axis=0)
    assert 2.5 < median < 4.5
    assert 6.0 < high < 14.0  # 8-11 mm in the mean of many patients
    right, forward, up = np.mean(axes, axis=0)
    assert up > 2 * max(right, forward)


def test_lookup_follows_the_displacement_along_every_axis():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(6, 7, 8)).astype(np.float32)
    shift = np.broadcast_to(np.array([3.0, -2.0, 4.0]).reshape(3, 1, 1, 1), (3, 6, 7, 8))
    moved = displaced(image, shift, spacing_mm=(3.0, 2.0, 4.0))  # one voxel along z, minus one along y, one along x
    np.testing.assert_allclose(moved[:-1, 1:, :-1], image[1:, :-1, 1:], atol=1e-6)
    np.testing.assert_allclose(displaced(image, shift[:, 1:4], spacing_mm=(3, 2, 4), slices=slice(1, 4)), moved[1:4])


def test_scan_after_contrast_has_bright_soft_regions_and_the_one_before_has_none():
    weak = 4  # of seed 11: a dose of 0.80
    assert AbdomenSubject.draw(np.random.default_rng([TASK_ID, 11, weak])).dose < 0.81
    volumes = make_abdomen(weak, abdomen_parameters(seed=11, slices=4))  # full size: bone keeps its density
    assert soft_bright_ml(volumes["CECT"]) > 5.0
    assert soft_bright_ml(volumes["NECT"]) < 0.5


def test_bowel_holds_gas_and_no_positive_contrast(patients):
    gas = 0
    for volumes in map(arrays, patients):
        bowel = core(volumes["label"], "bowel")
        gas += (volumes["truth"][bowel] < -500).sum()
        assert np.percentile(volumes["NECT"][bowel], 99) < 110
    assert gas > 100


def test_scan_without_noise_is_exact_in_water_and_noise_has_no_mean():
    y, x = np.mgrid[-32:32, -32:32]
    water = np.clip((20 - np.hypot(y, x)) / 8, -1, 0)[None].astype(np.float32) * 1000  # no edge, hence no ringing
    inside = np.hypot(y, x) < 16
    exact = scan(None, water, pixel_mm=5.0)[0]
    np.testing.assert_allclose(exact[inside], 0, atol=1.0)
    first, second = (scan(np.random.default_rng(seed), water, pixel_mm=5.0)[0] - exact for seed in (0, 1))
    assert 1.0 < first[inside].std() < 30
    assert abs(first[inside].mean()) < 0.3 * first[inside].std()
    assert abs(np.corrcoef(first[inside], second[inside])[0, 1]) < 0.2


def test_distance_to_an_ellipsoid_is_exact_on_its_smaller_axis_and_turns():
    stack = Stack(levels_mm=np.array([0.0, 5.0]), slice_mm=5.0, in_plane_shape=(64, 64), pixel_mm=1.0)
    distance = ellipsoid(stack, (0, 4, -3), (10, 12, 20), turn=np.pi / 2)  # the long axis now runs along y
    assert distance[0, 32 + 4, 32 - 3] == pytest.approx(12)
    np.testing.assert_allclose(distance[0, 32 + 4, 32 - 3 + np.arange(13)], 12 - np.arange(13), atol=1e-5)
    assert distance[0, 32 + 4 + 20, 32 - 3] == pytest.approx(0, abs=1e-5)
    assert distance[1, 32 + 4, 32 - 3] == pytest.approx(6)  # half way along z


def test_paint_mixes_by_share_and_labels_by_majority():
    canvas = Canvas.of_air((1, 1, 3))
    canvas.paint((0.0, 100.0), np.array([[[0.25, 0.5, 0.75]]]), "liver", texture=20.0)
    np.testing.assert_allclose(canvas.plain[0, 0], [-1000 + 0.25 * 1020, -490, -1000 + 0.75 * 1020], rtol=1e-5)
    np.testing.assert_allclose(canvas.enhanced[0, 0], [-720, -440, -160], rtol=1e-5)
    assert canvas.label[0, 0].tolist() == [0, 0, 1]
    canvas.paint((8.0, 8.0), np.array([[[0.0, 0.0, 0.6]]]), "unlabelled")
    assert canvas.label[0, 0].tolist() == [0, 0, 0]


def test_data_set_on_disk_loads_in_nibabel_and_monai(tmp_path):
    path = generate_phantom("abdomen", tmp_path, patients=4, slices=3, size=32, workers=1)
    datalist = json.loads(path.read_text())
    assert datalist["domains"] == ["NECT", "CECT"]
    assert datalist["label_names"]["15"] == "enhancing_lesion"
    for entry in (*datalist["training_paired"], *datalist["validation"], *datalist["test"]):
        assert set(entry) == {"patient", "NECT", "CECT", "truth", "displacement", "label"}
    for key in ("NECT", "CECT", "truth", "label"):
        image = nibabel.load(tmp_path / entry[key])
        assert image.shape == (32, 32, 3)
        assert image.get_data_dtype() == np.int16
    expected = make_abdomen(3, abdomen_parameters(patients=4, slices=3, size=32))["displacement"]
    field = nibabel.load(tmp_path / entry["displacement"])
    assert field.get_data_dtype() == np.float32
    np.testing.assert_allclose(field.get_fdata(), expected.data, atol=0.01)
    np.testing.assert_allclose(field.affine, expected.affine, atol=1e-3)
    loaded = LoadImage(ensure_channel_first=True)(tmp_path / entry["displacement"])
    np.testing.assert_allclose(loaded.permute(1, 2, 3, 0), expected.data, atol=0.01)
    assert Orientation("RAS", labels=None)(loaded).shape == (3, 32, 32, 3)


def test_vectors_are_written_as_they_are_and_not_rounded(tmp_path):
    data = np.random.default_rng(0).normal(size=(4, 5, 6, 3)).astype(np.float32)
    write_nifti(tmp_path / "field.nii.gz", Volume(data, np.diag([1.0, 1.0, 2.0, 1.0])))
    np.testing.assert_array_equal(nibabel.load(tmp_path / "field.nii.gz").get_fdata(), data)


def test_default_split_has_every_type_of_lesion_in_training_and_test():
    parameters = abdomen_parameters()
    assert split_counts(parameters["patients"]) == (7, 1, 4)
    for seed in range(20):
        for part in (range(7), range(8, 12)):
            assert {name for patient in part for name in lesion_types(patient, seed=seed, task=TASK_ID)} == set(
                LESION_TYPES
            )
    entries = [{"patient": str(p), "NECT": "", "CECT": ""} for p in range(12)]
    training = make_datalist(ABDOMEN, parameters, entries)["training"]
    assert [item["domain"] for item in training] == ["NECT"] * 4 + ["CECT"] * 3


@pytest.mark.parametrize("slice_mm", [1.0, 10.0])
def test_slice_distance_changes_the_sampling_and_not_the_motion(slice_mm):
    field = make_abdomen(1, abdomen_parameters(size=32, slices=5, slice_mm=slice_mm))["displacement"].data
    assert field.shape == (32, 32, 5, 3)
    assert 2 < np.linalg.norm(field, axis=-1).max() < 30


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"patients": 3}, r"`patients` must be an integer >= 4, got 3\."),
        ({"slices": 0}, r"`slices` must be an integer >= 1, got 0\."),
        ({"size": 100}, r"`size` must be a multiple of 8 and >= 32, got 100\."),
        ({"seed": -1}, r"`seed` must be an integer >= 0, got -1\."),
        ({"slice_mm": 0}, r"`slice_mm` must be a number > 0 \(mm\), got 0\."),
        ({"slices": 40}, r"must be <= 110 mm.*got 117 mm: choose fewer slices or a smaller `slice_mm`"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        abdomen_parameters(**arguments)


@pytest.fixture(scope="module")
def varied():
    """Patient 0 of the varied phantom, seed 0, on slices of 128 x 128."""
    return make_varied_abdomen(0, abdomen_parameters(kind="abdomen_varied", size=128, slices=3, slice_mm=6.0))


def test_a_varied_patient_has_a_pair_that_differs_by_contrast_agent_alone(varied):
    assert list(varied) == ["NECT", "CECT", "truth", "plain", "displacement", "label"]
    label, change = varied["label"].data, varied["truth"].data - varied["plain"].data
    for name in ("bone", "fat"):
        assert abs(change[core(label, name)]).mean() < 6  # the kernel spreads some of the neighbours' agent
    for name in ("liver", "aorta", "muscle"):
        mean, expected = change[core(label, name)].mean(), UPTAKE_HU[name]
        assert 0.6 * expected < mean < 1.4 * expected
    noise = (varied["NECT"].data - varied["plain"].data)[core(label, "liver")]
    assert abs(noise.mean()) < 2
    assert noise.std() > 4


def test_varied_subjects_have_a_wider_range_and_their_own_random_numbers(varied):
    default = make_abdomen(0, abdomen_parameters(size=128, slices=3, slice_mm=6.0))
    assert np.abs(varied["truth"].data - default["truth"].data).mean() > 20
    subjects = [AbdomenSubject.draw_varied(np.random.default_rng(seed)) for seed in range(60)]
    plain = {
        name: [subject.hu(name)[0] - TISSUES[name].plain_hu for subject in subjects] for name in ("muscle", "aorta")
    }
    assert np.ptp(plain["muscle"]) > 25
    assert min(plain["muscle"]) >= PLAIN_SHIFTS_HU["muscle"][0]
    assert all(len({round(subject.plain_shift_hu[name], 6) for name in BLOOD}) == 1 for subject in subjects)
    assert np.ptp([subject.muscle_half_axes_mm[0] for subject in subjects]) > 18
    assert all(
        subject.muscle_half_axes_mm[0] + subject.fat_mm < 170 for subject in subjects
    )  # within the field of view
    assert all(not AbdomenSubject.draw(np.random.default_rng(seed)).plain_shift_hu for seed in range(3))


def test_urine_bile_and_stones_of_varied_patients_take_up_nothing():
    subjects = [AbdomenSubject.draw_varied(np.random.default_rng(seed)) for seed in range(60)]
    pelves = [pelvis for subject in subjects for pelvis in subject.pelvis.values()]
    stones = [pelvis.stone for pelvis in pelves if pelvis.stone is not None]
    bladders = [subject.gallbladder for subject in subjects if subject.gallbladder is not None]
    assert 40 < len(pelves) < 100
    assert 5 < len(stones) < 45
    assert 30 < len(bladders) < 60
    assert all(not AbdomenSubject.draw(np.random.default_rng(seed)).pelvis for seed in range(3))
    stack = Stack(levels_mm=np.array([100.0]), slice_mm=3.0, in_plane_shape=(96, 96), pixel_mm=3.0)
    subject = replace(
        subjects[0],
        pelvis={"right": Pelvis(3.0, 5.0, None), "left": Pelvis(3.0, 5.0, (5.0, 800.0))},
        gallbladder=Gallbladder((2.0, 0.0, 0.0), 1.3, 7.0),
    )
    with_fluid = make_anatomy(np.random.default_rng(0), subject, stack, lesion_types=())
    without = make_anatomy(
        np.random.default_rng(0), replace(subject, pelvis={}, gallbladder=None), stack, lesion_types=()
    )
    change = with_fluid.enhanced - with_fluid.plain
    for hu, voxels in ((5.0, 10), (7.0, 20)):
        fluid = (abs(with_fluid.plain - hu) < 1e-4) & (abs(without.plain - hu) > 1e-4)
        assert fluid.sum() > voxels
        np.testing.assert_allclose(change[fluid], 0, atol=0.02)
    assert (with_fluid.plain > 400).sum() > (without.plain > 400).sum()


def test_the_varied_kind_says_what_it_is():
    parameters = VARIED_ABDOMEN.check_parameters(patients=4, slices=3, size=64)
    assert parameters["kind"] == VARIED_ABDOMEN.name == "abdomen_varied"
    assert ABDOMEN.check_parameters(patients=4)["kind"] == "abdomen"


def test_the_default_patients_are_those_before_there_were_varied_ones():
    # Means and voxels of patient 1, seed 0, written down at the commit before `abdomen_varied`.
    volumes = make_abdomen(1, abdomen_parameters(slices=2, size=32))
    before = {
        "NECT": (-443.98163, 65.349815, 53.919197, 10.801792),
        "CECT": (-420.00363, 112.135056, 108.03568, 95.0011),
        "truth": (-430.00253, 126.41954, 102.1812, 137.43341),
    }
    for name, (mean, *voxels) in before.items():
        data = volumes[name].data
        found = [data[16, 16, 0], data[10, 16, 1], data[20, 22, 0]]
        np.testing.assert_allclose([data.mean(), *found], [mean, *voxels], rtol=1e-4, atol=0.02)


def test_varied_patients_are_those_that_shipped_weights_were_trained_on():
    """Means and SDs in HU of patient 1, seed 0, written down at the commit before `abdomen_clinical` (b7b9bdd)."""
    volumes = make_varied_abdomen(1, abdomen_parameters(kind="abdomen_varied", slices=3, size=64))
    before = {
        "NECT": (-557.249, 488.240),
        "CECT": (-551.978, 496.365),
        "truth": (-545.626, 502.493),
        "plain": (-557.190, 488.277),
        "displacement": (-0.125, 2.889),
    }
    for name, (mean, deviation) in before.items():
        assert volumes[name].data.mean() == pytest.approx(mean, abs=5e-3)
        assert volumes[name].data.std() == pytest.approx(deviation, abs=5e-3)
