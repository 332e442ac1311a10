from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from common.networks import SemanticDiscriminator, StarGANGenerator


def build(image_size=32, **arguments):
    torch.manual_seed(0)
    return SemanticDiscriminator(image_size, 3, **{"channels": 4, "num_layers": 3, **arguments})


def random_image(batch, size=32, channels=1):
    return torch.rand(batch, channels, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_cost_and_semantic_map_at_the_papers_image_size():
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        discriminator = SemanticDiscriminator()
        source_map, domain_logits, semantic_map = discriminator.features(torch.empty(1, 1, 512, 512))
    assert source_map.shape == (1, 1, 4, 4)
    assert domain_logits.shape == (1, 3)
    assert semantic_map.shape == (1, 128, 256, 256)
    # Two operations a multiply-add: outputs * inputs * kernel * places of each convolution.
    widths, sides = [1, 32, 64, 128, 256, 512, 1024, 2048], [512 // 2**layer for layer in range(8)]
    multiply_adds = sum(16 * widths[n] * widths[n + 1] * sides[n + 1] ** 2 for n in range(7))
    multiply_adds += 2048 * 4096 * sides[7] ** 2 + sum(widths[n] ** 2 * sides[n - 1] ** 2 for n in range(4, 8))
    multiply_adds += 128 * 512 * sides[2] ** 2 + 2048 * 9 * sides[7] ** 2 + 3 * 2048 * sides[7] ** 2
    assert counter.get_total_flops() == 2 * multiply_adds
    assert f"{2 * multiply_adds / 1e9:.1f} GFLOP" in SemanticDiscriminator.__doc__


@pytest.mark.parametrize(("image_size", "num_layers"), [(32, 3), (16, 2), (48, 4), (64, 5), (8, 3)])
@pytest.mark.parametrize(("batch", "channels"), [(1, 1), (3, 2)])
def test_semantic_map_fits_the_generators_feature(image_size, num_layers, batch, channels):
    """At any depth, when the generator has twice the discriminator's channels."""
    discriminator = build(image_size, in_channels=channels, num_layers=num_layers)
    generator = StarGANGenerator(3, in_channels=channels, out_channels=channels, channels=8, num_res_blocks=0)
    image = random_image(batch, image_size, channels)
    translated, feature = generator.features(image, torch.eye(3)[:batch])
    source_map, domain_logits, semantic_map = discriminator.eval().features(translated)
    assert semantic_map.shape == feature.shape
    assert discriminator.feature_channels == generator.feature_channels == 16
    assert_close(discriminator(translated), (source_map, domain_logits), rtol=0, atol=0)


def test_skips_join_equal_sizes():
    """The map without the skip of a level is another one: each encoder feature but the first takes part."""
    discriminator, image = build(64, num_layers=5).eval(), random_image(1, 64)
    complete = discriminator.features(image)[2]
    for level in range(1, 4):
        handle = discriminator.ups[4 - level].register_forward_pre_hook(
            lambda _, inputs: (torch.cat([inputs[0][:, : inputs[0].shape[1] // 2], 0 * inputs[0].chunk(2, 1)[1]], 1),)
        )
        assert not torch.allclose(discriminator.features(image)[2], complete)
        handle.remove()
    assert_close(discriminator.features(image)[2], complete, rtol=0, atol=0)


def test_spectral_norm_is_on_all_but_the_heads():
    discriminator, image = build(), random_image(1)
    for _ in range(30):  # the power iteration converges
        discriminator.train().features(image)
    convolutions = {name: m for name, m in discriminator.eval().named_modules() if isinstance(m, nn.Conv2d)}
    assert len(convolutions) == 3 + 2 + 2
    for name, convolution in convolutions.items():
        if name.startswith("heads."):
            assert not hasattr(convolution, "parametrizations")
            assert convolution.bias is None
        else:
            largest = torch.linalg.matrix_norm(convolution.weight.flatten(1), 2)
            assert_close(largest, torch.tensor(1.0), rtol=0, atol=0.02)
            assert (convolution.bias is None) == name.startswith("ups.")


def test_power_iteration_advances_in_train_and_rests_in_eval():
    discriminator, image = build(), random_image(1)
    vectors = {name: b.clone() for name, b in discriminator.named_buffers()}
    discriminator.eval().features(image)
    assert all(torch.equal(b, vectors[name]) for name, b in discriminator.named_buffers())
    discriminator.train().features(image)
    assert not all(torch.equal(b, vectors[name]) for name, b in discriminator.named_buffers())


def test_who_learns_from_what():
    """Judging does not reach the decoder; the semantic map does not reach the heads."""
    image = random_image(2)

    def learning(output):
        discriminator.zero_grad()
        output.square().mean().backward()
        return {name.split(".")[0] for name, p in discriminator.named_parameters() if p.grad is not None}

    discriminator = build()
    assert learning(torch.cat([part.flatten() for part in discriminator(image)])) == {"downs", "heads"}
    discriminator = build()
    assert learning(discriminator.features(image)[2]) == {"downs", "ups"}


def test_every_parameter_learns():
    discriminator = build()
    sum(part.square().mean() for part in discriminator.features(random_image(2))).backward()
    assert [name for name, p in discriminator.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("number", [1, 3])
def test_real_and_fake_in_one_pass_are_judged_as_one_after_the_other(training, number):
    torch.manual_seed(0)
    together = SemanticDiscriminator(32, 3, channels=2, num_layers=3).double().train(training)
    apart = copy.deepcopy(together)
    real, fake = torch.randn(2, number, 1, 32, 32, dtype=torch.float64)
    for _ in range(2):
        real_map, real_logits = apart(real)
        fake_map, _, semantic_map = apart.features(fake)
        assert_close(together.compare(real, fake), (real_map, real_logits, fake_map, semantic_map))
        assert_close(dict(together.named_buffers()), dict(apart.named_buffers()))
