"""What is written beside a volume, in which formats; whole or not at all."""

from __future__ import annotations

import hashlib
import json
import socket
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage
from pydicom import dcmread

from common.dicom import image_readers
from common.files import Staging
from common.inference import CheckSourceSeriesd, OutputCheck, RunRecord, SaveOutputd, check_output_format
from common.inference.outputs import clipped_voxels
from tests.helpers.dicom_series import write_source_series

BUNDLES = Path(__file__).parents[2] / "bundles"
AFFINE = np.diag([-2.0, -2.0, 3.0, 1.0])


def volume() -> np.ndarray:
    rng = np.random.default_rng(0)
    values = np.full((10, 9, 4), -1000)
    values[2:8, 2:7] = rng.integers(-90, 150, (6, 5, 4))
    return values


def saver(out: Path, root: Path, **options: object) -> SaveOutputd:
    record = RunRecord(
        BUNDLES / "nect2cect",
        BUNDLES / "nect2cect" / "models",
        network=torch.nn.Identity(),
        target="CECT",
        guards="refuse",
    )
    check = OutputCheck("CT", (-100, 200))
    return SaveOutputd("pred", record, check, output_dir=out, data_root_dir=root, dtype="int16", **options)


def loaded(path: Path) -> dict[str, MetaTensor]:
    image = LoadImage(reader=image_readers(), ensure_channel_first=True)(path)
    return {"original": image, "pred": image.clone()}


@pytest.fixture
def scan(tmp_path) -> Path:
    (tmp_path / "in" / "p1").mkdir(parents=True)
    nib.save(nib.Nifti1Image(volume().astype(np.int16), AFFINE), tmp_path / "in" / "p1" / "scan.nii.gz")
    return tmp_path / "in" / "p1" / "scan.nii.gz"


@pytest.fixture
def series(tmp_path) -> Path:
    return write_source_series(tmp_path / "in" / "series", volume(), AFFINE)


def test_the_sidecar_says_what_made_the_output_from_what(scan, tmp_path):
    saver(tmp_path / "out", tmp_path / "in")(loaded(scan))
    found = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    assert found == ["p1/scan_synthetic_CECT.json", "p1/scan_synthetic_CECT.nii.gz"]
    facts = json.loads((tmp_path / "out" / found[0]).read_text())
    output = (tmp_path / "out" / found[1]).read_bytes()
    weights = (BUNDLES / "nect2cect" / "models" / "model.pt").read_bytes()
    metadata = json.loads((BUNDLES / "nect2cect" / "configs" / "metadata.json").read_text())
    assert facts["notice"].startswith("RESEARCH USE ONLY")
    assert (facts["bundle"], facts["version"], facts["target"]) == ("nect2cect", metadata["version"], "CECT")
    assert facts["network"] == "Identity"
    assert facts["weights_sha256"] == hashlib.sha256(weights).hexdigest()
    assert facts["source"] == ["in/p1/scan.nii.gz"]
    assert facts["output"] == [{"file": "scan_synthetic_CECT.nii.gz", "sha256": hashlib.sha256(output).hexdigest()}]
    assert {"command", "finished", "torch", "monai", "numpy"} <= set(facts["run"])
    assert facts["run"]["finished"].endswith("+00:00")
    assert facts["guards"] == {"mode": "refuse", "checks": []}
    assert [check["check"] for check in facts["output_checks"]] == ["finite", "range", "structure", "body", "slices"]
    assert facts["verdict"] == "passed"


def test_a_doubtful_output_is_written_with_its_verdict(scan, tmp_path):
    item = loaded(scan)
    item["pred"][:] = item["pred"].flip(1) + 3000
    saver(tmp_path / "out", tmp_path / "in")(item)
    (path,) = (tmp_path / "out").rglob("*.json")
    facts = json.loads(path.read_text())
    assert facts["verdict"] == "warned"
    assert {"check": "range", "verdict": "warned"}.items() <= facts["output_checks"][1].items()


def test_an_output_that_must_not_be_written_leaves_nothing_and_an_older_one_as_it_was(scan, tmp_path):
    save = saver(tmp_path / "out", tmp_path / "in")
    save(loaded(scan))
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")}
    item = loaded(scan)
    item["pred"][0, 3, 3, 0] = torch.nan
    with pytest.raises(ValueError, match="1 NaN or infinite values; it was not written"):
        save(item)
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")} == before


def as_if_acquired(series: Path, folder: Path) -> Path:
    """A copy that does not say that it is synthetic: the reader refuses to translate what these bundles made."""
    folder.mkdir()
    for path in series.iterdir():
        image = dcmread(path)
        assert image.SyntheticData == "YES"
        del image.SyntheticData
        image.save_as(folder / path.name)
    return folder


@pytest.mark.parametrize("output_format", ["dicom", "both"])
def test_a_series_is_derived_from_the_sources_with_the_voxels_of_the_nifti_file(series, tmp_path, output_format):
    item = loaded(series)
    item["pred"] = item["pred"] + 7
    for _ in range(2):  # a second run replaces the first one's outputs
        saver(tmp_path / "out", tmp_path / "in", output_format=output_format)(item)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    nifti = {"series_synthetic_CECT.nii.gz"} if output_format == "both" else set()
    assert names == {"series_synthetic_CECT", "series_synthetic_CECT.json"} | nifti
    written = loaded(as_if_acquired(tmp_path / "out" / "series_synthetic_CECT", tmp_path / "read"))["original"]
    np.testing.assert_array_equal(written.numpy(), item["pred"].numpy())
    np.testing.assert_allclose(written.affine, item["original"].affine, atol=1e-4)
    first = dcmread(tmp_path / "out" / "series_synthetic_CECT" / "00001.dcm")
    assert first.SeriesDescription == "SYNTHETIC contrast, nect2cect 0.1.0, research use only"
    facts = json.loads((tmp_path / "out" / "series_synthetic_CECT.json").read_text())
    files = sorted((tmp_path / "out" / "series_synthetic_CECT").iterdir())
    sums = "".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files)
    digest = hashlib.sha256(sums.encode()).hexdigest()
    assert {"folder": "series_synthetic_CECT", "files": 4, "sha256": digest} in facts["output"]
    assert len(facts["output"]) == len(names) - 1


def test_dicom_from_nifti_is_refused_before_work_starts(scan, series, tmp_path):
    cure = "is none: give its DICOM series, or `--output_format nifti`."
    with pytest.raises(ValueError, match=f"scan.nii.gz' {cure}"):
        check_output_format("both", [{"image": str(series)}, {"image": str(scan)}])
    check_output_format("both", [{"image": str(series)}, {"image": ["name", str(series / "0001")]}])
    check_output_format("nifti", [{"image": str(scan)}])
    with pytest.raises(ValueError, match=f"scan.nii.gz' {cure}"):
        CheckSourceSeriesd("original", "dicom")(loaded(scan))
    CheckSourceSeriesd("original", "nifti")(loaded(scan))
    CheckSourceSeriesd("original", "dicom")(loaded(series))
    for unknown in (lambda: check_output_format("png", []), lambda: CheckSourceSeriesd("original", "png")):
        with pytest.raises(ValueError, match="`output_format` must be one of nifti, dicom, both, got 'png'"):
            unknown()


def test_clipped_voxels_are_counted():
    values = np.concatenate([np.full(5, -9.0), np.linspace(0, 1, 90), np.full(5, 9.0)])
    found = clipped_voxels(values, [10, 90])
    low, high = np.percentile(values, [10, 90])
    assert (found["below"], found["above"]) == (np.sum(values < low), np.sum(values > high)) == (10, 10)
    assert found["of"] == 100


def test_what_an_interrupted_process_left_is_removed_by_the_next(tmp_path):
    left = tmp_path / f".outputs.{socket.gethostname()}.999999999.partial"
    left.mkdir()
    (left / "half.nii").write_bytes(b"half")
    with Staging(tmp_path) as staging:
        (staging.folder / "half.nii").write_bytes(b"half")
        assert list(tmp_path.iterdir()) == [staging.folder]
    assert list(tmp_path.iterdir()) == []


def test_a_record_without_weights_or_metadata_says_unknown(tmp_path):
    record = RunRecord(
        tmp_path, tmp_path / "models", network=torch.nn.Identity(), target={"a": 0.5, "b": 0.5}, guards=False
    )
    assert (record.version, record.weights_sha256, record.guards) == ("unknown", "unknown", "off")
    assert record.facts()["target"] == "0.5a+0.5b"
