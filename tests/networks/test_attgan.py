"""AttGAN's generator: its size, where the target comes in, and the feature that may guide a discriminator."""

from __future__ import annotations

import io

import pytest
import torch
from torch.testing import assert_close

from common.networks import AttGANGenerator, SemanticDiscriminator, WithTarget, load_definition, save_definition

TARGET = torch.tensor([[0.0, 1.0, 0.0]])


def build(**arguments):
    torch.manual_seed(0)
    return AttGANGenerator(**{"channels": 4, "num_layers": 3, **arguments})


def random_image(batch=1, size=(16, 24)):
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_number_of_parameters():
    def layer(inputs, outputs):
        return 16 * inputs * outputs + 2 * outputs  # and the affine batch norm

    encoder = layer(1, 64) + layer(64, 128) + layer(128, 256) + layer(256, 512) + layer(512, 1024)
    decoder = layer(1024 + 3, 1024) + layer(1024 + 512 + 3, 512) + layer(512, 256) + layer(256, 128)
    with torch.device("meta"):
        count = sum(p.numel() for p in AttGANGenerator().parameters())
    assert count == encoder + decoder + 16 * 128 + 1
    assert f"{count:,}" in AttGANGenerator.__doc__


@pytest.mark.parametrize(("shortcuts", "injections"), [(0, 0), (1, 1), (2, 1)])
@pytest.mark.parametrize(("batch", "size"), [(1, (16, 24)), (2, (17, 10)), (3, (1, 3))], ids=str)
def test_any_size_comes_back_in_minus_1_to_1(batch, size, shortcuts, injections):
    network = build(shortcut_layers=shortcuts, inject_layers=injections)
    output = network(random_image(batch, size), torch.eye(3)[:batch])
    assert output.shape == (batch, 1, *size)
    assert float(output.detach().abs().max()) < 1


def test_the_encoder_is_blind_to_the_target_and_the_decoder_is_not():
    network, image = build().eval(), random_image()
    encoded = []
    network.downs[-1].register_forward_hook(lambda _, __, output: encoded.append(output))
    outputs = [network(image, row[None]) for row in torch.eye(3)]
    assert_close(encoded[0], encoded[2], rtol=0, atol=0)
    assert not torch.allclose(outputs[0], outputs[2])


def test_one_target_for_all_images_is_that_target_for_each():
    network, image = build().eval(), random_image(3)
    assert_close(network(image, TARGET), network(image, TARGET.expand(3, -1)), rtol=0, atol=0)


@pytest.mark.parametrize("num_layers", [2, 5])
def test_the_feature_has_the_size_of_the_semantic_map_of_half_as_many_channels(num_layers):
    network = build(channels=8, num_layers=num_layers)
    _, feature = network.features(random_image(1, (64, 64)), TARGET)
    semantic_map = SemanticDiscriminator(64, 3, channels=4, num_layers=4).features(random_image(1, (64, 64)))[2]
    assert feature.shape == semantic_map.shape == (1, network.feature_channels, 32, 32)


def test_evaluation_uses_the_running_statistics_and_training_the_batchs():
    network, image = build(), random_image(2)
    before = network.eval()(image, TARGET)
    network.train()(image, TARGET)
    assert not torch.allclose(network.eval()(image, TARGET), before)
    alone = network(image[:1], TARGET)
    assert_close(alone, network(image, TARGET)[:1])


def test_it_is_saved_and_scripted_with_a_bound_target(tmp_path):
    network, image = build().eval(), random_image(2, (9, 13))
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(WithTarget(network, [0.5, 0.5, 0.0])), file)
    file.seek(0)
    assert_close(torch.jit.load(file)(image), network(image, torch.tensor([[0.5, 0.5, 0.0]])))
    save_definition(tmp_path / "network.json", network)
    assert load_definition(tmp_path, {}).arguments == network.arguments


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 0}, "`channels` must be >= 1, got 0"),
        ({"num_layers": 1}, "`num_layers` must be >= 2, got 1"),
        ({"shortcut_layers": 3}, r"`shortcut_layers` must be >= 0 and below `num_layers` \(3\), got 3"),
        ({"inject_layers": -1}, r"`inject_layers` must be >= 0 and below `num_layers` \(3\), got -1"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_a_target_of_another_length_is_refused():
    with pytest.raises(ValueError, match=r"`target` must have the shape \(batch, num_domains\), here \(2, 3\), got"):
        build()(random_image(2), torch.eye(2))
