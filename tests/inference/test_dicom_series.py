"""A bundle's inference on one DICOM series, without the SDK."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread

from common.dicom.derived.headers import Derivation
from common.dicom.derived.rules import derived_rule
from common.dicom.derived.source import read_source_series
from common.inference.dicom_series import Translation, translate_series, write_translation
from tests.helpers.dicom_files import counted_parsing
from tests.helpers.dicom_series import write_source_series
from tests.helpers.translations import BUNDLES, CT_AFFINE, trunk


def test_each_file_is_parsed_twice_from_the_source_to_the_derived_series(tmp_path):
    series = write_source_series(tmp_path / "scan", trunk(), CT_AFFINE, ContrastBolusAgent="")
    files, uid = sorted(series.iterdir()), dcmread(series / "0001").SeriesInstanceUID
    with counted_parsing() as parsed:
        options = {"source": "B30f", "device": "$torch.device('cpu')"}
        translation = translate_series(BUNDLES / "ggcl", files, tmp_path / "work", target="B70f", overrides=options)
        folder = write_translation(translation, tmp_path / "out")
    assert parsed == dict.fromkeys(map(str, files), 2)
    assert folder.name == f"{uid}_synthetic_B70f"
    images = [dcmread(path) for path in sorted(folder.iterdir())]
    assert [int(image.InstanceNumber) for image in images] == [1, 2, 3, 4]
    expected = np.asarray(nib.load(translation.path).dataobj)  # columns, rows, slices, as the source
    for index, image in enumerate(images):
        np.testing.assert_array_equal(image.pixel_array, expected[:, :, index].T)


def test_half_widths_become_a_second_series_beside_the_derived_one(tmp_path):
    pytest.importorskip("highdicom", reason="the extra `dicom` brings it")
    series = write_source_series(tmp_path / "scan", trunk(), CT_AFFINE, ContrastBolusAgent="")
    options = {"source": "B30f", "device": "$torch.device('cpu')", "uncertainty": True}
    translation = translate_series(
        BUNDLES / "ggcl", sorted(series.iterdir()), tmp_path / "work", target="B70f", overrides=options
    )
    folder = write_translation(translation, tmp_path / "out", seed=["a job"])
    beside = folder.with_name(f"{folder.name}_uncertainty")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {folder.name, beside.name, f"{folder.name}.json"}
    (path,) = beside.iterdir()
    found, images = dcmread(path), [dcmread(each) for each in sorted(folder.iterdir())]
    assert translation.uncertainty is not None
    expected = np.asarray(nib.load(translation.uncertainty).dataobj)  # columns, rows, slices, as the source
    places = [f.PlanePositionSequence[0].ImagePositionPatient for f in found.PerFrameFunctionalGroupsSequence]
    for index, image in enumerate(images):
        frame = found.pixel_array[places.index(image.ImagePositionPatient)]
        np.testing.assert_array_equal(frame, np.nan_to_num(expected[:, :, index].T, nan=-1.0))
    facts = json.loads(folder.with_name(f"{folder.name}.json").read_text())
    assert [entry["folder"] for entry in facts["output"]] == [folder.name, beside.name]
    assert facts["uncertainty"]["promise"]["sentence"] in found.DerivationDescription
    assert images[0].SeriesInstanceUID in found.DerivationDescription


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI:UserWarning")
@pytest.mark.parametrize("uid", ["../../ESCAPED/x", "../ESCAPED", "ESCAPED/x", "1" * 65])
def test_a_series_uid_with_path_parts_writes_nothing(tmp_path, uid):
    series = write_source_series(tmp_path / "scan", trunk(), CT_AFFINE, SeriesInstanceUID=uid)
    volume = nib.Nifti1Image(trunk().astype(np.int16), CT_AFFINE)
    nib.save(volume, tmp_path / "volume.nii")
    derivation, rule = Derivation("ggcl", "0.1.0", "29ce", "B70f"), derived_rule(BUNDLES / "ggcl")
    translation = Translation(tmp_path / "volume.nii", read_source_series(series), derivation, rule, {})
    before = tree(tmp_path)
    with pytest.raises(ValueError, match="SeriesInstanceUID must be numbers separated by dots"):
        translate_series(BUNDLES / "ggcl", sorted(series.iterdir()), tmp_path / "a" / "b" / "work")
    with pytest.raises(ValueError, match="SeriesInstanceUID must be numbers separated by dots"):
        write_translation(translation, tmp_path / "a" / "b" / "out")
    assert tree(tmp_path) == before


def test_a_target_with_path_parts_stays_in_the_folder(tmp_path):
    series = write_source_series(tmp_path / "scan", trunk(), CT_AFFINE)
    nib.save(nib.Nifti1Image(trunk().astype(np.int16), CT_AFFINE), tmp_path / "volume.nii")
    derivation, rule = Derivation("ggcl", "0.1.0", "29ce", "x/../../../ESCAPED"), derived_rule(BUNDLES / "ggcl")
    source = read_source_series(series)
    folder = write_translation(Translation(tmp_path / "volume.nii", source, derivation, rule, {}), tmp_path / "out")
    uid = source.headers[0].SeriesInstanceUID
    assert folder == tmp_path / "out" / f"{uid}_synthetic_x_.._.._.._ESCAPED"
    assert sorted((tmp_path / "out").iterdir()) == [folder, folder.with_name(f"{folder.name}.json")]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "scan", "volume.nii"]
