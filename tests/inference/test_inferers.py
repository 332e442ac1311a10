"""Volumes through a network of slice stacks: exact where nothing changes, averaged where predictions differ.

As many slices at a time as half of the free memory holds.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import nn

from common.inference import ConversionInferer, StackInferer, inferers, volume_inferer
from common.inference.inferers import COPIES, AxialInferer, fitting_batch_size
from common.networks import PhysicsGenerator, WithTarget


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def copy(stacks: torch.Tensor) -> torch.Tensor:
    return stacks.clone()


@pytest.mark.parametrize("depth", [3, 4, 5, 6, 9])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_a_network_that_copies_gives_the_volume_back_to_the_last_bit(depth, batch_size):
    volume = noise(1, 1, 31, 17, depth)
    assert torch.equal(StackInferer(batch_size=batch_size)(volume, copy), volume)


def test_the_plain_mean_of_three_equal_numbers_would_not_be_exact():
    """Why the average is a running mean."""
    values = noise(10_000)
    assert not torch.equal((values + values + values) / 3, values)
    assert torch.equal(StackInferer()(values.view(1, 1, 10, 100, 10), copy).flatten(), values)


def scaled_by_place(stacks: torch.Tensor) -> torch.Tensor:
    """Another prediction of a slice from each place in a stack, which depends on its neighbours."""
    return stacks * torch.tensor([1.0, 2.0, 4.0]).view(1, 3, 1, 1) + stacks.sum(dim=1, keepdim=True)


@pytest.mark.parametrize("depth", [3, 4, 7])
@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_overlapping_predictions_are_averaged(depth, batch_size):
    """Expected: sums and counts in float64, stack by stack."""
    volume = noise(1, 1, 6, 5, depth)
    array = volume[0, 0].double().numpy()
    total, count = np.zeros_like(array), np.zeros(depth)
    for z in range(depth - 2):
        stack = array[..., z : z + 3]
        total[..., z : z + 3] += stack * [1, 2, 4] + stack.sum(-1, keepdims=True)
        count[z : z + 3] += 1
    result = StackInferer(batch_size=batch_size)(volume, scaled_by_place)
    np.testing.assert_allclose(result[0, 0].numpy(), total / count, rtol=1e-5, atol=1e-5)
    assert count[0] == count[-1] == 1


def test_each_volume_of_a_batch_is_for_itself():
    volumes = noise(3, 1, 6, 5, 4)
    together = StackInferer()(volumes, scaled_by_place)
    for volume, result in zip(volumes, together):
        assert torch.equal(StackInferer()(volume[None], scaled_by_place)[0], result)


def test_the_network_never_sees_more_stacks_than_the_batch_size():
    seen = []

    def watch(stacks: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(stacks.shape))
        return stacks

    StackInferer(batch_size=3)(noise(1, 1, 6, 5, 9), watch)
    assert seen == [(3, 3, 6, 5), (3, 3, 6, 5), (1, 3, 6, 5)]


def test_predictions_of_another_precision_are_averaged_in_that_of_the_volume():
    result = StackInferer()(noise(1, 1, 6, 5, 4), lambda stacks: stacks.bfloat16())
    assert result.dtype == torch.float32


def test_the_meta_data_of_the_volume_are_kept():
    volume = MetaTensor(noise(1, 1, 6, 5, 4), meta={"filename_or_obj": "scan.nii.gz"})
    result = StackInferer()(volume, copy)
    assert isinstance(result, MetaTensor)
    assert result.meta["filename_or_obj"] == "scan.nii.gz"


def test_bad_input_and_networks_are_refused():
    inferer = StackInferer()
    short = MetaTensor(torch.zeros(1, 1, 6, 5, 2), meta={"filename_or_obj": ["short.nii.gz"]})
    with pytest.raises(ValueError, match=r"'short.nii.gz' has 2 axial slice.*at least 3 are needed"):
        inferer(short, copy)
    with pytest.raises(ValueError, match=r"`inputs` must have the shape \(B, 1, X, Y, Z\), got \(1, 6, 5, 4\)"):
        inferer(torch.zeros(1, 6, 5, 4), copy)
    with pytest.raises(ValueError, match=r"shape \(2, 3, 6, 5\), got \(2, 1, 6, 5\): use one with 3 channels"):
        inferer(torch.zeros(1, 1, 6, 5, 4), lambda stacks: stacks[:, :1])
    with pytest.raises(ValueError, match="`batch_size` must be >= 1 stacks, got 0"):
        StackInferer(batch_size=0)


ONE = COPIES * (1 + 8) * 256 * 256 * 4  # bytes: a float32 image of 256 x 256 with its 8 features


@pytest.mark.parametrize(("images", "expected"), [(100.0, 2), (2.2, 2), (1.9, 1), (0.1, 1), (None, 1)])
def test_the_free_memory_decides(monkeypatch, images, expected):
    monkeypatch.setattr(inferers, "free_memory", lambda _: None if images is None else int(2 * images * ONE))
    network = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 1, 3, padding=1))
    assert fitting_batch_size(network, torch.zeros(1, 1, 256, 256)) == expected


def test_inferers_choose_once_unless_they_are_told(monkeypatch):
    sizes: list[int] = []

    class Seen(nn.Module):
        def forward(self, image):
            sizes.append(len(image))
            return image

    monkeypatch.setattr(inferers, "free_memory", lambda _: 10**12)
    chosen, told = AxialInferer(), AxialInferer(batch_size=3)
    for inferer in (chosen, told):
        inferer(torch.zeros(1, 1, 8, 8, 7), Seen())
    assert sizes == [1, 2, 2, 2, 1, 3, 3, 1]
    sizes.clear()
    StackInferer()(torch.zeros(1, 1, 8, 8, 7), Seen())
    assert sizes == [1, 2, 2, 1]


@pytest.mark.parametrize("batch_size", [1, 2, None])
def test_a_network_of_several_channels_sees_each_slice_between_its_neighbours(batch_size):
    volume = (torch.arange(10.0) / 10).reshape(2, 1, 1, 1, 5).repeat(1, 1, 4, 4, 1)
    seen: list[list[float]] = []

    def middle(stacks):
        seen.extend(stacks[:, :, 0, 0].mul(10).round().tolist())
        return stacks[:, 1:2]

    inferer = AxialInferer(batch_size=batch_size or 1, slices=3)
    assert torch.equal(inferer(volume, middle), volume)
    first = [[0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 4]]
    assert sorted(seen) == sorted([*first, *[[5 + n for n in each] for each in first]])


def test_neighbours_come_from_the_definition_and_keep_the_meta_data():
    inferer = volume_inferer({"arguments": {"in_channels": 3}})
    volume = MetaTensor(torch.zeros(1, 1, 8, 8, 1), affine=torch.diag(torch.tensor([2.0, 2, 3, 1])))
    output = inferer(volume, torch.nn.Conv2d(3, 1, 1))  # of a single slice as well
    assert output.shape == volume.shape
    assert torch.equal(output.affine, volume.affine)
    assert volume_inferer({"arguments": {"spatial_dims": 2}}).slices == 1
    assert volume_inferer({"arguments": {"spatial_dims": 3}, "window": [8, 8, 8]}).roi_size == [8, 8, 8]


def test_refused_neighbours():
    with pytest.raises(ValueError, match="`slices` must be odd, with the translated slice in the middle, got 2"):
        AxialInferer(slices=2)
    with pytest.raises(ValueError, match=r"must have the shape \(B, 1, X, Y, Z\), got \(1, 2, 8, 8, 4\)"):
        AxialInferer(slices=3)(torch.zeros(1, 2, 8, 8, 4), lambda stacks: stacks)


class Loaded:
    """As MONAI Deploy wraps a TorchScript file."""

    def __init__(self, predictor: torch.jit.ScriptModule) -> None:
        self.predictor = predictor

    def __call__(self, *images: torch.Tensor) -> torch.Tensor:
        return self.predictor(*images)


@pytest.mark.parametrize("wrap", [lambda script: script, Loaded])
def test_an_export_is_bound_to_each_images_kernel_and_pixel_size(wrap, tmp_path):
    torch.manual_seed(0)
    generator = PhysicsGenerator(2, channels=4, num_res_blocks=1)
    with torch.no_grad():
        for value in generator.parameters():
            value.add_(0.1 * torch.randn_like(value))
    network = WithTarget(generator, [1.0, 0.0], [0.0, 1.0, 0.6]).eval()
    torch.jit.script(network).save(tmp_path / "model.ts")
    exported = wrap(torch.jit.load(tmp_path / "model.ts"))
    inferer = ConversionInferer(["soft", "sharp"], batch_size=1)
    results = []
    for source, pixel in (("sharp", 0.6), ("soft", 0.6), ("sharp", 0.9)):
        affine = np.diag([pixel, pixel, 1, 1])
        image = MetaTensor(noise(1, 1, 24, 20, 1), affine=affine, meta={"source_domain": source})
        with torch.no_grad():
            results.append(inferer(image, exported).as_tensor())
            torch.testing.assert_close(results[-1], inferer(image, network).as_tensor(), rtol=0, atol=1e-5)
    assert (results[0] - results[1]).abs().max() > 1e-3
    assert (results[0] - results[2]).abs().max() > 1e-3
