"""What MONAI's federated statistics (`MonaiAlgoStats`) ask a bundle: its images, and something to take for a label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigWorkflow
from monai.transforms import CopyItemsd, EnsureTyped, Lambdad, LoadImaged, Orientationd

from ..data import load_domain


def statistics_workflow(bundle_root: str | Path, dataset_dir: str | Path, domain: str) -> ConfigWorkflow:
    """
    A bundle's training as `MonaiAlgoStats` takes it, with the training images of one domain as its data.

    Args:
        bundle_root: the bundle's folder.
        dataset_dir: the site's data, with a `datalist.json`.
        domain: whose images are summarised: each domain has its own intensities.

    Raises:
        ValueError: when the datalist has no image of that domain in `training`.
    """
    # No validation images: MONAI 1.6.1 adds their histogram to that of the training images in place.
    sections: dict[str, Any] = {"train#dataset": {"data": load_domain(dataset_dir, "training", domain)}}
    sections["validate"] = {}
    return ConfigWorkflow(
        config_file=str(Path(bundle_root, "configs", "train.yaml")),
        workflow_type="train",
        logging_file=False,
        bundle_root=str(bundle_root),
        dataset_dir=str(dataset_dir),
        **sections,
    )


def statistics_transforms() -> list[Any]:
    """
    How `MonaiAlgoStats` reads an image; its argument `data_stats_transform_list`.

    Its statistics are those of a segmentation. A translation has no labels: what is above the image's mean, on a CT the
    body, takes their place, and the statistics of the foreground are of that.
    """
    return [
        LoadImaged(keys="image", ensure_channel_first=True, image_only=True),
        EnsureTyped(keys="image", dtype=torch.float),
        Orientationd(keys="image", axcodes="RAS", labels=None),
        CopyItemsd(keys="image", names="label"),
        Lambdad(keys="label", func=_above_mean),
    ]


def _above_mean(image: torch.Tensor) -> torch.Tensor:
    return (image > image.mean()).to(image.dtype)
