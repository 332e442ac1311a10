"""The NEC bundle as a user runs it: train, translate, evaluate, report; from another working directory."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow

from common.data import load_datalist
from common.reports import write_report
from tests.helpers.brats import write_brats
from tests.helpers.bundles import BUNDLE, CONFIGS, TINY, bundle, done
from tests.helpers.shared import needs_shared, shared

METHODS = {"network", "identity", "histogram_matching", "inverted_histogram_matching", "intensity_curve"}


def outputs(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.nii.gz"))


def infer(trained: Path, source: object, out: Path, *options: object):
    arguments = ["--dataset_dir", source, "--output_dir", out, "--models_dir", trained / "models", *options]
    return bundle("inference", ["inference"], *arguments, cwd=out.parent)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, trained, phantom) -> Path:
    out = tmp_path_factory.mktemp("evaluated")
    places = ["--dataset_dir", phantom, "--output_dir", out, "--models_dir", trained / "models"]
    places += ["--training_dir", trained / "training"]
    done(bundle("evaluating", ["inference", "evaluate"], *places, cwd=out))
    return out


def test_training_leaves_what_inference_needs(trained):
    assert {p.name for p in (trained / "models").iterdir()} == {"model.pt", "network.json", "baselines.json"}
    state = torch.load(trained / "models" / "model.pt", weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    definition = json.loads((trained / "models" / "network.json").read_text())
    assert definition["domains"] == {"source": "T1", "target": "T2"}
    low, high = definition["codec"]["reference"]
    assert low < high


def test_the_reference_percentiles_are_those_of_the_target_training_volumes(trained, phantom):
    training = json.loads((phantom / "datalist.json").read_text())["training"]
    values = [
        np.percentile(np.asarray(nib.load(phantom / entry["image"]).dataobj), [1, 99])
        for entry in training
        if entry["domain"] == "T2"
    ]
    definition = json.loads((trained / "models" / "network.json").read_text())
    np.testing.assert_allclose(definition["codec"]["reference"], np.median(values, axis=0), rtol=1e-5)


def test_training_shows_losses_and_both_kinds_of_validation(trained):
    with (trained / "training" / "validation.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert {"epoch", "unpaired_score", "sliced_wasserstein", "edge_disagreement", "psnr"} == set(row)
    with (trained / "training" / "losses.csv").open(newline="") as file:
        assert {"adversarial", "edge", "discriminator", "learning_rate"} <= set(csv.DictReader(file).fieldnames)
    assert list((trained / "training" / "tensorboard").iterdir())


def test_inference_keeps_grid_and_type(trained, phantom, tmp_path):
    case = load_datalist(phantom, "test")[0]
    done(infer(trained, case["T1"], tmp_path / "out"))
    (path,) = outputs(tmp_path / "out")
    assert path.name == f"{case['patient']}_T1_synthetic_T2.nii.gz"
    source, output = nib.load(case["T1"]), nib.load(path)
    assert output.shape == source.shape
    assert output.get_data_dtype() == np.float32
    np.testing.assert_allclose(output.affine, source.affine, atol=1e-4)
    assert np.isfinite(output.get_fdata()).all()


def test_a_bare_run_and_a_datalist_translate_all_test_cases(trained, phantom, tmp_path):
    arguments = ["--dataset_dir", phantom, "--output_dir", tmp_path / "out", "--models_dir", trained / "models"]
    done(bundle("", ["inference"], *arguments, cwd=tmp_path))
    assert len(outputs(tmp_path / "out")) == len(load_datalist(phantom, "test"))


def test_evaluation_scores_every_method_on_every_patient(evaluated, phantom):
    patients = {case["patient"] for case in load_datalist(phantom, "test")}
    with (evaluated / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["patient"], row["direction"], row["method"]) for row in rows} == {
        (patient, "T1->T2", method) for patient in patients for method in METHODS
    }
    summary = json.loads((evaluated / "summary.json").read_text())
    for method, metrics in summary["T1->T2"].items():
        values = [float(row["psnr"]) for row in rows if row["method"] == method]
        assert metrics["psnr"]["mean"] == pytest.approx(np.mean(values))
        assert metrics["psnr"]["std"] == pytest.approx(np.std(values, ddof=1))
        assert {"ssim", "psnr_matched", "ssim_matched", "mae_deep_nuclei"} <= set(metrics)


def test_scores_are_those_of_the_saved_volumes(evaluated):
    """PSNR again, from the files, with numpy alone."""
    cases = json.loads((evaluated / "cases.json").read_text())["cases"]
    with (evaluated / "metrics.csv").open(newline="") as file:
        rows = {row["patient"]: row for row in csv.DictReader(file) if row["method"] == "network"}
    for case in cases:
        prediction, truth = (
            np.asarray(nib.load(evaluated / case[key]).dataobj, dtype=np.float64) for key in ("prediction", "target")
        )
        width = np.subtract(*np.percentile(truth, [99, 1]))
        errors = [np.mean((prediction[..., k] - truth[..., k]) ** 2) for k in range(truth.shape[-1])]
        expected = np.mean([10 * np.log10(width**2 / error) for error in errors])
        assert float(rows[case["patient"]]["psnr"]) == pytest.approx(expected, abs=1e-3)


def test_evaluation_fits_nothing(trained, phantom, tmp_path):
    """Turn the truth of every test patient upside down: no translator's output changes."""
    turned = []
    for entry in load_datalist(phantom, "test"):
        image = nib.load(entry["T2"])
        data = np.asarray(image.dataobj)
        path = tmp_path / f"{entry['patient']}_T2.nii.gz"
        nib.save(nib.Nifti1Image(data.max() - data, image.affine), path)
        turned.append({"patient": entry["patient"], "T1": entry["T1"], "T2": str(path)})
    (tmp_path / "datalist.json").write_text(json.dumps({"test": turned}))
    translated: list[dict[str, np.ndarray]] = []
    for folder in (phantom, tmp_path):
        parser = ConfigParser()
        parser.read_config([str(CONFIGS / "inference.yaml"), str(CONFIGS / "evaluate.yaml")])
        places = {
            "dataset_dir": str(folder),
            "models_dir": str(trained / "models"),
            "output_dir": str(tmp_path / "out"),
        }
        parser.update({"bundle_root": str(BUNDLE), **places})
        evaluator, load = parser.get_parsed_content("evaluator"), parser.get_parsed_content("load")
        evaluator.run()
        volume = load({"image": turned[0]["T1"]})["image"]
        translated.append({n: np.asarray(t(volume, "T2")) for n, t in evaluator.translators.items()})
    assert set(translated[0]) == METHODS
    for method in METHODS:
        np.testing.assert_array_equal(translated[0][method], translated[1][method])


def test_an_untrained_network_raises_the_contrast_alarm(evaluated):
    warnings = json.loads((evaluated / "run.json").read_text())["warnings"]
    assert any("contrast was not inverted" in warning for warning in warnings)


def test_the_report_is_made_from_what_evaluation_left(evaluated):
    text = write_report(evaluated).read_text()
    summary = json.loads((evaluated / "summary.json").read_text())
    assert f"{summary['T1->T2']['network']['psnr']['mean']:.2f}" in text
    assert "Research use only" in text


@pytest.mark.parametrize("orientation", ["sagittal", "coronal", "oblique", "flipped", "anisotropic"])
def test_volumes_of_any_orientation_come_back_on_their_grid(trained, phantom, tmp_path, orientation):
    """The same brain stored differently is translated alike, and put back where it was."""
    case = load_datalist(phantom, "test")[0]
    image = nib.as_closest_canonical(nib.load(case["T1"]))
    data, affine = np.asarray(image.dataobj), image.affine
    axes = {"sagittal": "PSR", "coronal": "LSA", "oblique": "RAS", "flipped": "LPI", "anisotropic": "RAS"}[orientation]
    if orientation == "anisotropic":
        data = data[::2]
        affine = affine @ np.diag([2, 1, 1, 1])
    if orientation == "oblique":
        angle = np.deg2rad(20)
        turn = np.eye(4)
        turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        affine = turn @ affine
    stored = nib.Nifti1Image(data, affine)
    change = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt(axes))
    stored = stored.as_reoriented(change)
    nib.save(stored, tmp_path / "scan.nii.gz")
    done(infer(trained, tmp_path / "scan.nii.gz", tmp_path / "out"))
    (path,) = outputs(tmp_path / "out")
    output = nib.load(path)
    assert output.shape == stored.shape
    np.testing.assert_allclose(output.affine, stored.affine, atol=1e-3)
    done(infer(trained, case["T1"], tmp_path / "reference"))
    reference = np.asarray(nib.as_closest_canonical(nib.load(outputs(tmp_path / "reference")[0])).dataobj)
    back = np.asarray(nib.as_closest_canonical(output).dataobj)
    if orientation == "anisotropic":  # resampled to 4 mm pixels and back: alike, not equal
        assert np.corrcoef(back.ravel(), reference[::2].ravel())[0, 1] > 0.7
    else:
        np.testing.assert_allclose(back, reference, atol=1e-2 * np.ptp(reference))


def test_monai_finds_all_required_properties(phantom, tiny, tmp_path):
    for files, kind in ((["train.yaml"], "train"), (["inference.yaml"], "infer")):
        paths = [str(CONFIGS / file) for file in files] + ([str(tiny)] if kind == "train" else [])
        workflow = ConfigWorkflow(
            config_file=paths,
            workflow_type=kind,
            logging_file=False,
            meta_file=str(CONFIGS / "metadata.json"),
            bundle_root=str(BUNDLE),
            dataset_dir=str(phantom),
            output_dir=str(tmp_path),
            models_dir=str(tmp_path / "none"),
        )
        if kind == "infer":
            workflow.parser["use_paper_network"] = True
            workflow.parser["paper_network#arguments#num_res_units"] = 1
        workflow.initialize()
        assert workflow.check_properties() == []


# ---- 3-D


@pytest.fixture(scope="module")
def trained_3d(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("volume")
    from common.phantoms import generate_phantom

    generate_phantom("brain", folder / "data", patients=4, slices=64, size=64, slice_mm=1.0)
    (folder / "tiny.yaml").write_text(
        TINY + "spacing_mm: [4.0, 4.0, 1.0]\nsamples_per_epoch: 4\nimage_size: 64\nnetwork_def#spatial_dims: 3\n"
    )
    places = ["--dataset_dir", folder / "data", "--output_dir", folder / "training", "--models_dir", folder / "models"]
    done(bundle("training", ["train", "volume", folder / "tiny.yaml"], *places, cwd=folder))
    return folder


def test_3d_trains_on_crops_and_translates_whole_volumes(trained_3d, tmp_path):
    definition = json.loads((trained_3d / "models" / "network.json").read_text())
    assert definition["window"] == [64, 64, 64]
    assert definition["arguments"]["spatial_dims"] == 3
    case = load_datalist(trained_3d / "data", "test")[0]
    done(infer(trained_3d, case["T1"], tmp_path / "out"))
    output, source = nib.load(outputs(tmp_path / "out")[0]), nib.load(case["T1"])
    assert output.shape == source.shape
    np.testing.assert_allclose(output.affine, source.affine, atol=1e-4)


def test_window_seams_do_not_show():
    """Steps across window borders are no larger than elsewhere: blended windows of a network that sees its border."""
    from common.inference import volume_inferer
    from common.networks import CompactGenerator

    torch.manual_seed(0)
    network = CompactGenerator(3, channels=(8, 8), num_res_units=1).eval()
    ramp = torch.linspace(-0.8, 0.8, 64).view(1, 1, 64, 1, 1).expand(1, 1, 64, 32, 32)
    with torch.no_grad():
        blended = volume_inferer({"window": [32, 32, 32]})(ramp, network)
        hard = torch.cat([network(part) for part in ramp.split(32, dim=2)], dim=2)
    interior = slice(8, 24)

    def seam(volume: torch.Tensor) -> float:
        steps = volume.diff(dim=2).abs()[..., interior, interior].mean(dim=(0, 1, 3, 4))
        return float(steps[31] / steps[10:54].median())

    assert seam(hard) > 3  # what tiling without overlap looks like
    assert seam(blended) < 1.5


# ---- bad input


def nifti(folder: Path, array: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image(array, np.eye(4)), folder / "scan.nii.gz")
    return folder / "scan.nii.gz"


def assert_refused(process, out: Path, *words: str) -> None:
    assert process.returncode != 0
    message = next(line for line in process.stderr.splitlines() if line.startswith("error: "))
    for word in words:
        assert word in message, message
    assert not out.exists() or not [p for p in out.rglob("*") if p.is_file()]


def test_a_volume_with_nan_is_refused_and_nothing_is_written(trained, tmp_path):
    array = np.random.default_rng(0).normal(size=(32, 32, 4)).astype(np.float32)
    array[3, 3, 3] = np.nan
    process = infer(trained, nifti(tmp_path, array), tmp_path / "out")
    assert_refused(process, tmp_path / "out", "scan.nii.gz", "1 NaN", "replace")


def test_missing_data_and_mistyped_options_are_refused(trained, tmp_path):
    assert_refused(infer(trained, tmp_path / "nowhere", tmp_path / "out"), tmp_path / "out", "nowhere", "--dataset_dir")
    process = infer(trained, tmp_path, tmp_path / "out", "--batch_sise", 3)
    assert_refused(process, tmp_path / "out", "'batch_sise'", "Did you mean 'batch_size'")


def test_without_weights_the_error_names_the_cure(phantom, tmp_path):
    (tmp_path / "models").mkdir()
    process = infer(tmp_path, phantom, tmp_path / "out")
    assert_refused(process, tmp_path / "out", "no network at", "network.json", "--bundle_root", "--models_dir")
    small = ["--use_paper_network", "True", "--paper_network#arguments#num_res_units", 1]
    process = infer(tmp_path, phantom, tmp_path / "out", *small)
    assert_refused(process, tmp_path / "out", "model.pt", "training")


def test_weights_of_another_network_are_refused(trained, phantom, tmp_path):
    models = tmp_path / "models"
    models.mkdir()
    (models / "model.pt").write_bytes((trained / "models" / "model.pt").read_bytes())
    definition = json.loads((trained / "models" / "network.json").read_text())
    definition["arguments"]["channels"] = [16, 16]
    (models / "network.json").write_text(json.dumps(definition))
    process = infer(tmp_path, phantom, tmp_path / "out")
    assert_refused(process, tmp_path / "out", "model.pt", "(8,", "(16,", "travel together")


def test_a_t2_given_as_t1_is_warned_of(trained, tmp_path):
    from tests.helpers.brains import brain

    process = done(infer(trained, nifti(tmp_path, brain(inverted=True)), tmp_path / "out"))
    assert "looks T2-weighted" in process.stderr


# ---- real data


@needs_shared("data", "brain_mri")
def test_real_t1_volumes_are_translated_and_scored_against_their_t2(trained, tmp_path):
    folder = shared("data", "brain_mri")
    names = {
        "stroke": ("cstar_stroke_T1", "cstar_stroke_T2"),
        "glioma": ("TCGA-FG-6692_t1_brain", "TCGA-FG-6692_t2_brain"),
    }
    test = [{"patient": patient, "T1": f"{t1}.nii.gz", "T2": f"{t2}.nii.gz"} for patient, (t1, t2) in names.items()]
    for name in (file for files in names.values() for file in files):
        nib.save(nib.load(folder / f"{name}.nii.gz").slicer[:, :, 60:80], tmp_path / f"{name}.nii.gz")
    (tmp_path / "datalist.json").write_text(json.dumps({"test": test}))
    arguments = ["--dataset_dir", tmp_path, "--output_dir", tmp_path / "out", "--models_dir", trained / "models"]
    process = done(bundle("evaluating", ["inference", "evaluate"], *arguments, cwd=tmp_path))
    assert "looks T2-weighted" not in process.stderr
    for case in json.loads((tmp_path / "out" / "cases.json").read_text())["cases"]:
        output, source = (nib.load(tmp_path / "out" / case[name]) for name in ("prediction", "source"))
        assert output.shape == source.shape
        assert output.shape[2] == 20
        np.testing.assert_allclose(output.affine, source.affine, atol=1e-3)


@needs_shared("data", "dicom", "ibsi_STS_019_MR_T1.zip")
def test_a_dicom_mr_series_loads_and_is_translated(trained, tmp_path):
    pytest.importorskip("pydicom")
    with zipfile.ZipFile(shared("data", "dicom", "ibsi_STS_019_MR_T1.zip")) as archive:
        archive.extractall(tmp_path / "unpacked")
    series = next(p for p in (tmp_path / "unpacked").rglob("*.dcm")).parent
    done(infer(trained, series, tmp_path / "out"))
    (path,) = outputs(tmp_path / "out")
    assert nib.load(path).shape[-1] == len(list(series.glob("*.dcm")))


def test_the_papers_protocol_runs_on_a_folder_in_brats_layout(tmp_path):
    """Split, slice, resampling, selection by paired SSIM, and the scores of the test subjects."""
    brats = write_brats(tmp_path / "brats")
    tiny = tmp_path / "tiny.yaml"
    tiny.write_text(TINY)
    places = [
        "--dataset_dir",
        tmp_path / "slices",
        "--output_dir",
        tmp_path / "out",
        "--models_dir",
        tmp_path / "models",
    ]
    setting = ["--brats_dir", brats, "--subjects", "[2, 2, 1, 2]", "--axial_slice", "3"]
    done(bundle("training", ["train", "brats", tiny], *places, *setting, cwd=tmp_path))
    with (tmp_path / "out" / "validation.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["paired_score"]) == pytest.approx(1 - float(row["ssim_matched"]))
    definition = json.loads((tmp_path / "models" / "network.json").read_text())
    assert definition["training_data"]["parameters"] == {"subjects": [2, 2, 1, 2], "axial_slice": 3, "side": 64}
    places[3] = tmp_path / "scores"
    done(bundle("evaluating", ["inference", "evaluate"], *places, cwd=tmp_path))
    with (tmp_path / "scores" / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["method"] == "network"]
    assert [row["patient"] for row in rows] == ["BraTS-GLI-00005-000", "BraTS-GLI-00006-000"]
    assert all(float(row["ssim_matched"]) <= 1 for row in rows)
