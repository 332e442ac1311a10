"""A bundle's inference in this process: everything of its `inference.yaml`, with a plain function as its network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from torch import nn

BUNDLES = Path(__file__).parents[2] / "bundles"
CT_BUNDLES = ("ggcl", "kcgan_kernel_conversion", "nect2cect")
KERNELS = {"source": "B30f", "target": "B50f"}  # else the source is estimated from the noise, which takes a while
OVERRIDES: dict[str, dict[str, Any]] = {
    "ggcl": KERNELS,
    "kcgan_kernel_conversion": KERNELS,
    "nec_t1t2": {},
    "nect2cect": {},
    "sr_cyclegan": {"region": "all"},
}


class Nearest(nn.Module):
    """Pixels, each repeated `factor` times along both axes."""

    factor, margin = 2, 1

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.repeat_interleave(self.factor, dim=2).repeat_interleave(self.factor, dim=3)


class Middle(nn.Module):
    """The middle one of the slices that a network sees, which is the one it translates."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        middle = image.shape[1] // 2
        return image[:, middle : middle + 1]


def parsed(bundle: str, source: Path, output_dir: Path, /, **overrides: Any) -> ConfigParser:
    """The configuration of an inference, by default with an identity in place of the network and of its weights."""
    parser = ConfigParser()
    parser.read_config(str(BUNDLES / bundle / "configs" / "inference.yaml"))
    network = {"sr_cyclegan": Nearest, "nec_t1t2": Middle}.get(bundle, nn.Identity)()
    places = {"bundle_root": str(BUNDLES / bundle), "dataset_dir": str(source), "output_dir": str(output_dir)}
    given = {"network_def": network, "handlers": [], **places, **OVERRIDES[bundle], **overrides}
    if "guards" in parser.config:
        given.setdefault("guards", "warn")  # noise is no body
    parser.update(given)
    return parser


def translated(bundle: str, source: Path, output_dir: Path, /, **overrides: Any) -> Path:
    """The only output file of an inference."""
    parsed(bundle, source, output_dir, **overrides).get_parsed_content("evaluator").run()
    (path,) = outputs(output_dir)
    return path


def outputs(output_dir: Path) -> list[Path]:
    return sorted(path for path in output_dir.rglob("*") if path.name.endswith((".nii", ".nii.gz")))
