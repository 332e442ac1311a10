"""DICOM files that are cut short: the image is refused by the file's name, and never translated without a slice."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from monai.transforms import LoadImaged

from common.data import find_images
from common.dicom import image_readers
from common.errors import EXPECTED

pytest.importorskip("pydicom")
from tests.helpers.dicom_series import write_source_series

from .test_damaged_files import attempt, chain, cut

AFFINE = np.diag([-0.7, -0.7, 5.0, 1.0])


def read(folder: Path) -> np.ndarray:
    (item,) = find_images(folder)
    return np.asarray(LoadImaged("image", reader=image_readers())(item)["image"])


def try_cuts(folder: Path, tries: int) -> None:
    volume = np.random.default_rng(0).integers(-1000, 1000, (16, 12, 6))
    write_source_series(folder, volume, AFFINE)
    whole = read(folder)
    drawn = random.Random(0)
    paths = sorted(path for path in folder.iterdir() if path.is_file())
    for _ in range(tries):
        path = drawn.choice(paths)
        content = path.read_bytes()
        path.write_bytes(cut(content, drawn))
        found, error = attempt(read, folder)
        if error is None:
            np.testing.assert_array_equal(found, whole)
        else:
            ours = [link for link in chain(error) if isinstance(link, EXPECTED)]
            assert ours, (path.stat().st_size, error)
            assert path.name in str(ours[0]) or "slice" in str(ours[0]), ours[0]
        path.write_bytes(content)


def test_a_series_with_a_file_that_is_cut_short_is_refused(tmp_path):
    try_cuts(tmp_path / "series", 6)


@pytest.mark.faults
def test_many_series_with_a_file_that_is_cut_short_are_refused(tmp_path, survived):
    try_cuts(tmp_path / "series", 100)
    survived("cut DICOM series", 100)
