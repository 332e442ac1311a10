"""Small disks that can be filled up; to mount one needs root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PAGE = 4096


class Disk:
    """A mounted file system.

    Args:
        folder: where it is mounted.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.filler = folder, folder / "filler"

    def leave(self, pages: int) -> None:
        """Fill it up but for some pages of 4096 bytes."""
        self.filler.unlink(missing_ok=True)
        with self.filler.open("wb", buffering=0) as file:
            for size in (16 * PAGE, PAGE):
                try:
                    while file.write(bytes(size)):
                        pass
                except OSError:
                    os.fsync(file.fileno())
            file.truncate(max(0, file.tell() // PAGE - pages) * PAGE)
            os.fsync(file.fileno())

    def make_room(self) -> None:
        self.filler.unlink()


@contextmanager
def mounted(folder: Path, *, megabytes: int, image: Path | None = None) -> Iterator[Disk]:
    """A disk in the memory, or, with a file as `image`, an ext4 in that file, where a folder takes room, too."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    if image is not None:
        with image.open("wb") as file:
            file.truncate(megabytes * 1_000_000)
        made = subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", "-b", str(PAGE), str(image)], capture_output=True)
        if made.returncode != 0:
            pytest.skip("a small disk needs mkfs.ext4")
        command = ["mount", "-o", "loop", str(image), str(folder)]
    if subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("mounting a small disk needs root; tests/test_files.py has a file size limit instead")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
