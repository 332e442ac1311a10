"""The percentiles that decode a translation into the units of the target domain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from tqdm import tqdm


def reference_percentiles(
    entries: Sequence[dict[str, Any]], load: Callable, *, lower: float = 1.0, upper: float = 99.0
) -> list[float]:
    """
    The target domain's typical `lower` and `upper` percentile: what -1 and 1 mean in an output.

    Encoding maps each volume's own percentiles to [-1, 1]; MR has no common unit. A translation has no target volume
    of its own, so it is decoded with the median over the training volumes of the target domain.

    Args:
        entries: data items `{"image": path}` of the target domain.
        load: from such an item to its volume.

    Returns:
        [lower, upper], in the units of the target domain.
    """
    percentiles = [
        np.percentile(torch.as_tensor(load({"image": entry["image"]})["image"]).numpy(), [lower, upper])
        for entry in tqdm(entries, desc="target intensities")
    ]
    return [float(value) for value in np.median(percentiles, axis=0)]
