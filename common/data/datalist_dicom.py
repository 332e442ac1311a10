"""The domain of a DICOM series: its kernel, its contrast agent or its sequence."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .datalist_found import Findings, FoundImage, check_domain, renamed, unwanted
from .datalist_sequence import sequence_of
from .datalist_series import series_below

NO_AGENT = {"", "NO", "NONE", "N", "NEIN", "WITHOUT", "W/O", "0"}
ENHANCED = re.compile(
    r"(?<![a-z])(post[ _-]?(contrast|km|gd)|arteri\w*|portal\w*|ven(ous|oes|ös)\w*|with[ _]contrast|\+c|c\+)"
)
PLAIN = re.compile(
    r"(?<![a-z])(non[ _-]?(contrast|enhanced)|unenhanced|nativ\w*|without[ _]contrast|w/?o[ _]contrast|"
    r"pre[ _-]?contrast)"
)

Header = Mapping[str, Any]
Domain = tuple[str | None, str]  # or None, and why


def kernel_of(header: Header) -> Domain:
    """The first value of ConvolutionKernel; a second one, as some scanners write, is a detail of the first."""
    value: Any = header.get("ConvolutionKernel") or ""
    name = str(value if isinstance(value, str) else value[0]).strip()
    return (name, "") if name else (None, "no ConvolutionKernel")


def contrast_of(header: Header) -> Domain:
    """
    CECT where a contrast agent is named that was not only swallowed, else NECT.

    The tag is often wrong: scanners copy it to all series of an examination, or leave it out. A series whose
    description contradicts it has no domain.
    """
    agent = str(header.get("ContrastBolusAgent") or "").strip()
    route = str(header.get("ContrastBolusRoute") or "").upper()
    text = f"{header.get('SeriesDescription') or ''} {header.get('ProtocolName') or ''}".lower()
    plain, enhanced = PLAIN.search(text), ENHANCED.search(PLAIN.sub(" ", text))
    if agent.upper() not in NO_AGENT:
        if any(word in route for word in ("ORAL", "RECTAL")):
            return None, f"contrast agent by the route {route!r}: neither plain nor enhanced"
        if plain and not enhanced:
            return None, f"names a contrast agent, but its description says {plain.group()!r}"
        return "CECT", ""
    if enhanced and not plain:
        return None, f"names no contrast agent, but its description says {enhanced.group()!r}"
    return "NECT", ""


HEADER_RULES: Mapping[str, tuple[str, Callable[[Header], Domain]]] = {
    "kernel": ("CT", kernel_of),
    "contrast": ("CT", contrast_of),
    "sequence": ("MR", sequence_of),
}


def find_in_dicom(folder: Path, rule: str, *, names: Mapping[str, str] | None = None) -> Findings:
    """
    The DICOM series below a folder, with the domain that their headers state; the patient is PatientID.

    Args:
        folder: where to look, at any depth.
        rule: `kernel`, `contrast` or `sequence`.
        names: see `domain_names`.

    Raises:
        ValueError: when there is no such rule, or pydicom is not installed.
    """
    if rule not in HEADER_RULES:
        raise ValueError(f"`rule` 'dicom:{rule}' must be one of {', '.join(f'dicom:{name}' for name in HEADER_RULES)}.")
    modality, domain_of = HEADER_RULES[rule]
    series, left_out = series_below(folder)
    findings = Findings(left_out=left_out)
    for one in series:
        place = one.place.relative_to(folder).as_posix()
        patient = str(one.header.get("PatientID") or "").strip()
        if not patient:
            findings.left_out[place] = "it has no PatientID, and a split is by patient"
            continue
        if one.header.get("Modality") != modality:
            findings.left_out[place] = f"modality {one.header.get('Modality')}, and dicom:{rule} is for {modality}"
            continue
        found, why = domain_of(one.header)
        domain = renamed(found, names) if found else None
        if found is None or domain is None:
            findings.left_out[place] = why if found is None else unwanted(found, names or {})
            continue
        check_domain(domain)
        study = {"study": str(one.header.get("StudyInstanceUID", ""))}
        findings.images.append(FoundImage(one.place, patient, domain, session=study, facts=one.facts))
    return findings
