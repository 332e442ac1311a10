"""What a translation must leave as it is stays so with trained, random and inverting networks, to the last HU."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from pydicom import dcmread
from torch import nn

from common.transforms.unchanged import padding_mask
from tests.helpers.inference import Nearest, translated
from tests.helpers.shared import require_shared
from tests.helpers.translations import sidecars, translate

KERNELS = ("ggcl", "kcgan_kernel_conversion")
WINDOW = (-100, 200)  # of nect2cect
SIZE, LEVELS = 96, 4
X, Y = np.mgrid[:SIZE, :SIZE] - SIZE / 2 + 0.5
CIRCLE = np.hypot(X, Y) < SIZE / 2 - 2
TABLE = (abs(X) < 40) & (Y < -30) & (Y > -33)
BODY = np.hypot(X / 32, Y / 22) < 1
LUNG, BONE, METAL = (np.hypot(X - x, Y) < radius for x, radius in ((-14, 9), (16, 6), (2, 2)))
AXES = {"RAS": np.diag([0.8, 0.8, 3, 1]), "LPS": np.diag([-0.8, -0.8, 3, 1])}
AXES["sagittal"] = np.array([[0, 0, 0.8, 0], [0.8, 0, 0, 0], [0, 3, 0, 0], [0, 0, 0, 1.0]])


def scan() -> np.ndarray:
    """A trunk with lung, bone and metal on a table, in noisy air, within a circle; what lies outside is -3024 HU."""
    noise = np.random.default_rng(3).normal(0, 15, (SIZE, SIZE, LEVELS)).round()
    mean = np.select([METAL, BONE, LUNG, BODY, TABLE], [6000, 700, -850, 45, 60], -1000)
    return np.where(CIRCLE[..., None], mean[..., None] + noise, -3024)


def stored(axial: np.ndarray, axes: str) -> np.ndarray:
    return np.transpose(axial, (1, 2, 0)) if axes == "sagittal" else axial


def axial(volume: np.ndarray, axes: str) -> np.ndarray:
    return np.transpose(volume, (2, 0, 1)) if axes == "sagittal" else volume


class Wild(nn.Module):
    """Random convolutions with full amplitude."""

    factor, margin = 2, 2

    def __init__(self, channels: int, factor: int = 1) -> None:
        super().__init__()
        self.upsample = nn.Upsample(scale_factor=factor) if factor > 1 else nn.Identity()
        self.layer = nn.Conv2d(channels, channels, 5, padding=2)
        torch.manual_seed(2)
        nn.init.normal_(self.layer.weight, std=2.0)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.layer(self.upsample(image)))


class Inverting(nn.Module):
    """White for black."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return -image


def translation(bundle: str, kind: str, source: Path, out: Path, **more) -> np.ndarray:
    """The output with the shipped weights, or with another network in their place."""
    if kind == "trained":
        translate(bundle, source, out, guards="warn", **more)
        (path,) = out.rglob("*_synthetic_*.nii*")
    else:
        stand_in = Wild(3 if bundle == "nect2cect" else 1) if kind == "random" else Inverting()
        path = translated(bundle, source, out, network_def=stand_in, **more)
    return np.asarray(nib.load(path).dataobj)


def save(folder: Path, axes: str) -> Path:
    path = folder / "scan.nii"
    nib.save(nib.Nifti1Image(stored(scan(), axes).astype(np.int16), AXES[axes]), path)
    return path


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("kind", ["trained", "random", "inverting"])
@pytest.mark.parametrize("bundle", KERNELS)
def test_kernels_change_nothing_in_padding_outside_of_the_circle_and_beyond_the_range(bundle, kind, axes, tmp_path):
    if axes != "RAS" and bundle != "ggcl":
        pytest.skip("the same code, only slower")
    source, output = scan(), axial(translation(bundle, kind, save(tmp_path, axes), tmp_path / "out"), axes)
    kept = ~CIRCLE[..., None] | (source < -1024) | (source > 3071)
    np.testing.assert_array_equal(output[kept], source[kept])
    air = CIRCLE & ~BODY & ~TABLE & (np.hypot(X, Y) < SIZE / 2 - 6)
    assert (output != source)[air & (np.hypot(X, Y) < 40)].mean() > 0.5  # the noise of air changes with the kernel
    assert (output != source)[BODY & ~METAL].mean() > 0.5
    finding = next(check for check in only(tmp_path / "out")["output_checks"] if check["check"] == "unchanged")
    assert finding["value"]["changed"] == 0
    assert finding["value"]["voxels"] == kept.sum()


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("kind", ["trained", "random", "inverting"])
def test_contrast_medium_changes_nothing_outside_of_the_body_and_of_the_window(kind, axes, tmp_path):
    source, output = scan(), axial(translation("nect2cect", kind, save(tmp_path, axes), tmp_path / "out"), axes)
    kept = ~BODY[..., None] | (source < WINDOW[0]) | (source > WINDOW[1])
    np.testing.assert_array_equal(output[kept], source[kept])
    assert TABLE[..., None].repeat(LEVELS, -1)[(source > 0) & (source < 100)].any()
    inner = (np.hypot(X / 28, Y / 18) < 1) & ~(np.hypot(X + 14, Y) < 13) & ~(np.hypot(X - 16, Y) < 10)
    inner &= ~(np.hypot(X - 2, Y) < 6)
    assert (output != source)[inner].mean() > 0.3
    finding = next(check for check in only(tmp_path / "out")["output_checks"] if check["check"] == "unchanged")
    assert finding["value"]["changed"] == 0
    assert finding["value"]["voxels"] >= 0.99 * kept.sum()


@pytest.mark.parametrize("kind", ["random", "nearest"])
def test_super_resolution_keeps_padding_on_its_finer_grid(kind, tmp_path):
    stand_in = Wild(1, factor=2) if kind == "random" else Nearest()
    path = translated("sr_cyclegan", save(tmp_path, "RAS"), tmp_path / "out", network_def=stand_in)
    output, source = np.asarray(nib.load(path).dataobj), scan()
    fine = np.broadcast_to(~CIRCLE[..., None], source.shape).repeat(2, 0).repeat(2, 1)
    assert (output[fine] == -3024).all()
    assert output[~fine].min() >= -3024
    inner = np.hypot(X, Y) < SIZE / 2 - 4
    assert output[inner.repeat(2, 0).repeat(2, 1)].min() >= -1200
    (check,) = (check for check in only(tmp_path / "out")["output_checks"] if check["check"] == "unchanged")
    assert check["value"] == {"voxels": int(fine.sum()), "changed": 0, "largest": 0.0}


def test_a_part_of_the_volume_has_the_padding_of_the_whole(tmp_path):
    source = scan()
    source[40:60, 30:60] = -1024  # constant, and at the edge of the region only
    path = tmp_path / "scan.nii"
    nib.save(nib.Nifti1Image(source.astype(np.int16), AXES["RAS"]), path)
    region = [[45, 90], [0, 90], [1, 3]]
    made = translated("sr_cyclegan", path, tmp_path / "out", network_def=Nearest(), region=region)
    part = padding_mask(torch.from_numpy(source.astype(np.float32)).movedim(-1, 0).contiguous()).movedim(0, -1).numpy()
    expected = np.where(part, source, source.clip(-1200, 400))[45:90, :90, 1:3].repeat(2, 0).repeat(2, 1)
    output = np.asarray(nib.load(made).dataobj)
    kept = part[45:90, :90, 1:3].repeat(2, 0).repeat(2, 1)
    np.testing.assert_array_equal(output[kept], expected[kept])


def only(out: Path) -> dict:
    (facts,) = sidecars(out).values()
    return facts


def test_the_air_of_a_scan_without_contrast_medium_keeps_its_values(tmp_path):
    source = require_shared("cases", "nect-air-not-kept", "nectair.nii.gz")
    output = translation("nect2cect", "trained", source, tmp_path)
    volume = np.asarray(nib.load(source).dataobj)
    kept = (volume < WINDOW[0]) | (volume > WINDOW[1])
    assert kept.mean() > 0.7
    np.testing.assert_array_equal(output[kept], volume[kept])
    assert (output != volume).mean() > 0.05


def test_padding_of_a_dicom_series_keeps_its_values_and_its_attribute(tmp_path):
    source = require_shared("cases", "padding-outside-fov-changed")
    more = {"target": "B50f", "source": "B30f", "output_format": "dicom"}
    translate("ggcl", source, tmp_path, **more)
    images = [dcmread(path) for path in sorted(tmp_path.rglob("*.dcm"))]
    assert len(images) == 8
    padded = sum(int((image.pixel_array == -3024).sum()) for image in images)
    assert padded == 4608
    assert {int(image.PixelPaddingValue) for image in images} == {-3024}
