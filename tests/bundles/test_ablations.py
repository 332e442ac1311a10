"""The papers' ablations: each overlay passes the preflight and changes exactly what its table says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from monai.bundle import ConfigParser

from common import preflight
from common.leaderboard import find_board
from common.losses import CosineContentLoss, GuidedContrastiveLoss, PerceptualGuidanceLoss
from common.networks import SemanticDiscriminator, StarGANGenerator
from tests.helpers.bundles import ROOT

SMALL = {"channels": 8, "num_res_blocks": 1, "discriminator_channels": 4, "image_size": 128}
# The KCGAN thesis, tables 3 to 6, and the text below its equation (5).
KCGAN = {
    "ccl_10_csl_1": {"content_weight": 10, "style_weight": 1},
    "ccl_5_csl_2": {"content_weight": 5, "style_weight": 2},
    "ccl_10_csl_2": {"content_weight": 10, "style_weight": 2},
    "ccl_1_csl_5": {"content_weight": 1, "style_weight": 5},
    "ccl_alone": {"style_weight": 0},
    "csl_alone": {"content_weight": 0},
    "content_from_encoder": {"guidance#content_from": "encoder"},
    "without_guidance": {"guidance": None},
}
# The GGCL paper, table 3 and section 3.3, whose supplement (pooling, weight) was not at hand.
GGCL = {
    "patches_128": {"num_patches": 128},
    "patches_256": {"num_patches": 256},
    "pooling_1": {"feature_pooling": 1},
    "pooling_4": {"feature_pooling": 4},
    "guidance_weight_1": {"guidance_weight": 1},
    "guidance_weight_4": {"guidance_weight": 4},
    "without_guidance": {"guidance": None},
}
PHYSICS = {
    "physics_untrained": {"learning_rate": 0, "filter_learning_rate": 0},
    "physics_clipped_air": {"air_below_hu": None},
}
EXPECTED = {"kcgan_kernel_conversion": {**KCGAN, **PHYSICS}, "ggcl": {**GGCL, **PHYSICS}}
CASES = [(bundle, name) for bundle, ablations in EXPECTED.items() for name in ablations]


def file(bundle: str, name: str) -> Path:
    """A config of a bundle; the ablations of the physics generator, which both bundles have, are GGCL's."""
    own = ROOT / "bundles" / bundle / "configs" / f"{name}.yaml"
    return own if own.is_file() else ROOT / "bundles" / "ggcl" / "configs" / f"{name}.yaml"


def parsed(bundle: str, *names: str) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config([str(file(bundle, name)) for name in ("train", *names)])
    parser.update({"bundle_root": str(ROOT / "bundles" / bundle), **SMALL})
    parser.parse()
    return parser


@pytest.mark.parametrize("bundle", EXPECTED)
def test_every_ablation_is_in_the_table_of_this_test(bundle):
    found = {path.stem for path in (ROOT / "bundles" / bundle / "configs" / "ablations").glob("*.yaml")}
    assert found == EXPECTED[bundle].keys() - (PHYSICS.keys() if bundle != "ggcl" else set())
    board = find_board(bundle)
    for name in EXPECTED[bundle]:
        assert board.files(f"ablations/{name}", None)[1:] == [file(bundle, f"ablations/{name}")]


@pytest.mark.parametrize(("bundle", "name"), CASES)
def test_an_ablation_changes_what_it_says_and_nothing_else(bundle, name):
    overlays = ["physics"] if name in PHYSICS else []
    before, after = parsed(bundle, *overlays), parsed(bundle, *overlays, f"ablations/{name}")
    expected = EXPECTED[bundle][name]
    content = yaml.safe_load(file(bundle, f"ablations/{name}").read_text())
    assert content == expected
    preflight.check(config=after)
    for key, value in expected.items():
        assert after.get_parsed_content(key) == value
    changed = {key for key in after.config if after.config[key] != before.config.get(key)}
    named = {key: key.partition("#")[0] for key in expected}
    same = {key for key, value in expected.items() if before.config.get(key, "absent") == value}  # said for the reader
    assert changed == {named[key] for key in expected.keys() - same}
    assert changed


@pytest.mark.parametrize(
    ("name", "terms"),
    [("ccl_10_csl_2", (10, 2)), ("ccl_alone", (5, 0)), ("csl_alone", (0, 1)), ("ccl_1_csl_5", (1, 5))],
)
def test_the_weights_reach_the_loss(name, terms):
    """The loss as the sum of its terms, each computed by itself with the same places."""
    loss = parsed("kcgan_kernel_conversion", f"ablations/{name}").get_parsed_content("guidance")
    query, key = torch.randn(2, 1, 8, 16, 16).unbind(0)
    torch.manual_seed(3)
    found = loss(query, key)
    torch.manual_seed(3)
    expected = terms[0] * CosineContentLoss()(query, key) + terms[1] * GuidedContrastiveLoss(64, pool=1)(query, key)
    torch.testing.assert_close(found, expected)


def test_the_content_loss_compares_with_the_encoder_and_the_style_loss_with_the_decoder():
    """Table 5 of the thesis; the key of one term leaves the other as it is."""
    query, decoded, encoded, other = torch.randn(4, 1, 8, 16, 16).unbind(0)
    content = PerceptualGuidanceLoss(1.0, 0.0, content_from="encoder")
    assert torch.equal(content(query, decoded, encoded), CosineContentLoss()(query, encoded))
    assert torch.equal(content(query, other, encoded), content(query, decoded, encoded))
    style = PerceptualGuidanceLoss(0.0, 1.0, content_from="encoder", num_patches=0)
    assert torch.equal(style(query, decoded, encoded), style(query, decoded, other))
    with pytest.raises(ValueError, match="`encoded`"):
        content(query, decoded)
    with pytest.raises(ValueError, match="'decoder' or 'encoder', got 'both'"):
        PerceptualGuidanceLoss(content_from="both")


def test_the_encoders_feature_has_the_shape_of_the_semantic_map():
    generator, discriminator = StarGANGenerator(3, channels=8, num_res_blocks=1), SemanticDiscriminator(128, channels=4)
    image, label = torch.zeros(2, 1, 128, 128), torch.eye(3)[:2]
    output, decoded, encoded = generator.both_features(image, label)
    assert torch.equal(output, generator(image, label))
    assert torch.equal(decoded, generator.features(image, label)[1])
    assert encoded.shape == decoded.shape == discriminator.features(image)[2].shape
    assert not torch.equal(encoded, decoded)


class Updates:
    """A trainer that steps as it is told, without a loop."""

    step = 1

    def autocast(self):
        return torch.autocast("cpu", enabled=False)

    def update(self, optimizer, loss):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize(("name", "trained"), [("content_from_encoder", True), ("without_guidance", False)])
def test_the_guidance_alone_trains_the_discriminators_decoder(name, trained):
    """With the content loss from the encoder it does; without guidance (table 6) its decoder is never used."""
    method = parsed("kcgan_kernel_conversion", f"ablations/{name}").get_parsed_content("method")
    assert isinstance(method.discriminator, SemanticDiscriminator)
    torch.manual_seed(0)
    device = next(method.generator.parameters()).device
    batch = {"image": torch.rand(2, 1, 128, 128, device=device) * 2 - 1, "domain": torch.tensor([0, 2], device=device)}
    losses = method(Updates(), batch)
    assert ("guidance" in losses) == trained
    gradients = [parameter.grad for parameter in method.discriminator.ups.parameters()]
    assert all((gradient is not None) == trained for gradient in gradients)
    assert next(method.discriminator.downs.parameters()).grad.abs().sum() > 0


def test_a_generator_without_the_encoders_feature_is_refused():
    parser = parsed("kcgan_kernel_conversion", "physics", "ablations/content_from_encoder")
    with pytest.raises(Exception, match="method") as refused:
        parser.get_parsed_content("method")
    assert "PhysicsGenerator does not offer" in str(refused.getrepr())
