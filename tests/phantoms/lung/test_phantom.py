from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from common.phantoms import generate_phantom
from common.phantoms.dataset import Volume, make_datalist, split_counts, write_nifti
from common.phantoms.lung.anatomy import (
    LABEL_NAMES,
    LABELS,
    alveolar_seeds,
    face_distance,
    make_anatomy,
    sheet_occupancy,
)
from common.phantoms.lung.imaging import (
    LungSubject,
    Scanner,
    clinical_image,
    coarser_affine,
    has_emphysema,
    has_tumour,
    micro_image,
    true_hu,
)
from common.phantoms.lung.phantom import LUNG, TASK_ID, VOXEL_MM, lung_parameters, make_lung, make_lung_walls
from common.phantoms.stack import Stack
from tests.helpers.commands import python_m

DISEASED, HEALTHY = 0, 1  # patients of seed 0: tumour and emphysema, neither
SMALL = {"size": 64, "slices": 8}


def arrays(patient, **parameters):
    return {key: volume.data for key, volume in make_lung(patient, lung_parameters(**parameters)).items()}


@pytest.fixture(scope="module")
def patients():
    """Two patients with one clinical slice of 32 x 32."""
    return {patient: arrays(patient, size=256, slices=8) for patient in (DISEASED, HEALTHY)}


def block_mean(array, factor):
    x, y, z = (n // factor for n in array.shape)
    return array.reshape(x, factor, y, factor, z, factor).mean(axis=(1, 3, 5))


def blurred_by_fourier(hu, fwhm):
    """In-plane Gaussian of (X, Y, Z) data with mirrored borders, as a product in frequency space."""
    mirrored = np.block([[hu.transpose(2, 0, 1), hu[:, ::-1].transpose(2, 0, 1)]])
    mirrored = np.concatenate([mirrored, mirrored[:, ::-1]], axis=1)
    u, v = (np.fft.fftfreq(n) for n in mirrored.shape[1:])
    sigma = fwhm / np.sqrt(8 * np.log(2))
    transfer = np.exp(-2 * (np.pi * sigma) ** 2 * (u[:, None] ** 2 + v**2))
    blurred = np.fft.ifft2(np.fft.fft2(mirrored) * transfer).real
    return blurred[:, : hu.shape[0], : hu.shape[1]].transpose(1, 2, 0)


@pytest.mark.parametrize(("factor", "clinical_shape"), [(2, (32, 32, 4)), (4, (16, 16, 2)), (8, (8, 8, 1))])
def test_clinical_voxels_are_coarser_by_the_factor(factor, clinical_shape):
    volumes = make_lung(2, lung_parameters(factor=factor, **SMALL))
    assert list(volumes) == ["clinical", "micro", "truth", "label"]
    assert volumes["clinical"].data.shape == clinical_shape
    for key in ("micro", "truth", "label"):
        assert volumes[key].data.shape == (64, 64, 8)
        np.testing.assert_allclose(np.abs(np.diag(volumes[key].affine)[:3]), 0.078125)
    np.testing.assert_allclose(np.abs(np.diag(volumes["clinical"].affine)[:3]), 0.078125 * factor)
    assert volumes["micro"].data.dtype == np.uint16
    assert volumes["label"].data.dtype == np.uint8


def test_factor_changes_the_clinical_image_alone():
    first, second = (make_lung(3, lung_parameters(factor=factor, **SMALL)) for factor in (4, 8))
    for key in ("micro", "truth", "label"):
        np.testing.assert_array_equal(first[key].data, second[key].data)
        np.testing.assert_array_equal(first[key].affine, second[key].affine)


def test_same_seed_gives_the_same_patient_whatever_their_number():
    first, again = (make_lung(3, lung_parameters(patients=n, **SMALL)) for n in (4, 30))
    for key, tolerance in (("clinical", 1e-3), ("micro", 1), ("truth", 1e-3), ("label", 0)):
        np.testing.assert_allclose(first[key].data.astype(float), again[key].data, atol=tolerance)
        np.testing.assert_allclose(first[key].affine, again[key].affine)


def test_patients_and_seeds_differ():
    images = [arrays(p, seed=s, **SMALL)["truth"] for p, s in ((0, 0), (1, 0), (0, 1), (1, 1))]
    for i in range(4):
        for j in range(i):
            assert np.abs(images[i] - images[j]).mean() > 50


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_clinical_image_without_noise_is_the_block_mean_of_the_blurred_truth(factor):
    truth = arrays(DISEASED, **SMALL)["truth"]
    # The scanner's point spread is 9 micro voxels wide at factor 8 and shrinks with the factor.
    expected = block_mean(blurred_by_fourier(truth, 9 * factor / 8), factor)
    image = clinical_image(None, truth.transpose(2, 1, 0), factor=factor).transpose(2, 1, 0)
    np.testing.assert_allclose(image, expected, atol=0.5)


def test_a_structure_has_one_place_in_both_grids():
    affine = np.diag([-VOXEL_MM, -VOXEL_MM, VOXEL_MM, 1.0])
    affine[:3, 3] = 7.0, -3.0, 11.0
    for factor in (2, 4, 8):
        coarse = coarser_affine(affine, factor)
        for middle in ((7.3, 60.1, 66.9), (8.0, 64.0, 61.5)):
            z, y, x = np.ogrid[:16, :128, :128]
            ball = (x - middle[2]) ** 2 + (y - middle[1]) ** 2 + (z - middle[0]) ** 2 < 6.5**2
            image = clinical_image(None, true_hu(ball.astype(float)), factor=factor)
            fine_place, coarse_place = (
                (a @ [*ndimage.center_of_mass(weight.transpose(2, 1, 0)), 1])[:3]
                for weight, a in ((ball, affine), (image + 1000, coarse))
            )
            np.testing.assert_allclose(coarse_place, fine_place, atol=0.1 * VOXEL_MM)


@pytest.mark.parametrize("patient", [DISEASED, HEALTHY])
def test_written_volumes_of_a_patient_lie_on_each_other(tmp_path, patient):
    factor = 2
    volumes = make_lung(patient, lung_parameters(size=128, slices=8, factor=factor))
    for key in ("clinical", "truth"):
        write_nifti(tmp_path / f"{key}.nii.gz", volumes[key])
    clinical, truth = (nibabel.load(tmp_path / f"{key}.nii.gz") for key in ("clinical", "truth"))
    to_micro = np.linalg.inv(truth.affine) @ clinical.affine
    blurred = ndimage.gaussian_filter(truth.get_fdata(), (0.5 * factor, 0.5 * factor, 0.3 * factor))
    inner = np.stack(np.mgrid[4:60, 4:60, 1:3], axis=-1)
    places = inner @ to_micro[:3, :3].T + to_micro[:3, 3]
    seen = clinical.get_fdata()[tuple(inner.reshape(-1, 3).T)]

    def misfit(shift):
        sampled = ndimage.map_coordinates(blurred, (places.reshape(-1, 3) + shift).T, order=1)
        return np.mean((sampled - seen) ** 2)

    for axis in range(3):
        step = np.eye(3)[axis]
        before, here, after = misfit(-step), misfit(0), misfit(step)
        lowest = (before - after) / (2 * (before - 2 * here + after))  # of the parabola through the three
        assert abs(lowest) < 0.1


def test_clinical_noise_is_28_hu_and_correlated():
    hu = np.full((16, 512, 512), -500.0)
    noise = clinical_image(np.random.default_rng(0), hu, factor=4) + 500
    assert noise.std() == pytest.approx(28, rel=0.05)
    # A Gaussian of 0.55 pixels has the weights 0.19, 1, 0.19: neighbours correlate with 2 x 0.19 / (1 + 2 x 0.19^2).
    assert np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1] == pytest.approx(0.357, abs=0.02)
    assert abs(np.corrcoef(noise[1:].ravel(), noise[:-1].ravel())[0, 1]) < 0.1


def test_clinical_image_is_clipped_as_a_scanner_does():
    noisy = clinical_image(np.random.default_rng(0), np.full((2, 64, 64), -1010.0), factor=2)
    assert noisy.min() == -1024


def test_air_and_tissue_have_their_grey_values_and_hounsfield_units():
    for occupancy, grey, hu in ((0.0, 9000, -1000), (1.0, 26000, 45)):
        block = np.full((8, 64, 64), occupancy)
        noisy = micro_image(np.random.default_rng(0), block)
        assert noisy.dtype == np.uint16
        assert noisy.mean() == pytest.approx(grey, abs=60)
        assert noisy.std() == pytest.approx(900, rel=0.05)
        np.testing.assert_array_equal(micro_image(None, block), grey)
        np.testing.assert_allclose(true_hu(block), hu)


def test_micro_ct_shows_the_truth(patients):
    for volumes in patients.values():
        as_hu = (volumes["micro"].astype(float) - 9000) / 17000 * 1045 - 1000
        blurred = ndimage.gaussian_filter(volumes["truth"], 0.55)
        assert np.abs((as_hu - blurred).mean()) < 5
        assert (as_hu - blurred).std() == pytest.approx(900 / 17000 * 1045, rel=0.05)


def test_every_structure_has_its_share(patients):
    for patient, volumes in patients.items():
        counts = np.bincount(volumes["label"].ravel(), minlength=7) / volumes["label"].size
        assert len(counts) == 7
        share = {name: counts[value] for value, name in LABEL_NAMES.items()}
        assert 0.35 < counts[0] < 0.7
        assert 0.25 < share["alveolar_wall"] < 0.5
        for name in ("vessel", "bronchial_wall", "septum", "bronchial_lumen"):
            assert 0.003 < share[name] < 0.06
        assert (share["tumour"] > 0.03) == has_tumour(patient, seed=0, task=TASK_ID)
        assert (share["tumour"] == 0) != has_tumour(patient, seed=0, task=TASK_ID)


def test_structures_are_tissue_and_lumina_air(patients):
    for volumes in patients.values():
        medians = {
            name: np.median(volumes["truth"][volumes["label"] == value])
            for name, value in LABELS.items()
            if (volumes["label"] == value).any()
        }
        assert -60 < medians["vessel"] <= 45  # the thin ones have no voxel of their own
        assert medians["bronchial_lumen"] == pytest.approx(-1000, abs=5)
        assert -250 < medians["bronchial_wall"] <= 45
        assert -400 < medians["septum"] <= 45
        assert -800 < medians["alveolar_wall"] < -300
        assert (volumes["truth"][volumes["label"] == 0] < -700).all()
        assert medians.get("tumour", 0) == pytest.approx(0, abs=50)


def test_clinical_lung_has_the_density_of_a_lung(patients):
    assert -880 < np.median(patients[HEALTHY]["clinical"]) < -750
    for volumes in patients.values():
        assert volumes["clinical"].mean() == pytest.approx(volumes["truth"].mean(), abs=8)


def test_bicubic_interpolation_is_as_far_from_the_truth_as_documented(patients):
    for volumes in patients.values():
        slab = volumes["truth"].mean(axis=2)
        bicubic = ndimage.zoom(volumes["clinical"][:, :, 0], 8, order=3, mode="nearest", grid_mode=True)
        # 19-21 dB in the prototype, with the truth's own range of -1000 to 254 HU.
        assert 10 * np.log10(1254**2 / np.mean((bicubic - slab) ** 2)) == pytest.approx(20, abs=1.8)


def test_emphysema_leaves_fewer_alveoli_and_less_tissue():
    stack = Stack(levels_mm=VOXEL_MM * np.arange(8), slice_mm=VOXEL_MM, in_plane_shape=(128, 128), pixel_mm=VOXEL_MM)
    seeds, tissue = {}, {}
    for share in (0.0, 0.5):
        subject = LungSubject(cell_mm=0.3, wall_mm=0.011, septum_mm=0.05, emphysema=share, tumour_share=None)
        seeds[share] = len(alveolar_seeds(np.random.default_rng(0), subject, stack))
        tissue[share] = make_anatomy(np.random.default_rng(0), subject, stack).occupancy.mean()
    assert 0.3 < seeds[0.5] / seeds[0.0] < 0.75
    assert tissue[0.5] < 0.9 * tissue[0.0]


def test_face_distance_is_that_to_the_plane_between_two_seeds():
    rng = np.random.default_rng(0)
    seeds, points = rng.uniform(-1, 1, (30, 3)), rng.uniform(-1, 1, (2, 50, 3))
    expected = np.empty((2, 50))
    for index in np.ndindex(2, 50):
        first, second = seeds[np.argsort(((seeds - points[index]) ** 2).sum(axis=1))[:2]]
        normal = (second - first) / np.linalg.norm(second - first)
        expected[index] = normal @ ((first + second) / 2 - points[index])
    np.testing.assert_allclose(face_distance(seeds, points), expected, atol=1e-6)


@pytest.mark.parametrize("half_thickness", [0.004, 0.02, 0.045, 0.2])
def test_a_sheet_holds_its_thickness_of_tissue(half_thickness):
    across = np.linspace(-1, 1, 20001)
    occupancy = sheet_occupancy(np.abs(across), half_thickness, voxel_mm=0.078)
    assert 1e-4 * occupancy.sum() == pytest.approx(2 * half_thickness, rel=0.01)
    assert occupancy.max() <= 1


def test_a_tumour_does_not_grow_beyond_the_field_of_20_mm():
    subject = LungSubject(cell_mm=0.3, wall_mm=0.01, septum_mm=0.05, emphysema=0.0, tumour_share=0.25)
    assert [subject.tumour_radius_mm(field) for field in (4.0, 20.0, 40.0)] == [1.0, 5.0, 5.0]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("has_disease", [has_tumour, has_emphysema])
def test_each_disease_in_forty_percent_and_in_every_neighbourhood(has_disease, seed):
    diseased = np.array([has_disease(patient, seed=seed, task=TASK_ID) for patient in range(200)])
    assert diseased.mean() == pytest.approx(0.4, abs=0.02)
    for start in range(198):
        assert 0 < diseased[start : start + 3].sum() < 3


@pytest.mark.parametrize("seed", range(4))
def test_diseases_come_together_and_alone(seed):
    pairs = {tuple(f(p, seed=seed, task=TASK_ID) for f in (has_tumour, has_emphysema)) for p in range(30)}
    assert len(pairs) == 4


def test_default_training_has_unpaired_patients_of_both_domains_and_every_split_a_tumour():
    parameters = lung_parameters()
    training, validation, test = split_counts(parameters["patients"])
    assert (training, validation, test) == (9, 2, 5)
    entries = [{"patient": str(p), "clinical": "c", "micro": "m"} for p in range(parameters["patients"])]
    items = make_datalist(LUNG, parameters, entries)["training"]
    by_domain = {d: {item["patient"] for item in items if item["domain"] == d} for d in ("clinical", "micro")}
    assert min(map(len, by_domain.values())) >= 4
    assert not by_domain["clinical"] & by_domain["micro"]
    for part in (range(training), range(training + validation, parameters["patients"])):
        assert {has_tumour(patient, seed=0, task=TASK_ID) for patient in part} == {True, False}


def test_written_data_set_has_grey_values_and_hounsfield_units(tmp_path):
    path = generate_phantom("lung", tmp_path, patients=4, factor=4, workers=1, **SMALL)
    datalist = json.loads(path.read_text())
    assert datalist["domains"] == ["clinical", "micro"]
    assert datalist["parameters"]["factor"] == 4
    assert datalist["label_names"]["3"] == "septum"
    for entry in (*datalist["training_paired"], *datalist["validation"], *datalist["test"]):
        assert set(entry) == {"patient", "clinical", "micro", "truth", "label"}
        images = {key: nibabel.load(tmp_path / entry[key]) for key in set(entry) - {"patient"}}
        assert images["micro"].get_data_dtype() == np.uint16
        assert {images[key].get_data_dtype() for key in ("clinical", "truth", "label")} == {np.dtype(np.int16)}
        assert images["clinical"].shape == (16, 16, 2)
        corners = [images[key].affine @ [-0.5, -0.5, -0.5, 1] for key in ("clinical", "micro", "truth", "label")]
        np.testing.assert_allclose(corners, [corners[0]] * 4, atol=0.01 * VOXEL_MM)


def test_grey_values_beyond_int16_are_stored(tmp_path):
    write_nifti(tmp_path / "micro.nii.gz", Volume(np.array([[[0, 65535]]], dtype=np.uint16), np.eye(4)))
    assert nibabel.load(tmp_path / "micro.nii.gz").get_fdata().ravel().tolist() == [0, 65535]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"patients": 3}, r"`patients` must be an integer >= 4, got 3\."),
        ({"slices": 12}, r"`slices` must be a multiple of 8 and >= 8, got 12\."),
        ({"slices": 6, "factor": 4}, r"`slices` must be a multiple of 4 and >= 4, got 6\."),
        ({"size": 100}, r"`size` must be a multiple of 64 and >= 64, got 100\."),
        ({"size": 24, "factor": 2}, r"`size` must be a multiple of 16 and >= 16, got 24\."),
        ({"seed": -1}, r"`seed` must be an integer >= 0, got -1\."),
        ({"factor": 3}, r"`factor` must be 2, 4 or 8, got 3\."),
        ({"factor": "8"}, r"`factor` must be 2, 4 or 8, got '8'\."),
        ({"slice_mm": 5.0}, r"`slice_mm` of the lung phantom must be 0.078125 mm.*got 5\.0: leave it out\."),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        lung_parameters(**arguments)


def test_factor_is_refused_for_other_kinds(tmp_path):
    with pytest.raises(
        ValueError, match=r"`factor` is for the kinds 'lung' and 'lung_walls' alone, got 4 for 'brain': leave it out\."
    ):
        generate_phantom("brain", tmp_path, factor=4)


def test_command_line_takes_the_factor(tmp_path):
    command = ["phantom", "lung", f"--output_dir={tmp_path}", "--patients=4", "--slices=2", "--size=32", "--factor=2"]
    run = python_m("common", command)
    assert run.returncode == 0, run.stderr
    assert str(tmp_path / "datalist.json") in run.stdout
    assert json.loads((tmp_path / "datalist.json").read_text())["parameters"]["factor"] == 2


@pytest.fixture(scope="module")
def walls():
    """Two patients of `lung_walls`."""
    parameters = lung_parameters(kind="lung_walls", size=192, slices=8)
    return {
        patient: {key: volume.data for key, volume in make_lung_walls(patient, parameters).items()}
        for patient in (0, 1)
    }


def test_bronchi_of_lung_walls_are_tubes_with_a_closed_wall(walls):
    for volumes in walls.values():
        lumen, wall, vessel, tumour = (
            volumes["label"] == LABELS[name] for name in ("bronchial_lumen", "bronchial_wall", "vessel", "tumour")
        )
        assert lumen.sum() > 500
        beside = ndimage.binary_dilation(lumen, ndimage.generate_binary_structure(3, 1)) & ~lumen
        inner = tuple(slice(1, -1) for _ in range(3))  # the block's border cuts through
        around = (wall | vessel | tumour)[inner][beside[inner]].mean()
        assert around > 0.97
        thickness = 2 * ndimage.distance_transform_edt(wall, sampling=VOXEL_MM)[wall].max()
        assert 0.1 < thickness < 1.0


def test_structures_of_lung_walls_are_as_dense_as_tissue_and_lumina_as_air(walls):
    for volumes in walls.values():
        core = {
            name: ndimage.binary_erosion(volumes["label"] == LABELS[name]) for name in ("vessel", "bronchial_lumen")
        }
        assert volumes["truth"][core["vessel"]].mean() > -60
        assert volumes["truth"][core["bronchial_lumen"]].mean() < -900


def test_septa_of_lung_walls_are_thicker_than_those_of_lung():
    thin, thick = (
        LungSubject.draw(np.random.default_rng(5), tumour=False, emphysema=False, **more).septum_mm
        for more in ({}, {"septum_mm": (0.05, 0.15)})
    )
    assert thin < 0.07 < thick < 0.15  # half of each


def test_patients_of_lung_walls_have_scanners_of_their_own(walls):
    """The noise differs by far more than it varies within a kind of fixed scanners."""
    noises = []
    for volumes in walls.values():
        mean = clinical_image(None, volumes["truth"].transpose(2, 1, 0).astype(float), factor=8).transpose(2, 1, 0)
        noises.append((volumes["clinical"] - mean).std())
    assert abs(noises[0] - noises[1]) > 2


def test_a_sharper_kernel_overshoots_at_an_edge_and_keeps_the_mean():
    step = np.full((8, 64, 256), -900.0)
    step[..., 128:] = 0.0
    plain, sharp = (clinical_image(None, step, factor=8, scanner=Scanner(sharpening=s)) for s in (0.0, 0.5))
    assert sharp.max() > 20
    assert plain.max() < 1e-6
    np.testing.assert_allclose(sharp.mean(), plain.mean(), atol=1e-6)


def test_noise_of_a_scanner_is_as_large_as_it_says():
    image = clinical_image(
        np.random.default_rng(0), np.full((8, 512, 512), -800.0), factor=8, scanner=Scanner(noise_hu=15.0)
    )
    assert abs(image.std() - 15) < 1
