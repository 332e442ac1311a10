"""DICOM files, told by their content: which are images to translate, what the others are, and names for outputs.

Names and extensions of exported images are arbitrary. Names for outputs and messages are valid on any file system, and
never have a part of the patient's name in them.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import logging
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..files import safe_name, shown, walk

MAGIC_AT, MAGIC = 128, b"DICM"  # PS3.10, section 7.1
FIRST_GROUPS = (b"\x02\x00", b"\x08\x00")  # files without preamble begin with a file meta or an identifying element
LONGEST_FIRST_ELEMENT = 1024
CLASSES = {  # PS3.4, B.5
    "1.2.840.10008.5.1.4.1.1.2": "CT",
    "1.2.840.10008.5.1.4.1.1.2.1": "CT",  # enhanced
    "1.2.840.10008.5.1.4.1.1.2.2": "CT",  # legacy converted enhanced
    "1.2.840.10008.5.1.4.1.1.4": "MR",
    "1.2.840.10008.5.1.4.1.1.4.1": "MR",
    "1.2.840.10008.5.1.4.1.1.4.4": "MR",
}
SINGLE_FRAME = ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4")
NO_VOLUMES = {
    **dict.fromkeys(("LOCALIZER", "SCOUT"), "a localizer"),
    **dict.fromkeys(("SCREEN SAVE", "SCREENSHOT", "DOSE_INFO"), "a picture of a screen or a dose report"),
    **dict.fromkeys(("PERFUSION", "PROJECTION IMAGE", "MIP", "MAX_IP", "MIN_IP"), "a map or projection"),
}  # by a value of ImageType
SYNTHETIC_DATA = 0x0008001C
LOCALIZER = re.compile(r"(?<![a-z])(locali[sz]er|scout|topogram|surview|scanogram|survey)(?![a-z])", re.IGNORECASE)
SHORTEST_PART = 3  # letters of a part of a patient's name that must not be shown
LONGEST = 48
UID, LONGEST_UID = re.compile(r"[0-9]+(\.[0-9]+)*"), 64
SUFFIXES = ("", ".dcm", ".dicom", ".ima")  # MONAI drops what follows a name's last dot


def require_pydicom() -> None:
    """Refuse DICOM where pydicom is absent.

    Raises:
        ValueError: with the command that installs it.
    """
    if importlib.util.find_spec("pydicom") is None:
        raise ValueError("Reading DICOM needs pydicom: `python -m pip install 'pydicom>=3'`, or give NIfTI files.")


@contextlib.contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Silence pydicom's remarks on values that break the standard's rules: whatever matters is checked by us."""
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
    """Return whether a file is DICOM: by its magic word, or, without a preamble, by its first element."""
    try:
        with path.open("rb") as file:
            start = file.read(MAGIC_AT + len(MAGIC))
    except OSError:
        return False
    return start[MAGIC_AT:] == MAGIC or _is_element(start[:8])


def _is_element(start: bytes) -> bool:
    """Return whether eight bytes are the little-endian tag, VR and length of a data set's first element."""
    if len(start) < 8 or start[:2] not in FIRST_GROUPS:
        return False
    explicit = start[4:6].isalpha() and start[4:6].isupper()
    length = int.from_bytes(start[6:8] if explicit else start[4:8], "little")
    return length <= LONGEST_FIRST_ELEMENT and int.from_bytes(start[2:4], "little") <= 0x0018


def refuse_unlisted(error: OSError) -> None:
    """Raise for a folder that `os.walk` cannot list, which it would leave out."""
    raise ValueError(
        f"{str(error.filename)!r} cannot be listed ({error.strerror}): whatever it holds would be left out. Let this"
        " user read it, or move it away."
    ) from error


def dicom_files(place: str | Path, *, onerror: Callable[[OSError], None] = refuse_unlisted) -> list[Path]:
    """List the DICOM files of a folder, at any depth; or a file itself. Of a DICOMDIR, those of its folder.

    A file that cannot be read as DICOM counts if its name is like that of DICOM files beside it, and so does a link to
    nothing: a lost last slice would not be missed otherwise.

    Args:
        place: folder or file.
        onerror: called for a folder that cannot be listed; default: raise.

    Raises:
        ValueError: when a folder cannot be listed.

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
    found: list[Path] = []
    for root, names in walk(path, onerror=onerror):
        found += dicom_among([root / name for name in names])
    return sorted(found)


def dicom_among(files: Sequence[Path]) -> list[Path]:
    """Return the DICOM files of one folder, and those that may be its lost slices, see `dicom_files`.

    Args:
        files: all files of the folder.
    """
    files = [file for file in files if file.name.upper() != "DICOMDIR"]
    dicom = [file for file in files if file.is_file() and is_dicom(file)]
    likely, suffixes = {_pattern(file) for file in dicom}, {file.suffix for file in dicom}
    lost = {file for file in files if _pattern(file) in likely and _is_lost(file)}
    return sorted({*dicom, *lost, *(file for file in files if file.suffix in suffixes and _is_cut_off(file))})


def _pattern(path: Path) -> str:
    """Return a file's name with each number as `#`; of a name with a usual extension of DICOM the extension alone."""
    suffix = path.suffix.lower()
    return suffix if suffix in SUFFIXES[1:] else re.sub(r"[0-9]+", "#", path.name)


def _is_lost(path: Path) -> bool:
    """Return whether a file that may be a slice is not known as DICOM: damaged, unreadable, or a link to nothing."""
    return not path.name.startswith(".") and not path.is_dir() and not (path.is_file() and is_dicom(path))


def _is_cut_off(path: Path) -> bool:
    """Return whether a file is empty, or a preamble and nothing else."""
    if path.name.startswith(".") or not path.is_file() or path.stat().st_size >= MAGIC_AT + len(MAGIC):
        return False
    try:
        return not path.read_bytes().strip(b"\0DICM")
    except OSError:  # unreadable: see `_is_lost`
        return False


def is_synthetic(header: Any) -> bool:
    """Return whether a header says that its image was made by a network; pydicom 2 lacks the attribute's name."""
    element = header.get(SYNTHETIC_DATA)
    value = "" if element is None else element.value
    return (value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)).strip().upper() == "YES"


def why_no_volume(header: Any) -> str | None:
    """Say why a file is no part of a volume to translate, such as a localizer or a report; None if it may be one."""
    if header.SOPClassUID not in CLASSES:
        return f"{getattr(header.SOPClassUID, 'name', header.SOPClassUID)}, no CT or MR image"
    if is_synthetic(header):
        return "synthetic: the output of a network (SyntheticData)"
    for value in texts(header.get("ImageType")):
        if value.upper() in NO_VOLUMES:
            return f"{NO_VOLUMES[value.upper()]} (ImageType {value})"
    if found := LOCALIZER.search(str(header.get("SeriesDescription") or "")):
        return f"a localizer (SeriesDescription has {found.group()!r})"
    if (header.get("SamplesPerPixel") or 1) != 1 or not _is_grey(header):
        return f"a colour image ({header.get('PhotometricInterpretation')})"
    return None


def texts(value: Any) -> tuple[str, ...]:
    """Return the texts of an attribute that may have none, one or many."""
    if value is None or value == "":
        return ()
    return tuple(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else (str(value),)


def _is_grey(header: Any) -> bool:
    return str(header.get("PhotometricInterpretation") or "MONOCHROME2").startswith("MONOCHROME")


def safe_patient(header: Any) -> str:
    """Return the PatientID in characters that any file system takes; with a part of the patient's name, it is hashed.

    An anonymised image, whose name is its PatientID and has digits, has no name to hide.

    Args:
        header: header of a DICOM image.

    Example:
        >>> safe_patient({"PatientID": "P 1/2", "PatientName": "Doe^Jane"})
        'P-1-2'
        >>> safe_patient({"PatientID": "DOE1970", "PatientName": "Doe^Jane"})
        'patient-13315300'
    """
    patient = str(header.get("PatientID") or "").strip()
    if shows_patient(patient, header):
        return "patient-" + hashlib.sha256(patient.encode()).hexdigest()[:8]
    return _safe(patient) or "anonymous"


def safe_names(headers: Sequence[Any]) -> list[str]:
    """Name volumes `<PatientID>_<SeriesNumber>`, see `safe_patient`; equal names are numbered.

    Args:
        headers: one header per volume.

    Example:
        >>> safe_names([{"PatientID": "P1", "SeriesNumber": 3}, {"PatientID": "P1", "SeriesNumber": 3}, {}])
        ['P1_3_1', 'P1_3_2', 'anonymous_series']
    """
    numbers = [
        "series" if header.get("SeriesNumber") is None else str(header.get("SeriesNumber")) for header in headers
    ]
    names = [f"{safe_patient(header)}_{_safe(number)}" for header, number in zip(headers, numbers)]
    counts = Counter(names)
    places = {name: iter(range(1, count + 1)) for name, count in counts.items()}
    return [name if counts[name] == 1 else f"{name}_{next(places[name])}" for name in names]


def names_well(path: Path, header: Any) -> bool:
    """Return whether outputs can bear the name of a file or folder: no letter is lost, and no patient's name shown."""
    known = path.suffix.lower() in SUFFIXES if path.is_file() else not path.suffix
    return known and _safe(path.stem) == path.stem and not shows_patient(path.stem, header)


def shows_patient(text: str, header: Any) -> bool:
    """Return whether a text has a part of the patient's name."""
    name = str(header.get("PatientName") or "")
    if name == str(header.get("PatientID")) and any(letter.isdigit() for letter in name):
        return False
    parts = [part for part in re.split(r"[\W_]+", name.casefold()) if len(part) >= SHORTEST_PART]
    return any(part in text.casefold() for part in parts)


def checked_uid(header: Any, keyword: str) -> str:
    """Return a UID that becomes a name.

    Args:
        header: header of a DICOM image.
        keyword: keyword of the UID.

    Raises:
        ValueError: when it is not numbers separated by dots, of at most 64 characters (PS3.5, section 9.1).

    Example:
        >>> checked_uid({"SeriesInstanceUID": "1.2.840.1"}, "SeriesInstanceUID")
        '1.2.840.1'
    """
    uid = str(header.get(keyword) or "")
    if len(uid) > LONGEST_UID or not UID.fullmatch(uid):
        raise ValueError(
            f"{keyword} must be numbers separated by dots, of at most {LONGEST_UID} characters, got {shown(uid)}: the"
            " header was changed against the standard, so anonymise the series again with valid UIDs."
        )
    return uid


def _safe(text: str) -> str:
    return safe_name(text, longest=LONGEST)
