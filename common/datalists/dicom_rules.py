"""Domains of DICOM series, derived from their headers: convolution kernel, contrast phase or MR sequence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from ..dicom.content import Domain, Header, contrast_of, kernel_of, sequence_of
from .found import Findings, FoundImage, check_domain, renamed, unwanted
from .series import series_below

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
