"""Stand-ins for the two neighbours of the DICOM service: a modality that sends, and an archive that stores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydicom import Dataset, dcmread
from pynetdicom import AE, evt
from pynetdicom.sop_class import CTImageStorage, MRImageStorage, ParametricMapStorage, Verification

IMAGES = (CTImageStorage, MRImageStorage, ParametricMapStorage)


class Archive:
    """Keeps what it is sent, in the order of arrival; `answers` are the next statuses, then success."""

    def __init__(self) -> None:
        self.images: list[Dataset] = []
        self.answers: list[int] = []
        self.port = 0

    def store(self, event: evt.Event) -> int:
        status = self.answers.pop(0) if self.answers else 0x0000
        if status == 0x0000:
            image = event.dataset
            image.file_meta = event.file_meta
            self.images.append(image)
        return status

    @property
    def uids(self) -> list[str]:
        return [str(image.SOPInstanceUID) for image in self.images]


@contextmanager
def archive(port: int = 0) -> Iterator[Archive]:
    """An archive that listens on the loopback."""
    entity, kept = AE(ae_title="ARCHIVE"), Archive()
    for sop_class in IMAGES:
        entity.add_supported_context(sop_class)
    server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, kept.store)])
    kept.port = server.server_address[1]
    try:
        yield kept
    finally:
        server.shutdown()


def send(
    files: Sequence[Path | Dataset], port: int, *, sender: str = "SCANNER", called: str = "TRANSLATION"
) -> list[int]:
    """The statuses that C-STORE of these files is answered with; empty if the association is refused."""
    entity = AE(ae_title=sender)
    entity.dimse_timeout = 120  # a busy computer
    images = [file if isinstance(file, Dataset) else dcmread(file) for file in files]
    for sop_class, syntax in {(image.SOPClassUID, image.file_meta.TransferSyntaxUID) for image in images}:
        entity.add_requested_context(sop_class, syntax)
    association = entity.associate("127.0.0.1", port, ae_title=called)
    if not association.is_established:
        return []
    statuses = [association.send_c_store(image).get("Status", -1) for image in images]
    association.release()
    return statuses


def echo(port: int, *, sender: str = "SCANNER", called: str = "TRANSLATION") -> bool:
    """Whether a C-ECHO is answered."""
    entity = AE(ae_title=sender)
    entity.add_requested_context(Verification)
    association = entity.associate("127.0.0.1", port, ae_title=called)
    answered = association.is_established and association.send_c_echo().get("Status") == 0x0000
    if association.is_established:
        association.release()
    return answered


def wait_for(condition: Callable[[], bool], *, seconds: float = 120.0, what: str = "") -> None:
    """Wait until something holds, and fail if it never does."""
    import time

    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"it did not happen within {seconds:g} s: {what}"
        time.sleep(0.1)
