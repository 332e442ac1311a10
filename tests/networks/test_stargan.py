from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from common.networks import StarGANGenerator, load_definition, save_definition
from common.networks.layers import pad_to_multiple

UPSAMPLINGS = ["pixelshuffle", "transposed"]
# Multiples of 4, odd, and the smallest.
SIZES = [(1, (32, 24)), (2, (17, 40)), (3, (5, 33)), (2, (1, 3))]


@pytest.fixture(params=UPSAMPLINGS)
def upsample(request):
    return request.param


def build(upsample="pixelshuffle", num_domains=3, **arguments):
    torch.manual_seed(0)
    return StarGANGenerator(num_domains, **{"channels": 4, "num_res_blocks": 2, **arguments}, upsample=upsample)


def random_image(batch, size, channels=1, seed=1):
    return torch.rand(batch, channels, *size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def one_hot(batch, num_domains=3):
    return torch.eye(num_domains)[torch.arange(batch) % num_domains]


@pytest.mark.parametrize(("upsample", "parameters"), [("pixelshuffle", 9_230_912), ("transposed", 8_411_712)])
def test_paper_size(upsample, parameters):
    """The numbers of parameters that the released code prints."""
    with torch.device("meta"):
        network = StarGANGenerator(upsample=upsample)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    assert f"{parameters:,}" in StarGANGenerator.__doc__


def test_cost_and_feature_at_the_papers_image_size():
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        network = StarGANGenerator()
        output, feature = network.features(torch.empty(1, 1, 512, 512), torch.empty(1, 3))
    assert output.shape == (1, 1, 512, 512)
    assert feature.shape == (1, 128, 256, 256)
    assert network.feature_channels == 128
    # Two operations a multiply-add: outputs * inputs * kernel * places of each convolution.
    full, half, quarter = 512**2, 256**2, 128**2
    multiply_adds = 64 * 4 * 49 * full + 128 * 64 * 16 * half + 256 * 128 * 16 * quarter
    multiply_adds += 12 * 256 * 256 * 9 * quarter + 512 * 256 * 9 * quarter + 256 * 128 * 9 * half + 64 * 49 * full
    assert counter.get_total_flops() == 2 * multiply_adds
    assert f"{2 * multiply_adds / 1e9:.1f} GFLOP" in StarGANGenerator.__doc__


@pytest.mark.parametrize(("batch", "size"), SIZES)
@pytest.mark.parametrize(("in_channels", "out_channels"), [(1, 1), (3, 2)])
def test_output_has_the_images_size(upsample, batch, size, in_channels, out_channels):
    network = build(upsample, in_channels=in_channels, out_channels=out_channels)
    image = random_image(batch, size, in_channels)
    output, feature = network.features(image, one_hot(batch))
    assert output.shape == (batch, out_channels, *size)
    assert feature.shape == (batch, 8, *[max(4, -(-side // 4) * 2) for side in size])
    assert output.isfinite().all()
    assert output.abs().max() < 1
    assert_close(network(image, one_hot(batch)), output, rtol=0, atol=0)


@pytest.mark.parametrize("size", [(32, 24), (17, 40)])
def test_train_equals_eval(upsample, size):
    network, image = build(upsample), random_image(2, size)
    in_training = network.train()(image, one_hot(2))
    network.train()(random_image(2, size, seed=2) * 3, one_hot(2))  # nothing of it may be remembered
    assert_close(network.eval()(image, one_hot(2)), in_training, rtol=0, atol=0)
    assert list(network.buffers()) == []


def test_images_of_a_batch_do_not_see_each_other(upsample):
    network, images, targets = build(upsample), random_image(3, (24, 17)), one_hot(3)
    one_by_one = torch.cat([network(image[None], target[None]) for image, target in zip(images, targets)])
    assert_close(network(images, targets), one_by_one, rtol=1e-4, atol=1e-5)


def test_each_target_gives_another_image():
    network, image = build(), random_image(1, (32, 32)).expand(4, -1, -1, -1)
    targets = torch.cat([one_hot(3), torch.tensor([[0.5, 0.0, 0.5]])])
    outputs = network(image, targets)
    differences = [(outputs[a] - outputs[b]).abs().max() for a in range(4) for b in range(a)]
    assert min(differences) > 1e-3


def test_integer_targets_are_taken():
    network, image = build(), random_image(3, (16, 16))
    assert_close(network(image, one_hot(3).long()), network(image, one_hot(3)), rtol=0, atol=0)


def test_reflection_padding_would_cancel_the_label():
    """Why the padding is zero: the mirrored label is constant, and the instance norm takes constants away."""
    network, image = build(), random_image(3, (16, 16))[:1].expand(3, -1, -1, -1)
    network.stem[0].padding_mode = "reflect"
    mirrored = network(image, one_hot(3))
    assert_close(mirrored, mirrored[:1].expand(3, -1, -1, -1), rtol=0, atol=1e-4)
    network.stem[0].padding_mode = "zeros"
    assert (network(image, one_hot(3)).diff(dim=0)).abs().max() > 0.01


@pytest.mark.parametrize("size", [(19, 40), (33, 30)])
def test_padding_continues_the_air(size):
    """A frame of -1 that completes the size changes nothing."""
    network, image, target = build(), random_image(1, size), one_hot(1)
    framed = torch.full((1, 1, *[-(-side // 4) * 4 for side in size]), -1.0)
    middle = tuple(slice(f // 2 - (s + 1) // 2, f // 2 - (s + 1) // 2 + s) for f, s in zip(framed.shape[2:], size))
    framed[(..., *middle)] = image
    assert_close(network(framed, target)[(..., *middle)], network(image, target))


@pytest.mark.parametrize("size", [(352, 472), (512, 512)])
def test_common_ct_sizes_need_no_padding(size):
    assert pad_to_multiple(torch.empty(1, 1, *size, device="meta"), 4, -1.0).shape[2:] == size


def test_every_parameter_learns(upsample):
    network = build(upsample)
    network(random_image(2, (24, 17)), one_hot(2)).square().mean().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    weights = {name: p for name, p in network.named_parameters() if p.dim() > 1}
    assert [name for name, weight in weights.items() if not weight.grad.abs().sum() > 0] == []


def test_feature_does_not_depend_on_the_last_layers():
    network = build()
    network.features(random_image(1, (16, 16)), one_hot(1))[1].sum().backward()
    silent = {name for name, p in network.named_parameters() if p.grad is None}
    assert silent == {name for name, _ in network.named_parameters() if name.startswith(("ups.1.", "head."))}


def test_definition_round_trip(upsample, tmp_path):
    network = build(upsample)
    save_definition(tmp_path / "network.json", network)
    again = load_definition(tmp_path, {})
    again.load_state_dict(network.state_dict())
    image = random_image(2, (16, 12))
    assert_close(again(image, one_hot(2)), network(image, one_hot(2)))


@pytest.mark.parametrize("shape", [(3,), (3, 3), (2, 2), (2, 3, 1, 1)])
def test_target_of_another_shape_is_refused(shape):
    message = rf"`target` must have the shape .*, here \(2, 3\), got \[{', '.join(map(str, shape))}\]: give one row"
    with pytest.raises(ValueError, match=message):
        build()(random_image(2, (16, 16)), torch.zeros(shape))


def test_wrong_number_of_axes_is_refused():
    with pytest.raises(ValueError, match=r"`image` must have 4 dimensions .*, got 5\."):
        build()(torch.zeros(1, 1, 16, 16, 16), one_hot(1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_domains": 0}, r"`num_domains` must be >= 1, got 0\."),
        ({"in_channels": 0}, r"`in_channels` must be >= 1, got 0\."),
        ({"out_channels": -1}, r"`out_channels` must be >= 1, got -1\."),
        ({"channels": 0}, r"`channels` must be >= 1, got 0\."),
        ({"num_res_blocks": -1}, r"`num_res_blocks` must be >= 0, got -1\."),
        ({"upsample": "nearest"}, r"`upsample` must be one of \('pixelshuffle', 'transposed'\), got 'nearest'\."),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        StarGANGenerator(**arguments)
