"""The journal of the DICOM service: an SQLite file that knows, after any crash, what came in and what became of it.

A series is `receiving` until it is complete, then `complete`, or `skipped` with the reason. For each rule that takes it
there is a job: `received`, `translating`, `translated`, `sent`, or `failed` with the reason.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NAME, VERSION = "journal.sqlite", 1
RECEIVING, COMPLETE, SKIPPED = "receiving", "complete", "skipped"
RECEIVED, TRANSLATING, TRANSLATED, SENT, FAILED = "received", "translating", "translated", "sent", "failed"
REPLACED = "replaced: more images of this series came, or its rule changed"
BUSY_SECONDS = 30.0
TABLES = """
CREATE TABLE IF NOT EXISTS series (
  uid TEXT PRIMARY KEY, sender TEXT NOT NULL, last REAL NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '');
CREATE TABLE IF NOT EXISTS jobs (
  id TEXT PRIMARY KEY, series TEXT NOT NULL, rule TEXT NOT NULL, files TEXT NOT NULL, created REAL NOT NULL,
  state TEXT NOT NULL DEFAULT 'received', reason TEXT NOT NULL DEFAULT '', changed REAL NOT NULL DEFAULT 0,
  due REAL NOT NULL DEFAULT 0, tries INTEGER NOT NULL DEFAULT 0, crashes INTEGER NOT NULL DEFAULT 0,
  derived TEXT NOT NULL DEFAULT '', verdict TEXT NOT NULL DEFAULT '');
"""


@dataclass(frozen=True)
class Series:
    """A series that came in.

    Args:
        uid: SeriesInstanceUID.
        sender: AE title that sent its last image.
        last: Time of its last image, in seconds since 1970.
        state: `receiving`, `complete` or `skipped`.
        reason: Why it was skipped.
    """

    uid: str
    sender: str
    last: float
    state: str = RECEIVING
    reason: str = ""


@dataclass(frozen=True)
class Job:
    """The translation of a series by a rule.

    Args:
        id: Checksum of the series, its images, and all that decides the result: the same job has the same id.
        series: SeriesInstanceUID of the source.
        rule: Name of the rule.
        files: Names of the files of the images, separated by spaces.
        created: Time at which the series was complete, in seconds since 1970.
        state: `received`, `translating`, `translated`, `sent` or `failed`.
        reason: Why it failed, or waits.
        changed: Time of the last change.
        due: Time before which it is not tried again.
        tries: Times that its current step was tried in vain.
        crashes: Times that the service ended while it was translated.
        derived: SeriesInstanceUID of the derived series, once there is one.
        verdict: `passed`, or `warned` if a check was in doubt.
    """

    id: str
    series: str
    rule: str
    files: str
    created: float
    state: str = RECEIVED
    reason: str = ""
    changed: float = 0.0
    due: float = 0.0
    tries: int = 0
    crashes: int = 0
    derived: str = ""
    verdict: str = ""


class Journal:
    """Records in `folder/journal.sqlite`, each on the disk when its call returns; may be used by several threads.

    Args:
        folder: Folder of the service.

    Raises:
        ValueError: If the file is of another version.
        FileNotFoundError: If the folder does not exist.
    """

    def __init__(self, folder: str | Path) -> None:
        if not Path(folder).is_dir():
            raise FileNotFoundError(f"`folder` {str(folder)!r} does not exist: the service was never run with it.")
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(Path(folder) / NAME, timeout=BUSY_SECONDS, check_same_thread=False)
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version not in (0, VERSION):
            raise ValueError(f"{str(Path(folder, NAME))!r} must be of version {VERSION}, got {version}.")
        self._connection.executescript(f"{TABLES} PRAGMA user_version = {VERSION};")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._connection:  # commits, or rolls back on an error
            yield self._connection

    def arrived(self, uid: str, sender: str, now: float) -> None:
        """Note that an image of a series was stored."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO series (uid, sender, last, state) VALUES (?, ?, ?, ?) ON CONFLICT (uid) DO UPDATE SET"
                " sender = excluded.sender, last = excluded.last, state = excluded.state, reason = ''",
                (uid, sender, now, RECEIVING),
            )

    def receiving(self, before: float) -> list[Series]:
        """Return the series that are being received, and of which nothing came since a time."""
        return [each for each in self.series() if each.state == RECEIVING and each.last <= before]

    def skip(self, series: Series, reason: str) -> bool:
        """Note that a series is not translated; returns False, and does nothing, if an image came meanwhile."""
        with self._transaction() as connection:
            return self._close(connection, series, SKIPPED, reason)

    def complete(self, series: Series, jobs: Sequence[Job]) -> bool:
        """Note that a series is complete, with its jobs; returns False, and does nothing, if an image came meanwhile.

        A job that is known is not done again, unless it failed. Jobs that wait with fewer images are replaced.
        """
        with self._transaction() as connection:
            if not self._close(connection, series, COMPLETE, ""):
                return False
            for job in jobs:
                connection.execute(
                    "INSERT INTO jobs (id, series, rule, files, created, changed) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT"
                    " (id) DO UPDATE SET state = ?, reason = '', due = 0, tries = 0, crashes = 0 WHERE state = ?",
                    (job.id, job.series, job.rule, job.files, job.created, job.created, RECEIVED, FAILED),
                )
            wanted = ", ".join("?" * len(jobs))
            connection.execute(
                f"UPDATE jobs SET state = ?, reason = ? WHERE series = ? AND state = ? AND id NOT IN ({wanted})",
                (FAILED, REPLACED, series.uid, RECEIVED, *(job.id for job in jobs)),
            )
            return True

    @staticmethod
    def _close(connection: sqlite3.Connection, series: Series, state: str, reason: str) -> bool:
        done = connection.execute(
            "UPDATE series SET state = ?, reason = ? WHERE uid = ? AND last = ?",
            (state, reason, series.uid, series.last),
        )
        return done.rowcount == 1

    def reopen(self, now: float) -> None:
        """Judge again, by the rules of today, each series that waits for its translation: for the start of the service.

        A job that was being translated counts a crash. A series that was being received is quiet from now on, as its
        sender could not go on while the service was down.

        Args:
            now: Time, in seconds since 1970.
        """
        with self._transaction() as connection:
            connection.execute(
                "UPDATE jobs SET state = ?, crashes = crashes + 1 WHERE state = ?", (RECEIVED, TRANSLATING)
            )
            connection.execute(
                "UPDATE series SET state = ? WHERE uid IN (SELECT series FROM jobs WHERE state = ?)",
                (RECEIVING, RECEIVED),
            )
            connection.execute("UPDATE series SET last = max(last, ?) WHERE state = ?", (now, RECEIVING))

    def change(self, job: Job, now: float, **columns: str | float) -> None:
        """Change columns of a job."""
        columns["changed"] = now
        settings = ", ".join(f"{name} = ?" for name in columns)
        with self._transaction() as connection:
            connection.execute(f"UPDATE jobs SET {settings} WHERE id = ?", (*columns.values(), job.id))

    def next_job(self, now: float) -> Job | None:
        """Return the oldest job that waits to be translated or sent, and is due."""
        found = self._jobs(f"WHERE state IN ('{RECEIVED}', '{TRANSLATED}') AND due <= ? ORDER BY due, created", now)
        return found[0] if found else None

    def made(self, uid: str) -> bool:
        """Return whether a series is one that this service made."""
        return bool(self._jobs("WHERE derived = ?", uid))

    def expired(self, before: float) -> list[Series]:
        """Return the series of which nothing came since a time, and all jobs are sent."""
        unsent = {job.series for job in self.jobs() if job.state != SENT}
        return [
            each for each in self.series() if each.state == COMPLETE and each.last < before and each.uid not in unsent
        ]

    def jobs(self, series: str | None = None) -> list[Job]:
        """Return all jobs, or those of a series, oldest first."""
        return self._jobs("ORDER BY created, id") if series is None else self._jobs("WHERE series = ?", series)

    def series(self) -> list[Series]:
        """Return all series, in the order of their last images."""
        with self._lock:
            rows = self._connection.execute("SELECT uid, sender, last, state, reason FROM series ORDER BY last")
            return [Series(*row) for row in rows.fetchall()]

    def _jobs(self, condition: str, *values: str | float) -> list[Job]:
        columns = ", ".join(Job.__dataclass_fields__)
        with self._lock:
            rows = self._connection.execute(f"SELECT {columns} FROM jobs {condition}", values)
            return [Job(*row) for row in rows.fetchall()]
