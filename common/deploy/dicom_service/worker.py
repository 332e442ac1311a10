"""The working side of the DICOM service: complete series are matched with the rules, translated, and sent."""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from ...dicom.headers import read_header
from ...dicom.series import find_volumes
from ...errors import DISK_FULL, DiskFullError, causes, own_error
from ...inference.dicom_series import translate_series, write_translation
from .inbox import Inbox
from .journal import FAILED, RECEIVED, SENT, TRANSLATED, TRANSLATING, Job, Journal, Series
from .sending import ArchiveRefusedError, ArchiveUnavailableError, send
from .settings import Rule, Settings

logger = logging.getLogger(__name__)
WORK, DERIVED = "work", "derived"
MOST_CRASHES = 3
MOST_DOUBLINGS = 6


class Worker:
    """Does one step after the other, each of which may be interrupted by a crash and is then done again.

    Args:
        settings: Contents of the rule file.
        journal: The journal.
        inbox: The received images.
        busy: Returns the series that are being sent to the service.
        clock: Returns the time, in seconds since 1970.
    """

    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        inbox: Inbox,
        *,
        busy: Callable[[], set[str]] = set,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings, self.journal, self.inbox = settings, journal, inbox
        self.busy, self.clock = busy, clock
        self.rules = {rule.name: rule for rule in settings.rules}
        shutil.rmtree(settings.folder / WORK, ignore_errors=True)
        journal.reopen(clock())

    def step(self) -> bool:
        """Do what there is to do: judge complete series, and one translation or one sending.

        Returns:
            Whether there was a translation or a sending.
        """
        for left in self.journal.jobs():
            if left.state == TRANSLATING:  # nothing is translated now: the last step could not note how it ended
                self._wait(left, RECEIVED, "the journal could not be written")
        for series in self.journal.receiving(self.clock() - self.settings.quiet_seconds):
            if series.uid not in self.busy():
                self._judge(series)
        for series in self.journal.expired(self.clock() - 3600 * self.settings.keep_hours):
            self._remove(series)
        job = self.journal.next_job(self.clock())
        if job is None:
            return False
        self._send(job) if job.state == TRANSLATED else self._translate(job)
        return True

    def _judge(self, series: Series) -> None:
        """Find the rules for a series; one that none takes is removed."""
        files = self.inbox.files(series.uid)
        found = find_volumes(files)
        reason = found.reasons.removesuffix(".") or "no image of it is left"
        jobs = []
        if found.volumes:
            header: Any = found.volumes[0].header
            refusals = {rule.name: rule.why_not(header) for rule in self.settings.rules}
            names = " ".join(file.name for file in files)
            for rule in self.settings.rules:
                if refusals[rule.name] is None:
                    digest = hashlib.sha256("\n".join((series.uid, names, *rule.seed())).encode()).hexdigest()[:32]
                    jobs.append(Job(digest, series.uid, rule.name, names, self.clock()))
            reason = "no rule takes it: " + "; ".join(f"{name}: {why}" for name, why in refusals.items())
        if jobs:
            if self.journal.complete(series, jobs):
                taken = ", ".join(job.rule for job in jobs)
                logger.info(f"Series {series.uid} of {series.sender} is complete: {len(files)} images, for {taken}.")
        elif self.journal.skip(series, reason):
            logger.info(f"Series {series.uid} of {series.sender} is skipped: {reason}.")
            self.inbox.remove(series)

    def _translate(self, job: Job) -> None:
        rule = self.rules.get(job.rule)
        if rule is None or job.crashes >= MOST_CRASHES:
            ended = f"the service ended {job.crashes} times while it was translated: is there memory enough?"
            self._fail(job, ended if rule else f"there is no rule {job.rule!r} any more")
            return
        self.journal.change(job, self.clock(), state=TRANSLATING)
        logger.info(f"Translating series {job.series} by {job.rule}.")
        work, output = self.settings.folder / WORK / job.id, self.settings.folder / DERIVED / job.id
        for place in (work, output):
            shutil.rmtree(place, ignore_errors=True)  # of a run that was killed
        try:
            derived, verdict = self._translated(job, rule, work, output)
        except Exception as error:
            if any(_is_full(link) for link in causes(error)):
                self._wait(job, RECEIVED, f"disk full: {own_error(error) or error}")
            else:
                words = str(own_error(error) or f"{type(error).__name__}: {error}")
                self._fail(job, re.sub(rf"'{re.escape(str(work))}[^']*'", "the series", words), error)
        except BaseException:  # the service is asked to stop
            self.journal.change(job, self.clock(), state=RECEIVED)
            raise
        else:
            self.journal.change(
                job, self.clock(), state=TRANSLATED, derived=derived, verdict=verdict, tries=0, crashes=0, reason=""
            )
            logger.info(f"Translated series {job.series} by {job.rule} to {derived}: checks {verdict}.")
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _translated(self, job: Job, rule: Rule, work: Path, output: Path) -> tuple[str, str]:
        """Write the derived series; returns its UID and the verdict of the checks."""
        files = [self.inbox.place(job.series) / name for name in job.files.split()]
        work.mkdir(parents=True)
        translation = translate_series(rule.bundle, files, work, target=rule.target, overrides=rule.options)
        when = datetime.fromtimestamp(job.created)
        folder = write_translation(translation, output, seed=[job.id], now=when)
        for doubt in translation.derivation.doubts or ():
            logger.warning(f"Series {job.series} by {job.rule} is DOUBTED: {doubt}")
        uid = read_header(next(folder.iterdir())).SeriesInstanceUID
        return str(uid), str(translation.facts["verdict"])

    def _send(self, job: Job) -> None:
        files = sorted((self.settings.folder / DERIVED / job.id).glob("*/*.dcm"))
        if not files:
            self.journal.change(job, self.clock(), state=RECEIVED)  # somebody removed them: make them again
            return
        self.journal.change(job, self.clock(), state=TRANSLATED)  # a journal that is full would not know of the sending
        try:
            send(self.settings.destination, files, self.settings.ae_title)
        except ArchiveUnavailableError as error:
            self._wait(job, TRANSLATED, str(error))
        except ArchiveRefusedError as error:
            self._fail(job, str(error))
        else:
            self.journal.change(job, self.clock(), state=SENT, reason="", due=0, tries=0)
            logger.info(f"Sent {job.derived}, {len(files)} images, to {self.settings.destination}.")

    def _wait(self, job: Job, state: str, reason: str) -> None:
        """Try again later, and ever later."""
        seconds = self.settings.retry_seconds * 2 ** min(job.tries, MOST_DOUBLINGS)
        now = self.clock()
        self.journal.change(job, now, state=state, reason=reason, tries=job.tries + 1, due=now + seconds)
        logger.warning(f"Series {job.series} by {job.rule} waits for {seconds:g} s: {reason}.")

    def _fail(self, job: Job, reason: str, error: BaseException | None = None) -> None:
        self.journal.change(job, self.clock(), state=FAILED, reason=reason)
        unexpected = error if error is not None and own_error(error) is None else None
        logger.error(f"Series {job.series} by {job.rule} failed: {reason}", exc_info=unexpected)

    def _remove(self, series: Series) -> None:
        """Remove the images of a series that was sent long ago; the journal keeps that it was."""
        places = [self.settings.folder / DERIVED / job.id for job in self.journal.jobs(series.uid)]
        if any(map(Path.exists, (self.inbox.place(series.uid), *places))):
            self.inbox.remove(series)
            for place in places:
                shutil.rmtree(place, ignore_errors=True)
            logger.info(f"Removed the files of series {series.uid}, which was sent.")


def _is_full(error: BaseException) -> bool:
    return isinstance(error, DiskFullError) or (isinstance(error, OSError) and error.errno in DISK_FULL)
