"""With a real Orthanc: a study goes in, and the derived series stands in it, once, whatever is killed."""

from __future__ import annotations

import html
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid

from common.deploy.dicom_service.journal import Journal
from tests.helpers.pacs import send, wait_for
from tests.helpers.shared import require_shared

from .orthanc import Orthanc, free_port

pytestmark = pytest.mark.interop

ROOT = Path(__file__).parents[2]
TOO_NEW = "not a recognized standard attribute - (0x0008,0x001c)"  # SyntheticData, for `dciodvfy` of 2022
PHANTOMS = {  # bundle: phantom, domain of its source, target, options
    "ggcl": ("chest", "B50f", "B70f", {}),
    "kcgan_kernel_conversion": ("chest", "B30f", "B50f", {}),
    "nect2cect": ("abdomen", "NECT", None, {}),
    "sr_cyclegan": ("lung", "clinical", None, {"region": "all"}),
    "nec_t1t2": ("brain", "T1", None, {}),
}
REAL = {  # series beside the project: bundle, target, options, what must be doubted
    "ibsi_STS_019_CT": ("ggcl", "B70f", {"source": "B30f"}, "pixels of 0.977 mm"),
    "ibsi_STS_019_MR_T1": ("nec_t1t2", None, {"guards": "warn"}, ""),
    "philips_headphantom_UB_8slices": ("kcgan_kernel_conversion", "B70f", {"source": "B30f"}, "but the DICOM"),
    "philips_headphantom_YA_8slices": ("kcgan_kernel_conversion", "B30f", {"source": "B70f"}, "but the DICOM"),
    "acrin_flt_breast_001_abdomen_SOFT_16slices": ("nect2cect", None, {"guards": "warn"}, ""),
    "cmb_crc_01068_LUNG_16slices": ("ggcl", "B30f", {"source": "B70f"}, "but the DICOM"),
    "lidc_idri_0314_12slices": ("ggcl", "B30f", {"source": "B50f"}, "but the DICOM"),
    "lungfcp_01-0001_B31f_16slices": ("kcgan_kernel_conversion", "B50f", {"source": "B30f"}, "but the DICOM"),
    "rider_pilot_0117_STANDARD_16slices": ("ggcl", "B30f", {"source": "B50f"}, "but the DICOM"),
}


class Service:
    """The service as a process, whose derived series go to an archive.

    Args:
        folder: of its rule file, its journal and its log.
        port: that it listens at.
        destination: in YAML.
        rules: in YAML.
        quiet: its `quiet_seconds`.
    """

    def __init__(self, folder: Path, port: int, destination: str, rules: list[str], quiet: int) -> None:
        self.folder, self.port, self.log = folder, port, folder / "service.log"
        folder.mkdir()
        settings = {"folder": "state", "port": port, "senders": "[ORTHANC, SCANNER]", "destination": destination}
        settings |= {"quiet_seconds": quiet, "retry_seconds": 1, "free_mb": 0}
        lines = [f"{name}: {value}" for name, value in settings.items()]
        (folder / "rules.yaml").write_text("\n".join([*lines, "rules:", *rules]))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "common.deploy.dicom_service", "run", str(self.folder / "rules.yaml")]
        with self.log.open("ab") as file:
            before = file.tell()
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            self.process = subprocess.Popen(command, cwd=ROOT, stderr=file, stdout=file, env=environment)
        wait_for(lambda: " listens at " in self.log.read_text()[before:], seconds=300, what="the service")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def said(self, text: str, times: int = 1) -> bool:
        assert self.process is None or self.process.poll() is None, self.log.read_text()
        return self.log.read_text().count(text) >= times

    def jobs(self):
        journal = Journal(self.folder / "state")
        try:
            return journal.jobs()
        finally:
            journal.close()


def rule(name: str, bundle: str, target: str | None, options: dict) -> str:
    given = {
        "name": name,
        "bundle": bundle,
        "match": {"description": f"^{name}$"},
        "options": {"device": "cpu", **options},
    }
    return f"  - {given | ({'target': target} if target else {})}"  # YAML takes Python's braces and quotes


@contextmanager
def pair(folder: Path, rules: list[str], *, stow: bool = False, quiet: int = 1) -> Iterator[tuple[Orthanc, Service]]:
    """An Orthanc, which is not started yet, and a service that know each other."""
    port = free_port()
    orthanc = Orthanc(folder / "orthanc", port)
    peer = f"{{ae_title: ORTHANC, address: 127.0.0.1, port: {orthanc.dicom}}}"
    destination = f"{{stow: '{orthanc.dicomweb}'}}" if stow else peer
    service = Service(folder / "service", port, destination, rules, quiet)
    try:
        service.start()
        yield orthanc, service
    finally:
        service.kill()
        orthanc.kill()


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """An Orthanc and a service with a rule for each bundle."""
    rules = [rule(bundle, bundle, *PHANTOMS[bundle][2:]) for bundle in PHANTOMS]
    with pair(tmp_path_factory.mktemp("pacs"), rules) as (orthanc, service):
        orthanc.start()
        yield orthanc, service


def source(files: list[Path], folder: Path, name: str) -> list[Path]:
    """A series of its own, in a study of its own, with a description that a rule finds."""
    folder.mkdir(parents=True)
    study, series = generate_uid(), generate_uid()
    for number, file in enumerate(files):
        image = dcmread(file)
        image.StudyInstanceUID, image.SeriesInstanceUID, image.SOPInstanceUID = study, series, generate_uid()
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.SeriesDescription = name
        image.save_as(folder / f"{number:04d}.dcm")
    return sorted(folder.iterdir())


def real(name: str, folder: Path) -> list[Path]:
    with zipfile.ZipFile(require_shared("data", "dicom", f"{name}.zip")) as archive:
        archive.extractall(folder / "all")
    return source([path for path in sorted((folder / "all").rglob("*")) if path.is_file()], folder / "source", name)


def errors_of(files: list[Path]) -> set[str]:
    """The `Error` lines of an independent checker, dciodvfy of dicom3tools."""
    assert shutil.which("dciodvfy"), "dciodvfy is not there: environments/pacs.sh installs dicom3tools"
    lines = set()
    for path in files:
        done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, timeout=60)
        lines |= {line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")}
    return {line for line in lines if TOO_NEW not in line}


def check(orthanc: Orthanc, files: list[Path], derived: str, folder: Path) -> list:
    """The derived series stands in the study of its source, complete, valid, and no larger; returns its images."""
    images = [dcmread(path) for path in files]
    found = orthanc.series()
    (study,) = (each for each in orthanc.get("studies?expand") if found[derived]["ID"] in each["Series"])
    assert study["MainDicomTags"]["StudyInstanceUID"] == images[0].StudyInstanceUID
    assert {found[images[0].SeriesInstanceUID]["ID"], found[derived]["ID"]} == set(study["Series"])
    paths = orthanc.images(found[derived], folder)
    made = [dcmread(path) for path in paths]
    assert len(made) == len(images)
    assert len({image.SOPInstanceUID for image in made}) == len(images)
    assert {image.FrameOfReferenceUID for image in made} == {image.FrameOfReferenceUID for image in images}
    assert errors_of(paths[:3]) <= errors_of(files[:3])
    assert all("research use only" in image.SeriesDescription for image in made)
    assert all(len(image.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == 1 for image in made)
    check_view(orthanc, found[derived], made)
    return made


def check_view(orthanc: Orthanc, series: dict[str, Any], made: list[Any]) -> None:
    """Orthanc's viewer shows all slices, in the order of space, with the stored values, and the words of the series."""
    shown = orthanc.viewed(series)
    uids = {each["ID"]: each["MainDicomTags"]["SOPInstanceUID"] for each in orthanc.get("instances?expand")}
    by_uid = {image.SOPInstanceUID: image for image in made}
    images = [by_uid[uids[instance]] for instance, _ in shown]
    assert len(images) == len({image.SOPInstanceUID for image in images}) == len(made)
    places = [np.array(image.ImagePositionPatient, float) @ normal(image) for image in images]
    assert places in (sorted(places), sorted(places, reverse=True))
    for image, (_, values) in zip(images, shown, strict=True):
        np.testing.assert_array_equal(values, image.pixel_array)
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    assert browser, "Chromium is not there: environments/browser.sh installs it"
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=8000", "--dump-dom"]
    page = subprocess.run([*command, orthanc.page(series)], capture_output=True, text=True, timeout=120)
    assert html.escape(made[0].SeriesDescription, quote=False) in page.stdout


def normal(image: Any) -> np.ndarray:
    return np.cross(*np.reshape(np.array(image.ImageOrientationPatient, float), (2, 3)))


def instance_count(orthanc: Orthanc) -> int:
    return int(orthanc.get("statistics")["CountInstances"])


@pytest.mark.parametrize("bundle", PHANTOMS)
def test_a_series_comes_back_to_its_study_in_orthanc(bundle, running, dicom_studies, tmp_path):
    orthanc, service = running
    kind, domain = PHANTOMS[bundle][:2]
    files = source(sorted((dicom_studies / kind / domain).iterdir()), tmp_path / "source", bundle)
    assert send(files, orthanc.dicom, called="ORTHANC") == [0] * len(files)

    def jobs() -> list:
        return [job for job in service.jobs() if job.rule == bundle]

    wait_for(lambda: [job.state for job in jobs()] == ["sent"], seconds=300, what="sending")
    (job,) = jobs()
    told = f"Series {job.derived} of ORTHANC is synthetic"
    wait_for(lambda: service.said(told), what="Orthanc sends the derived series, too")
    made = check(orthanc, files, job.derived, tmp_path / "derived")
    assert all(f"MONAI bundle {bundle} " in image.DerivationDescription for image in made)
    assert len(jobs()) == 1


def test_real_series_come_back_by_stow_with_what_was_doubted(tmp_path):
    files = {name: real(name, tmp_path / name) for name in REAL}
    with pair(tmp_path, [rule(name, *REAL[name][:3]) for name in REAL], stow=True) as (orthanc, service):
        orthanc.start()
        for each in files.values():
            assert send(each, orthanc.dicom, called="ORTHANC") == [0] * len(each)
        wait_for(lambda: service.said("INFO Sent ", len(REAL)), seconds=900, what="sending")
        jobs = service.jobs()
        assert {job.state for job in jobs} == {"sent"}
        for job in jobs:
            made = check(orthanc, files[job.rule], job.derived, tmp_path / "derived" / job.rule)
            assert job.verdict == "warned"
            comments = {str(image.ImageComments) for image in made}
            assert all("DOUBTED: " in each and REAL[job.rule][3] in each for each in comments), comments


def test_kills_of_service_and_archive_lose_and_double_nothing(tmp_path):
    name = "ibsi_STS_019_CT"
    files = real(name, tmp_path / name)
    with pair(tmp_path, [rule(name, *REAL[name][:3])], quiet=10) as (orthanc, service):
        assert send(files[:20], service.port) == [0] * 20
        service.kill()  # while the series is received
        service.start()
        assert send(files[20:], service.port) == [0] * (len(files) - 20)
        wait_for(lambda: service.said("Translating series"), what="translation")
        service.kill()  # while it is translated
        service.start()
        wait_for(lambda: service.said(" does not answer"), seconds=300, what="the archive is not there yet")
        service.kill()  # while it waits for the archive
        orthanc.start()
        service.start()
        wait_for(lambda: instance_count(orthanc) > 0, what="a part is sent")
        orthanc.kill()  # while it receives
        wait_for(lambda: service.said(" does not answer", 2) or service.said(" ended the association"), what="the kill")
        assert not service.said("INFO Sent ")
        orthanc.start()
        wait_for(lambda: service.said("INFO Sent "), seconds=300, what="sending")
        complete = f" is complete: {len(files)} images"
        before = service.log.read_text().count(complete)
        assert send(files, service.port) == [0] * len(files)  # the whole series again
        wait_for(lambda: service.said(complete, before + 1), what="completeness")
        (job,) = service.jobs()
        assert job.state == "sent"
        assert list(orthanc.series()) == [job.derived]
        made = [dcmread(path) for path in orthanc.images(orthanc.series()[job.derived], tmp_path / "derived")]
        referred = [image.SourceImageSequence[0].ReferencedSOPInstanceUID for image in made]
        assert sorted(referred) == sorted(dcmread(path).SOPInstanceUID for path in files)
        assert instance_count(orthanc) == len(files)
        assert service.log.read_text().count("INFO Sent ") == 1
