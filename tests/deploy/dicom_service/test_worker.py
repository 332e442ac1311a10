"""The service's steps in one process: what arrives, what becomes of it, and what is done after a crash."""

from __future__ import annotations

import dataclasses
import logging
import sqlite3
import time
from contextlib import contextmanager

import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import ParametricMapStorage

import common
from common.deploy.dicom_service.__main__ import _step
from common.deploy.dicom_service.inbox import Inbox, _name
from common.deploy.dicom_service.journal import FAILED, RECEIVED, REPLACED, SENT, TRANSLATED, TRANSLATING, Journal
from common.deploy.dicom_service.listener import Listener
from common.deploy.dicom_service.settings import Settings
from common.deploy.dicom_service.worker import Worker
from common.errors import DiskFullError
from tests.helpers.dicom_files import change
from tests.helpers.dicom_series import write_source_series
from tests.helpers.disk import mounted
from tests.helpers.pacs import archive, send
from tests.helpers.translations import CT_AFFINE, trunk


class Service:
    """Journal, inbox, listener and worker in this process; the clock stands still unless it is set."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.now = settings, time.time() + 60
        self.journal = Journal(settings.folder)
        self.inbox = Inbox(settings.folder, self.journal)
        self.listener = Listener(settings, self.inbox)
        self.worker = self.new_worker()
        self.port = self.listener.start()

    def new_worker(self) -> Worker:
        return Worker(self.settings, self.journal, self.inbox, busy=self.listener.busy, clock=lambda: self.now)

    def step(self) -> bool:
        """Do one step, after the associations of what was sent have ended."""
        while self.listener.busy():
            pass
        return self.worker.step()

    def settle(self) -> None:
        """Do all that there is to do now."""
        while self.step():
            pass

    def states(self) -> list[str]:
        return [job.state for job in self.journal.jobs()]


@contextmanager
def service(settings: Settings):
    made = Service(settings)
    try:
        yield made
    finally:
        made.listener.stop()
        made.journal.close()


def test_a_series_comes_back_to_its_study_once(settings, sharp, caplog):
    caplog.set_level(logging.INFO)
    with archive() as kept, service(settings(kept.port)) as running:
        assert send(sharp, running.port) == [0] * 4
        running.settle()
        assert send(sharp, running.port) == [0] * 4  # the scanner sends it again
        running.settle()
        assert running.states() == [SENT]
        assert send(kept.images, running.port) == [0] * 4  # and the archive what it got
        running.settle()
        assert running.states() == [SENT]
    source = [dcmread(path) for path in sharp]
    assert len(set(kept.uids)) == len(kept.uids) == len(source)
    for name in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID"):
        assert {image[name].value for image in kept.images} == {image[name].value for image in source}
    assert {image.ConvolutionKernel for image in kept.images} == {"B30f synthetic"}
    assert not {image.SeriesInstanceUID for image in kept.images} & {image.SeriesInstanceUID for image in source}
    assert "Phantom" not in caplog.text  # the patient's name
    assert f"Sent {kept.images[0].SeriesInstanceUID}, 4 images, to ARCHIVE at 127.0.0.1:{kept.port}." in caplog.text


def test_a_rule_that_wants_half_widths_sends_them_as_a_second_series_of_the_study(settings, sharp):
    pytest.importorskip("highdicom", reason="the extra `dicom` brings it")
    with archive() as kept:
        options = "{device: cpu, uncertainty: true}"
        with service(settings(kept.port, options=options)) as running:
            assert send(sharp, running.port) == [0] * 4
            running.settle()
            assert running.states() == [SENT]
    images = [image for image in kept.images if image.Modality == "CT"]
    (found,) = (image for image in kept.images if image.SOPClassUID == ParametricMapStorage)
    assert len(images) == 4
    for name in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID"):
        assert found[name].value == images[0][name].value
    assert found.SeriesInstanceUID != images[0].SeriesInstanceUID
    assert images[0].SeriesInstanceUID in found.DerivationDescription
    assert found.NumberOfFrames == 4
    assert np.median(found.pixel_array[found.pixel_array >= 0]) > 1  # HU


def test_what_no_rule_takes_is_skipped_with_the_reason_and_removed(settings, tmp_path):
    files = sorted(write_source_series(tmp_path / "soft", trunk(), CT_AFFINE).iterdir())
    with service(settings(1)) as running:
        assert send(files, running.port) == [0] * 4
        running.settle()
        (series,) = running.journal.series()
        assert (series.state, series.reason) == ("skipped", "no rule takes it: smooth: kernel is 'B30f'")
        assert not running.inbox.place(series.uid).exists()
        assert running.journal.jobs() == []


@pytest.mark.parametrize("name", ["0000.dcm", "9999.dcm"])
def test_a_localizer_in_the_series_is_left_out_wherever_it_stands(settings, sharp, name, caplog):
    caplog.set_level(logging.INFO)
    scout = sharp[0].with_name(name)
    scout.write_bytes(sharp[0].read_bytes())
    uid = scout_uid(name)
    change(scout, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], ConvolutionKernel="T20s", SOPInstanceUID=uid)
    with archive() as kept, service(settings(kept.port)) as running:
        assert send([scout, *sharp], running.port) == [0] * 5
        running.settle()
        assert running.states() == [SENT]
    assert len(kept.images) == len(sharp)
    assert {image.ConvolutionKernel for image in kept.images} == {"B30f synthetic"}
    assert "a localizer (ImageType LOCALIZER)" in caplog.text


def scout_uid(name):
    """A UID whose file comes before those of all other images, or after them, in the service's folder."""
    return next(uid for uid in map("1.2.3.{}".format, range(10_000)) if (_name(uid) < "01") == name.startswith("0"))


def test_a_series_of_localizers_is_skipped_with_the_reason(settings, sharp):
    for path in sharp:
        change(path, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    with service(settings(1)) as running:
        assert send(sharp, running.port) == [0] * 4
        running.settle()
        (series,) = running.journal.series()
        assert (series.state, series.reason) == ("skipped", "4 of its files: a localizer (ImageType LOCALIZER)")
        assert running.journal.jobs() == []


@pytest.mark.parametrize("number", range(4))
def test_an_image_that_cannot_be_read_neither_hides_the_series_nor_is_left_out(settings, sharp, number):
    """The rules look at the others, and the translation is refused, at whichever end the damaged slice lies."""
    with service(settings(1)) as running:
        assert send(sharp, running.port) == [0] * 4
        while running.listener.busy():
            pass
        (series,) = running.journal.series()
        running.inbox.files(series.uid)[number].write_bytes(b"")
        running.settle()
        (job,) = running.journal.jobs()
        assert job.state == FAILED
        assert "the series cannot be read as DICOM" in job.reason or ".dcm' cannot be read as DICOM" in job.reason


def test_it_waits_for_quiet_and_for_the_end_of_the_association(settings, sharp):
    with service(settings(1, quiet_seconds=30)) as running:
        send(sharp, running.port)
        (series,) = running.journal.series()
        while running.listener.busy():
            pass
        running.worker.busy = lambda: {series.uid}
        running.now = series.last + 31
        assert not running.worker.step()
        running.worker.busy = set
        running.now = series.last + 29
        assert not running.worker.step()
        assert running.journal.jobs() == []
        running.now = series.last + 31
        running.worker.step()
        assert [job.state for job in running.journal.jobs()] == [TRANSLATED]


def test_a_series_in_two_parts_between_which_the_service_was_down_is_one(settings, sharp):
    with service(settings(1, quiet_seconds=30)) as running:
        send(sharp[:2], running.port)
        running.now += 3600
        running.worker = running.new_worker()  # started again an hour later
        running.settle()
        assert running.journal.jobs() == []
        send(sharp[2:], running.port)
        running.now += 31
        running.settle()
        (job,) = running.journal.jobs()
        assert len(job.files.split()) == 4


def test_images_that_come_late_replace_the_job_that_waits(settings, sharp):
    with service(settings(1)) as running:
        send(sharp[:3], running.port)
        running.worker._translate = lambda job: None
        running.step()
        send(sharp[3:], running.port)
        running.step()
        first, second = sorted(running.journal.jobs(), key=lambda job: len(job.files))
        assert (first.state, first.reason) == (FAILED, REPLACED)
        assert (second.state, len(second.files.split())) == (RECEIVED, 4)


def test_a_crash_at_any_step_neither_loses_nor_doubles(settings, sharp):
    """What was done when it came is done again, and gives the same objects, byte for byte."""
    with archive() as kept, service(settings(kept.port)) as running:
        send(sharp, running.port)
        running.settle()
        expected = [(image.SOPInstanceUID, image.PixelData, image.to_json()) for image in kept.images]
        (job,) = running.journal.jobs()
        for state in (RECEIVED, TRANSLATING, TRANSLATED):
            kept.images.clear()
            running.journal.change(job, running.now, state=state, crashes=0)
            running.worker = running.new_worker()  # as after a kill
            running.settle()
            assert running.states() == [SENT]
            assert [(image.SOPInstanceUID, image.PixelData, image.to_json()) for image in kept.images] == expected


def test_a_series_that_ends_the_service_again_and_again_fails(settings, sharp):
    with service(settings(1)) as running:
        send(sharp, running.port)
        running.worker._translate = lambda job: running.journal.change(job, running.now, state=TRANSLATING)
        running.step()
        for _ in range(3):
            (job,) = running.journal.jobs()
            running.journal.change(job, running.now, state=TRANSLATING)
            running.worker = running.new_worker()
        running.settle()
        (job,) = running.journal.jobs()
        assert job.state == FAILED
        assert job.reason == "the service ended 3 times while it was translated: is there memory enough?"


def test_an_archive_that_is_down_is_tried_again_ever_later(settings, sharp):
    with service(settings(1)) as running:  # nobody listens at port 1
        send(sharp, running.port)
        running.settle()
        waits = []
        for _ in range(9):
            (job,) = running.journal.jobs()
            assert (job.state, job.reason) == (TRANSLATED, "ARCHIVE at 127.0.0.1:1 does not answer")
            waits.append(job.due - running.now)
            running.now = job.due
            assert running.step()
        assert waits == [10, 20, 40, 80, 160, 320, 640, 640, 640]


def test_an_archive_that_is_full_for_a_while_gets_all_images_once_each(settings, sharp):
    with archive() as kept, service(settings(kept.port)) as running:
        kept.answers = [0x0000, 0xA700]
        send(sharp, running.port)
        running.settle()
        (job,) = running.journal.jobs()
        assert job.state == TRANSLATED
        assert job.reason.endswith("at image 2 of 4, answered with status 0xA700")
        running.now = job.due
        running.settle()
        assert running.states() == [SENT]
        assert len(set(kept.uids)) == 4


def test_an_archive_that_refuses_is_not_asked_again(settings, sharp):
    with archive() as kept, service(settings(kept.port)) as running:
        kept.answers = [0xA900]
        send(sharp, running.port)
        running.settle()
        (job,) = running.journal.jobs()
        assert job.state == FAILED
        assert "answered with status 0xA900" in job.reason
        assert kept.images == []


def test_guards_that_refuse_are_journaled_with_their_reason(settings, sharp):
    for path in sharp:
        change(path, ConvolutionKernel="STANDARD")
    with archive() as kept, service(settings(kept.port, match="{}")) as running:
        send(sharp, running.port)
        running.settle()
        (job,) = running.journal.jobs()
    assert job.state == FAILED
    assert job.reason.startswith("the series: its kernel is probably none of ['B30f', 'B50f', 'B70f']")
    assert kept.images == []


def test_what_was_doubted_stands_in_the_images_without_paths_of_the_service(settings, sharp):
    for path in sharp:
        change(path, PixelSpacing=[0.2, 0.2])
    with archive() as kept, service(settings(kept.port)) as running:
        send(sharp, running.port)
        running.settle()
        (job,) = running.journal.jobs()
    assert job.verdict == "warned"
    for image in kept.images:
        assert "DOUBTED: kernel: the series has pixels of 0.200 mm" in image.ImageComments
        assert image.ContentQualification == "RESEARCH"
        assert str(running.settings.folder) not in image.to_json()


def test_a_gap_in_the_series_fails_by_its_place_and_is_mended_by_the_lost_slice(settings, sharp):
    with archive() as kept, service(settings(kept.port)) as running:
        send([sharp[0], *sharp[2:]], running.port)
        running.settle()
        assert running.states() == [FAILED]
        send(sharp[1:2], running.port)
        running.settle()
        assert sorted(running.states()) == [FAILED, SENT]
        assert len(kept.images) == 4


def test_a_full_disk_is_no_failure(settings, sharp, monkeypatch):
    with archive() as kept, service(settings(kept.port)) as running:
        send(sharp, running.port)

        def full(*_, **__):
            raise DiskFullError("no room")

        with monkeypatch.context() as patch:
            patch.setattr("common.deploy.dicom_service.worker.write_translation", full)
            running.settle()
        (job,) = running.journal.jobs()
        assert (job.state, job.reason) == (RECEIVED, "disk full: no room")
        running.now = job.due
        running.settle()
        assert running.states() == [SENT]


def test_a_stop_in_the_middle_leaves_the_job_for_the_next_start(settings, sharp, monkeypatch):
    with archive() as kept, service(settings(kept.port)) as running:
        send(sharp, running.port)

        def stopped(*_, **__):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("common.deploy.dicom_service.worker.write_translation", stopped)
            with pytest.raises(KeyboardInterrupt):
                running.step()
        (job,) = running.journal.jobs()
        assert (job.state, job.crashes) == (RECEIVED, 0)
        assert not any((running.settings.folder / "work").iterdir())
        running.worker = running.new_worker()
        running.settle()
        assert running.states() == [SENT]


def test_files_are_removed_a_while_after_they_were_sent_but_not_forgotten(settings, sharp):
    with archive() as kept, service(settings(kept.port, folder="service\nkeep_hours: 1")) as running:
        send(sharp, running.port)
        running.now = running.journal.series()[0].last
        running.settle()
        (job,) = running.journal.jobs()
        derived = running.settings.folder / "derived" / job.id
        assert derived.is_dir()
        running.now += 3601
        running.settle()
        assert not derived.exists()
        assert not running.inbox.place(job.series).exists()
        send(sharp, running.port)
        running.settle()
        assert running.states() == [SENT]
        assert len(kept.images) == 4


def test_the_derived_pixels_are_those_of_the_command_line(settings, sharp, tmp_path):
    with archive() as kept, service(settings(kept.port)) as running:
        send(sharp, running.port)
        running.settle()
    made = common.translate(sharp[0].parent, bundle="ggcl", target="B30f", output_dir=tmp_path / "out", device="cpu")
    expected = np.asarray(nib.load(made.files[0]).dataobj)  # columns, rows, slices, as the source
    for index, image in enumerate(kept.images):
        np.testing.assert_array_equal(image.pixel_array, expected[:, :, index].T)


@pytest.mark.faults
def test_a_really_full_disk_loses_and_doubles_nothing(settings, sharp, tmp_path):
    """An ext4 of 16 MB, filled up again before each step: what was acknowledged is there, and is sent once."""
    image = tmp_path / "disk.img"
    with archive() as kept, mounted(tmp_path / "disk", megabytes=16, image=image) as disk:
        given = dataclasses.replace(settings(kept.port), folder=disk.folder / "service")
        given.folder.mkdir()
        with service(given) as each:
            acknowledged, refused = set(), 0
            for pages in (0, 1, 2, 4, 8, 16):
                disk.leave(pages)
                answers = send(sharp, each.port)
                assert set(answers) <= {0x0000, 0xA700}
                refused += answers.count(0xA700)
                acknowledged |= {file for file, answer in zip(sharp, answers) if answer == 0x0000}
                assert stored(each, sharp) >= {dcmread(file).SOPInstanceUID for file in acknowledged}
            assert refused
            disk.make_room()
            assert send(sharp, each.port) == [0x0000] * len(sharp)

            waits = 0
            for pages in (0, 1, 2, 4, 8, 12, 16, 24):
                disk.leave(pages)
                for _ in range(3):
                    each.now += 1000
                    _step(each.worker)
                waits += each.states() != [SENT]
                assert FAILED not in each.states()
                assert len(stored(each, sharp)) == len(sharp)
            assert waits
            disk.make_room()
            for _ in range(5):
                each.now += 1000
                each.settle()
            assert each.states() == [SENT]
            assert len(kept.uids) == len(set(kept.uids)) == len(sharp)
            referred = {image.SourceImageSequence[0].ReferencedSOPInstanceUID for image in kept.images}
            assert referred == {dcmread(file).SOPInstanceUID for file in sharp}
            assert send(sharp, each.port) == [0x0000] * len(sharp)  # the whole series again
            each.now += 1000
            each.settle()
            assert each.states() == [SENT]
            assert len(kept.uids) == len(sharp)
            assert not list(given.folder.rglob("*.partial"))


def stored(each: Service, sent: list) -> set[str]:
    """The UIDs of the received images, each of which is read and has its pixels."""
    images = [dcmread(file) for file in each.inbox.files(dcmread(sent[0]).SeriesInstanceUID)]
    pixels = {image.SOPInstanceUID: image.pixel_array for image in map(dcmread, sent)}
    for image in images:
        np.testing.assert_array_equal(image.pixel_array, pixels[image.SOPInstanceUID])
    return {image.SOPInstanceUID for image in images}


def test_a_job_whose_end_the_journal_could_not_note_is_done_again(settings, sharp, monkeypatch):
    with archive() as kept, service(settings(kept.port)) as each:
        send(sharp, each.port)
        change = each.journal.change

        def full(job, now, **columns):
            if columns.get("state") in (TRANSLATED, RECEIVED):
                raise sqlite3.OperationalError("database or disk is full")
            change(job, now, **columns)

        monkeypatch.setattr(each.journal, "change", full)
        assert not _step(each.worker)
        assert each.states() == [TRANSLATING]
        monkeypatch.undo()
        each.now += 1000
        each.settle()
        each.now += 1000
        each.settle()
        assert each.states() == [SENT]
        assert [job.crashes for job in each.journal.jobs()] == [0]
        assert len(kept.uids) == len(sharp)
