"""Damaged NIfTI and DICOM files through the whole inference of a bundle."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.helpers.dicom_series import write_source_series
from tests.helpers.inference import parsed

from .campaign import Input, campaign, share
from .mutations import damaged

AFFINE = np.diag([0.7, 0.7, 2.0, 1.0])
NIFTI_HEADER = 352


@pytest.fixture(scope="module")
def volume() -> np.ndarray:
    """HU, (9, 8, 4)."""
    return np.random.default_rng(0).integers(-1024, 3071, (9, 8, 4)).astype(np.int16)


def inference(bundle: str, source: Path, output: Path) -> None:
    parsed(bundle, source, output).get_parsed_content("evaluator").run()


@share(12)
@pytest.mark.parametrize("bundle", ["nec_t1t2", "nect2cect", "sr_cyclegan", "ggcl"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_damaged_nifti_is_translated_or_refused_by_name(bundle, suffix, tries, volume, tmp_path):
    values = np.abs(volume) if bundle == "nec_t1t2" else volume
    nib.save(nib.Nifti1Image(values, AFFINE), tmp_path / f"sound{suffix}")
    sound = (tmp_path / f"sound{suffix}").read_bytes()

    def make(folder: Path, random: np.random.Generator) -> Input:
        source = folder / f"scan{suffix}"
        inside = suffix.endswith(".gz") and random.random() < 0.5
        content = gzip.decompress(sound) if inside else sound
        content = damaged(content, random, head=NIFTI_HEADER)
        source.write_bytes(gzip.compress(content, mtime=0) if inside else content)
        output = folder / "out"
        return Input(lambda: inference(bundle, source, output), [source.name], output, files=1)

    campaign(f"NIfTI ({suffix})", tries, make)


@share(15)
@pytest.mark.parametrize("packed", [False, True])
def test_damaged_dicom_is_translated_or_refused_by_name(packed, tries, volume, tmp_path):
    sound = {path.name: path.read_bytes() for path in write_source_series(tmp_path / "s", volume, AFFINE).iterdir()}

    def make(folder: Path, random: np.random.Generator) -> Input:
        victims = random.choice(sorted(sound), size=int(random.integers(1, 3)), replace=False)
        series = folder / "P17"
        series.mkdir()
        for name, content in sound.items():
            (series / name).write_bytes(damaged(content, random, head=1500) if name in victims else content)
        source = _packed(series) if packed else series
        if packed and random.random() < 0.5:
            source.write_bytes(damaged(source.read_bytes(), random, head=100))
        output = folder / "out"
        return Input(lambda: inference("ggcl", source, output), [source.name, *victims], output)

    campaign("DICOM zip" if packed else "DICOM", tries, make)


def _packed(series: Path) -> Path:
    path = series.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(series.iterdir()):
            archive.write(file, file.name)
    return path
