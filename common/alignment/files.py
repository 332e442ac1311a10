"""Align files: each pair leaves a volume, a mask and a sidecar, all or none of them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from tqdm import tqdm

from .. import __version__
from ..data.inference_images import SUFFIXES, common_folder, find_images
from ..errors import EXPECTED, causes, disk_full_names, own_error
from ..files import Staging, checksum, read_json, write_json
from ..images.nifti import set_space, space_codes
from ..images.registration import require_simpleitk
from .volumes import DEFAULT, Options, align_volumes, check_options, load

NOTICE = "RESEARCH USE ONLY, not for diagnosis: a resampled image. That it became more similar proves no alignment."


class Pair(NamedTuple):
    """A pair to align: items of MONAI (a path, or a name and DICOM files) and the name of the outputs."""

    fixed: Any
    moving: Any
    name: str


class Aligned(NamedTuple):
    """Outputs of a pair: the volume, the mask of what was measured, the sidecar and its verdict."""

    volume: Path
    mask: Path
    sidecar: Path
    verdict: str


def align_files(fixed: str, moving: str, output_dir: str | Path, *, options: Options = DEFAULT) -> list[Aligned]:
    """Align one volume with another, or those of two folders.

    Args:
        fixed: A volume, or several, as `common.data.find_images` takes them: a file, a folder, a DICOM series, a zip.
        moving: As many volumes. Several are paired by equal paths below their folders, without extensions.
        output_dir: Folder of the outputs, see `align_pairs`.
        options: Options of the alignment.

    Raises:
        ValueError: If the volumes cannot be paired, or see `align_pairs`.
    """
    items = [find_images(place) for place in (fixed, moving)]
    if len(items[0]) == len(items[1]) == 1:
        (first,), (second,) = items
        return align_pairs(
            [Pair(first["image"], second["image"], _stem(second["image"]).name)], output_dir, options=options
        )
    named = []
    for found in items:
        folder = common_folder(found)
        named.append({_stem(item["image"]).relative_to(folder).as_posix(): item["image"] for item in found})
    alone = [
        f"{name!r} of {place!r}"
        for own, other, place in zip(named, named[::-1], (fixed, moving))
        for name in own
        if name not in other
    ]
    if alone:
        raise ValueError(
            f"`fixed` and `moving` must hold volumes of the same names, but {', '.join(alone[:5])} has no partner:"
            " rename them, give one pair, or a datalist by `--data`."
        )
    return align_pairs([Pair(named[0][name], named[1][name], name) for name in named[0]], output_dir, options=options)


def align_pairs(pairs: Sequence[Pair], output_dir: str | Path, *, options: Options = DEFAULT) -> list[Aligned]:
    """Align pairs of volumes, with a progress bar; those of the same files and options that are there are kept.

    Each pair leaves `NAME_aligned.nii.gz` on the fixed volume's grid (int16 HU, or float32), `NAME_aligned_mask.nii.gz`
    (1 where the moving volume was measured) and `NAME_aligned.json`, all or none of them.

    Args:
        pairs: Pairs with different names.
        output_dir: Folder of the outputs.
        options: Options of the alignment.

    Returns:
        Outputs of each pair.

    Raises:
        ValueError: If SimpleITK is not installed or an option is out of range; at the end, if pairs failed: the
            message names each.
    """
    require_simpleitk()
    check_options(options)
    made, failed = [], []
    with tqdm(total=len(pairs), desc="aligning", unit="pair") as progress:
        for pair in pairs:
            try:
                made.append(_align_pair(pair, Path(output_dir), options, step=progress.set_postfix_str))
            except Exception as error:
                if len(pairs) == 1 or not isinstance(own_error(error) or error, EXPECTED):
                    raise own_error(error) or error from None
                failed.append(f"{pair.name}: {own_error(error) or list(causes(error))[-1]}")
            progress.update()
    if failed:
        lines = "".join(f"\n  {line}" for line in failed)
        raise ValueError(f"{len(failed)} of {len(pairs)} pairs could not be aligned and have no output. Failed:{lines}")
    return made


def _align_pair(pair: Pair, out: Path, options: Options, *, step: Callable[[str], Any]) -> Aligned:
    base = out / f"{pair.name}_aligned"
    files = [base.with_name(f"{base.name}{end}") for end in (".nii.gz", "_mask.nii.gz", ".json")]
    request = {
        "fixed": _identity(pair.fixed),
        "moving": _identity(pair.moving),
        "options": options._asdict(),
        "versions": {"common": __version__, "SimpleITK": require_simpleitk().Version.VersionString()},
    }
    if all(map(Path.is_file, files)) and (there := read_json(files[2])).get("request") == request:
        return Aligned(files[0], files[1], files[2], str(there["verdict"]))
    fixed, moving = load(pair.fixed), load(pair.moving)
    aligned, inside, facts, _ = align_volumes(fixed, moving, options=options, step=step)
    values = np.rint(aligned).astype(np.int16) if moving.hu else aligned
    with disk_full_names(files[0]), Staging(out) as staging:
        places = [staging.place(file) for file in files]
        places[0].parent.mkdir(parents=True, exist_ok=True)
        for place, content in zip(places, (values, inside.astype(np.uint8))):
            image = nib.Nifti1Image(content, fixed.affine)
            set_space(image, fixed.affine, space_codes(fixed.meta))
            nib.save(image, place)
        outputs = [{"file": place.name, "sha256": checksum(place)} for place in places[:2]]
        write_json(places[2], {"notice": NOTICE, **facts, "request": request, "output": outputs})
        staging.publish(places)
    return Aligned(files[0], files[1], files[2], str(facts["verdict"]))


def _identity(item: Any) -> dict[str, Any]:
    """Return name and checksum of a volume's files."""
    if isinstance(item, (str, os.PathLike)):
        path = Path(item)
        files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    else:
        path, files = Path(item[0]), [Path(str(part).partition("?")[0]) for part in item[1:]]
    if files == [path]:
        return {"name": path.name, "sha256": checksum(path)}
    digests = json.dumps([checksum(file) for file in files])
    return {"name": path.name, "files": len(files), "sha256": hashlib.sha256(digests.encode()).hexdigest()}


def _stem(item: Any) -> Path:
    """Return the absolute path of a volume without its extension, or the name of a DICOM volume."""
    path = Path(os.path.abspath(item if isinstance(item, (str, os.PathLike)) else item[0]))
    end = max((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), key=len, default="")
    return path.with_name(path.name[: len(path.name) - len(end)])
