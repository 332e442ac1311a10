"""What both generators promise: any image size, no batch statistics, features of each encoder level."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from common.networks import CompactGenerator, NECGenerator

SIZES = [(1, (32, 32)), (2, (17, 40)), (3, (5, 33)), (1, (16, 20, 9)), (2, (8, 16, 8))]


def build(kind, spatial_dims=2, in_channels=1, **arguments):
    torch.manual_seed(0)
    if kind == "nec":
        return NECGenerator(spatial_dims, in_channels, channels=(4, 6, 8, 8), num_res_units=2, **arguments)
    return CompactGenerator(spatial_dims, in_channels, channels=(4, 6, 8), num_groups=2, num_res_units=1, **arguments)


def random_image(batch, channels, size):
    return torch.rand(batch, channels, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture(params=["nec", "compact"])
def kind(request):
    return request.param


@pytest.mark.parametrize(("batch", "size"), SIZES)
@pytest.mark.parametrize(("in_channels", "out_channels"), [(1, 1), (3, 2)])
def test_output_has_the_images_size(kind, batch, size, in_channels, out_channels):
    network = build(kind, len(size), in_channels, out_channels=out_channels)
    output = network(random_image(batch, in_channels, size))
    assert output.shape == (batch, out_channels, *size)
    assert output.isfinite().all()


@pytest.mark.parametrize(("batch", "size"), SIZES)
def test_train_equals_eval(kind, batch, size):
    network, image = build(kind, len(size)), random_image(batch, 1, size)
    in_training = network.train()(image)
    network.train()(random_image(batch, 1, size) * 3)  # nothing of it may be remembered
    assert_close(network.eval()(image), in_training, rtol=0, atol=0)
    assert list(network.buffers()) == []


def test_images_of_a_batch_do_not_see_each_other(kind):
    network, images = build(kind), random_image(3, 1, (24, 17))
    one_by_one = torch.cat([network(image[None]) for image in images])
    assert_close(network(images), one_by_one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(19, 40), (9, 16, 21)])
def test_padding_continues_the_background(kind, size):
    """A frame of background that completes the size changes nothing, and `pad_value` says what background is."""
    network, image = build(kind, len(size), pad_value=-0.5), random_image(1, 1, size)
    framed = torch.full((1, 1, *[-(-side // 8) * 8 if side > 8 else 16 for side in size]), -0.5)
    middle = tuple(slice(f // 2 - (s + 1) // 2, f // 2 - (s + 1) // 2 + s) for f, s in zip(framed.shape[2:], size))
    framed[(..., *middle)] = image
    assert_close(network(framed)[(..., *middle)], network(image))
    assert not torch.allclose(build(kind, len(size), pad_value=-1.0)(image), network(image))


@pytest.mark.parametrize(("batch", "size"), SIZES)
def test_encode(kind, batch, size):
    network, image = build(kind, len(size)), random_image(batch, 1, size)
    features = network.encode(image)
    assert [feature.shape[1] for feature in features] == network.encode_channels
    assert all(feature.shape[0] == batch for feature in features)
    padded = [max(16, -(-side // 8) * 8) for side in size]
    strides = {"nec": (2, 4, 8, 8), "compact": (1, 2, 4, 8)}[kind]
    assert [tuple(f.shape[2:]) for f in features] == [tuple(p // stride for p in padded) for stride in strides]


def test_encode_is_what_forward_computes(kind):
    """The features, recorded inside of `forward` by hooks on the encoder's blocks."""
    network, image = build(kind), random_image(2, 1, (24, 17))
    if kind == "nec":
        top = network.model
        second = top[1].submodule
        third = second[1].submodule
        blocks = [top[0], second[0], third[0], third[1].submodule]
    else:
        blocks = [network.stem, *network.downs]
    recorded = []
    hooks = [block.register_forward_hook(lambda _, __, output: recorded.append(output)) for block in blocks]
    network(image)
    for hook in hooks:
        hook.remove()
    for feature, expected in zip(network.encode(image), recorded, strict=True):
        assert_close(feature, expected, rtol=0, atol=0)


def test_every_parameter_learns(kind):
    network = build(kind)
    network(random_image(2, 1, (24, 17))).square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())
    weights = {name: parameter for name, parameter in network.named_parameters() if parameter.dim() > 1}
    assert [name for name, weight in weights.items() if not weight.grad.abs().sum() > 0] == []


def test_encoder_gradient_stays_in_the_encoder(kind):
    network = build(kind)
    sum(feature.square().mean() for feature in network.encode(random_image(1, 1, (16, 16)))).backward()
    with_gradient = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    decoder = {"nec": ("model.2", "model.1.submodule.2"), "compact": ("ups", "merges", "head", "bottom")}[kind]
    assert with_gradient
    assert not [name for name in with_gradient if name.startswith(decoder)]


def test_output_is_unbounded(kind):
    network = build(kind)
    head = network.head if kind == "compact" else network.model[2][1].conv.unit0.conv
    with torch.no_grad():
        head.bias.fill_(50.0)
    assert network(random_image(1, 1, (16, 16))).mean() > 40


@pytest.mark.parametrize("shape", [(1, 16, 16), (1, 1, 16, 16, 16)])
def test_wrong_number_of_axes_is_refused(kind, shape):
    message = rf"`image` must have 4 dimensions \(batch, channel, and 2 spatial ones\), got {len(shape)}\."
    with pytest.raises(ValueError, match=message):
        build(kind)(torch.zeros(shape))
    with pytest.raises(ValueError, match=message):
        build(kind).encode(torch.zeros(shape))


@pytest.mark.parametrize(
    ("network", "arguments", "message"),
    [
        (NECGenerator, {"spatial_dims": 1}, r"`spatial_dims` must be 2 or 3, got 1\."),
        (NECGenerator, {"channels": [8]}, r"`channels` must hold at least 2 levels .*, got \[8\]\."),
        (NECGenerator, {"channels": [8, 0]}, r"`channels` must hold .* >= 1 features each, got \[8, 0\]\."),
        (NECGenerator, {"num_res_units": -1}, r"`num_res_units` must be >= 1, or 0 for plain convolutions, got -1\."),
        (CompactGenerator, {"spatial_dims": 4}, r"`spatial_dims` must be 2 or 3, got 4\."),
        (CompactGenerator, {"channels": []}, r"`channels` must hold at least 1 level, got none\."),
        (CompactGenerator, {"channels": [8, 12]}, r"must be a multiple of `num_groups` \(8\), got \[8, 12\]\."),
        (CompactGenerator, {"num_groups": -1}, r"`num_groups` must be >= 0, got -1\."),
        (CompactGenerator, {"num_res_units": -2}, r"`num_res_units` must be >= 0, got -2\."),
    ],
)
def test_arguments_out_of_range(network, arguments, message):
    with pytest.raises(ValueError, match=message):
        network(**arguments)
