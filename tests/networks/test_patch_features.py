from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from common.networks import CompactGenerator, PatchFeatureMLP


def features(batch, *spatial):
    generator = torch.Generator().manual_seed(0)
    halves = [side // 2 for side in spatial]
    return [torch.randn(batch, channels, *size, generator=generator) for channels, size in ((4, spatial), (6, halves))]


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("spatial", [(8, 9), (6, 4, 5)])
@pytest.mark.parametrize("num_patches", [0, 1, 10, 30])
def test_shapes(batch, spatial, num_patches):
    mlp, levels = PatchFeatureMLP([4, 6], out_channels=7, num_patches=num_patches), features(batch, *spatial)
    embeddings, locations = mlp(levels)
    for level, embedding, location in zip(levels, embeddings, locations, strict=True):
        available = level[0, 0].numel()
        count = min(num_patches, available) if num_patches else available
        assert embedding.shape == (batch, count, 7)
        assert len(location.unique()) == count  # drawn without repetition
        assert 0 <= location.min() <= location.max() < available


def test_embeds_the_voxel_at_the_location():
    """Computed with plain matrix products from the voxel that `unravel_index` names, in every image of the batch."""
    mlp, levels = PatchFeatureMLP([4, 6], out_channels=5, num_patches=8), features(2, 6, 4, 5)
    embeddings, locations = mlp(levels)
    for level, perceptron, embedding, location in zip(levels, mlp.mlps, embeddings, locations):
        for patch, where in enumerate(location):
            z, y, x = torch.unravel_index(where, level.shape[2:])
            hidden = (level[:, :, z, y, x] @ perceptron[0].weight.T + perceptron[0].bias).clamp(min=0)
            vector = hidden @ perceptron[2].weight.T + perceptron[2].bias
            length = vector.square().sum(1, keepdim=True).sqrt()
            assert_close(embedding[:, patch], vector / (length + 1e-7), rtol=1e-4, atol=1e-5)


def test_given_locations_are_used():
    mlp = PatchFeatureMLP([4, 6], num_patches=8)
    first, locations = mlp(features(2, 8, 8))
    second, same = mlp(features(2, 8, 8), locations)
    assert_close(first, second, rtol=0, atol=0)
    assert all(a is b for a, b in zip(locations, same, strict=True))
    reversed_order, _ = mlp(features(2, 8, 8), [location.flip(0) for location in locations])
    assert_close(reversed_order[0], first[0].flip(1))


def test_locations_come_from_torchs_random_numbers():
    mlp = PatchFeatureMLP([4, 6], num_patches=8)

    def draw(seed):
        torch.manual_seed(seed)
        return mlp(features(1, 8, 8))[1][0].tolist()

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_lengths_are_one_and_zero_features_have_a_finite_gradient():
    mlp = PatchFeatureMLP([4], out_channels=5, num_patches=0)
    embeddings, _ = mlp(features(2, 4, 4)[:1])
    assert_close(embeddings[0].norm(dim=-1), torch.ones(2, 16), rtol=0, atol=1e-3)
    blank = torch.zeros(1, 4, 3, 3, requires_grad=True)
    embeddings, _ = mlp([blank])
    assert embeddings[0].abs().max() == 0
    embeddings[0].sum().backward()
    assert blank.grad.isfinite().all()


def test_autocast_normalises_in_float32():
    mlp = PatchFeatureMLP([4, 6], num_patches=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embeddings, _ = mlp(features(1, 4, 4))
    assert embeddings[0].dtype == torch.float32
    assert_close(embeddings[0].norm(dim=-1), torch.ones(1, 16), rtol=0, atol=1e-3)


def test_fits_the_generators_encoder():
    generator = CompactGenerator(channels=(8, 16))
    mlp = PatchFeatureMLP(generator.encode_channels, out_channels=12, num_patches=20)
    embeddings, _ = mlp(generator.encode(torch.randn(2, 1, 17, 24)))
    assert [tuple(embedding.shape) for embedding in embeddings] == [(2, 20, 12)] * 3
    sum(embedding[..., 0].sum() for embedding in embeddings).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in mlp.parameters() if p.dim() > 1)
    assert generator.stem.conv.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_channels": []}, r"`in_channels` must hold >= 1 channels for each feature, got \[\]\."),
        ({"in_channels": [4, 0]}, r"`in_channels` must hold >= 1 channels for each feature, got \[4, 0\]\."),
        ({"in_channels": [4], "out_channels": 0}, r"`out_channels` must be >= 1, got 0\."),
        ({"in_channels": [4], "num_patches": -3}, r"`num_patches` must be >= 1, or 0 for all locations, got -3\."),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        PatchFeatureMLP(**arguments)


def test_wrong_number_of_features_or_locations():
    mlp = PatchFeatureMLP([4, 6], num_patches=8)
    with pytest.raises(ValueError, match=r"`features` must hold 2 tensors, as `in_channels`, got 1\."):
        mlp(features(1, 8, 8)[:1])
    with pytest.raises(ValueError, match=r"`locations` must hold one tensor a feature \(2\), got 1\."):
        mlp(features(1, 8, 8), [torch.arange(3)])
