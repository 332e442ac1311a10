"""Names for outputs and messages from DICOM headers: telling, valid everywhere, and never with the patient's name."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SHORTEST_PART = 3  # letters of a part of a patient's name that must not be shown
LONGEST = 48
SUFFIXES = ("", ".dcm", ".dicom", ".ima")  # MONAI drops what follows a name's last dot


def safe_patient(header: Any) -> str:
    """
    The PatientID in characters that any file system takes; one with a part of the patient's name becomes a number.

    An anonymised image, whose name is its PatientID and has digits, has no name to hide.

    Args:
        header: of a DICOM image.

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
    """
    `<PatientID>_<SeriesNumber>` of each volume's header, see `safe_patient`; equal names are numbered.

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
    """Whether the name of a file or a folder can be that of the outputs: nothing is lost of it, and nothing told."""
    known = path.suffix.lower() in SUFFIXES if path.is_file() else not path.suffix
    return known and _safe(path.stem) == path.stem and not shows_patient(path.stem, header)


def shows_patient(text: str, header: Any) -> bool:
    """Whether a text has a part of the patient's name."""
    name = str(header.get("PatientName") or "")
    if name == str(header.get("PatientID")) and any(letter.isdigit() for letter in name):
        return False
    parts = [part for part in re.split(r"[\W_]+", name.casefold()) if len(part) >= SHORTEST_PART]
    return any(part in text.casefold() for part in parts)


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-")[:LONGEST]
