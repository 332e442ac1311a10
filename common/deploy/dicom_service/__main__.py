"""Receive, translate and send DICOM series. RESEARCH USE ONLY, not for diagnosis.

python -m common.deploy.dicom_service run RULES.yaml
python -m common.deploy.dicom_service status FOLDER
python -m common.deploy.dicom_service retry FOLDER JOB...
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import signal
import sqlite3
import sys
import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from ...errors import EXPECTED
from ...files import claim
from .journal import COMPLETE, FAILED, RECEIVED, TRANSLATED, Job, Journal

if TYPE_CHECKING:
    from .worker import Worker

logger = logging.getLogger(f"{__package__}.run")  # `__name__` is `__main__`
IDLE_SECONDS = 0.5


class Stopped(BaseException):
    """The service was asked to stop."""


def run(rules: str | Path) -> None:
    """Listen and work until SIGTERM or SIGINT; a translation that is interrupted is done at the next start.

    Args:
        rules: Path of the rule file.

    Raises:
        ValueError: If the file is wrong, see `read_settings`, or another process uses the folder.
        OSError: If the port is taken.
    """
    _require_pynetdicom()
    from .inbox import Inbox
    from .listener import Listener
    from .settings import read_settings
    from .worker import Worker

    settings = read_settings(rules)
    settings.folder.mkdir(parents=True, exist_ok=True)
    claim(settings.folder, "`folder`")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    journal = Journal(settings.folder)
    inbox = Inbox(settings.folder, journal)
    listener = Listener(settings, inbox)
    try:
        worker = Worker(settings, journal, inbox, busy=listener.busy)
        port = listener.start()
        logger.info(
            f"{settings.ae_title!r} listens at {settings.address}:{port} to {', '.join(settings.senders)}; derived"
            f" series go to {settings.destination}. RESEARCH USE ONLY, not for diagnosis."
        )
        while True:
            if not _step(worker):
                time.sleep(IDLE_SECONDS)
    except Stopped:
        logger.info("Stopping.")
    finally:
        listener.stop()
        journal.close()


def _require_pynetdicom() -> None:
    if importlib.util.find_spec("pynetdicom") is None:
        raise ValueError(
            "The service needs pynetdicom and dicomweb-client: from the source tree,"
            " `python -m pip install -c constraints.txt -e '.[pacs]'` installs them."
        )


def _stop(_: int, __: FrameType | None) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # once is enough
    raise Stopped


def _step(worker: Worker) -> bool:
    """Do a step; a journal that cannot be written, as the disk is full, is tried again."""
    try:
        return worker.step()
    except (sqlite3.OperationalError, OSError) as error:
        logger.error(f"The journal or a folder cannot be written: {error}. Trying again.")
        return False


def status(folder: str | Path) -> None:
    """Print the series that wait or are skipped, all jobs, and how many are in each state.

    Args:
        folder: Folder of the service.

    Raises:
        FileNotFoundError: If it does not exist.
    """
    journal = Journal(folder)
    for series in journal.series():
        if series.state != COMPLETE:
            print(f"{_time(series.last)}  {series.state:11}  series {series.uid} of {series.sender}  {series.reason}")
    for job in journal.jobs():
        made = f" -> {job.derived} ({job.verdict})" if job.derived else ""
        print(f"{_time(job.changed)}  {job.state:11}  job {job.id}  {job.rule}: {job.series}{made}  {job.reason}")
    counts = Counter(job.state for job in journal.jobs())
    print(", ".join(f"{count} {state}" for state, count in sorted(counts.items())) or "no jobs")
    journal.close()


def retry(folder: str | Path, ids: list[str]) -> None:
    """Do failed jobs again: the sending, where that failed, else the translation.

    Args:
        folder: Folder of the service.
        ids: Ids of jobs, as `status` prints them.

    Raises:
        FileNotFoundError: If the folder does not exist.
        ValueError: If there is no such failed job.
    """
    journal = Journal(folder)
    failed: dict[str, Job] = {job.id: job for job in journal.jobs() if job.state == FAILED}
    if unknown := [id_ for id_ in ids if id_ not in failed]:
        raise ValueError(
            f"`JOB` must be the id of a failed job ({', '.join(failed) or 'there is none'}), got {unknown[0]!r}."
        )
    for job in (failed[id_] for id_ in ids):
        state = TRANSLATED if job.derived else RECEIVED
        journal.change(job, time.time(), state=state, reason="", due=0, tries=0, crashes=0)
    journal.close()


def _log_to_stderr() -> None:
    """Log what the service does, and warnings of the translation, but not how it goes on."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger(__package__).setLevel(logging.INFO)
    for name in ("monai", "ignite", "pynetdicom"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).isoformat(" ", "seconds")


def main(arguments: list[str]) -> None:
    """Run the command line; an expected error ends in one line."""
    parser = argparse.ArgumentParser(
        prog="python -m common.deploy.dicom_service",
        description="Receive, translate and send DICOM series, as a rule file says (docs/pacs.md). RESEARCH USE ONLY.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("run", help="listen and work").add_argument("rules", metavar="RULES", help="rule file, in YAML")
    for verb, words in (("status", "print the journal"), ("retry", "do failed jobs again")):
        verbs.add_parser(verb, help=words).add_argument("folder", metavar="FOLDER", help="folder of the service")
    verbs.choices["retry"].add_argument("jobs", metavar="JOB", nargs="+", help="id of a failed job")
    options = parser.parse_args(arguments)
    try:
        if options.verb == "run":
            _log_to_stderr()
            run(options.rules)
        elif options.verb == "status":
            status(options.folder)
        else:
            retry(options.folder, options.jobs)
    except sqlite3.OperationalError as error:
        raise SystemExit(f"error: the journal cannot be read or written: {error}. Is the disk full?") from None
    except (*EXPECTED, OSError) as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main(sys.argv[1:])
