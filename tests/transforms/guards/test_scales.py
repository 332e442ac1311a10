"""Pixels that resampling cannot mend, and a CT whose air is not at -1000 HU.

Pixels of another scale than a super-resolution is made for are refused, unusual ones warned of.
"""

from __future__ import annotations

import logging
import re

import nibabel as nib
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage

from common.transforms import CheckAird, CheckClippedd, CheckPixelSized, CheckPlaned, CheckResampledd
from tests.helpers.shared import needs_shared, require_shared, shared
from tests.helpers.translations import translate
from tests.helpers.verdicts import refusal


def image(values: torch.Tensor, pixel_mm: float = 1.0) -> dict[str, MetaTensor]:
    affine = torch.diag(torch.tensor([pixel_mm, pixel_mm, 5.0, 1.0], dtype=torch.float64))
    return {"image": MetaTensor(values, affine=affine, meta={"filename_or_obj": "scan.nii"})}


@pytest.mark.parametrize(("pixel_mm", "alarm"), [(0.2, False), (1.0, False), (2.4, False), (2.6, True), (0.05, True)])
def test_pixels_far_from_those_in_training_are_warned_of(pixel_mm, alarm, caplog):
    CheckResampledd("image", [1.0, 1.0])(image(torch.zeros(1, 4, 4, 2), pixel_mm))
    assert (f"'scan.nii' has axial pixels of {pixel_mm:.3g} x {pixel_mm:.3g} mm" in caplog.text) is alarm
    assert bool(caplog.text) is alarm


def test_arguments_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"`pixel_mm` must be 2 positive numbers in mm, got"):
        CheckResampledd("image", [1.0])
    with pytest.raises(ValueError, match=r"`finest` must be < 1 and `coarsest` > 1, got 0.1 and 0.5."):
        CheckResampledd("image", [1.0, 1.0], coarsest=0.5)


def test_a_lost_offset_is_warned_of_and_padding_does_not_hide_it(caplog):
    torch.manual_seed(0)
    scan = torch.where(torch.rand(1, 20, 20, 5) < 0.3, -1000.0, 40.0)
    CheckAird("image")(image(scan))
    assert caplog.text == ""
    shifted = scan + 300  # air at -700
    shifted[:, :3] = -2000
    CheckAird("image")(image(shifted))
    assert "'scan.nii': nothing in it is darker than -700 HU, but air has -1000 HU." in caplog.text


@needs_shared("data")
@pytest.mark.parametrize("kind", ["abdomen_ct", "chest_ct", "kernel_pair_ct"])
def test_real_ct_raises_no_alarm(kind, caplog):
    paths = sorted(path for path in shared("data", kind).glob("*.nii.gz") if "_seg_" not in path.name)
    assert paths
    for path in paths:
        volume = LoadImage(reader="NibabelReader", ensure_channel_first=True)(path)
        caplog.clear()  # of what MONAI says in loading
        CheckAird("image")({"image": volume})
        CheckResampledd("image", [1.3333, 1.3333])({"image": volume})
        assert caplog.text == ""


CLINICAL_MM = [0.625, 0.625]
MICRO_MM = [0.625 / 8, 0.625 / 8]
TRAINING, MICRO = CheckPixelSized("image", CLINICAL_MM), CheckPixelSized("image", MICRO_MM)
INFERENCE = CheckPixelSized("image", CLINICAL_MM, finest=8**-0.5, widest=None)


def volume(*columns: tuple[float, float, float]) -> dict[str, MetaTensor]:
    """With an affine of these columns."""
    affine = torch.eye(4, dtype=torch.float64)
    affine[:3, :3] = torch.tensor(columns, dtype=torch.float64).T
    return {"image": MetaTensor(torch.zeros(1, 4, 4, 4), affine=affine, meta={"filename_or_obj": "/data/scan.nii"})}


def square(pixel_mm: float, slice_mm: float = 5.0) -> dict[str, MetaTensor]:
    return volume((-pixel_mm, 0, 0), (0, pixel_mm, 0), (0, 0, slice_mm))


@pytest.mark.parametrize("pixel_mm", [0.45, 0.5, 0.625, 0.8, 0.85])
@pytest.mark.parametrize("check", [TRAINING, INFERENCE])
def test_clinical_pixels_pass_without_a_word_whatever_the_slices(check, pixel_mm, caplog):
    for slice_mm in (5.0, 0.1):
        check(square(pixel_mm, slice_mm))
    assert not caplog.records


def test_pixels_are_those_of_the_axial_plane_on_any_grid(caplog):
    """Axes S, A, R, turned by 3 and 4 parts: columns of 5, 0.6 and 0.6 mm."""
    INFERENCE(volume((0, 3.0, 4.0), (0, 0.48, -0.36), (0.6, 0, 0)))
    assert not caplog.records
    with pytest.raises(ValueError, match=re.escape("has axial pixels of 0.06 x 0.07 mm")):
        INFERENCE(volume((0, 3.0, 4.0), (0, 0.048, -0.036), (0.07, 0, 0)))


@pytest.mark.parametrize(
    ("check", "pixel_mm", "words"),
    [
        (INFERENCE, 0.35, "0.35 x 0.35 mm, expected are 0.625 x 0.625 mm: structures appear 1.8 times too large"),
        (INFERENCE, 1.0, "1 x 1 mm, expected are 0.625 x 0.625 mm: structures appear 1.6 times too small"),
        (INFERENCE, 2.5, "2.5 x 2.5 mm, expected are 0.625 x 0.625 mm: structures appear 4 times too small"),
        (TRAINING, 1.0, "structures appear 1.6 times too small, the result may be wrong. Train with such pixels, or"),
        (MICRO, 0.042, "0.042 x 0.042 mm, expected are 0.0781 x 0.0781 mm: structures appear 1.9 times too large"),
        (MICRO, 0.052, "0.052 x 0.052 mm, expected are 0.0781 x 0.0781 mm: structures appear 1.5 times too large"),
    ],
)
def test_unusual_pixels_and_those_of_the_papers_micro_ct_are_warned_of(check, pixel_mm, words, caplog):
    with caplog.at_level(logging.WARNING):
        check(square(pixel_mm))
    (record,) = caplog.records
    assert record.message.startswith("'/data/scan.nii' has axial pixels of ")
    assert words in record.message


@pytest.mark.parametrize("factor", [2, 4, 16])
def test_a_micro_volume_of_another_factor_is_refused(factor):
    message = (
        r"'/data/scan\.nii' has axial pixels of 0\.\d+ x 0\.\d+ mm, expected are 0\.0781 x 0\.0781 mm: it is of"
        r" another scale, as a micro CT is .*, or a CT for another factor\. .* correct the spacing .* set `spacing_mm`"
    )
    with pytest.raises(ValueError, match=message):
        MICRO(square(0.625 / factor))


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_inference_refuses_pixels_nearer_to_its_output_than_to_its_input(factor):
    """The geometric mean of both sizes lies between."""
    check = CheckPixelSized("image", CLINICAL_MM, finest=factor**-0.5, widest=None)
    between = 0.625 / factor**0.5
    check(square(1.01 * between))
    for pixel_mm in (0.99 * between, 0.625 / factor):
        with pytest.raises(ValueError, match="it is of another scale"):
            check(square(pixel_mm))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pixel_mm": [0.6]}, "`pixel_mm` must be 2 positive numbers in mm, got [0.6]."),
        ({"pixel_mm": [0.6, 0]}, "`pixel_mm` must be 2 positive numbers in mm, got [0.6, 0]."),
        ({"finest": 1}, "`finest` must lie between 0 and 1, got 1."),
        ({"widest": 0.5}, "`widest` must be > 1, got 0.5."),
        ({"tolerance": 1}, "`tolerance` must be > 1, got 1."),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        CheckPixelSized("image", **{"pixel_mm": CLINICAL_MM, **arguments})


def test_a_small_head_in_a_large_field_of_view_is_refused_as_its_bright_part_would_be_clipped():
    check = CheckClippedd("image", [1, 99])
    head = torch.zeros(1, 100, 100, 10)
    head[:, 30:70, 30:70] = 50 + torch.rand(1, 40, 40, 10)
    check(image(head))  # 16 % of the volume
    CheckClippedd("image", None)(image(head * 0 + (head > 55)))  # ranks clip nothing
    head[:, :, :] = 0
    head[:, 45:60, 45:60] = 50 + torch.rand(1, 15, 15, 10)
    with pytest.raises(ValueError, match=r"'scan.nii' shows a head that fills 2% of the volume: 4\d% of it lies above"):
        check(image(head))


def test_the_small_brain_in_a_large_field_of_view_is_refused_and_no_real_volume():
    check = CheckClippedd("image", [1, 99])
    load = LoadImage(reader="NibabelReader", ensure_channel_first=True)
    with pytest.raises(ValueError, match=r"fills 3% of the volume: 3\d% of it .* Crop the volume to the head"):
        check({"image": load(require_shared("cases", "mr-small-brain-in-large-fov", "mbig.nii.gz"))})
    volumes = sorted(require_shared("data", "brain_mri").glob("*.nii.gz"))
    assert len(volumes) >= 16
    for path in volumes:
        check({"image": load(path)})


def test_axial_slices_too_small_for_a_kernel_are_refused_whatever_the_axes():
    def stack(*shape: int, mm: tuple[float, float, float] = (0.7, 0.7, 5.0)) -> dict[str, MetaTensor]:
        affine = torch.diag(torch.tensor([*mm, 1.0], dtype=torch.float64))
        return {"image": MetaTensor(torch.zeros(1, *shape), affine=affine, meta={"filename_or_obj": "scan.nii"})}

    check = CheckPlaned("image")
    check(stack(16, 64, 1))
    with pytest.raises(ValueError, match=r"'scan.nii' has axial slices of 15 x 64 pixels of 0.7 x 0.7 mm; at least 16"):
        check(stack(15, 64, 40))
    with pytest.raises(ValueError, match=r"64 x 64 pixels of 0.7 x 5 mm.* Give the axial reconstruction"):
        check(stack(64, 64, 64, mm=(0.7, 5.0, 0.7)))


def test_a_coronal_stack_is_refused_by_the_kernel_bundles_and_converted_if_told(tmp_path):
    source = require_shared("cases", "coronal-12-slices", "coronal12.nii.gz")
    for bundle in ("ggcl", "kcgan_kernel_conversion"):
        options = {"source": "B30f", "target": "B50f"}
        with pytest.raises(RuntimeError) as error:
            translate(bundle, source, tmp_path / "refused", **options)
        assert "axial slices of 96 x 12 pixels of 0.7 x 5 mm" in refusal(error.value)
        assert not list(tmp_path.glob("refused/*.nii*"))
        translate(bundle, source, tmp_path / bundle, **options, guards="warn")
        (path,) = (tmp_path / bundle).glob("*.nii.gz")
        assert nib.load(path).shape == (96, 12, 96)
