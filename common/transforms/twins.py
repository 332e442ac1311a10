"""Contrast twins: the other state of a labelled CT scan, with or without contrast agent, on the same voxels.

A patient is never scanned twice in one position, so that no pair of a scan before and after contrast is aligned. Where
the organs of one scan are labelled, its other state can be made: the agent's part of each organ's HU is taken away from
an enhanced scan, or added to a plain one, and noise and texture stay. The physiology is that of the portal-venous phase
(70 to 80 s): S. Goshima et al., AJR 187, 2006, W25-W32; K. T. Bae, Radiology 256, 2010, 32-61.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from monai.utils import optional_import
from numpy.typing import NDArray

from ..files import read_json, safe_component, write_bytes, write_json
from ..images.nifti import check_grid
from .unchanged import body_mask

ndimage, _ = optional_import("scipy.ndimage")

FloatArray = NDArray[np.float32]

FAT_HU = -100.0  # what fills a voxel besides an organ
TEXTURE_HU = 12.0  # differences from an organ's level that are its own, and not vessels in it
BLOOD_HU, BLOOD_SPREAD_HU = 42.0, 5.0  # before contrast
VESSEL_HU = 40.0  # so much above its organ's level, a voxel is blood alone
BRIGHTEST_HU = 260.0  # above it the rest is calcium, which no contrast agent explains
CALCIUM_HU = 3000.0
SOFT_HU = (52.0, 90.0)  # unlabelled soft tissue: not enhanced below, only agent above
SMOOTHING_MM, BORDER_MM, BLUR_MM = 5.0, 2.0, 1.0
RIM_MM = 4.0  # depth of the cortex of a kidney
BONE_MARGIN_MM = 4.0
SMALLEST_ORGAN = 50  # voxels inside; with fewer its level is not measured
DOMAINS = ("NECT", "CECT")


class Organ(NamedTuple):
    """What portal-venous contrast does to an organ.

    Attributes:
        labels: Values of the label map.
        plain_hu: HU before contrast.
        enhancement_hu: What a plain scan gains.
        spread_hu: Largest random difference of a twin, of both of its states.
        core_hu: What it gains deeper than `RIM_MM`, where that differs.
        smooth: Whether it has no structure of its own before contrast, such as blood and kidneys.
    """

    labels: tuple[int, ...]
    plain_hu: float
    enhancement_hu: float
    spread_hu: float = 6.0
    core_hu: float | None = None
    smooth: bool = False


# Values of TotalSegmentator, task "total", version 2 (Wasserthal et al., Radiology: Artificial Intelligence 5, 2023).
ORGANS: Mapping[str, Organ] = {
    "liver": Organ((5,), 56.0, 58.0, 10.0),
    "spleen": Organ((1,), 46.0, 75.0, 8.0),
    "pancreas": Organ((7,), 38.0, 55.0, 10.0),
    "adrenal_glands": Organ((8, 9), 25.0, 45.0, 8.0),
    "kidneys": Organ((2, 3), 30.0, 165.0, 10.0, 125.0, smooth=True),
    "aorta": Organ((52,), BLOOD_HU, 118.0, BLOOD_SPREAD_HU, smooth=True),
    "inferior_vena_cava": Organ((63,), BLOOD_HU, 95.0, BLOOD_SPREAD_HU, smooth=True),
    "portal_vein": Organ((64,), BLOOD_HU, 120.0, BLOOD_SPREAD_HU, smooth=True),
    "iliac_vessels": Organ((65, 66, 67, 68), BLOOD_HU, 95.0, BLOOD_SPREAD_HU, smooth=True),
    "heart": Organ((51,), BLOOD_HU, 100.0, BLOOD_SPREAD_HU, smooth=True),
}
BONES = (*range(25, 51), *range(69, 79), *range(91, 118))


def contrast_agent(
    image: np.ndarray,
    label: np.ndarray,
    spacing_mm: Sequence[float],
    *,
    enhanced: bool,
    organs: Mapping[str, Organ] = ORGANS,
    bones: Sequence[int] = BONES,
) -> FloatArray:
    """Compute how many HU of each voxel are contrast agent, or would be.

    An organ's level is the median HU of its inside. Fat in a voxel takes its share; structure brighter than the organ
    is vessels, which are blood without agent. In an enhanced scan unlabelled soft tissue above `SOFT_HU` is taken for
    vessels, too, except near bone.

    Args:
        image: Scan (X, Y, Z) in HU, axial slices along Z.
        label: Label map of the same shape.
        spacing_mm: Size of a voxel.
        enhanced: Whether the scan shows contrast agent (what is to be taken away) or not (what is to be added).
        organs: What contrast does to each organ.
        bones: Labels of bones.

    Returns:
        HU (X, Y, Z), 0 where there is no agent.

    Raises:
        ValueError: If the shapes differ, no organ is labelled, or an organ of an `enhanced` scan is not brighter than
            without agent.

    Example:
        >>> image = np.full((40, 40, 3), -100.0)
        >>> image[8:32, 8:32] = 115.0
        >>> agent = contrast_agent(image, np.where(image > 0, 5, 0), (1.0, 1.0, 3.0), enhanced=True)
        >>> float(agent[20, 20, 1]), float(agent[0, 0, 1])  # a liver of 56 HU without agent
        (59.0, 0.0)
    """
    if image.shape != label.shape or image.ndim != 3:
        raise ValueError(f"`label` must have the shape of `image` (X, Y, Z), got {label.shape} for {image.shape}.")
    size = [2 * round(SMOOTHING_MM / 2 / mm) + 1 for mm in spacing_mm[:2]]
    smooth = ndimage.median_filter(np.asarray(image, dtype=np.float32), size=(*size, 1), mode="nearest")
    nearest = _with_border(label, spacing_mm)
    agent = np.zeros(image.shape, dtype=np.float32)
    if enhanced:
        agent = _of_vessels(smooth, label, spacing_mm, organs=organs, bones=bones)
    known = 0
    for name, organ in organs.items():
        own = np.isin(label, organ.labels)
        inside = own & ndimage.binary_erosion(own, np.ones((3, 3, 1)))
        if inside.sum() < SMALLEST_ORGAN:
            continue
        known += 1
        level = float(np.median(smooth[inside]))
        if enhanced and level < organ.plain_hu:
            raise ValueError(
                f"{name} has {level:.0f} HU, below its {organ.plain_hu:.0f} HU without contrast agent: is this scan"
                f" enhanced? List it as {DOMAINS[0]} if it is not."
            )
        mask = np.isin(nearest, organ.labels)
        if enhanced:
            agent[mask] = smooth[mask] - np.interp(smooth[mask], *_without_agent(level, organ))
        else:
            gain = np.full(image.shape, organ.enhancement_hu, dtype=np.float32)
            if organ.core_hu is not None:
                depth = ndimage.distance_transform_edt(own, sampling=spacing_mm)
                gain += (organ.core_hu - organ.enhancement_hu) * np.clip(depth / RIM_MM - 1, 0, 1)
            agent[mask] = gain[mask] * _share(smooth[mask], level)
    if not known:
        wanted = {value for organ in organs.values() for value in organ.labels}
        raise ValueError(f"`label` must hold organs of known uptake ({sorted(wanted)}), got {np.unique(label)[:9]}.")
    return _blurred(np.maximum(agent, 0), spacing_mm)


def contrast_twins(
    image: np.ndarray,
    label: np.ndarray,
    spacing_mm: Sequence[float],
    *,
    enhanced: bool,
    count: int = 1,
    seed: int | Sequence[int] = 0,
    organs: Mapping[str, Organ] = ORGANS,
) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Yield a scan before and after contrast, of which one is the scan itself and the other its twin.

    Args:
        image: Scan (X, Y, Z) in HU, axial slices along Z.
        label: Label map of the same shape.
        spacing_mm: Size of a voxel.
        enhanced: Whether the scan shows contrast agent.
        count: Number of pairs. From the second on, each organ is brighter or darker by up to its `spread_hu` in both.
        seed: Seed of these differences.
        organs: What contrast does to each organ.

    Raises:
        ValueError: See `contrast_agent`.
    """
    agent = contrast_agent(image, label, spacing_mm, enhanced=enhanced, organs=organs)
    own = np.asarray(image, dtype=np.float32)
    before, after = (own - agent, own) if enhanced else (own, own + agent)
    yield before, after
    nearest, rng = _with_border(label, spacing_mm), np.random.default_rng(seed)
    for _ in range(1, count):
        offset = np.zeros(image.shape, dtype=np.float32)
        for organ in organs.values():
            mask, shift = np.isin(nearest, organ.labels), rng.uniform(-organ.spread_hu, organ.spread_hu)
            if mask.any():
                offset[mask] = shift * _share(before[mask], float(np.median(before[mask])))
        offset = _blurred(offset, spacing_mm)
        yield before + offset, after + offset


def _without_agent(level: float, organ: Organ) -> tuple[list[float], list[float]]:
    """Return the HU of an enhanced organ's voxels, and what they are without agent."""
    plain, most = organ.plain_hu, max(BRIGHTEST_HU, level + VESSEL_HU)
    if organ.smooth:  # whatever is brighter than half of its level
        start = max((level + plain) / 2, plain)
        values, without = [FAT_HU, start, most], [FAT_HU, plain, plain]
    else:
        values = [FAT_HU, level - TEXTURE_HU, level + TEXTURE_HU, level + VESSEL_HU, most + 1]
        without = [FAT_HU, plain - TEXTURE_HU, plain + TEXTURE_HU, BLOOD_HU, BLOOD_HU]
    return [*values, values[-1] + CALCIUM_HU], [*without, without[-1] + CALCIUM_HU]


def _of_vessels(
    smooth: FloatArray,
    label: np.ndarray,
    spacing_mm: Sequence[float],
    *,
    organs: Mapping[str, Organ],
    bones: Sequence[int],
) -> FloatArray:
    """Return the agent in soft tissue without a label of `organs`."""
    low, high = SOFT_HU
    plain = np.interp(smooth, [low, high, BRIGHTEST_HU], [low, BLOOD_HU + 6, BLOOD_HU])
    body = np.stack([body_mask(smooth[..., z], spacing_mm) for z in range(smooth.shape[2])], axis=-1)
    hard = np.isin(label, bones) | (smooth > BRIGHTEST_HU)
    far = ndimage.distance_transform_edt(~hard, sampling=spacing_mm) > BONE_MARGIN_MM
    own = np.isin(label, [value for organ in organs.values() for value in organ.labels])
    return np.where(body & far & ~own & (smooth > low), smooth - plain, 0).astype(np.float32)


def _share(smooth: FloatArray, level: float) -> FloatArray:
    """Return the organ's share of voxels that are mixed with fat."""
    return np.clip((smooth - FAT_HU) / max(level - FAT_HU, 1.0), 0, 1)


def _with_border(label: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """Return the label map with each organ grown into the unlabelled voxels within `BORDER_MM` in the plane."""
    found = label.copy()
    for z in range(label.shape[2]):
        if label[..., z].any():
            distance, (x, y) = ndimage.distance_transform_edt(
                label[..., z] == 0, sampling=spacing_mm[:2], return_indices=True
            )
            found[..., z] = np.where(distance <= BORDER_MM, label[x, y, z], 0)
    return found


def _blurred(values: FloatArray, spacing_mm: Sequence[float]) -> FloatArray:
    sigma = [BLUR_MM / mm for mm in spacing_mm[:2]]
    return np.asarray(ndimage.gaussian_filter(values, (*sigma, 0), truncate=3.0), dtype=np.float32)


def write_contrast_twins(
    dataset_dir: str | Path, output_dir: str | Path, *, twins: int = 1, seed: int = 0
) -> tuple[Path, int]:
    """Write pairs before and after contrast of labelled scans of one state, and their datalist.

    Args:
        dataset_dir: Folder of a `datalist.json` whose `training` has one scan a line, of the `domain` NECT or CECT, and
            its `label`, NIfTI files with the values of TotalSegmentator; or such a file.
        output_dir: Folder of the pairs.
        twins: Number of pairs of each scan; from the second on, its organs differ at random.
        seed: Seed of the organs.

    Returns:
        Path of the datalist, whose `training_paired` has the pairs (NECT, and CECT on the same voxels, also as
        `truth`), and their number.

    Raises:
        ValueError: If a scan has no label or another domain, grids differ, or see `contrast_agent`; names the file.
    """
    if not isinstance(twins, int) or twins < 1:
        raise ValueError(f"`twins` must be an integer >= 1, got {twins!r}.")
    path = Path(dataset_dir)
    path = path / "datalist.json" if path.is_dir() else path
    content = read_json(path, cure="write it again, see docs/data.md")
    scans = content.get("training", [])
    if not scans:
        raise ValueError(f"{path} has no scans in its list 'training': see docs/data.md.")
    out = Path(output_dir)
    out.mkdir(parents=True, exist_ok=True)
    pairs: list[dict[str, Any]] = []
    for number, scan in enumerate(scans):
        domain, patient = scan.get("domain"), safe_component(str(scan.get("patient", number)), "patient")
        if domain not in DOMAINS or not {"image", "label"} <= set(scan):
            raise ValueError(f"{path}: scan {number} of 'training' needs an image, a label and a domain of {DOMAINS}.")
        image, label = (_axial(path.parent / scan[key]) for key in ("image", "label"))
        if image.shape != label.shape or not np.allclose(image.affine, label.affine, atol=1e-2):
            raise ValueError(f"{path.parent / scan['label']}: the labels must have the grid of {scan['image']}.")
        values = np.asarray(image.dataobj, dtype=np.float32)
        spacing = [float(size) for size in image.header.get_zooms()[:3]]
        pair = contrast_twins(
            values, np.asarray(label.dataobj), spacing, enhanced=domain == DOMAINS[1], count=twins, seed=[seed, number]
        )
        for index in range(twins):
            try:
                made = next(pair)
            except ValueError as error:
                raise ValueError(f"{path.parent / scan['image']}: {error}") from error
            files = {key: f"{patient}_twin{index}_{key}.nii.gz" for key in DOMAINS}
            for key, volume in zip(DOMAINS, made, strict=True):
                stored = nib.Nifti1Image(np.rint(np.clip(volume, -1024, 3071)).astype(np.int16), image.affine)
                stored.header.set_xyzt_units("mm")
                write_bytes(out / files[key], _compressed(stored))
            pairs.append({"patient": patient, **files, "truth": files[DOMAINS[1]]})
    single = [{"image": each[key], "domain": key, "patient": each["patient"]} for each in pairs for key in DOMAINS]
    name = f"contrast twins of {content.get('name', path.parent.name)}"
    lists = {"name": name, "training": single, "training_paired": pairs, "validation": [], "test": []}
    return write_json(out / "datalist.json", lists), len(pairs)


def _axial(path: Path) -> Any:
    """Load a NIfTI file along R, A and S."""
    image = nib.load(path)
    check_grid(path, image)
    return nib.as_closest_canonical(image)


def _compressed(image: Any) -> bytes:
    return gzip.compress(image.to_bytes(), 4, mtime=0)
