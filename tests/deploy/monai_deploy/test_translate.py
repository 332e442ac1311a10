"""A bundle's inference on one DICOM series, without the SDK."""

from __future__ import annotations

import nibabel as nib
import numpy as np
from pydicom import dcmread

from common.deploy.monai_deploy.translate import translate_series, write_translation
from tests.helpers.dicom_files import counted_parsing
from tests.helpers.dicom_series import write_source_series
from tests.helpers.translations import BUNDLES, CT_AFFINE, trunk


def test_each_file_is_parsed_twice_from_the_source_to_the_derived_series(tmp_path):
    series = write_source_series(tmp_path / "scan", trunk(), CT_AFFINE, ContrastBolusAgent="")
    files, uid = sorted(series.iterdir()), dcmread(series / "0001").SeriesInstanceUID
    with counted_parsing() as parsed:
        options = {"source": "B30f", "device": "$torch.device('cpu')"}
        translation = translate_series(BUNDLES / "ggcl", files, tmp_path / "work", target="B70f", overrides=options)
        folder = write_translation(translation, tmp_path / "out")
    assert parsed == dict.fromkeys(map(str, files), 2)
    assert folder.name == f"{uid}_synthetic_B70f"
    images = [dcmread(path) for path in sorted(folder.iterdir())]
    assert [int(image.InstanceNumber) for image in images] == [1, 2, 3, 4]
    expected = np.asarray(nib.load(translation.path).dataobj)  # columns, rows, slices, as the source
    for index, image in enumerate(images):
        np.testing.assert_array_equal(image.pixel_array, expected[:, :, index].T)
