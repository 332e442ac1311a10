"""Regions of an abdomen that contrast medium enhances (organs by label) and that it does not (also by their change)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from monai.utils.module import optional_import

from .noise import check_spacing, check_volume

gaussian_filter, _ = optional_import("scipy.ndimage", name="gaussian_filter")

# Values of the abdomen phantom's label map; other data have their own names.
LABELS = {
    "liver": 1,
    "spleen": 2,
    "pancreas": 3,
    "kidney_cortex": 4,
    "kidney_medulla": 5,
    "aorta": 6,
    "inferior_vena_cava": 7,
    "portal_vein": 8,
    "hepatic_veins": 9,
    "muscle": 10,
    "bone": 11,
    "bowel": 12,
    "cyst": 13,
    "hypovascular_lesion": 14,
    "enhancing_lesion": 15,
    "fat": 16,
}
# Organs that are reported separately; cysts do not enhance, and a network that brightens them hides them.
ORGANS = (
    "aorta",
    "portal_vein",
    "liver",
    "spleen",
    "kidney_cortex",
    "pancreas",
    "hypovascular_lesion",
    "enhancing_lesion",
    "cyst",
)
QUIET = ("bone", "fat", "bowel", "cyst")
# The noise of a routine NECT, 20 HU, is 2 HU after this Gaussian: the tolerance is three times that.
SMOOTHING_MM = 2.5
TOLERANCE_HU = 6.0

Names = Mapping[int, str] | Mapping[str, str]


def checked(reference: np.ndarray, **volumes: np.ndarray | None) -> list[np.ndarray]:
    """Return the given volumes in float64, all of one shape `(X, Y, Z)`; those that are None are omitted.

    Args:
        reference: Volume that gives the shape.
        volumes: Volumes by their names in error messages.

    Raises:
        ValueError: If a volume is not three-dimensional, not finite, or of another shape.
    """
    found = []
    for name, volume in volumes.items():
        if volume is None:
            continue
        array = check_volume(volume, name)
        if array.shape != np.shape(reference):
            raise ValueError(
                f"`{name}` must have the shape {np.shape(reference)} of the other volumes, got {array.shape}; "
                "bring all onto one grid first."
            )
        found.append(array.astype(np.float64))
    return found


def label_values(label_names: Names | None) -> dict[str, int]:
    """Return the value of each label name; by default the phantom's.

    Example:
        >>> label_values({"7": "aorta"}), label_values(None)["liver"]
        ({'aorta': 7}, 1)
    """
    return dict(LABELS) if label_names is None else {name: int(value) for value, name in label_names.items()}


def organ_masks(
    labels: np.ndarray, label_names: Names | None = None, organs: Sequence[str] = ORGANS
) -> dict[str, np.ndarray]:
    """Return a boolean mask `(X, Y, Z)` for each organ that occurs.

    Example:
        >>> masks = organ_masks(np.array([[[1, 1, 6]]]))
        >>> {name: int(mask.sum()) for name, mask in masks.items()}
        {'aorta': 1, 'liver': 2}
    """
    values = label_values(label_names)
    whole = np.rint(labels)
    masks = {organ: whole == values[organ] for organ in organs if organ in values}
    return {organ: mask for organ, mask in masks.items() if mask.any()}


def smooth_change(after_hu: np.ndarray, before_hu: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """Subtract two aligned volumes `(X, Y, Z)` in HU and smooth by an in-plane Gaussian of 2.5 mm, against noise.

    Raises:
        ValueError: On a bad spacing.
    """
    sigma = [SMOOTHING_MM / step for step in check_spacing(spacing_mm)]
    return np.asarray(gaussian_filter(np.subtract(after_hu, before_hu, dtype=np.float64), [*sigma, 0.0]))


def quiet_region(
    change_hu: np.ndarray, body: np.ndarray, labels: np.ndarray | None = None, label_names: Names | None = None
) -> np.ndarray:
    """Find the voxels of the body that contrast medium does not change.

    These are bone, fat, bowel, cysts and unlabelled voxels, as far as the smoothed true change stays within 6 HU: bowel
    walls and partial volumes beside an enhancing organ are excluded. Without labels the change alone decides.

    Args:
        change_hu: `smooth_change` of the truth against the source.
        body: Boolean mask of the same shape.
        labels: Label map of the same shape.
        label_names: Names of its values; by default the abdomen phantom's.

    Returns:
        Boolean mask `(X, Y, Z)`.
    """
    quiet = np.asarray(body, dtype=bool) & (np.abs(change_hu) <= TOLERANCE_HU)
    if labels is None:
        return quiet
    values = label_values(label_names)
    return quiet & np.isin(np.rint(labels), [0, *(values[name] for name in QUIET if name in values)])
