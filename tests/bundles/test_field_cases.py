"""What people really feed the bundles: each input of the field log gives the right output, or a message with the cure.

The inputs lie beside the project (`cases`). Those whose right answer is a value of one step are tested where that step
is: decoder output, padding, small slices, clipped heads.
"""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigParser
from pydicom import dcmread

from common.errors import causes
from tests.helpers.inference import CT_BUNDLES
from tests.helpers.shared import needs_shared, require_shared, shared
from tests.helpers.translations import BUNDLES, sidecars, translate

pytestmark = [needs_shared("cases"), pytest.mark.filterwarnings("ignore:executing the bundle config:UserWarning")]


def case(folder: Path, *parts: str) -> Path:
    """A copy that can be changed."""
    source = require_shared("cases", *parts)
    place = folder / "case"
    place.mkdir(exist_ok=True)
    target = place / source.name
    shutil.copytree(source, target, symlinks=True) if source.is_dir() else shutil.copy(source, target)
    if target.is_dir():
        (target / "README").unlink(missing_ok=True)
    for path in (target, *target.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return target


def text(error: BaseException) -> str:
    return " ".join(map(str, causes(error)))


def refused(bundle: str, source: Path, out: Path, **more: object) -> str:
    with pytest.raises(RuntimeError) as error:
        translate(bundle, source, out, **more)
    return text(error.value)


@pytest.mark.parametrize(
    "name",
    [
        *("instance-numbers-not-spatial", "iop-jitter", "no-preamble-dicom-out", "imagetype-of-one-slice"),
        *("unknown-charset-term", "scout-without-imagetype"),
    ],
)
def test_a_series_is_one_volume_that_is_written_as_nifti_and_as_dicom(tmp_path, caplog, name):
    source = case(tmp_path, name)
    with caplog.at_level(logging.WARNING):
        translate("ggcl", source, tmp_path / "out", output_format="both")
    assert not [record for record in caplog.records if record.name.startswith("pydicom")]
    (folder,) = (path for path in (tmp_path / "out").iterdir() if path.is_dir())
    (nifti,) = (tmp_path / "out").glob("*.nii.gz")
    image = nib.load(nifti)
    assert image.shape == (96, 96, 8)
    np.testing.assert_allclose(image.header.get_zooms(), (0.7, 0.7, 1.5), atol=1e-3)
    derived = {float(one.ImagePositionPatient[2]): one for one in map(dcmread, folder.iterdir())}
    values = np.asarray(nib.as_closest_canonical(image).dataobj)[::-1, ::-1]  # columns to the left, rows to the back
    for level, place in enumerate(sorted(derived)):
        pixels = derived[place].pixel_array * float(derived[place].RescaleSlope) + float(
            derived[place].RescaleIntercept
        )
        np.testing.assert_array_equal(pixels.T, values[:, :, level])
    if name == "scout-without-imagetype":
        assert "ZIM0000.dcm: a localizer by its geometry, which lies across the 8 slices of its study" in caplog.text


@pytest.mark.parametrize("fault", ["overwritten", "dead link", "empty"])
def test_a_series_whose_last_slice_cannot_be_read_is_refused_by_its_name(tmp_path, fault):
    last = case(tmp_path, "dicom-slice-unreadable") / "IM0011.dcm"
    content = last.read_bytes()
    last.unlink()
    if fault == "dead link":
        last.symlink_to("/nowhere/IM0011.dcm")
    else:
        last.write_bytes(b"" if fault == "empty" else bytes(400) + content[400:])
    assert "IM0011.dcm" in refused("ggcl", last.parent, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_dead_links_are_named_and_the_others_translated(tmp_path):
    source = case(tmp_path, "broken-symlinks")
    for name in ("good.nii.gz", "sub-02_T1w.nii.gz"):  # copied as texts: the links of the log
        target = (source / name).read_text()
        (source / name).unlink()
        (source / name).symlink_to(target)
    for images in (source, Path(f"{source}/**/*.nii.gz")):
        told = refused("nec_t1t2", images, tmp_path / "out", guards="warn")
        assert "2 of 3 images failed and have no output; 1 were translated" in told
        assert "sub-02_T1w.nii.gz' is a link to" in told
        assert [path.name for path in (tmp_path / "out").rglob("*.nii.gz")] == ["sub-03_T1w_synthetic_T2.nii.gz"]
        shutil.rmtree(tmp_path / "out")


def test_the_sform_gives_the_grid_and_the_contradiction_is_in_the_sidecar(tmp_path):
    source = case(tmp_path, "pixdim-not-sform", "px_1_1.nii")
    translate("ggcl", source, tmp_path / "out")
    image, own = nib.load(next((tmp_path / "out").glob("*.nii.gz"))), nib.load(source)
    np.testing.assert_allclose(image.affine, own.get_sform(), atol=1e-5)
    np.testing.assert_allclose(image.header.get_zooms(), (0.7, 0.7, 1.5), atol=1e-5)
    for code in ("sform_code", "qform_code"):
        assert int(image.header[code]) == int(own.header[code])
    ((_, facts),) = sidecars(tmp_path / "out").items()
    (found,) = (check for check in facts["guards"]["checks"] if check["check"] == "header")
    assert found["evidence"].startswith(
        "its voxel sizes are 1 x 1 x 1 mm by pixdim, but 0.7 x 0.7 x 1.5 mm by its sform"
    )
    assert facts["verdict"] == "warned"


@pytest.mark.parametrize(
    ("name", "words"), [("flair-dicom", "header: FLAIR."), ("gd-dicom", "after contrast agent, by its header")]
)
def test_what_its_header_calls_another_sequence_is_no_t1(tmp_path, name, words):
    source = case(tmp_path, name)
    told = refused("nec_t1t2", source, tmp_path / "out")
    assert words in told
    assert "--guards warn" in told
    assert "It is MR by its DICOM header: give a CT series." in refused("ggcl", source, tmp_path / "out")
    translate("nec_t1t2", source, tmp_path / "out", guards="warn")
    ((_, facts),) = sidecars(tmp_path / "out").items()
    assert facts["verdict"] == "warned"


@pytest.mark.parametrize(
    ("name", "words"),
    [("clip.nii.gz", "clipped to a window"), ("n01.nii.gz", "scaled to a range such as [0, 1]")],
)
@pytest.mark.parametrize("bundle", CT_BUNDLES)
def test_a_windowed_ct_is_not_told_to_apply_its_rescale_slope(tmp_path, bundle, name, words):
    told = refused(bundle, case(tmp_path, "windowed-ct", name), tmp_path / "out")
    assert words in told
    assert "give the original series" in told
    assert "rescale slope" not in told


def test_nrrd_and_mha_of_one_volume_give_one_output(tmp_path):
    pytest.importorskip("SimpleITK", reason="SimpleITK (the extra `slicer`) is not installed")
    outputs = []
    for name in ("m.nrrd", "m.mha"):
        translate("nec_t1t2", shared("cases", "nrrd-mha", name), tmp_path / name, guards="warn")
        outputs.append(nib.load(next((tmp_path / name).glob("*.nii.gz"))))
    np.testing.assert_allclose(outputs[0].affine, outputs[1].affine, atol=1e-4)
    np.testing.assert_array_equal(np.asarray(outputs[0].dataobj), np.asarray(outputs[1].dataobj))


def test_an_entry_of_one_image_is_converted_and_refused_by_name_where_it_is_to_be_evaluated(tmp_path):
    data = case(tmp_path, "evaluate-image-domain-entry", "data")
    translate("ggcl", data, tmp_path / "out", guards="warn")
    assert [path.name for path in (tmp_path / "out").glob("*.nii.gz")] == ["t_synthetic_B70f.nii.gz"]
    parser = ConfigParser()
    configs = [str(BUNDLES / "ggcl" / "configs" / name) for name in ("inference.yaml", "evaluate.yaml")]
    parser.read_config(configs)
    parser.update({"bundle_root": str(BUNDLES / "ggcl"), "dataset_dir": str(data), "output_dir": str(tmp_path / "ev")})
    with pytest.raises(Exception, match=r".") as error:
        parser.get_parsed_content("run")
    assert "None of the 1 entries names a volume under 'B30f' or 'B50f' or 'B70f'" in text(error.value)
    assert not (tmp_path / "ev").exists()


def test_a_datalist_with_a_byte_order_mark_is_used(tmp_path):
    data = case(tmp_path, "evaluate-image-domain-entry", "data")
    content = json.loads((data / "datalist.json").read_text())
    (data / "datalist.json").write_text(json.dumps(content), encoding="utf-8-sig")
    translate("ggcl", data, tmp_path / "out", guards="warn")
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 1
