"""The received images on the disk: whole or not at all, under names that are checksums of their UIDs."""

from __future__ import annotations

import hashlib
import io
import shutil
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ...dicom.files import checked_uid, quiet_pydicom
from ...files import SUFFIX, atomic_write
from .journal import Journal, Series

NAME = "received"


class Inbox:
    """Images by series, in `folder/received`.

    Args:
        folder: Folder of the service.
        journal: Journal in which arrivals are noted.
    """

    def __init__(self, folder: str | Path, journal: Journal) -> None:
        self.folder, self.journal = Path(folder) / NAME, journal
        self._lock = threading.Lock()  # what arrives is not removed by the removal of its series
        for left in self.folder.glob(f"*/.*{SUFFIX}"):  # of a service that was killed, which is over
            left.unlink()

    def store(self, image: bytes, header: Any, sender: str, now: float) -> bool:
        """Store an image, and note its arrival; both are on the disk when this returns.

        Args:
            image: Content of the file.
            header: Its header.
            sender: AE title of the sender.
            now: Time, in seconds since 1970.

        Returns:
            Whether it is new; an image that is there already is kept as it is.

        Raises:
            ValueError: If its UIDs are invalid.
            OSError: If it cannot be written, such as `DiskFullError`.
        """
        series = checked_uid(header, "SeriesInstanceUID")
        path = self.place(series) / f"{_name(checked_uid(header, 'SOPInstanceUID'))}.dcm"
        with self._lock:
            new = not path.exists()
            if new:
                with atomic_write(path, needed=len(image)) as file:
                    file.write(image)
            self.journal.arrived(series, sender, now)
        return new

    def place(self, series: str) -> Path:
        """Return the folder of a series."""
        return self.folder / _name(series)

    def files(self, series: str) -> list[Path]:
        """Return the files of a series, sorted by name."""
        return sorted(self.place(series).glob("[!.]*.dcm"))

    def remove(self, each: Series) -> None:
        """Remove the images of a series, unless one came since it was looked at."""
        with self._lock:
            if any(now.uid == each.uid and now.last == each.last for now in self.journal.series()):
                shutil.rmtree(self.place(each.uid), ignore_errors=True)


def parse(image: bytes, keywords: Iterable[Any]) -> Any:
    """Parse some attributes of an image's header.

    Args:
        image: Content of the file.
        keywords: Keywords or tags of the attributes.
    """
    import pydicom

    with quiet_pydicom():
        return pydicom.dcmread(io.BytesIO(image), stop_before_pixels=True, specific_tags=list(keywords))


def _name(uid: str) -> str:
    return hashlib.sha256(uid.encode()).hexdigest()[:32]
