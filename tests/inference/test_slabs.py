"""Volumes translated slab by slab: the same as at once, in any orientation, whole or not at all.

A thread that follows: in order, and with its errors.
"""

from __future__ import annotations

import threading

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, CopyItemsd, Invertd, Orientationd, ScaleIntensityRanged, Spacingd
from torch import nn

from common.engines import VolumeTranslator
from common.inference import StackInferer, translated_slabs
from common.inference.fluid import Inversion, brain_middle, fluid_brightness
from common.inference.inferers import AxialInferer, WindowInferer
from common.inference.slabs import BackgroundWriter, axial_axis
from common.transforms import AddSourced, StandardizeForegroundd, ToChangeInHUd
from tests.helpers.inference import parsed, translated
from tests.helpers.translations import save, translate

HU = (-1024, 3071)
AFFINES = {
    "axial": np.diag([-0.7, -0.7, 2.0, 1.0]),
    "upside down": np.diag([0.7, 0.7, -2.0, 1.0]),
    "sagittal": np.array([[0, 0, 2.0, 0], [0.7, 0, 0, 0], [0, -0.7, 0, 0], [0, 0, 0, 1]]),
    "coronal": np.array([[0.7, 0, 0, 0], [0, 0, 2.0, 0], [0, 0.7, 0, 0], [0, 0, 0, 1]]),
}


def volume(affine: np.ndarray, shape=(9, 11, 10)) -> MetaTensor:
    hu = torch.randint(-1100, 1500, (1, *shape), generator=torch.Generator().manual_seed(0), dtype=torch.int16)
    return MetaTensor(hu, affine=torch.as_tensor(affine))


def steps():
    encode = Compose(
        [
            CopyItemsd("image", names="original"),
            Orientationd("image", axcodes="RAS", labels=None),
            ScaleIntensityRanged("image", *map(float, HU), -1.0, 1.0, clip=True),
        ]
    )
    decode = Compose(
        [
            ToChangeInHUd("pred", "image", HU),
            Invertd("pred", encode, orig_keys="image", nearest_interp=False),
            AddSourced("pred", "original"),
        ]
    )
    return encode, decode


class Mixing(nn.Module):
    """Each pixel is mixed with two neighbours, of which one comes from the other side at the border."""

    def forward(self, image):
        return 0.5 * image + 0.3 * image.roll(1, 2) - 0.2 * image.roll(2, 3)


@pytest.mark.parametrize("slab", [1, 4, 100])
@pytest.mark.parametrize("name", AFFINES)
def test_slabs_are_what_the_whole_volume_gives(name, slab):
    image, network, (encode, decode) = volume(AFFINES[name]), Mixing().eval(), steps()
    slabs = list(translated_slabs(image, network, encode, decode, AxialInferer(batch_size=2), slab=slab))
    whole = VolumeTranslator(network, encode, decode, inferer=AxialInferer(batch_size=2))
    expected = whole(image.float(), "B70f").as_tensor()
    axis = axial_axis(image)
    torch.testing.assert_close(torch.cat([output for _, output in slabs], axis), expected, rtol=0, atol=0)
    torch.testing.assert_close(torch.cat([source for source, _ in slabs], axis), image.as_tensor().float())
    assert (expected - image.as_tensor()).abs().max() > 100


@pytest.mark.parametrize("slab", [1, 4, 9])
@pytest.mark.parametrize("name", ["axial", "sagittal"])
def test_slabs_of_a_network_that_sees_neighbours_reach_beyond_their_ends(name, slab):
    image, (encode, decode) = volume(AFFINES[name]), steps()

    translated = []

    def middle(stacks):
        translated.append(len(stacks))
        return 0.6 * stacks[:, 1:2] + 0.3 * stacks[:, :1] - 0.1 * stacks[:, 2:]

    inferer = AxialInferer(batch_size=2, slices=3)
    slabs = list(translated_slabs(image, middle, encode, decode, inferer, slab=slab))
    assert sum(translated) == image.shape[axial_axis(image)]  # their neighbours are seen alone
    expected = VolumeTranslator(middle, encode, decode, inferer=inferer)(image.float(), "B70f").as_tensor()
    axis = axial_axis(image)
    torch.testing.assert_close(torch.cat([output for _, output in slabs], axis), expected, rtol=0, atol=0)
    assert (expected - image.as_tensor()).abs().max() > 10


@pytest.mark.parametrize("slab", [1, 4, 9])
@pytest.mark.parametrize("name", ["axial", "sagittal"])
def test_slabs_of_stacks_see_their_neighbours(name, slab):
    image, (encode, decode) = volume(AFFINES[name]), steps()

    def mixing(stacks):
        return 0.5 * stacks + 0.3 * stacks.roll(1, 1) - 0.1 * stacks.roll(2, 1)

    slabs = translated_slabs(image, mixing, encode, decode, StackInferer(batch_size=2), slab=slab, context=2)
    whole = VolumeTranslator(mixing, encode, decode, inferer=StackInferer(batch_size=2))(image.float(), "CECT")
    found = torch.cat([output for _, output in slabs], axial_axis(image))
    torch.testing.assert_close(found, whole.as_tensor(), rtol=0, atol=0)


def mr_steps():
    encode = Compose(
        [
            Orientationd("image", axcodes="RAS", labels=None),
            Spacingd("image", pixdim=(1.0, 1.0, -1), mode="bilinear"),
            StandardizeForegroundd("image"),
        ]
    )
    decode = Compose(
        [
            ScaleIntensityRanged("pred", -1.0, 1.0, 0.0, 4000.0, clip=True),
            Invertd("pred", encode, orig_keys="image", nearest_interp=False),
        ]
    )
    return encode, decode


def head(affine: np.ndarray, shape=(26, 24, 28)) -> MetaTensor:
    values = torch.rand((1, *shape), generator=torch.Generator().manual_seed(0)).mul(200).round()
    values[:, 4:-4, 4:-4, 3:-3] += 600
    values[:, 9:13, 9:13, 9:13] = 1500
    return MetaTensor(values, affine=torch.as_tensor(affine))


@pytest.mark.parametrize("slab", [1, 6])
@pytest.mark.parametrize("name", AFFINES)
def test_what_depends_on_the_whole_volume_is_found_before_the_first_slab(name, slab):
    image, (encode, decode) = head(AFFINES[name]), mr_steps()
    arguments = (Mixing().eval(), encode, decode, AxialInferer(batch_size=2))
    axis = axial_axis(image)
    found, expected = (
        torch.cat([output for _, output in translated_slabs(image, *arguments, slab=slab, at_once=at_once)], axis)
        for at_once in (0, 10**9)
    )
    whole = VolumeTranslator(Mixing().eval(), encode, decode, inferer=AxialInferer(batch_size=2))(image, "T2")
    torch.testing.assert_close(expected, whole.as_tensor(), rtol=1e-6, atol=1e-6 * 4000)  # as resampled in slabs
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3 * 4000)
    assert np.ptp(expected.numpy()) > 1000


@pytest.mark.parametrize("slab", [1, 6])
@pytest.mark.parametrize("name", ["axial", "upside down"])
def test_a_slice_between_its_neighbours_is_the_same_in_slabs(name, slab):
    image, (encode, decode) = head(AFFINES[name]), mr_steps()

    def mixing(slices):
        return 0.5 * slices[:, 1:2] + 0.3 * slices[:, :1] - 0.2 * slices[:, 2:]

    found, expected = (
        torch.cat([output for _, output in translated_slabs(image, mixing, encode, decode, inferer, **options)], 3)
        for inferer, options in (
            (AxialInferer(batch_size=2, slices=3), {"slab": slab, "at_once": 0}),
            (AxialInferer(batch_size=2, slices=3), {"slab": None}),
        )
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3 * 4000)
    assert np.ptp(expected.numpy()) > 1000


def test_an_inferer_that_needs_all_slices_gets_all_of_them():
    image, (encode, decode) = volume(AFFINES["sagittal"]), steps()
    inferer = WindowInferer(roi_size=(4, 4, 4), sw_batch_size=1, overlap=0.5, mode="gaussian")
    (slab,) = translated_slabs(image, torch.clone, encode, decode, inferer, slab=2)
    torch.testing.assert_close(slab[1], image.as_tensor().float(), rtol=0, atol=0)


@pytest.mark.parametrize("name", AFFINES)
@pytest.mark.parametrize("at_once", [0, 10**9])
def test_inversion_is_measured_slab_by_slab_as_by_numpy(name, at_once):
    image = head(AFFINES[name], (150, 150, 60))  # slices across the third axis alone are large enough for a middle
    source = image[0].numpy()
    output = 2000 - source
    inversion = Inversion(image, at_once=at_once)
    axis = axial_axis(image) - 1
    for start in range(0, source.shape[axis], 7):
        span = [slice(None)] * 3
        span[axis] = slice(start, start + 7)
        inversion.add(source[tuple(span)], output[tuple(span)], start)
    found = inversion.measures()
    assert found["correlation"] == pytest.approx(-1, abs=1e-6)
    upright = nib.orientations.io_orientation(AFFINES[name])
    first, second = (nib.orientations.apply_orientation(part, upright) for part in (source, output))
    sizes = nib.affines.voxel_sizes(AFFINES[name])[np.argsort(upright[:, 0])]
    assert found["fluid"] == fluid_brightness(first, second, brain_middle(first, sizes))


def test_a_translation_without_contrast_correlates_fully():
    image = head(AFFINES["axial"])
    inversion = Inversion(image)
    inversion.add(image[0].numpy(), np.full(image.shape[1:], 7.3, np.float32), 0)
    assert inversion.measures() == {"correlation": 1.0, "fluid": None}


@pytest.mark.parametrize("name", AFFINES)
def test_a_bundle_writes_the_change_onto_the_source_in_its_own_orientation(name, tmp_path):
    affine, hu = AFFINES[name], volume(AFFINES[name])[0].numpy()
    output = nib.load(
        translated("ggcl", save(tmp_path / "a.nii.gz", hu, affine), tmp_path / "out", network_def=Third())
    )
    change = -(np.clip(hu, *HU) + 1024.0) / 3  # a third of the way down to -1024 HU; no ties in rounding
    np.testing.assert_array_equal(np.asarray(output.dataobj), np.rint(hu + change))
    np.testing.assert_allclose(output.affine, affine, atol=1e-6)
    assert output.get_data_dtype() == np.int16
    assert (int(output.header["qform_code"]), int(output.header["sform_code"])) == (0, 2)  # as nibabel writes sources


class Third(nn.Module):
    def forward(self, image):
        return image - (image + 1) / 3


def test_an_output_that_must_not_be_written_leaves_nothing(tmp_path):
    hu = volume(AFFINES["axial"])[0].numpy().copy()
    hu[..., 8:] += 1000  # the last slab alone fails
    source = save(tmp_path / "a.nii.gz", hu, AFFINES["axial"])
    with pytest.raises(ValueError, match="NaN or infinite values; it was not written"):
        parsed("ggcl", source, tmp_path / "out", network_def=NaNs()).get_parsed_content("evaluator").run()
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


class NaNs(nn.Module):
    def forward(self, image):
        return torch.where(image.mean() > -0.3, torch.nan, image)


def test_two_runs_write_the_same_bytes(tmp_path):
    hu = volume(AFFINES["axial"], (24, 24, 20))[0].numpy()
    for name in ("first", "second"):
        source = save(tmp_path / name / "a.nii.gz", hu, AFFINES["axial"])
        translate("ggcl", source, tmp_path / name / "out", guards="warn")
    first, second = (tmp_path / name / "out" / "a_synthetic_B70f.nii.gz" for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()


def test_calls_are_made_in_order_by_another_thread_while_the_caller_goes_on():
    made, go_on = [], threading.Event()

    def call(number):
        assert go_on.wait(10)
        made.append((number, threading.get_ident() == threading.main_thread().ident))

    with BackgroundWriter() as background:
        background(call, 0)
        assert made == []
        go_on.set()
        for number in (1, 2):
            background(call, number)
    assert made == [(0, False), (1, False), (2, False)]


def test_what_a_call_raises_ends_the_work_at_the_next_call_or_at_the_end():
    def fail():
        raise OSError("no space left")

    def run(*calls):
        with BackgroundWriter() as background:
            for call in calls:
                background(call)

    made = []
    with pytest.raises(OSError, match="no space left"):
        run(fail, lambda: made.append(1))
    assert made == []
    with pytest.raises(OSError, match="no space left"):
        run(fail)


def test_an_error_of_the_caller_is_the_one_that_is_raised():
    def fail():
        raise OSError("no space left")

    def run():
        with BackgroundWriter() as background:
            background(fail)
            raise ValueError("the network failed")

    with pytest.raises(ValueError, match="the network failed"):
        run()
