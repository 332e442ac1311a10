"""Files that are whole or absent, and what a full disk says."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import DiskFullError, disk_full_names
from common.files import atomic_write, below, partial_name, partials_of_the_dead, remove_partials, safe_component
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
