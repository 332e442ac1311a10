"""The service as a process: it answers, survives `kill -9`, stops on SIGTERM, and reports."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from common.deploy.dicom_service.__main__ import main
from common.deploy.dicom_service.journal import FAILED, Job, Journal, Series
from tests.helpers.bundles import ROOT
from tests.helpers.pacs import archive, echo, send, wait_for

MODULE = "common.deploy.dicom_service"


@contextmanager
def started(rules: Path):
    """The process, its port, and its log."""
    log = rules.with_name("service.log")
    with log.open("a") as file:
        start = log.stat().st_size
        process = subprocess.Popen([sys.executable, "-m", MODULE, "run", str(rules)], cwd=ROOT, stderr=file)
    try:
        pattern = re.compile(r"listens at 127\.0\.0\.1:(\d+) to SCANNER")
        wait_for(lambda: pattern.search(log.read_text()[start:]) or process.poll() is not None, what="listening")
        found = pattern.search(log.read_text()[start:])
        assert found, log.read_text()
        yield process, int(found[1]), log
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_killed_service_goes_on_and_one_that_is_asked_stops(settings, sharp, tmp_path, capsys):
    rules = tmp_path / "rules.yaml"
    with archive() as kept:
        folder = settings(kept.port).folder
        with started(rules) as (process, port, log):
            assert send(sharp, port) == [0] * 4
            wait_for(lambda: "Translating series" in log.read_text(), what="translation")
            process.kill()  # -9
            process.wait()
        with started(rules) as (process, port, log):
            with pytest.raises(SystemExit, match=f"`folder` .* is in use by process {process.pid}"):
                main(["run", str(rules)])
            wait_for(lambda: "Sent " in log.read_text(), what="sending")
            assert echo(port)
            main(["status", str(folder)])
            assert capsys.readouterr().out.endswith("1 sent\n")
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
            assert log.read_text().rstrip().endswith("Stopping.")
        assert not echo(port)
        assert len(kept.uids) == len(set(kept.uids)) == 4
    assert not any((folder / "work").iterdir())


@pytest.mark.slow
def test_a_stop_while_it_translates_leaves_the_job_for_the_next_start(settings, sharp, tmp_path):
    folder = settings(1).folder
    with started(tmp_path / "rules.yaml") as (process, port, log):
        send(sharp, port)
        wait_for(lambda: "Translating series" in log.read_text(), what="translation")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    (job,) = Journal(folder).jobs()
    assert job.state in ("received", "translated")
    assert job.crashes == 0
    assert "Traceback" not in log.read_text()


def test_status_and_retry_tell_and_change_the_journal(settings, capsys):
    folder = settings(1).folder
    journal = Journal(folder)
    assert printed(capsys, "status", folder) == "no jobs\n"
    series = Series("1.2.3", "SCANNER", 1e9)
    journal.arrived(series.uid, series.sender, series.last)
    assert re.fullmatch(r".* receiving +series 1\.2\.3 of SCANNER *\nno jobs\n", printed(capsys, "status", folder))
    job = Job("ab", series.uid, "smooth", "", 1e9)
    assert journal.complete(series, [job])
    journal.change(job, 1e9, state=FAILED, reason="no reason")
    found = printed(capsys, "status", folder)
    assert "job ab  smooth: 1.2.3  no reason" in found
    assert found.endswith("1 failed\n")
    with pytest.raises(SystemExit, match=r"^error: `JOB` must be the id of a failed job \(ab\), got 'cd'\.$"):
        main(["retry", str(folder), "cd"])
    main(["retry", str(folder), "ab"])
    assert [(each.state, each.reason) for each in journal.jobs()] == [("received", "")]


def printed(capsys, *words: object) -> str:
    main([str(word) for word in words])
    return capsys.readouterr().out


@pytest.mark.parametrize("verb", ["status", "retry"])
def test_a_folder_that_was_never_used_is_refused_and_not_made(verb, tmp_path):
    with pytest.raises(SystemExit, match=r"'.*none' does not exist: the service was never run with it"):
        main([verb, str(tmp_path / "none"), *(["ab"] if verb == "retry" else [])])
    assert not (tmp_path / "none").exists()


def test_a_wrong_rule_file_ends_in_one_line(tmp_path):
    (tmp_path / "rules.yaml").write_text("folder: here\n")
    with pytest.raises(SystemExit, match=r"^error: '.*rules\.yaml': the file lacks senders, destination, rules\.$"):
        main(["run", str(tmp_path / "rules.yaml")])
