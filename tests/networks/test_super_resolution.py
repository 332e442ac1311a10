"""SR-CycleGAN's generators: sizes, the margin of a tile, the start of the up-sampling, and where nothing shifts."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from common.networks import (
    DownSamplingGenerator,
    ReleasedDownSamplingGenerator,
    ReleasedSRGenerator,
    SuperResolutionGenerator,
)

RELEASED = (ReleasedSRGenerator, ReleasedDownSamplingGenerator)
NETWORKS = {"up": SuperResolutionGenerator, "down": DownSamplingGenerator}
FACTORS = (2, 4, 8)


def build(kind, *, seed=0, **arguments):
    torch.manual_seed(seed)
    return NETWORKS[kind](**{"factor": 4, "channels": 8, "num_res_blocks": 1, **arguments})


def random_image(batch=1, channels=1, size=(16, 24)):
    return torch.rand(batch, channels, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def convolution(inputs, outputs, kernel, bias=1):
    return outputs * (inputs * kernel**2 + bias)


def parameters_up(factor, channels, blocks):
    """Counted by hand; a PReLU has one parameter."""
    total = convolution(1, channels, 7) + 1 + convolution(channels, channels, 3) + 1
    total += blocks * (2 * convolution(channels, channels, 3) + 1)
    while factor > 1:
        total += convolution(channels, 2 * channels, 3, bias=0) + 1
        channels, factor = channels // 2, factor // 2
    return total + convolution(channels, 1, 7)


def parameters_down(factor, channels, blocks):
    total = blocks * (2 * convolution(channels, channels, 3) + 1) + convolution(channels, 1, 7)
    while factor > 1:
        total += convolution(channels // 2, channels, 4) + 1
        channels, factor = channels // 2, factor // 2
    return total + convolution(1, channels, 7) + 1


def test_number_of_parameters():
    assert count(SuperResolutionGenerator()) == parameters_up(8, 64, 9) == 802_007  # what the docstrings say
    assert count(DownSamplingGenerator()) == parameters_down(8, 64, 9) == 711_374
    assert count(build("up", factor=2, channels=6, num_res_blocks=0)) == parameters_up(2, 6, 0)
    assert count(build("down", factor=2, channels=6, num_res_blocks=2)) == parameters_down(2, 6, 2)


@pytest.mark.parametrize("factor", FACTORS)
def test_the_released_codes_generators_change_the_size_by_the_factor(factor):
    finer, coarser = (cls(factor=factor, channels=8, num_res_blocks=1) for cls in RELEASED)
    image = random_image(2, size=(5, 7))
    enlarged = finer(image)
    assert enlarged.shape == (2, 1, 5 * factor, 7 * factor)
    assert coarser(random_image(1, size=(8 * factor, 4 * factor))).shape == (1, 1, 8, 4)
    assert enlarged.abs().max() < 1
    again = RELEASED[0](**finer.arguments)  # as `network.json` builds it
    again.load_state_dict(finer.state_dict())
    assert torch.equal(again(image), enlarged)
    bilinear = F.interpolate(image, scale_factor=float(factor), mode="bilinear")
    assert torch.equal(RELEASED[0](factor=factor, channels=8, num_res_blocks=1, output="residual")(image), bilinear)


@pytest.mark.parametrize("output", ["tanh", "linear", "residual"])
@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize(("batch", "size"), [(1, (8, 8)), (2, (5, 7)), (3, (1, 3))], ids=str)
def test_sizes_differ_by_the_factor(batch, size, factor, output):
    large = (factor * size[0], factor * size[1])
    up, down = (build(kind, factor=factor, output=output) for kind in ("up", "down"))
    assert up(random_image(batch, 1, size)).shape == (batch, 1, *large)
    assert down(random_image(batch, 1, large)).shape == (batch, 1, *size)
    assert down(up(random_image(batch, 1, size))).isfinite().all()


def test_channels_of_the_images_may_differ():
    assert build("up", in_channels=3, out_channels=2)(random_image(2, 3)).shape == (2, 2, 64, 96)
    assert build("down", in_channels=2, out_channels=3)(random_image(2, 2)).shape == (2, 3, 4, 6)


@pytest.mark.parametrize("output", ["tanh", "linear", "residual"])
@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("blocks", [0, 2])
def test_the_margin_is_what_a_tile_gets_wrong_and_no_more(factor, blocks, output):
    """A change beyond a tile's border is felt up to `margin` pixels inside, and not one further."""
    network = build("up", factor=factor, num_res_blocks=blocks, output=output).double()
    with torch.no_grad():
        network.head.weight.normal_()
        side = 2 * network.margin + 8
        image = random_image(size=(side, side)).double()
        border = side // 2
        changed = image.clone()
        changed[..., border:] += 1e-3 * random_image(size=(side, side - border)).double()
        moved = (network(changed) - network(image)).abs().amax(dim=(0, 1, 2))
    reach = border * factor - int(torch.nonzero(moved > 1e-15)[0])
    assert -(-reach // factor) == network.margin
    assert network.margin == -(
        -(factor * (3 + 2 * blocks + 1) + sum(factor >> k for k in range(3) if factor >> k > 1) + 3) // factor
    )


@pytest.mark.parametrize("factor", FACTORS)
def test_tiles_with_their_margin_cut_away_are_the_whole(factor):
    network, side = build("up", factor=factor, num_res_blocks=2), 60
    image = random_image(size=(side, 8))
    margin = network.margin
    with torch.no_grad():
        whole = network(image)
        upper, lower = network(image[:, :, : 30 + margin]), network(image[:, :, 30 - margin :])
    joined = torch.cat([upper[:, :, : 30 * factor], lower[:, :, margin * factor :]], dim=2)
    assert_close(joined, whole, rtol=0, atol=1e-5)


def test_with_instance_norm_no_margin_removes_the_seam():
    network, image = build("up", norm="INSTANCE"), random_image(size=(60, 8))
    margin = network.margin
    with torch.no_grad():
        joined = torch.cat(
            [network(image[:, :, : 30 + margin])[:, :, :120], network(image[:, :, 30 - margin :])[:, :, margin * 4 :]],
            2,
        )
        assert (joined - network(image)).abs().max() > 0.01


@pytest.mark.parametrize("factor", FACTORS)
def test_fresh_upsampling_is_nearest_neighbour(factor):
    """No checkerboard to unlearn: each block of pixels that was one starts with one value."""
    network = build("up", factor=factor)
    stage = network.ups[0]
    upsampled = stage(torch.randn(2, 8, 6, 5))
    assert upsampled.shape == (2, 4, 12, 10)
    assert_close(upsampled, F.interpolate(upsampled[..., ::2, ::2], scale_factor=2.0))
    assert upsampled.std() > 0


@pytest.mark.parametrize("kind", NETWORKS)
def test_train_equals_eval_and_images_of_a_batch_do_not_see_each_other(kind):
    network, images = build(kind), random_image(3)
    in_training = network.train()(images)
    assert_close(network.eval()(images), in_training, rtol=0, atol=0)
    assert list(network.buffers()) == []
    assert_close(torch.cat([network(image[None]) for image in images]), in_training, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", [None, "INSTANCE"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_every_parameter_learns(kind, norm):
    network = build(kind, norm=norm)
    network(random_image(2, size=(16, 24))).square().mean().backward()
    weights = {name: p for name, p in network.named_parameters() if p.dim() > 1}
    assert [name for name, weight in weights.items() if not weight.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("kind", NETWORKS)
def test_output_is_bounded_by_tanh_or_unbounded(kind):
    for output in ("tanh", "linear"):
        network = build(kind, output=output)
        with torch.no_grad():
            network.head.bias.fill_(50.0)
        assert (float(network(random_image()).detach().min()) > 40) == (output == "linear")


@pytest.mark.parametrize("factor", FACTORS)
def test_residual_networks_start_as_interpolation_and_average(factor):
    image = random_image(2, 1, (16, 24))
    upsampled = F.interpolate(image, scale_factor=float(factor), mode="bilinear", align_corners=False)
    averaged = image.unfold(2, factor, factor).unfold(3, factor, factor).mean(dim=(-2, -1))
    assert_close(build("up", factor=factor, output="residual")(image), upsampled, rtol=0, atol=0)
    assert_close(build("down", factor=factor, output="residual")(image), averaged)


@pytest.mark.parametrize("kind", NETWORKS)
def test_nothing_shifts(kind):
    """Mirrored kernels make a mirrored image: input and output share their centre, whatever the factor."""
    network = build(kind)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() == 4:
                parameter.copy_((parameter + parameter.flip(2, 3)) / 2)
        image = random_image()
        if kind == "up":  # the pixel shuffle's four positions have to be mirrored with the kernels
            for stage in network.ups:
                weight = stage[0].weight.unflatten(0, (-1, 4))
                stage[0].weight.copy_(((weight + weight.flip(1).flip(3, 4)) / 2).flatten(0, 1))
        assert_close(network(image.flip(2, 3)), network(image).flip(2, 3), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_constant_image_has_no_frame(kind):
    output = build(kind)(torch.full((1, 1, 16, 16), -0.75))
    assert_close(output.std(), torch.tensor(0.0), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"factor": 3}, r"`factor` must be one of \(2, 4, 8\), got 3\."),
        ({"channels": 6}, r"`channels` must be a multiple of `factor` \(4\), .* got 6\."),
        ({"channels": 0}, r"`channels` must be a multiple of `factor` \(4\), .* got 0\."),
        ({"num_res_blocks": -1}, r"`num_res_blocks` must be >= 0, got -1\."),
        ({"norm": "BATCH"}, r"`norm` must be one of \(None, 'INSTANCE'\), got 'BATCH'\."),
        ({"output": "relu"}, r"`output` must be one of \('tanh', 'linear', 'residual'\), got 'relu'\."),
        ({"in_channels": 0}, r"`in_channels` must be >= 1, got 0\."),
        (
            {"out_channels": 2, "output": "residual"},
            r"the same number of channels in both, got `in_channels` = 1 and .* = 2\.",
        ),
    ],
)
def test_arguments_out_of_range(kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        build(kind, **arguments)


@pytest.mark.parametrize("kind", NETWORKS)
def test_an_image_without_its_batch_axis_is_refused(kind):
    with pytest.raises(ValueError, match=r"`image` must have 4 dimensions .*, got 3\."):
        build(kind)(torch.zeros(1, 16, 16))
