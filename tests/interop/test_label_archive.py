"""MONAI Label with a real Orthanc as its DICOMweb store: inference on stored series, and the result in their study."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread

import common
from tests.helpers.pacs import send
from tests.helpers.shared import require_shared

from .conftest import ROOT
from .label_server import serving
from .orthanc import Orthanc

pytestmark = pytest.mark.interop


def series(name: str, folder: Path) -> list[Path]:
    with zipfile.ZipFile(require_shared("data", "dicom", f"{name}.zip")) as archive:
        archive.extractall(folder)
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_stored_series_are_translated_and_the_result_is_pushed_back_once(environment, tmp_path, monkeypatch):
    ct, mr = series("ibsi_STS_019_CT", tmp_path / "ct"), series("ibsi_STS_019_MR_T1", tmp_path / "mr")
    ct_uid, mr_uid = (str(dcmread(files[0]).SeriesInstanceUID) for files in (ct, mr))
    monkeypatch.setenv("MONAI_LABEL_DICOMWEB_CACHE_PATH", str(tmp_path / "cache"))
    python, app = environment("label"), tmp_path / "app"
    command = [python, "-m", "common.deploy.monailabel", app, ROOT / "bundles" / "ggcl", ROOT / "bundles" / "nec_t1t2"]
    subprocess.run([str(part) for part in command], check=True, cwd=tmp_path)
    orthanc = Orthanc(tmp_path / "orthanc")
    try:
        orthanc.start()
        assert send([*ct, *mr], orthanc.dicom, called="ORTHANC") == [0] * (len(ct) + len(mr))
        (tmp_path / "server").mkdir()
        with serving(python, app, orthanc.dicomweb, tmp_path / "server", push="true") as client:
            assert client.call("/datastore/", query={"output": "stats"}).json["total"] == 2
            given = {"target": "B70f", "source": "B30f", "push": True}
            answer = client.infer("ggcl", image=ct_uid, params=given)
            assert answer.status == 200, answer.body
            check_volume(answer.body, tmp_path, tmp_path / "ct", bundle="ggcl", target="B70f", source="B30f")
            assert client.infer("ggcl", image=ct_uid, params=given).status == 200  # a second time
            derived = set(orthanc.series()) - {ct_uid, mr_uid}
            assert len(derived) == 1
            assert len(orthanc.get("instances")) == 2 * len(ct) + len(mr)
            check_series(orthanc, *derived, ct, tmp_path / "derived")

            answer = client.infer("nec_t1t2", image=mr_uid)
            assert answer.status == 200, answer.body
            check_volume(answer.body, tmp_path, tmp_path / "mr", bundle="nec_t1t2")
            assert len(orthanc.series()) == 3  # as nobody asked to push it
            assert client.infer("nec_t1t2", image=ct_uid).status == 400  # CT, by its headers
            assert client.infer("ggcl", image="1.2.3").status == 404
            assert client.call("/train/ggcl", method="POST", body={}).status == 400
            orthanc.kill()
            assert client.infer("ggcl", image=ct_uid, params=given).status == 502
    finally:
        orthanc.kill()
    assert "dcmqi" not in (tmp_path / "server" / "server.log").read_text()


def check_volume(body: bytes, tmp_path: Path, scan: Path, **given: str) -> None:
    """The answer is the command line's volume."""
    path = tmp_path / f"{scan.name}.nii.gz"
    path.write_bytes(body)
    found, expected = nib.load(path), common.translate(scan, **given)
    np.testing.assert_array_equal(np.asarray(found.dataobj), expected.image.numpy())
    np.testing.assert_allclose(found.affine, expected.image.affine.numpy(), atol=1e-4)


def check_series(orthanc: Orthanc, uid: str, source: list[Path], folder: Path) -> None:
    images = [dcmread(path) for path in source]
    made = [dcmread(path) for path in orthanc.images(orthanc.series()[uid], folder)]
    assert len(made) == len(images)
    for name in ("StudyInstanceUID", "FrameOfReferenceUID"):
        assert {image[name].value for image in made} == {image[name].value for image in images}
    assert all("DOUBTED: " in image.ImageComments and "pixels of 0.977 mm" in image.ImageComments for image in made)
    assert all("/" not in image.ImageComments.replace("lp/mm", "") for image in made)  # no path of the server
