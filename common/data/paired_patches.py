"""Clinical patches with the truth that belongs to them: what supervised super-resolution trains on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.functional import pixel_shuffle, pixel_unshuffle
from torch.utils.data import Dataset

from .patches import PatchVolume, draw_patch


class PairedPatchDataset(Dataset):
    """
    A patch of a clinical volume, and the same place of its fine truth, which only a phantom has.

    A fine slice is the mean of those that lie within the clinical slice. An item depends on (`seed`, epoch, index)
    alone, as in `UnpairedDataset`.

    Args:
        source: clinical volumes, maybe with masks, inside of which the patches lie.
        target: the fine volumes of the same patients, in the same order.
        factor: how many fine pixels a clinical pixel is wide.
        source_size: pixels a side of a clinical patch; a fine patch has `factor` times as many.
        patches_per_volume: of each clinical volume, in an epoch.
        seed: of the draws.

    Raises:
        ValueError: when the volumes do not belong together.

    Example:
        >>> coarse, fine = (PatchVolume(torch.zeros(1, side, side, 2 * side // 8)) for side in (8, 16))
        >>> item = PairedPatchDataset([coarse], [fine], factor=2, source_size=4)[0, 0]
        >>> {name: tuple(patch.shape) for name, patch in item.items()}
        {'source': (1, 4, 4), 'target': (1, 8, 8)}
    """

    def __init__(
        self,
        source: Sequence[PatchVolume],
        target: Sequence[PatchVolume],
        *,
        factor: int = 8,
        source_size: int = 32,
        patches_per_volume: int = 2000,
        seed: int = 0,
    ) -> None:
        if not source or len(source) != len(target):
            raise ValueError(
                f"`target` must hold the truth of each `source` volume, got {len(source)} and {len(target)}."
            )
        self.volumes = [_joined(coarse, fine, factor) for coarse, fine in zip(source, target)]
        self.factor, self.source_size = factor, source_size
        self.patches_per_volume, self.seed = patches_per_volume, seed

    def __len__(self) -> int:
        return len(self.volumes) * self.patches_per_volume

    def __getitem__(self, epoch_and_index: tuple[int, int] | int) -> dict[str, torch.Tensor]:
        epoch, index = epoch_and_index if isinstance(epoch_and_index, tuple) else (0, epoch_and_index)
        rng = np.random.default_rng([self.seed, epoch, index])
        volume = self.volumes[index // self.patches_per_volume]
        patch = draw_patch(volume, (self.source_size, self.source_size), rng)
        return {"source": patch[:1], "target": pixel_shuffle(patch[1:], self.factor)}


def _joined(coarse: PatchVolume, fine: PatchVolume, factor: int) -> PatchVolume:
    """One volume on the clinical grid: the image, and the fine pixels of each place as further channels."""
    _, width, height, depth = coarse.image.shape
    thick = fine.image.shape[3] // depth
    if tuple(fine.image.shape[1:]) != (factor * width, factor * height, thick * depth) or thick < 1:
        raise ValueError(
            f"the truth of {coarse.name} must have {factor} times its {width} x {height} pixels and whole slices of its"
            f" {depth}, got the shape {tuple(fine.image.shape[1:])}."
        )
    slices = fine.image.unflatten(3, (depth, thick)).mean(dim=4).movedim(3, 0)  # (Z, 1, fX, fY)
    channels = pixel_unshuffle(slices, factor).movedim(0, 3)
    return PatchVolume(torch.cat([coarse.image, channels]), coarse.mask, name=coarse.name)
