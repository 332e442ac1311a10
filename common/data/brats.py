"""The data of NEC's paper: one axial slice per subject of a BraTS training set, split in lexicographic order."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from torch.nn.functional import interpolate
from tqdm import tqdm

from ..files import read_json, write_bytes, write_json
from ..images.grids import finer_affine
from .datalist import DATALIST_NAME

ENDINGS = {"T1": ("-t1n", "_t1"), "T2": ("-t2w", "_t2")}  # of BraTS 2023 and of the challenges before
PARTS = ("T1 for training", "T2 for training", "validation", "test")


def prepare_brats(
    folder: str | Path | None,
    output_dir: str | Path,
    *,
    subjects: Sequence[int] = (400, 400, 10, 441),
    axial_slice: int = 80,
    side: int = 256,
) -> Path:
    """Write the slices of NEC's paper and their datalist; what is there already is kept.

    Jaouen, Conze, Visvikis, "One-sided unsupervised medical image synthesis with normalized edge consistency", ISBI
    2024, section 3: of the 1251 subjects of the BraTS 2023 adult glioma training set the first 400 images are the T1
    for training, the next 400 the T2, the next 10 validation, the next 441 test, in lexicographic order; slice 80 of
    155, resampled to 256 x 256 trilinearly. The first 400 are also `training_paired`, as the paper's Pix2Pix has them.

    Args:
        folder: Folder with one folder per subject, of the subject's name, which holds `NAME-t1n.nii.gz` and
            `NAME-t2w.nii.gz` (BraTS 2023) or `NAME_t1.nii.gz` and `NAME_t2.nii.gz` (before).
        output_dir: Folder for the slices, volumes of one slice in the intensities of their files.
        subjects: Numbers of subjects for T1, for T2, for validation and for test.
        axial_slice: Number of the slice, counted from 1.
        side: Pixels along each side of a slice.

    Returns:
        Path of the datalist.

    Raises:
        FileNotFoundError: If the folder, or an image of a subject, is not there.
        ValueError: If there are too few subjects, a volume has too few slices, or its last axis is not axial, or
            `output_dir` holds slices of other settings.
    """
    path = Path(output_dir) / DATALIST_NAME
    numbers = [int(number) for number in subjects]
    setting = {"subjects": numbers, "axial_slice": int(axial_slice), "side": int(side)}
    if path.is_file():
        written = read_json(path, cure="delete the folder, and its slices are written again").get("parameters")
        if written != setting:
            raise ValueError(
                f"{str(output_dir)!r} must hold slices of the same setting, {setting}, got {written}: choose another"
                " `dataset_dir`, or delete that folder."
            )
        return path
    if folder is None:
        raise ValueError("`brats_dir` must be given: the folder of the BraTS training set, one folder per subject.")
    names = _subjects(Path(folder), numbers)
    ends = np.cumsum([0, *numbers])
    source, target, validation, test = (names[first:last] for first, last in pairwise(ends))
    needed = [(name, "T1") for name in source] + [(name, "T2") for name in source + target]
    needed += [(name, domain) for name in validation + test for domain in ENDINGS]
    for name, domain in tqdm(needed, desc="BraTS slices", unit="slice"):
        image = _slice(_image_of(Path(folder) / name, domain), axial_slice, side)
        write_bytes(path.parent / _file(name, domain), gzip.compress(image.to_bytes(), mtime=0))
    pairs = [
        [{"patient": name, **{domain: _file(name, domain) for domain in ENDINGS}} for name in part]
        for part in (source, validation, test)
    ]
    content = {
        "name": "BraTS, one slice per subject",
        "parameters": setting,
        "training": [
            {"image": _file(name, domain), "domain": domain, "patient": name}
            for domain, part in (("T1", source), ("T2", target))
            for name in part
        ],
        **dict(zip(("training_paired", "validation", "test"), pairs)),
    }
    return write_json(path, content)  # last: where it is, the slices are complete


def _subjects(folder: Path, numbers: Sequence[int]) -> list[str]:
    """Return the names of the subjects' folders, sorted."""
    if not folder.is_dir():
        raise FileNotFoundError(f"`brats_dir` must be the folder of the BraTS training set, got {str(folder)!r}.")
    if len(numbers) != len(PARTS) or min(numbers) < 1:
        raise ValueError(
            f"`subjects` must be the numbers >= 1 of subjects for {', '.join(PARTS)}, got {list(numbers)}."
        )
    names = sorted(each.name for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))
    if len(names) < sum(numbers):
        raise ValueError(
            f"{str(folder)!r} must hold one folder for each of {sum(numbers)} subjects, got {len(names)}: choose fewer"
            ' with `--subjects "[T1, T2, VALIDATION, TEST]"`.'
        )
    return names


def _image_of(subject: Path, domain: str) -> Path:
    candidates = [subject / f"{subject.name}{end}{kind}" for end in ENDINGS[domain] for kind in (".nii.gz", ".nii")]
    found = [path for path in candidates if path.is_file()]
    if not found:
        raise FileNotFoundError(
            f"{str(subject)!r} must hold the {domain}-weighted image of the subject, {candidates[0].name} or"
            f" {candidates[2].name}, got neither."
        )
    return found[0]


def _slice(path: Path, number: int, side: int) -> nib.Nifti1Image:
    """Read one axial slice and resample it to `side` x `side` pixels over the same field."""
    volume: Any = nib.load(path)
    if nib.aff2axcodes(volume.affine)[2] not in ("S", "I"):
        raise ValueError(f"{path} must have axial slices along its last axis, got {nib.aff2axcodes(volume.affine)}.")
    if len(volume.shape) != 3 or volume.shape[0] != volume.shape[1] or not 1 <= number <= volume.shape[2]:
        raise ValueError(
            f"{path} must be a volume of square slices with a slice {number}, counted from 1 (`axial_slice`), got the"
            f" shape {volume.shape}."
        )
    pixels = torch.tensor(np.asarray(volume.dataobj[..., number - 1], dtype=np.float32))
    resized = interpolate(pixels[None, None], size=(side, side), mode="bilinear", align_corners=False)[0, 0]
    affine = finer_affine(volume.affine, side / volume.shape[0], (0, 0, number - 1))
    return nib.Nifti1Image(resized[..., None].numpy(), affine)


def _file(name: str, domain: str) -> str:
    return f"{name}_{domain}.nii.gz"
