"""Domains of DICOM series, derived from their headers: convolution kernel, contrast phase or MR sequence."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .found import Findings, FoundImage, check_domain, renamed, unwanted
from .series import series_below

SEQUENCES = ("T1", "T2", "PD", "FLAIR")
WORDS = {
    "FLAIR": r"flair|dark[ _-]?fluid",
    "T1": r"t1w?|mp2?rage|bravo|spgr",
    "T2": r"t2w?",
    "PD": r"pdw?|proton[ _-]?density",
}
OTHER = (
    r"t2[ _]?\*|t2[ _]?star|dwi|dti|diff[a-z]*|adc|trace[a-z]*|swi|swan|bold|epi|mra|tof|angio[a-z]*|"
    r"perf[a-z]*|asl|dsc|dce|stir|map|mapping|scout|loc|localizer|localiser|survey|fmri|haste|ciss|fiesta"
)
CONTRAST = r"gd|gad[a-z]*|post|c\+|ce|km|contrast"
WITHOUT = r"(pre|non|without|w/?o)[ _-]?(contrast|gd|km)"
START, END = r"(?<![a-z0-9])", r"(?![a-z0-9*])"
NO_AGENT = {"", "NO", "NONE", "N", "NEIN", "WITHOUT", "W/O", "0"}
ENHANCED = re.compile(
    r"(?<![a-z])(post[ _-]?(contrast|km|gd)|arteri\w*|portal\w*|ven(ous|oes|ös)\w*|with[ _]contrast|\+c|c\+)"
)
PLAIN = re.compile(
    r"(?<![a-z])(non[ _-]?(contrast|enhanced)|unenhanced|nativ\w*|without[ _]contrast|w/?o[ _]contrast|"
    r"pre[ _-]?contrast)"
)

Header = Mapping[str, Any]
Domain = tuple[str | None, str]  # name, or None and the reason


def sequence_of(header: Header) -> Domain:
    """Return T1, T2, PD or FLAIR, or None and the reason.

    SeriesDescription and ProtocolName are searched for keywords; EchoTime, RepetitionTime and InversionTime of spin
    echoes are compared with the ranges on which textbooks agree at 1.5 and 3 T, with gaps between them. One of the two
    sources suffices. Contradictions, two keywords that the times do not decide, and any sign of another contrast
    (diffusion, T2*, angiography, a contrast agent) leave the series without a domain.

    Args:
        header: Attributes of an MR series by keyword.

    Example:
        >>> sequence_of({"SeriesDescription": "t2_tse_tra", "EchoTime": 96, "RepetitionTime": 4500})
        ('T2', '')
        >>> sequence_of({"SeriesDescription": "ep2d_diff_3scan_trace"})
        (None, "'diff' in its description is none of T1, T2, PD, FLAIR")
    """
    text = f"{header.get('SeriesDescription') or ''} {header.get('ProtocolName') or ''}".lower()
    if match := re.search(rf"{START}({OTHER}){END}", text):
        return None, f"{match.group()!r} in its description is none of {', '.join(SEQUENCES)}"
    given = str(header.get("ContrastBolusAgent") or "").strip()
    if given or "+c" in text or re.search(rf"{START}({CONTRAST}){END}", re.sub(WITHOUT, "", text)):
        return None, "after contrast agent, by its header or description"
    said = _said(text)
    timed = _timed(header)
    times = f"TR {header.get('RepetitionTime')}, TE {header.get('EchoTime')}, TI {header.get('InversionTime')} ms"
    if timed is not None and said and timed not in said:
        return None, f"its description says {' and '.join(said)}, its times {timed} ({times})"
    if timed is not None or len(said) == 1:
        return timed or said[0], ""
    if said:
        return None, f"its description says {' and '.join(said)}, and its times do not decide ({times})"
    return None, f"its sequence is not recognised (description {text.strip()!r}, {times})"


def _said(text: str) -> list[str]:
    """Return the sequences that a description names; a FLAIR is also called T2."""
    said = [name for name in SEQUENCES if re.search(rf"{START}({WORDS[name]}){END}", text)]
    return ["FLAIR"] if said == ["T2", "FLAIR"] else said


def _timed(header: Header) -> str | None:
    """Return the weighting by the times of a spin echo; None in gaps and for gradient echoes (flip angle matters)."""
    kinds = header.get("ScanningSequence") or ()
    kinds = {str(kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)}
    try:
        repetition, echo = float(header["RepetitionTime"]), float(header.get("EchoTime") or header["EffectiveEchoTime"])
        inversion = float(header.get("InversionTime") or 0)
    except (KeyError, TypeError, ValueError):
        return None
    if "GR" in kinds or "EP" in kinds:
        return None
    if inversion or "IR" in kinds:
        return "FLAIR" if inversion >= 1500 and echo >= 70 and repetition >= 4000 else None
    if repetition <= 800 and echo <= 30:
        return "T1"
    if repetition >= 2000:
        return "T2" if echo >= 70 else "PD" if echo <= 35 else None
    return None


def kernel_of(header: Header) -> Domain:
    """Return the first value of ConvolutionKernel; a second one, as some scanners write, is a detail of the first."""
    value: Any = header.get("ConvolutionKernel") or ""
    name = str(value if isinstance(value, str) else value[0]).strip()
    return (name, "") if name else (None, "no ConvolutionKernel")


def contrast_of(header: Header) -> Domain:
    """Return CECT where the header names a contrast agent that was not only given orally or rectally, else NECT.

    The tag is often wrong: scanners copy it to all series of an examination, or leave it out. A series whose
    description contradicts the tag has no domain.
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
    """Find the DICOM series below a folder and the domains that their headers state; the patient is PatientID.

    Args:
        folder: Folder to search, at any depth.
        rule: `kernel`, `contrast` or `sequence`.
        names: Wanted domains, see `domain_names`.

    Returns:
        The series with a domain, and the reasons why others are left out.

    Raises:
        ValueError: If there is no such rule, or pydicom is not installed.
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
