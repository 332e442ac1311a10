"""Saving a translated volume under its source's name, with its target in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from monai.data import NibabelWriter
from monai.transforms import SaveImaged


class VolumeWriter(NibabelWriter):
    """MONAI's writer, which drops the last axis of a volume of one slice, without doing so."""

    def set_data_array(self, data_array: Any, channel_dim: int | None = 0, **_: Any) -> None:  # type: ignore[override]
        super().set_data_array(data_array, channel_dim=channel_dim, squeeze_end_dims=False)
        self.data_obj = self.data_obj[..., 0]


def save_volume(
    output_dir: str, target: str | Mapping[str, float], *, data_root_dir: str, dtype: str = "float32", key: str = "pred"
) -> SaveImaged:
    """
    The transform that writes a volume (1, X, Y, Z) as `<source's name>_synthetic_<target>.nii.gz` on the source's grid.

    Args:
        output_dir: where it goes.
        target: a domain, or the weights of a blend.
        data_root_dir: outputs keep their path below it.
        dtype: of the file; whole numbers must be rounded before.
        key: of the volume.
    """
    return SaveImaged(
        keys=key,
        writer=VolumeWriter,
        output_dir=output_dir,
        output_postfix=f"synthetic_{target_name(target)}",
        output_dtype=np.dtype(dtype),
        data_root_dir=data_root_dir,
        separate_folder=False,
        resample=False,
        savepath_in_metadict=True,
        print_log=False,
    )


def target_name(target: str | Mapping[str, float]) -> str:
    """A target as a part of a file's name.

    >>> target_name({"B30f": 0.5, "B70f": 0.5})
    '0.5B30f+0.5B70f'
    """
    return target if isinstance(target, str) else "+".join(f"{weight:g}{name}" for name, weight in target.items())
