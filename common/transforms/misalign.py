"""Simulated misalignment: volumes perturbed by a small random affine transform per patient."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.functional import affine_grid, grid_sample

BACKGROUND = -1.0  # background of an encoded volume
UNKNOWN = "?"  # patient in `common.data.load_domain` without a name


def misalign(volume: torch.Tensor, k: float, seed: int, *, patient: str) -> torch.Tensor:
    """Perturb an encoded volume by the affine transform I + kU of `random_affine`; trilinear.

    Seo et al., "Neural contrast enhancement of CT image", IEEE WACV 2021, section 4.4.1, simulates misalignment by
    transforms of 4 x 4 elements in coordinates that it does not state. Here they are normalised: -1 and 1 are the outer
    faces of the volume along each axis, so that k = 0.02 moves a voxel of a field of 256 mm by 2.6 mm at most for each
    element. The perturbed volume shows at a place p what the volume had at (I + kU) p. Outside the field in the plane
    it is background; above the last and below the first slice it repeats that slice, since the head continues there.

    Args:
        volume: Volume of shape (C, X, Y, Z) in [-1, 1], axial slices along Z.
        k: Degree of distortion; 0 returns the volume as it is.
        seed: Seed of the draw, together with `patient`; the same U for every k.
        patient: Name of the patient.

    Returns:
        Plain tensor of shape (C, X, Y, Z).

    Raises:
        ValueError: If the volume has another number of dimensions, or `k` is negative or not finite.

    Example:
        >>> volume = torch.rand(1, 8, 8, 4) * 2 - 1
        >>> torch.equal(misalign(volume, 0.0, 0, patient="p001"), volume)
        True
        >>> torch.equal(misalign(volume, 0.02, 0, patient="p001"), misalign(volume, 0.02, 0, patient="p002"))
        False
    """
    if volume.dim() != 4:
        raise ValueError(f"`volume` must have the shape (C, X, Y, Z), got {tuple(volume.shape)}.")
    matrix = random_affine(k, seed, patient=patient)
    plain = torch.as_tensor(volume).as_subclass(torch.Tensor)
    if k == 0:
        return plain
    reversed_axes = np.concatenate([matrix[2::-1, 2::-1], matrix[2::-1, 3:]], axis=1)  # torch names the last axis first
    theta = torch.as_tensor(reversed_axes.copy(), dtype=plain.dtype, device=plain.device)[None]
    grid = affine_grid(theta, [1, *plain.shape], align_corners=False)
    last = 1 - 1 / plain.shape[-1]  # centre of the last slice
    grid = torch.cat([grid[..., :1].clamp(-last, last), grid[..., 1:]], dim=-1)
    return grid_sample(plain[None] - BACKGROUND, grid, align_corners=False)[0] + BACKGROUND


def misalign_patients(
    volumes: Sequence[torch.Tensor], entries: Sequence[Mapping[str, Any]], *, k: float, seed: int = 0
) -> list[torch.Tensor]:
    """Apply `misalign` to the volumes of a training list, with one draw per patient.

    Args:
        volumes: Encoded volumes of shape (C, X, Y, Z), on one grid with the patient's other domain.
        entries: Items of the datalist that belong to the volumes, with their `patient`.
        k: Degree of distortion.
        seed: Seed of the draws.

    Raises:
        ValueError: If the numbers of entries and volumes differ, or one has no patient: all such would share one draw.

    Example:
        >>> [moved] = misalign_patients([torch.zeros(1, 8, 8, 4)], [{"patient": "p001"}], k=0.05)
        >>> moved.shape
        torch.Size([1, 8, 8, 4])
    """
    if len(volumes) != len(entries):
        raise ValueError(f"`entries` must hold one for each of the {len(volumes)} volumes, got {len(entries)}.")
    names = [str(entry.get("patient", UNKNOWN)) for entry in entries]
    if UNKNOWN in names:
        entry = entries[names.index(UNKNOWN)]
        raise ValueError(
            f"`entries` must each name a `patient`, whom the misalignment is drawn for, but {entry.get('image')!r} does"
            ' not: add "patient" to it in the datalist.'
        )
    return [misalign(volume, k, seed, patient=name) for volume, name in zip(volumes, names)]


def random_affine(k: float, seed: int, *, patient: str) -> np.ndarray:
    """Draw I + kU with U uniform in [-1, 1]; the last row stays (0, 0, 0, 1), as in any affine transform.

    Args:
        k: Degree of distortion, >= 0.
        seed: Seed; U depends only on it and on the patient.
        patient: Name of the patient.

    Returns:
        Matrix (4, 4), for columns (x, y, z, 1).

    Raises:
        ValueError: If `k` is negative or not finite.

    Example:
        >>> random_affine(0.0, 0, patient="p001").tolist() == np.eye(4).tolist()
        True
    """
    if not (math.isfinite(k) and k >= 0):
        raise ValueError(f"`k` must be a number >= 0, got {k}; the paper has 0.01, 0.02 and 0.05.")
    draw = np.random.default_rng([seed, *patient.encode()]).uniform(-1, 1, (4, 4))
    matrix = np.eye(4) + k * draw
    matrix[3] = (0, 0, 0, 1)
    return matrix
