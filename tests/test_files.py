"""Files that are whole or absent, and what a full disk says."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import DiskFullError, disk_full_names
from common.files import (
    Staging,
    atomic_write,
    below,
    claim,
    partial_name,
    partials_of_the_dead,
    refuse_outside,
    release_claims,
    remove_partials,
    safe_component,
    safe_name,
    shown,
    walk,
)
from tests.helpers.limits import file_size_limit


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with atomic_write(path) as file:
        file.write(b"half")
        file.flush()
        assert names(path.parent) == [f".a.txt.{os.getpid()}.partial"]
        file.write(b" and half")
    assert path.read_bytes() == b"half and half"
    assert names(path.parent) == ["a.txt"]


def interrupted(path: Path) -> None:
    with atomic_write(path) as file:
        file.write(b"newer")
        raise KeyboardInterrupt


def test_an_error_leaves_the_older_file_alone(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"older")
    with pytest.raises(KeyboardInterrupt):
        interrupted(path)
    assert path.read_bytes() == b"older"
    assert names(tmp_path) == ["a.txt"]


def test_what_a_dead_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    path = tmp_path / "a[1].txt"
    mine, foreign = partial_name(path), tmp_path / ".a[1].txt.backup.partial"
    dead = tmp_path / f".a[1].txt.{dead_process()}.partial"
    for left in (mine, foreign, dead):
        left.touch()
    assert partials_of_the_dead(path) == [dead]
    remove_partials(path)
    assert names(tmp_path) == sorted([mine.name, foreign.name])


def test_a_full_disk_is_named_with_its_file_and_size(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"older")
    message = (
        r"a\.txt' \(0\.2 MB\) could not be written: File too large \([\d.e+]+ MB are free\)\. Nothing of it was left;"
        r" an older file of that name is as it was\. Make room, or choose another folder, and run the same command"
        r" again\."
    )
    with (
        file_size_limit(100_000),
        pytest.raises(DiskFullError, match=message),
        atomic_write(path, needed=200_000) as file,
    ):
        file.write(bytes(200_000))
    assert path.read_bytes() == b"older"
    assert names(tmp_path) == ["a.txt"]


def test_other_errors_and_a_message_that_is_there_already_pass(tmp_path):
    with pytest.raises(PermissionError), disk_full_names(tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied")
    inner = DiskFullError("said already")
    with pytest.raises(DiskFullError, match="said already") as raised, disk_full_names(tmp_path):
        raise inner
    assert raised.value is inner


@pytest.mark.parametrize("name", ["final", "a", "IM_0001.dcm", "1.2.840.113619.2-55", "A" * 128, "a..b", "-x"])
def test_a_plain_name_passes_unchanged(name):
    assert safe_component(name, "tag") == name


TRICKS = {
    "parent": "..",
    "this folder": ".",
    "nothing": "",
    "up": "../../../bundles",
    "absolute": "/etc/passwd",
    "backslashes": "..\\..\\x",
    "drive": "C:x",
    "NUL": "a\0b",
    "URL-encoded": "%2e%2e%2fx",
    "long": "a" * 129,
    "hidden": ".ssh",
    "new line": "a\n",
    "space": "a b",
    "wide slash": "a\uff0fb",
    "arabic digit": "\u0663",
    "no text": 3,
    "a list": ["a"],
}


@pytest.mark.parametrize("trick", TRICKS)
def test_a_name_that_is_not_one_plain_name_is_refused(trick):
    with pytest.raises(ValueError, match=r"`tag` must be one name of 1 to 128 letters.*, got "):
        safe_component(TRICKS[trick], "tag")


def test_a_path_below_a_folder_is_resolved_and_any_other_refused(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "link").symlink_to(tmp_path)
    assert below(tmp_path / "out", "a", "b.txt") == tmp_path.resolve() / "out" / "a" / "b.txt"
    for parts in [("..", "a"), ("a", "..", "..", "b"), (str(tmp_path / "a"),), ("link", "a"), (".",), ("link", "out")]:
        with pytest.raises(ValueError, match="must lie below the folder"):
            below(tmp_path / "out", *parts)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        *(("P1", "P1"), ("a_b-c", "a_b-c"), ("../../x", "x"), ("/etc/passwd", "etc-passwd"), ("a\0b", "a-b")),
        *(("a\nb\r", "a-b"), ("C:\\x", "C-x"), ("a" * 200, "a" * 128), ("..", ""), ("\u00c4*?", ""), (None, "None")),
        *(("a\uff0fb", "a-b"), ("\u202egpj", "gpj"), ("\ud800", "")),
    ],
)
def test_any_text_becomes_a_part_of_a_name(text, name):
    assert safe_name(text) == name


def test_long_texts_that_differ_at_their_end_have_two_names_where_asked_for():
    first, second = (safe_name("a" * 200 + end, distinct=True) for end in "bc")
    assert len(first) == len(second) == 128
    assert first != second
    assert safe_name("a" * 128, distinct=True) == "a" * 128


def test_a_received_value_is_shown_briefly_however_deep_large_or_repetitive():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    laughs: list = ["ha"]
    for _ in range(100):
        laughs = [laughs] * 10
    for value in (deep, laughs, 10**5000, [10**5000], "x" * 10**6, b"x" * 10**6, dict.fromkeys(range(10**5))):
        assert len(shown(value)) <= 103
    assert shown("a") == "'a'"
    assert shown([1, None]) == "[1, None]"


def test_staged_files_and_their_places_lie_below_the_folders(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "link").symlink_to(tmp_path)
    with Staging(out) as staging:
        for bad in (out / ".." / "x", out / "a" / ".." / ".." / "x", out / ".."):
            with pytest.raises(ValueError, match="must lie below the folder"):
                staging.place(bad)
        good = staging.place(out / "a" / "b.txt")
        linked = staging.place(out / "link" / "x.txt")
        for path in (good, linked):
            path.parent.mkdir()
            path.write_text("whole")
        with pytest.raises(ValueError, match="must lie below the folder"):
            staging.publish([good, linked])
        assert names(out) == sorted([staging.folder.name, "link"])
        with pytest.raises(ValueError, match="must lie below the folder"):
            staging.publish([staging.folder / ".." / ".." / "x"])
        assert staging.publish([good]) == [out / "a" / "b.txt"]
    assert names(tmp_path) == ["out"]


def test_a_link_of_the_files_own_name_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "elsewhere.txt").write_text("kept")
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.txt").symlink_to(tmp_path / "elsewhere.txt")
    refuse_outside(out, out / "a.txt")
    with Staging(out) as staging:
        staging.place(out / "a.txt").write_text("new")
        staging.publish([staging.folder / "a.txt"])
    assert (out / "a.txt").read_text() == "new"
    assert (tmp_path / "elsewhere.txt").read_text() == "kept"


HOLDER = """
import sys, time
from common.files import claim
claim(sys.argv[1], "`output_dir`")
print("held", flush=True)
time.sleep(60)
"""


def test_a_folder_that_another_process_uses_is_refused_until_that_one_ends_in_whatever_way(tmp_path):
    held = [sys.executable, "-c", HOLDER, str(tmp_path / "run")]
    with subprocess.Popen(held, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout.readline() == "held\n"
            with pytest.raises(ValueError, match=rf"`output_dir` '.*run' is in use by process {other.pid} on .*remove"):
                claim(tmp_path / "run", "`output_dir`")
        finally:
            other.kill()
    assert names(tmp_path) == [".run.lock"]  # killed, it could not remove it
    claim(tmp_path / "run", "`output_dir`")
    claim(tmp_path / "run", "`output_dir`")  # twice by one process
    assert json.loads((tmp_path / ".run.lock").read_text())["pid"] == os.getpid()
    release_claims()
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "refused"),
    [
        ({"pid": 1, "host": "elsewhere", "started": 0}, True),  # nobody here can see whether it runs
        ({"pid": os.getpid(), "host": None, "started": 0}, False),  # the number was given again
        ("not JSON", True),
    ],
)
def test_the_file_of_a_claim_may_be_of_another_computer_of_an_ended_process_or_damaged(tmp_path, content, refused):
    if isinstance(content, dict):
        content = json.dumps({**content, "host": content["host"] or socket.gethostname()})
    (tmp_path / ".run.lock").write_text(content)
    if refused:
        with pytest.raises(ValueError, match=r"is in use by process .* remove '.*\.run\.lock'"):
            claim(tmp_path / "run", "`models_dir`")
    else:
        claim(tmp_path / "run", "`models_dir`")
        release_claims()


def test_folders_that_cannot_be_listed_are_told(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "x").touch()
    listed = os.scandir

    def refusing(path):
        if str(path).endswith("b"):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", refusing)
    told = []
    assert [(root.name, files) for root, files in walk(tmp_path, onerror=told.append)][1:] == [("a", ["x"])]
    assert [error.filename for error in told] == [str(tmp_path / "b")]
