"""The listening side of the DICOM service: C-ECHO and C-STORE of CT and MR images, from named AE titles only."""

from __future__ import annotations

import errno
import logging
import shutil
import sqlite3
import threading
import time
from typing import TYPE_CHECKING, Any

from ...dicom.files import SINGLE_FRAME, SYNTHETIC_DATA, is_synthetic
from ...errors import DISK_FULL, DiskFullError
from .inbox import Inbox, parse
from .settings import Settings

if TYPE_CHECKING:
    from pynetdicom.transport import ThreadedAssociationServer

logger = logging.getLogger(__name__)
# Status of C-STORE (PS3.4, table B.2-1; PS3.7, annex C)
SUCCESS, OUT_OF_RESOURCES, MISMATCH, NOT_UNDERSTOOD = 0x0000, 0xA700, 0xA900, 0xC000
ASSOCIATIONS = 10
NETWORK_SECONDS = 60


class Listener:
    """A DICOM server in threads of its own.

    Args:
        settings: Contents of the rule file.
        inbox: Where images are stored.

    Raises:
        OSError: By `start`, if the address or port cannot be used.
    """

    def __init__(self, settings: Settings, inbox: Inbox) -> None:
        self.settings, self.inbox = settings, inbox
        self._sending: dict[Any, set[str]] = {}  # series by association
        self._told: set[str] = set()  # synthetic series, whose arrival was logged
        self._lock = threading.Lock()
        self._server: ThreadedAssociationServer | None = None

    def start(self) -> int:
        """Listen; returns the port."""
        from pynetdicom import AE, evt
        from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

        entity = AE(ae_title=self.settings.ae_title)
        entity.require_calling_aet = list(self.settings.senders)
        entity.require_called_aet = True
        entity.maximum_associations = ASSOCIATIONS
        entity.network_timeout = NETWORK_SECONDS
        entity.add_supported_context(Verification)
        for sop_class in SINGLE_FRAME:
            entity.add_supported_context(sop_class, readable_syntaxes())
        handlers: list[Any] = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_CONN_CLOSE, self._closed),
            (evt.EVT_REJECTED, self._rejected),
        ]
        place = (self.settings.address, self.settings.port)
        self._server = entity.start_server(place, block=False, evt_handlers=handlers)
        assert self._server is not None  # as it does not block
        return int(self._server.server_address[1])

    def stop(self) -> None:
        """Stop to listen, and abort what is being received; what was acknowledged is on the disk."""
        if self._server is not None:
            self._server.shutdown()

    def busy(self) -> set[str]:
        """Return the series that associations which are still open have sent images of."""
        with self._lock:
            return {uid for series in self._sending.values() for uid in series}

    def _closed(self, event: Any) -> None:
        with self._lock:
            self._sending.pop(event.assoc, None)

    def _rejected(self, event: Any) -> None:
        requestor = event.assoc.requestor
        logger.warning(
            f"Refused {requestor.ae_title!r} at {requestor.address}: only {', '.join(self.settings.senders)} may send,"
            f" to {self.settings.ae_title!r}."
        )

    def _store(self, event: Any) -> int:
        """Store an image, and answer with a status: success only once it is on the disk."""
        sender = str(event.assoc.requestor.ae_title)
        try:
            return self._stored(event, sender)
        except (DiskFullError, OSError, sqlite3.OperationalError) as error:
            full = isinstance(error, DiskFullError) or getattr(error, "errno", None) in (*DISK_FULL, errno.ENOMEM)
            logger.error(f"Refused an image of {sender} ({'disk full' if full else 'not written'}): {error}")
            return OUT_OF_RESOURCES
        except Exception as error:  # pydicom raises whatever a damaged header makes it meet
            logger.error(f"Refused an image of {sender}, which cannot be read: {error}")
            return NOT_UNDERSTOOD

    def _stored(self, event: Any, sender: str) -> int:
        free = shutil.disk_usage(self.settings.folder).free / 1e6
        if free < self.settings.free_mb:
            logger.error(f"Refused an image of {sender}: {free:.0f} MB are free, less than {self.settings.free_mb:g}.")
            return OUT_OF_RESOURCES
        image = event.encoded_dataset()
        header = parse(image, ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", SYNTHETIC_DATA))
        request = event.request
        for name in ("SOPClassUID", "SOPInstanceUID"):
            if header.get(name) != getattr(request, f"Affected{name}"):
                logger.error(f"Refused an image of {sender}: its {name} is not that of the request.")
                return MISMATCH
        uid = str(header.get("SeriesInstanceUID") or "")
        if is_synthetic(header) or self.inbox.journal.made(uid):
            if uid not in self._told:
                logger.info(f"Series {uid} of {sender} is synthetic: its images are taken, and not kept.")
                self._told.add(uid)
            return SUCCESS
        with self._lock:
            self._sending.setdefault(event.assoc, set()).add(uid)
        self.inbox.store(image, header, sender, time.time())
        return SUCCESS


def readable_syntaxes() -> list[str]:
    """Return the transfer syntaxes that can be read here: uncompressed, and what pydicom has decoders for."""
    from pydicom import uid
    from pydicom.pixels import get_decoder

    compressed = [
        *(uid.RLELossless, uid.JPEGLossless, uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEG2000Lossless),
        *(uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLSNearLossless, uid.JPEG2000),
    ]
    readable = [syntax for syntax in compressed if get_decoder(syntax).is_available]
    return [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, *readable]
