"""Finding images by a pattern of file names with named parts: `{patient}_{domain}.nii.gz`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from .datalist import VOLUME_SUFFIXES
from .datalist_found import Findings, FoundImage, check_domain, renamed, unwanted, visible
from .dicom_files import is_dicom

PART = re.compile(r"\{(?P<name>\w*)\}|(?P<wild>\*\*/|\*\*|\*|\?)")
WILD = {"**/": r"(?:.*/)?", "**": r".*", "*": r"[^/]*", "?": r"[^/]"}


def compile_pattern(
    pattern: str, *, required: Sequence[str] = ("patient", "domain"), domains: Sequence[str] = ()
) -> re.Pattern[str]:
    """
    A pattern of paths below a folder as a regular expression.

    `{name}` is one or more characters of one folder or file name, the same ones where a name comes twice; of several
    the first is as long as possible. `*`, `?` and `**` are as in the shell.

    Args:
        pattern: with `/` between folders.
        required: names that it must have.
        domains: what `{domain}` may be; default: anything.

    Raises:
        ValueError: when a required name is missing, or a name is none.

    Example:
        >>> compile_pattern("{patient}/{domain}/*.nii.gz").fullmatch("p1/T1/brain.nii.gz").groupdict()
        {'patient': 'p1', 'domain': 'T1'}
    """
    expression, end, names = "", 0, set()
    for match in PART.finditer(pattern):
        expression += re.escape(pattern[end : match.start()])
        end, name = match.end(), match["name"]
        if name is None:
            expression += WILD[match["wild"]]
        elif not name.isidentifier():
            raise ValueError(f"Pattern {pattern!r}: {{{name}}} must hold a name such as {{patient}}, got {name!r}.")
        elif name in names:
            expression += f"(?P={name})"
        else:
            names.add(name)
            choice = "|".join(map(re.escape, domains)) if name == "domain" and domains else "[^/]+"
            expression += f"(?P<{name}>{choice})"
    for name in required:
        if name not in names:
            raise ValueError(
                f"Pattern {pattern!r} must have {' and '.join(f'{{{part}}}' for part in required)}, such as"
                f" '{'_'.join(f'{{{part}}}' for part in required)}.nii.gz'; {{{name}}} is missing."
            )
    return re.compile(expression + re.escape(pattern[end:]))


def find_by_pattern(
    folder: Path, pattern: str, *, names: Mapping[str, str] | None = None, labels: str | None = None
) -> Findings:
    """
    The NIfTI files, and folders of DICOM series, whose path below a folder matches.

    Args:
        folder: where to look, at any depth; hidden files are passed over.
        pattern: see `compile_pattern`.
        names: see `domain_names`.
        labels: the pattern of label maps, which are no images, see `attach_labels`.
    """
    wanted = compile_pattern(pattern.rstrip("/"), domains=sorted(names or (), key=len, reverse=True))
    any_domain = compile_pattern(pattern.rstrip("/"))
    label = compile_pattern(labels, required=["patient"]) if labels else None
    findings = Findings()
    for name in _candidates(folder, series=not pattern.lower().endswith(VOLUME_SUFFIXES)):
        if label and label.fullmatch(name):
            continue
        match = wanted.fullmatch(name)
        if match is None:
            other = any_domain.fullmatch(name)
            findings.left_out[name] = unwanted(other["domain"], names) if other and names else "does not match the rule"
            continue
        parts = match.groupdict()
        domain = renamed(parts.pop("domain"), names)
        assert domain is not None  # the expression has no other
        check_domain(domain)
        findings.images.append(FoundImage(folder / name, parts.pop("patient").strip(), domain, session=parts))
    return findings


def attach_labels(folder: Path, pattern: str, images: Sequence[FoundImage]) -> list[FoundImage]:
    """
    The images with the label maps of their patients.

    Args:
        folder: where to look.
        pattern: with `{patient}`, and maybe further names of the images' own pattern, which must agree.
        images: found by any rule.

    Raises:
        ValueError: when the pattern has `{domain}`, matches no file, or two of one patient.
    """
    expression = compile_pattern(pattern, required=["patient"])
    shared = set(expression.groupindex) - {"patient"}
    known = {name for image in images for name in image.session}
    if shared - known:
        raise ValueError(
            f"`label` {pattern!r} names {{{', '.join(sorted(shared - known))}}}, which `rule` does not: a label map"
            " belongs to a patient, for all of its domains. Use `*` there."
        )
    labels: dict[tuple[str, ...], Path] = {}
    for name in _candidates(folder, series=False):
        if match := expression.fullmatch(name):
            key = (match["patient"].strip(), *(match[part] for part in sorted(shared)))
            if key in labels:
                raise ValueError(f"`label` {pattern!r} matches {labels[key].name} and {name} for {' '.join(key)!r}.")
            labels[key] = folder / name
    if not labels:
        raise ValueError(f"`label` {pattern!r} matches no file in {str(folder)!r}.")
    keys = [(image.patient, *(image.session.get(part, "") for part in sorted(shared))) for image in images]
    return [replace(image, label=labels.get(key, image.label)) for image, key in zip(images, keys)]


def _candidates(folder: Path, *, series: bool) -> Iterator[str]:
    """Paths below a folder, with `/`: NIfTI files and, if asked for, folders without one that hold DICOM files."""
    for root, folders, files in os.walk(folder):
        folders[:] = visible(folders)
        place = Path(root).relative_to(folder)
        volumes = [name for name in visible(files) if name.lower().endswith(VOLUME_SUFFIXES)]
        yield from ((place / name).as_posix() for name in volumes)
        if series and not volumes and any(is_dicom(Path(root, name)) for name in visible(files)):
            yield place.as_posix()
