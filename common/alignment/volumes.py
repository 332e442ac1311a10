"""Align a loaded volume with another, and tell a doubtful result from a possible one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu

from ..errors import own_error
from ..images.grids import axial_last
from ..images.registration import GRID_MM, METHODS, Registration, deformation, register, resample, similarity
from ..transforms.guards.findings import PASSED, WARNED, Finding, doubts_of
from ..transforms.guards.loading import LoadImageAndCheckd
from ..transforms.intensity import PADDING_BELOW_HU, CheckHUd
from ..transforms.unchanged import body_mask

WINDOW_HU = (-200.0, 300.0)  # fat to spongy bone: what contrast agent does not tear apart
AIR_HU = -1024.0  # padding of CT
MARGIN_MM = 10.0  # around the body, whose outline counts in the registration
MOST_OUTSIDE = 0.5  # of the body, from outside of the moving volume
PERCENTILES = (1.0, 99.0)  # of the body, told apart where there are no HU
MEASURE = "normalised mutual information inside the body, from 1 (independent) to 2"


class Loaded(NamedTuple):
    """A volume to align.

    Attributes:
        values: Voxels (X, Y, Z), float32.
        affine: Affine to RAS in mm.
        hu: Whether they are in HU.
        meta: Meta data of the reader.
        doubts: What the reader doubted in the header.
    """

    values: NDArray[np.float32]
    affine: NDArray[np.float64]
    hu: bool
    meta: Mapping[str, Any]
    doubts: list[str]


class Result(NamedTuple):
    """An aligned volume.

    Attributes:
        values: Voxels (X, Y, Z) on the fixed volume's grid.
        measured: Where the moving volume was measured; elsewhere `values` are padding.
        facts: Measures, checks and the verdict, for the sidecar.
        transform: SimpleITK's transform of points in LPS mm, from fixed to moving.
    """

    values: NDArray[np.float32]
    measured: NDArray[np.bool_]
    facts: dict[str, Any]
    transform: Any


class Options(NamedTuple):
    """Options of an alignment.

    Attributes:
        method: `affine`, or `bspline`, which begins with it.
        grid_mm: Distance of the control points of the B-spline.
        padding: Value of voxels from outside of the moving volume; None: -1024 in HU, else its smallest value.
        seed: Seed of the voxels that are compared.
    """

    method: str = "bspline"
    grid_mm: float = GRID_MM
    padding: float | None = None
    seed: int = 0


DEFAULT = Options()


def align_volumes(
    fixed: Loaded, moving: Loaded, *, options: Options = DEFAULT, step: Callable[[str], Any] | None = None
) -> Result:
    """Align a loaded volume with another.

    Args:
        fixed: Volume whose grid is kept.
        moving: Volume that is put on it.
        options: Options of the alignment.
        step: Called with the name of each level.

    Raises:
        ValueError: If they cannot be registered.
    """
    body, moving_body = (_body(each) for each in (fixed, moving))
    windows = [_window(each, mask) for each, mask in ((fixed, body), (moving, moving_body))]
    padding = options.padding
    if padding is None:
        padding = AIR_HU if moving.hu else float(moving.values.min())
    found = register(
        fixed.values,
        moving.values,
        fixed_affine=fixed.affine,
        moving_affine=moving.affine,
        mask=_with_margin(body, fixed.affine),
        window=windows[0],
        moving_window=windows[1],
        method=options.method,
        grid_mm=options.grid_mm,
        seed=options.seed,
        step=step,
    )
    aligned, inside = _resampled(moving, fixed, found, padding)
    before, was_inside = _resampled(moving, fixed, None, padding)
    facts = _measures(fixed, aligned, before, body, inside, was_inside, windows) | {
        "deformation": asdict(deformation(found.transform, affine=fixed.affine, mask=body)),
        "start": found.start,
        "iterations": list(found.iterations),
        "windows": {"fixed": list(windows[0]), "moving": list(windows[1])},
        "padding": padding,
    }
    checks = [each.as_dict() for each in _checks(facts, fixed, moving)]
    passed = all(each["verdict"] == PASSED for each in checks)
    facts = {"verdict": PASSED if passed else WARNED, **facts, "checks": checks}
    return Result(aligned, inside, facts, found.transform)


def load(item: Any) -> Loaded:
    """Load a volume as inference does: NIfTI, MGH, NRRD, MetaImage or DICOM, checked.

    Args:
        item: A path, or a name and DICOM files.

    Raises:
        ValueError: If it is no intensity volume; the message names the file.
    """
    try:
        image = LoadImageAndCheckd("image", hu=False)({"image": item})["image"]
    except Exception as error:  # MONAI wraps it
        raise own_error(error) or error from error
    try:
        CheckHUd("image")({"image": image})
        hu = True
    except ValueError:
        hu = False
    values = torch.as_tensor(image).as_subclass(torch.Tensor)[0].numpy().astype(np.float32)
    return Loaded(values, np.asarray(image.affine, dtype=float), hu, dict(image.meta), doubts_of(image))


def check_options(options: Options) -> None:
    """Refuse options that are out of range.

    Raises:
        ValueError: If `method` is unknown or `grid_mm` no distance.
    """
    if options.method not in METHODS:
        raise ValueError(f"`method` must be one of {', '.join(METHODS)}, got {options.method!r}.")
    if not isinstance(options.grid_mm, (int, float)) or not options.grid_mm > 0:
        raise ValueError(f"`grid_mm` must be a number above 0, in mm, got {options.grid_mm!r}.")


def _resampled(
    moving: Loaded, fixed: Loaded, found: Registration | None, padding: float
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    return resample(
        moving.values,
        moving_affine=moving.affine,
        shape=fixed.values.shape,
        affine=fixed.affine,
        transform=None if found is None else found.transform,
        padding=padding,
        valid=moving.values > PADDING_BELOW_HU if moving.hu else None,
    )


def _measures(
    fixed: Loaded,
    aligned: NDArray[np.float32],
    before: NDArray[np.float32],
    body: NDArray[np.bool_],
    inside: NDArray[np.bool_],
    was_inside: NDArray[np.bool_],
    windows: Sequence[tuple[float, float]],
) -> dict[str, Any]:
    """Compare both volumes before and after, over the body that both show before and after."""
    common = body & inside & was_inside
    similar = partial(similarity, fixed.values, mask=common, window=windows[0], second_window=windows[1])
    facts: dict[str, Any] = {
        "similarity": {"measure": MEASURE, "before": similar(before), "after": similar(aligned)},
        "outside_share": 1 - float((body & inside).sum()) / max(int(body.sum()), 1),
        "compared_share": float(common.sum()) / max(int(body.sum()), 1),
    }
    if fixed.hu and common.any():
        difference = {
            name: float(np.abs(volume[common] - fixed.values[common]).mean())
            for name, volume in (("before", before), ("after", aligned))
        }
        note = "contrast agent and noise differ as well: it is not the error of the alignment"
        facts["mean_absolute_difference_hu"] = {**difference, "note": note}
    return facts


def _checks(facts: Mapping[str, Any], fixed: Loaded, moving: Loaded) -> list[Finding]:
    """Return the findings about an alignment: a doubtful one never passes."""
    before, after = (round(facts["similarity"][name], 6) for name in ("before", "after"))
    smallest, outside = facts["deformation"]["smallest_jacobian"], facts["outside_share"]
    found = [
        _finding("similarity", after > before, after, before, "it did not become more similar to the fixed volume"),
        _finding("folding", smallest > 0, smallest, 0, "the deformation folds: try a larger `grid_mm`, or affine"),
        _finding(
            "outside", outside <= MOST_OUTSIDE, outside, MOST_OUTSIDE, "much of the body is not in the moving volume"
        ),
    ]
    doubts = [f"{name}: {doubt}" for name, each in (("fixed", fixed), ("moving", moving)) for doubt in each.doubts]
    return [*found, *([Finding("header", WARNED, evidence="; ".join(doubts))] if doubts else [])]


def _finding(check: str, passed: bool, value: float, limit: float, evidence: str) -> Finding:
    return Finding(check, PASSED if passed else WARNED, value, limit, None if passed else evidence)


def _body(volume: Loaded) -> NDArray[np.bool_]:
    """Return the body: by HU, slice by slice, or what is brighter than the background, with what it encloses."""
    if not volume.hu:
        bright = volume.values > threshold_otsu(volume.values) / 2
        return np.asarray(ndimage.binary_fill_holes(bright))
    axial = int(np.flatnonzero(nib.orientations.io_orientation(volume.affine)[:, 0] == 2)[0])
    view, sizes = axial_last(volume.values, volume.affine)
    slices = [body_mask(view[..., z], sizes) for z in range(view.shape[2])]
    return np.moveaxis(np.stack(slices, axis=-1), -1, axial)


def _with_margin(body: NDArray[np.bool_], affine: np.ndarray) -> NDArray[np.bool_]:
    sizes = nib.affines.voxel_sizes(affine)
    return np.asarray(ndimage.maximum_filter(body, [2 * round(MARGIN_MM / size) + 1 for size in sizes]))


def _window(volume: Loaded, body: NDArray[np.bool_]) -> tuple[float, float]:
    if volume.hu:
        return WINDOW_HU
    shown = volume.values[body] if body.any() else volume.values
    low, high = np.percentile(shown, PERCENTILES)
    return float(low), float(high)
