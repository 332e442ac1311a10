"""Volumes and translators for tests of evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
from monai.bundle import ConfigParser

from .bundles import ROOT

BUNDLES = ROOT / "bundles"
OPTIONS: dict[str, dict[str, object]] = {
    "ggcl": {"source": "B30f", "target": "B70f"},
    "kcgan_kernel_conversion": {"source": "B30f", "target": "B70f"},
    "nec_t1t2": {},
    "nect2cect": {},
    "sr_cyclegan": {"region": "all", "slab": [0, 2]},
}
CT_AFFINE, MR_AFFINE = np.diag([-0.7, -0.7, 3.0, 1.0]), np.diag([-4.0, -4.0, 3.0, 1.0])


def head(seed: int = 0, size: int = 48) -> np.ndarray:
    """A T1-like disc of 150 mm, its rim dark."""
    x, y = np.mgrid[:size, :size] - size / 2
    distance = np.hypot(x, y) * 4
    plane = np.select([distance < 60, distance < 75], [800.0, 500.0], 0.0)
    noise = np.random.default_rng(seed).normal(0, 30, (size, size, 4))
    return np.where(plane[..., None] > 0, plane[..., None] + noise, 0).round()


def trunk(seed: int = 0, size: int = 28) -> np.ndarray:
    """Noise around soft tissue, in air."""
    volume = np.full((size, size, 4), -1000.0)
    volume[4:-4, 4:-4] = np.random.default_rng(seed).normal(50, 20, (size - 8, size - 8, 4))
    return volume.round()


def source(bundle: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return (head(seed), MR_AFFINE) if bundle == "nec_t1t2" else (trunk(seed), CT_AFFINE)


def save(path: Path, volume: np.ndarray, affine: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(volume.astype(np.int16), affine), path)
    return path


def translate(bundle: str, images: Path, out: Path, **more: object) -> None:
    parser = ConfigParser()
    parser.read_config(str(BUNDLES / bundle / "configs" / "inference.yaml"))
    places = {"bundle_root": str(BUNDLES / bundle), "dataset_dir": str(images), "output_dir": str(out)}
    parser.update({**places, "device": "$torch.device('cpu')", **OPTIONS[bundle], **more})
    parser.get_parsed_content("run")


def sidecars(out: Path) -> dict[str, dict]:
    return {path.name: json.loads(path.read_text()) for path in sorted(out.rglob("*.json"))}
