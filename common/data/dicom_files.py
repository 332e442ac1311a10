"""Which files are DICOM, by their content: names and extensions of exported images are arbitrary."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

MAGIC_AT, MAGIC = 128, b"DICM"  # PS3.10, section 7.1
FIRST_GROUPS = (b"\x02\x00", b"\x08\x00")  # files without preamble begin with a file meta or an identifying element
LONGEST_FIRST_ELEMENT = 1024


def require_pydicom() -> None:
    """
    Refuses DICOM where pydicom is absent.

    Raises:
        ValueError: with the command that installs it.
    """
    if importlib.util.find_spec("pydicom") is None:
        raise ValueError("Reading DICOM needs pydicom: `python -m pip install 'pydicom>=3'`, or give NIfTI files.")


@contextlib.contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Without pydicom's remarks on values that break the standard's rules: whatever matters is checked by us."""
    log = logging.getLogger("pydicom")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM: by its magic word, or, without a preamble, by its first element."""
    try:
        with path.open("rb") as file:
            start = file.read(MAGIC_AT + len(MAGIC))
    except OSError:
        return False
    return start[MAGIC_AT:] == MAGIC or _is_element(start[:8])


def _is_element(start: bytes) -> bool:
    """Whether eight bytes are the little-endian tag, VR and length of a data set's first element."""
    if len(start) < 8 or start[:2] not in FIRST_GROUPS:
        return False
    explicit = start[4:6].isalpha() and start[4:6].isupper()
    length = int.from_bytes(start[6:8] if explicit else start[4:8], "little")
    return length <= LONGEST_FIRST_ELEMENT and int.from_bytes(start[2:4], "little") <= 0x0018


def dicom_files(place: str | Path) -> list[Path]:
    """
    The DICOM files of a folder, at any depth; or a file itself. Of a DICOMDIR, those of its folder.

    A file cut off before its magic word counts if its extension is that of DICOM files beside it: a lost last slice
    would not be missed otherwise. Links to folders are not followed.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "report.txt").write_text("no image")
        ...     _ = Path(folder, "IM1.jpg").write_bytes(bytes(128) + b"DICM")
        ...     [path.name for path in dicom_files(folder)]
        ['IM1.jpg']
    """
    path = Path(place)
    if path.is_file() and path.name.upper() == "DICOMDIR":
        path = path.parent
    if path.is_file():
        return [path] if is_dicom(path) else []
    files = [Path(root, name) for root, _, names in os.walk(path) for name in names if name.upper() != "DICOMDIR"]
    found = {file for file in files if file.is_file() and is_dicom(file)}
    kinds = {(file.parent, file.suffix) for file in found}
    cut_off = {file for file in files if (file.parent, file.suffix) in kinds and _is_cut_off(file)}
    return sorted(found | cut_off)


def _is_cut_off(path: Path) -> bool:
    """Whether a file is empty, or a preamble and nothing else."""
    if path.name.startswith(".") or not path.is_file() or path.stat().st_size >= MAGIC_AT + len(MAGIC):
        return False
    return not path.read_bytes().strip(b"\0DICM")
