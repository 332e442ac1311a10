"""Which DICOM files are images to translate, and what the others are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

CLASSES = {  # PS3.4, B.5
    "1.2.840.10008.5.1.4.1.1.2": "CT",
    "1.2.840.10008.5.1.4.1.1.2.1": "CT",  # enhanced
    "1.2.840.10008.5.1.4.1.1.2.2": "CT",  # legacy converted enhanced
    "1.2.840.10008.5.1.4.1.1.4": "MR",
    "1.2.840.10008.5.1.4.1.1.4.1": "MR",
    "1.2.840.10008.5.1.4.1.1.4.4": "MR",
}
NO_VOLUMES = {
    **dict.fromkeys(("LOCALIZER", "SCOUT"), "a localizer"),
    **dict.fromkeys(("SCREEN SAVE", "SCREENSHOT", "DOSE_INFO"), "a picture of a screen or a dose report"),
    **dict.fromkeys(("PERFUSION", "PROJECTION IMAGE", "MIP", "MAX_IP", "MIN_IP"), "a map or projection"),
}  # by a value of ImageType
SYNTHETIC_DATA = 0x0008001C
LOCALIZER = re.compile(r"(?<![a-z])(locali[sz]er|scout|topogram|surview|scanogram|survey)(?![a-z])", re.IGNORECASE)


def is_synthetic(header: Any) -> bool:
    """Whether a header says that its image was made by a network; pydicom 2 does not know the attribute's name."""
    element = header.get(SYNTHETIC_DATA)
    value = "" if element is None else element.value
    return (value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)).strip().upper() == "YES"


def why_no_volume(header: Any) -> str | None:
    """Why a file is no part of a volume to translate, such as a localizer or a report; None if it may be one."""
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
    """An attribute of one or many texts."""
    if value is None or value == "":
        return ()
    return tuple(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else (str(value),)


def _is_grey(header: Any) -> bool:
    return str(header.get("PhotometricInterpretation") or "MONOCHROME2").startswith("MONOCHROME")
