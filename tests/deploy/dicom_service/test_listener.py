"""Who may send what to the service, and how it answers when it cannot store."""

from __future__ import annotations

import errno
import sqlite3

import pytest
from pydicom import dcmread

from common.deploy.dicom_service.inbox import Inbox
from common.deploy.dicom_service.journal import Journal
from common.deploy.dicom_service.listener import Listener
from tests.helpers.pacs import echo, send


@pytest.fixture
def listening(settings):
    """A listener and its port, for settings."""
    started = []

    def listen(**replaced):
        given = settings(1, **replaced)
        journal = Journal(given.folder)
        inbox = Inbox(given.folder, journal)
        listener = Listener(given, inbox)
        started.append((listener, journal))
        return listener.start(), inbox

    yield listen
    for listener, journal in started:
        listener.stop()
        journal.close()


def test_only_named_titles_may_send_and_only_to_its_own(listening, sharp):
    port, inbox = listening()
    assert echo(port)
    assert not echo(port, sender="STRANGER")
    assert not echo(port, called="OTHER")
    assert send(sharp, port, sender="STRANGER") == []
    assert inbox.journal.series() == []
    assert not inbox.folder.exists()


def test_names_on_the_disk_are_no_text_of_a_header(listening, sharp):
    port, inbox = listening()
    assert send(sharp, port) == [0] * 4
    uid = str(dcmread(sharp[0]).SeriesInstanceUID)
    files = [path for path in inbox.folder.rglob("*") if path.is_file()]
    assert len(files) == 4
    assert all(len(path.stem) == len(path.parent.name) == 32 for path in files)
    assert not any(uid in str(path) or "P1" in str(path.relative_to(inbox.folder)) for path in files)
    sent = {dcmread(path).SOPInstanceUID: dcmread(path).PixelData for path in sharp}
    assert {dcmread(path).SOPInstanceUID: dcmread(path).PixelData for path in files} == sent


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_a_uid_that_is_none_is_refused_and_leaves_nothing(listening, sharp):
    port, inbox = listening()
    image = dcmread(sharp[0])
    image.SeriesInstanceUID = "../../escaped"
    assert send([image], port) == [0xC000]
    assert inbox.journal.series() == []
    assert not inbox.folder.exists()


def test_an_image_of_another_name_than_its_request_is_refused(listening, sharp, monkeypatch):
    port, inbox = listening()
    monkeypatch.setattr("common.deploy.dicom_service.listener.parse", lambda *_: {"SOPClassUID": "1.2"})
    assert send(sharp[:1], port) == [0xA900]
    assert inbox.journal.series() == []


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), sqlite3.OperationalError("database or disk is full")]
)
def test_a_full_disk_is_out_of_resources_and_nothing_is_acknowledged_that_is_not_there(
    error, listening, sharp, monkeypatch
):
    port, inbox = listening()

    def full(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(inbox.journal, "arrived", full)
        assert send(sharp, port) == [0xA700] * 4
    assert inbox.journal.series() == []
    assert send(sharp, port) == [0] * 4
    assert len(inbox.files(inbox.journal.series()[0].uid)) == 4


def test_less_free_space_than_asked_for_is_out_of_resources(listening, sharp):
    port, inbox = listening(free_mb="1000000000")
    assert send(sharp, port) == [0xA700] * 4
    assert not inbox.folder.exists()


def test_what_a_killed_service_left_half_written_is_removed(listening, sharp):
    port, inbox = listening()
    send(sharp[:1], port)
    (stored,) = inbox.files(inbox.journal.series()[0].uid)
    left = stored.with_name(f".{stored.name}.4194305.partial")
    left.write_bytes(b"half")
    Inbox(inbox.folder.parent, inbox.journal)
    assert not left.exists()
    assert stored.exists()
