"""Every bundle with its demonstration weights: a batch with a bad case, the guards, the sidecars, DICOM in and out."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import yaml
from pydicom import dcmread

from common.inference import FailedCasesError
from common.networks import read_definition
from tests.helpers.bundles import run
from tests.helpers.dicom_files import change_all, counted_parsing
from tests.helpers.dicom_series import write_source_series
from tests.helpers.translations import (
    BUNDLES,
    CT_AFFINE,
    OPTIONS,
    save,
    sidecars,
    source,
    translate,
    trunk,
)

TARGETS = {"ggcl": "B70f", "kcgan_kernel_conversion": "B70f", "nec_t1t2": "T2", "nect2cect": "CECT"}


@pytest.mark.parametrize("bundle", OPTIONS)
def test_a_batch_goes_on_after_a_bad_case_and_each_good_one_has_its_sidecar(bundle, tmp_path):
    for name, seed in (("a", 0), ("c", 1)):
        save(tmp_path / "in" / f"{name}.nii.gz", *source(bundle, seed))
    volume, affine = source(bundle)
    save(tmp_path / "in" / "b.nii.gz", np.full_like(volume, -1000), affine)
    (tmp_path / "in" / "d.nii.gz").write_bytes((tmp_path / "in" / "a.nii.gz").read_bytes()[:500])
    with pytest.raises(RuntimeError) as error:
        translate(bundle, tmp_path / "in", tmp_path / "out")
    assert isinstance(error.value.__cause__, FailedCasesError)
    lines = str(error.value.__cause__).splitlines()
    assert lines[0] == "2 of 4 images failed and have no output; 2 were translated. Failed:"
    assert "b.nii.gz' is constant (-1000): there is nothing to translate" in lines[1]
    assert "d.nii.gz'" in lines[2]
    suffix = f"synthetic_{TARGETS.get(bundle, 'micro')}"
    volumes = ".nii" if bundle == "sr_cyclegan" else ".nii.gz"
    expected = {f"{case}_{suffix}{end}" for case in "ac" for end in (volumes, ".json")}
    assert {path.name for path in (tmp_path / "out").iterdir()} == expected
    for facts in sidecars(tmp_path / "out").values():
        assert facts["bundle"] == bundle
        assert {check["check"] for check in facts["output_checks"]} >= {"finite", "range", "structure", "slices"}
        assert {check["check"] for check in facts["guards"]["checks"]} >= {"modality", "series"}
        assert ("clipped_voxels" in facts) == ("percentiles" in read_definition(BUNDLES / bundle / "models")["codec"])


@pytest.mark.parametrize("bundle", OPTIONS)
def test_guards_refuse_another_modality_unless_told_otherwise(bundle, tmp_path):
    volume, affine = source(bundle)
    modality = "CT" if bundle == "nec_t1t2" else "MR"
    series = write_source_series(tmp_path / "in", volume if modality == "MR" else trunk(), affine, modality)
    evidence = f"is {modality} by its DICOM header, but this bundle translates"
    with pytest.raises((RuntimeError, ValueError)) as error:
        translate(bundle, series, tmp_path / "out")
    assert evidence in messages(error.value)
    assert "--guards warn" in messages(error.value)
    assert not (tmp_path / "out").exists()
    translate(bundle, series, tmp_path / "out", guards="warn")
    ((_, facts),) = sidecars(tmp_path / "out").items()
    (found,) = (check for check in facts["guards"]["checks"] if check["check"] == "modality")
    assert found["verdict"] == "overridden"
    assert evidence in found["evidence"]
    assert facts["verdict"] == "warned"
    translate(bundle, series, tmp_path / "off", guards="off")
    ((_, facts),) = sidecars(tmp_path / "off").items()
    assert {check["check"] for check in facts["guards"]["checks"]} <= {"kernel"}


@pytest.mark.parametrize("bundle", OPTIONS)
def test_a_dicom_series_comes_back_as_one_and_as_nifti_with_the_same_values(bundle, tmp_path):
    modality = "MR" if bundle == "nec_t1t2" else "CT"
    volume, affine = source(bundle)
    series = write_source_series(tmp_path / "scan", volume, affine, modality, ContrastBolusAgent="")
    with counted_parsing() as parsed:
        translate(bundle, series, tmp_path / "out", output_format="both")
    assert parsed == dict.fromkeys(map(str, series.iterdir()), 2)  # once for its header, once for its pixels
    (folder,) = (path for path in (tmp_path / "out").iterdir() if path.is_dir())
    (nifti,) = (tmp_path / "out").glob("*.nii*")
    slices = [dcmread(path) for path in sorted(folder.iterdir())]
    assert all("research use only" in image.SeriesDescription for image in slices)
    assert {image.Modality for image in slices} == {modality}
    values = np.asarray(nib.as_closest_canonical(nib.load(nifti)).dataobj, dtype=float)
    # Rows run to the patient's back, columns to the left; RAS has both the other way round.
    pixels = {float(i.ImagePositionPatient[2]): i.pixel_array * float(i.RescaleSlope) + float(i.RescaleIntercept)
              for i in slices}  # fmt: skip
    written = np.stack([pixels[place].T for place in sorted(pixels)], axis=-1)[::-1, ::-1]
    step = 0.5 if modality == "CT" else np.ptp(values) / 65535
    np.testing.assert_allclose(written, values, atol=step)


def test_numbers_that_are_not_spatial_and_absent_preambles_are_fine_for_dicom_as_for_nifti(tmp_path):
    volume, affine = source("ggcl")
    series = write_source_series(tmp_path / "scan", volume, affine, "CT", ContrastBolusAgent="")
    translate("ggcl", series, tmp_path / "expected")
    change_all(series, lambda index, _: {"InstanceNumber": [7, 2, 9, 4][index]})
    for path in series.iterdir():
        path.write_bytes(path.read_bytes()[132:])
    with counted_parsing() as parsed:
        translate("ggcl", series, tmp_path / "out", output_format="both")
    assert parsed == dict.fromkeys(map(str, series.iterdir()), 2)
    expected, nifti = (nib.load(*(tmp_path / name).glob("*.nii.gz")) for name in ("expected", "out"))
    np.testing.assert_array_equal(nifti.dataobj, expected.dataobj)
    (folder,) = (path for path in (tmp_path / "out").iterdir() if path.is_dir())
    images = [dcmread(path) for path in sorted(folder.iterdir())]
    assert [int(image.InstanceNumber) for image in images] == [7, 2, 9, 4]
    assert [float(image.ImagePositionPatient[2]) for image in images] == [0, 3, 6, 9]
    values = np.asarray(expected.dataobj)  # its axes are those of the source: columns, rows, slices
    for index, image in enumerate(images):
        np.testing.assert_array_equal(image.pixel_array, values[:, :, index].T)


def test_on_the_command_line_the_last_lines_name_all_failures(tmp_path):
    for name in ("a", "c"):
        save(tmp_path / "in" / f"{name}.nii.gz", *source("nect2cect"))
    save(tmp_path / "in" / "b.nii.gz", trunk()[..., :2], CT_AFFINE)
    places = ["--dataset_dir", tmp_path / "in", "--output_dir", tmp_path / "out"]
    process = run(BUNDLES / "nect2cect", "inference", ["inference"], *places, "--guards", "refuse", cwd=tmp_path)
    assert process.returncode != 0
    assert "error: 1 of 3 images failed and have no output; 2 were translated. Failed:" in process.stderr
    assert "b.nii.gz' has 2 axial slice(s)" in process.stderr
    assert "Traceback" not in process.stderr
    assert len(sidecars(tmp_path / "out")) == 2


def test_dicom_from_nifti_is_refused_on_the_command_line_and_off_is_a_mode(tmp_path):
    save(tmp_path / "a.nii.gz", *source("nec_t1t2"))
    places = ["--dataset_dir", tmp_path / "a.nii.gz", "--output_dir", tmp_path / "out", "--guards", "off"]
    options = ["--output_format", "dicom"]
    process = run(BUNDLES / "nec_t1t2", "inference", ["inference"], *places, *options, cwd=tmp_path)
    assert process.returncode != 0
    assert "a.nii.gz' is none: give its DICOM series, or `--output_format nifti`." in process.stderr
    assert not (tmp_path / "out").exists()


def test_all_bundles_end_their_inference_alike():
    configs = [yaml.safe_load((BUNDLES / name / "configs" / "inference.yaml").read_text()) for name in OPTIONS]
    for key in ("guards", "output_format", "record", "run"):
        assert all(config[key] == configs[0][key] for config in configs), key
    for config in configs:
        assert {"modality", "series"} <= set(config["guard"]["checks"])
        assert config["guard"]["mode"] == "@guards"


def messages(error: BaseException | None) -> str:
    """Of an error and of those that led to it."""
    found = []
    while error is not None:
        found.append(str(error))
        error = error.__cause__
    return "\n".join(found)
