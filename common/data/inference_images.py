"""Find the images of an inference: NIfTI, MGH, NRRD and MetaImage files, and volumes in DICOM files and zips."""

from __future__ import annotations

import glob
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..dicom.files import dicom_among, dicom_files, names_well, require_pydicom, safe_names
from ..dicom.reader import item_of
from ..dicom.series import find_volumes
from ..dicom.zip_files import unpacked
from ..files import walk
from ..images.names import MAP_SUFFIX
from ..images.nifti import MGH_SUFFIXES, PAIR_SUFFIXES, VOLUME_SUFFIXES, absent
from ..images.slicer import SLICER_SUFFIXES
from .datalist import DATALIST_NAME, image_of, load_datalist

logger = logging.getLogger(__name__)
SUFFIXES = (*VOLUME_SUFFIXES, *MGH_SUFFIXES, *SLICER_SUFFIXES)
UNREAD = PAIR_SUFFIXES[:1]  # `.img`, which is refused by name; its header beside it is not named a second time


def find_images(
    dataset_dir: str | Path, *, domain: str | None = None, modality: str | None = None
) -> list[dict[str, Any]]:
    """Find the images that an inference translates.

    Args:
        dataset_dir: One of: an image file; a folder of images; DICOM files of any names, of one or many series, in a
            folder at any depth; one DICOM file, single-frame or enhanced; a zip of any of these; a pattern such as
            `scans/*T1*`; a folder with a `datalist.json`, whose `test` list is used.
        domain: Key of the source domain in the datalist.
        modality: `CT` or `MR`: DICOM series of other modalities are skipped; default: all are used.

    Returns:
        Items `{"image": path}` or, for a DICOM volume without a path of its own, `{"image": [name, file, ...]}`: `name`
        is a path below `dataset_dir`, made of PatientID and SeriesNumber, after which the output is named.

    Raises:
        FileNotFoundError: If nothing is found.
        ValueError: If there is DICOM but no volume to translate, or pydicom is not installed.
    """
    path = Path(dataset_dir)
    if not path.exists():
        if path.is_symlink():
            raise FileNotFoundError(f"{absent(path)}.")
        return _of_pattern(str(dataset_dir), domain, modality)
    if path.is_file() and path.suffix != ".json" and path.name.upper() != "DICOMDIR":
        return _of_file(path, modality)
    if path.suffix == ".json" or (path / DATALIST_NAME).is_file():
        entries = load_datalist(path, "test")
        fits = [domain is None or domain in e or e.get("domain") in (None, domain) for e in entries]
        mine = [entry for entry, fit in zip(entries, fits) if fit]
        if left := [str(entry.get("patient")) for entry, fit in zip(entries, fits) if not fit]:
            logger.warning(f"The test images of {', '.join(left)} are left out: by the datalist they are not {domain}.")
        if not mine:
            raise ValueError(
                f"The test list of the datalist in {str(dataset_dir)!r} has no image of the source domain {domain!r};"
                f" its entries have the domains {sorted({str(entry.get('domain')) for entry in entries})}."
            )
        return [{"image": _source(entry, domain, str(path))} for entry in mine]
    return _of_folder(path, path, modality)


def find_conversions(
    dataset_dir: str | Path, domains: Sequence[str], target: str | Mapping[str, float], *, source: str | None = None
) -> list[dict[str, str]]:
    """Find the images that an inference between several domains converts.

    The `test` list of a datalist states each image's domain. Of a patient with one volume per domain, those of
    `source` are used or, without it, all but the target's; a patient without any is left out with a warning. Images
    without a datalist (a file, a folder, a pattern) have no `domain`.

    Args:
        dataset_dir: Data to convert, see `find_images`.
        domains: Names of the network's domains.
        target: A domain, or the weights of a blend.
        source: The only domain to convert, if given.

    Returns:
        Items `{"image": path, "domain": name}`.

    Raises:
        FileNotFoundError: If nothing is found.
        ValueError: If the test list has nothing to convert, or an entry has no image of any domain.
    """
    path = Path(dataset_dir)
    if not (path.suffix == ".json" and path.is_file()) and not (path / DATALIST_NAME).is_file():
        return find_images(dataset_dir)
    wanted = [source] if source is not None else [domain for domain in domains if domain != target]
    entries = load_datalist(path, "test")
    found = [item for entry in entries for item in _images(entry, domains, wanted)]
    if not found:
        raise ValueError(
            f"The test list of the datalist in {str(dataset_dir)!r} has no image of the kernels {wanted} to convert to"
            f" {target!r}. Choose another `--target` or `--source`."
        )
    if source is None and any("image" not in entry for entry in entries):
        kinds = [domain for domain in wanted if any(item.get("domain") == domain for item in found)]
        logger.info(
            f"{str(dataset_dir)!r} has a datalist: all of its test images with the kernels {', '.join(kinds)} are"
            " converted. Give `--source` for one kernel only."
        )
    return found


def common_folder(items: Sequence[dict[str, Any]], keys: str | Sequence[str] = "image") -> str:
    """Return the deepest folder that holds all images; outputs keep the path below it, so that names do not collide.

    Args:
        items: Data items with paths of images, or lists that begin with a name, under some of `keys`.
        keys: Keys of the images in an item.

    Raises:
        ValueError: If no item has an image.
    """
    names = [keys] if isinstance(keys, str) else keys
    images = [item[name] for item in items for name in names if name in item]
    if not images:
        raise ValueError(
            f"None of the {len(items)} entries names a volume under {' or '.join(map(repr, names))}, but under"
            f" {sorted({name for item in items for name in item})}. An entry that is evaluated names its source and its"
            f" true target, on one grid, by their domains (docs/data.md); one without a truth can only be translated."
        )
    paths = [image if isinstance(image, (str, Path)) else image[0] for image in images]
    return os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])


def _of_pattern(pattern: str, domain: str | None, modality: str | None) -> list[dict[str, Any]]:
    found = [Path(name) for name in sorted(glob.glob(pattern, recursive=True))]
    if not found:
        windows = " Write its path with '/', or in quotes." if "\\" in pattern else ""
        raise FileNotFoundError(
            f"`dataset_dir` {pattern!r} is neither a file nor a folder, and matches none as a pattern.{windows}"
            " Give a NIfTI file, a folder of them, or a DICOM series folder."
        )
    slices = [path for path in found if path.is_file() and not _is_volume(path) and dicom_files(path)]
    taken, items = set(slices), []
    others = [path for path in found if path not in taken]
    for path in others:
        if path.is_dir() and any(other != path and path in other.parents for other in found):
            continue  # `**` matches a folder and what it holds
        if path.is_symlink() and not path.exists():
            items += [{"image": str(path)}]
        elif not path.is_file() or _is_volume(path) or _is_container(path):
            items += find_images(path, domain=domain, modality=modality)
        elif slices and path in dicom_among(found):
            slices.append(path)  # a lost slice
        elif path.suffix.lower() in UNREAD or len(found) == 1:
            items += [{"image": str(path)}]
        else:
            logger.info(f"Skipped {str(path)!r}: no image by its name and content.")
    root = Path(os.path.commonpath([path.parent for path in found]))
    return _not_ours(items) + (_of_dicom(slices, root, modality) if slices else [])


def _is_container(path: Path) -> bool:
    return path.suffix.lower() in (".zip", ".json") or path.name.upper() == "DICOMDIR"


def _of_file(path: Path, modality: str | None) -> list[dict[str, Any]]:
    if path.suffix.lower() == ".zip":
        return _of_folder(unpacked(path), path, modality)
    if not _is_volume(path) and dicom_files(path):
        return _of_dicom([path], path, modality)
    return [{"image": str(path)}]


def _of_folder(folder: Path, root: Path, modality: str | None) -> list[dict[str, Any]]:
    """Find the images of a folder; `root` is what the user named: the folder, or the zip that it was unpacked from.

    What cannot be read is an item as well, which fails when it is loaded: the others are translated, and the run ends
    with an error that names it.
    """
    unlisted: list[OSError] = []
    dicom: list[Path] = []
    volumes: list[Path] = []
    zips: list[Path] = []
    for place, names in walk(folder, onerror=unlisted.append):
        files = [place / name for name in names]
        dicom += (found := dicom_among(files))
        if any(part.startswith(".") for part in place.relative_to(folder).parts):
            continue  # what a killed process left behind
        shown = [file for file in files if not file.name.startswith(".") and file not in set(found)]
        volumes += [file for file in shown if _is_volume(file) or file.suffix.lower() in UNREAD]
        zips += [file for file in shown if file.suffix.lower() == ".zip"]
    items = _not_ours([{"image": str(path)} for path in sorted(volumes)])
    items += [{"image": str(error.filename)} for error in unlisted]
    items += [item for archive in sorted(zips) for item in _of_zip(archive, modality)]
    if not items and not dicom:
        if volumes:
            raise ValueError(f"{str(root)!r} holds only outputs of a bundle, which are not translated again.")
        raise FileNotFoundError(
            f"{str(root)!r} holds no image: expected files ending in {', '.join(SUFFIXES)}, or the DICOM files of"
            " one or more series."
        )
    if dicom:
        try:
            items += _of_dicom(dicom, root, modality, beside=bool(items))
        except ValueError as error:
            if not items:
                raise
            logger.warning(f"Its DICOM files are left out. {error}")
    return items


def _of_zip(archive: Path, modality: str | None) -> list[dict[str, Any]]:
    """Find the images of a zip that lies among others; one that has none, or cannot be unpacked, is named."""
    try:
        return _of_file(archive, modality)
    except FileNotFoundError as error:
        logger.info(f"Skipped {archive.name}: {error}")
        return []
    except ValueError as error:
        logger.warning(str(error))
        return [{"image": str(archive)}]  # fails again when it is loaded


def _not_ours(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out what a bundle wrote, as its sidecar says, into a folder that is translated again."""
    kept = [item for item in items if not _is_output(Path(str(item["image"])))]
    if left := len(items) - len(kept):
        logger.info(f"Skipped {left} images that a bundle wrote, as the sidecars beside them say.")
    return kept


def _is_output(path: Path) -> bool:
    if "_synthetic_" not in path.name:
        return False
    name = path.name.removesuffix(".gz").removesuffix(".nii").removesuffix(MAP_SUFFIX)
    sidecar = path.with_name(f"{name}.json")
    try:
        facts = json.loads(sidecar.read_text(encoding="utf-8"))
        return any(entry.get("file") == path.name for entry in facts["output"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _of_dicom(files: Sequence[Path], root: Path, modality: str | None, *, beside: bool = False) -> list[dict[str, Any]]:
    """Find the volumes in DICOM files; `beside`: whether there are other images, so that none may bear root's name."""
    require_pydicom()
    found = find_volumes(files, keep=True)
    found.log()
    volumes = [volume for volume in found.volumes if modality in (None, volume.modality)]
    for volume in found.volumes:
        if volume not in volumes:
            logger.info(f"Skipped {volume}: the bundle is for {modality}.")
    if not volumes:
        raise ValueError(f"{str(root)!r} holds no {modality or 'CT or MR'} volume to translate: {found.reasons}")
    alone = len(found.volumes) == 1 and not found.damaged and not beside and (root.is_dir() or root in files)
    if alone and names_well(root, volumes[0].header):
        return [{"image": str(root)}]
    parent = root.parent if root in files else root
    names = safe_names([volume.header for volume in volumes])
    items: list[dict[str, Any]] = [{"image": item_of(volume, parent / n)} for volume, n in zip(volumes, names)]
    belonging = {file for volume in found.volumes for file in volume.damaged}
    return items + [{"image": str(file)} for file in found.damaged if file not in belonging]  # of no volume: they fail


def _is_volume(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES)


def _source(entry: dict[str, Any], domain: str | None, place: str) -> str:
    for name in (domain, "image"):
        if name is not None and name in entry:
            return image_of(entry, name, place)
    raise ValueError(
        f"The datalist's test entry of patient {entry.get('patient')!r} has no image of the source domain {domain!r};"
        f" it has {sorted(entry)}."
    )


def _images(entry: Mapping[str, Any], domains: Sequence[str], wanted: Sequence[str]) -> list[dict[str, str]]:
    """Return the images of an entry: one image of any domain, or one for each of the wanted domains."""
    of_domains = [domain for domain in wanted if domain in entry]
    if of_domains:
        return [{"image": str(entry[domain]), "domain": domain} for domain in of_domains]
    if "image" in entry:
        domain = entry.get("domain")
        return [{"image": str(entry["image"]), **({} if domain is None else {"domain": str(domain)})}]
    if any(domain in entry for domain in domains):
        logger.warning(f"Patient {entry.get('patient')!r} has no image of the kernels {list(wanted)}: left out.")
        return []
    raise ValueError(
        f"The datalist's test entry of patient {entry.get('patient')!r} must have an `image`, or one for each of the"
        f" kernels {list(domains)}; it has {sorted(entry)}. Correct the entry (docs/data.md)."
    )
