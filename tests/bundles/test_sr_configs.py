"""The configs of super-resolution: true to the paper, consistent with each other."""

from __future__ import annotations

import re

import pytest
import torch
import yaml
from monai.bundle import ConfigParser, ConfigWorkflow

from common import preflight
from common.methods import SRUNIT, SRCycleGAN, TexturedRegression
from common.networks import build_network, load_weights, read_definition
from tests.helpers.bundles import ROOT

BUNDLE = ROOT / "bundles" / "sr_cyclegan"
CONFIGS = BUNDLE / "configs"
SMALL = {"channels": 8, "num_res_blocks": 1, "discriminator_channels": 4}
TRAININGS = [
    ["train"],
    ["train", "sr_unit"],
    ["train", "official"],
    ["train", "factor"],
    ["train", "multi_gpu_train"],
    ["train", "baselines/cyclegan"],
    ["train", "baselines/unit"],
    ["train", "walls"],
    *(
        ["train", *middle, "demo"]
        for middle in ([], ["factor"], ["sr_unit"], ["baselines/cyclegan"], ["baselines/unit"])
    ),
]


def parsed(*names: str, **overrides: object) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / f"{name}.yaml") for name in names])
    parser.update({"bundle_root": str(BUNDLE), **overrides})
    return parser


def plain(name: str) -> dict:
    return yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())


@pytest.mark.parametrize("names", TRAININGS, ids="+".join)
def test_every_combination_passes_the_preflight(names):
    parser = parsed(*names)
    parser.parse()
    preflight.check(config=parser)


@pytest.mark.parametrize("names", [["train"], ["train", "sr_unit", "demo"]], ids="+".join)
def test_monais_required_properties_are_there(names):
    files = [str(CONFIGS / f"{name}.yaml") for name in names]
    workflow = ConfigWorkflow(config_file=files, workflow_type="train", logging_file=False, bundle_root=str(BUNDLE))
    missing = [
        name
        for name, entry in workflow.properties.items()
        if entry["required"] and entry["id"].replace("#", "::") not in workflow.parser
    ]
    assert missing == []


def test_paper_hyper_parameters():
    """Zheng et al., SPIE Medical Imaging 2020, sections 2.2 to 3.2, and the released code where the paper is silent."""
    train = plain("train")
    assert (train["factor"], train["patch_size"], train["patches_per_volume"], train["max_epochs"]) == (
        8,
        32,
        2000,
        200,
    )
    weights = [train[f"{name}_weight"] for name in ("source_ssim", "target_ssim", "downsample", "upsample")]
    assert weights == [2.0, 1.0, 1.0, 1.0]
    assert train["ssim_constants"] == [0.02, 0.06]
    assert train["spacing_mm"] == [0.625, 0.625]
    released = (train["batch_size"], train["learning_rate"], train["betas"], train["pool_size"])
    assert released == (4, 1e-5, [0.5, 0.999], 50)
    identity = (train["target_identity_weight"], train["source_identity_weight"])
    assert (train["cycle_weight"], *identity) == (1.0, 0.2, 0.02)


def test_the_method_gets_the_hyper_parameters():
    method = parsed("train", **SMALL, source_ssim_weight=3.0, cycle_weight=7.0, distance="l1").get_parsed_content(
        "method"
    )
    assert isinstance(method, SRCycleGAN)
    assert (method.mmsr_loss.factor, method.mmsr_loss.weights["source_ssim"], method.cycle_weight) == (8, 3.0, 7.0)
    assert (method.mmsr_loss.c1, method.mmsr_loss.c2) == (0.02, 0.06)
    assert method.mmsr_loss.distance is torch.nn.functional.l1_loss
    held = {id(p) for group in method.optimizers["generator"].param_groups for p in group["params"]}
    assert held == {id(p) for n in ("generator", "back_generator") for p in method.networks[n].parameters()}
    held = {id(p) for group in method.optimizers["discriminator"].param_groups for p in group["params"]}
    assert held == {id(p) for n in ("target_", "source_") for p in method.networks[f"{n}discriminator"].parameters()}


def test_official_is_the_released_code():
    parser = parsed("train", "official", **SMALL)
    network = parser.get_parsed_content("network_def")
    assert any(isinstance(module, torch.nn.InstanceNorm2d) for module in network.modules())
    method = parser.get_parsed_content("method")
    assert method.mmsr_loss.weights["source_ssim"] == 1.0
    assert (method.mmsr_loss.c1, method.mmsr_loss.c2, method.mmsr_loss.padding) == (1e-4, 9e-4, "zero")
    assert method.mmsr_loss.distance is torch.nn.functional.l1_loss
    assert parser["downsampled_every"] == 4
    assert parser.get_parsed_content("lr_schedulers") == []
    ours = parsed("train", **SMALL).get_parsed_content("network_def")
    assert not any(isinstance(module, torch.nn.InstanceNorm2d) for module in ours.modules())


@pytest.mark.parametrize(("epoch", "share"), [(0, 1.0), (100, 1.0), (150, 0.5), (200, 0.0)])
def test_the_learning_rate_is_constant_and_then_falls_to_zero(epoch, share):
    parser = parsed("train", **SMALL)
    schedulers = parser.get_parsed_content("lr_schedulers")
    assert len(schedulers) == 2
    for scheduler in schedulers:
        assert scheduler.lr_lambdas[0](epoch) == pytest.approx(share)
        assert scheduler.base_lrs == [1e-5]


def test_sr_unit_has_units_optimizer_and_the_same_loss():
    """Liu et al., NeurIPS 2017: rate and weight decay 1e-4, weights 10, 10 and 0.01."""
    method = parsed("train", "sr_unit", channels=8, discriminator_channels=4).get_parsed_content("method")
    assert isinstance(method, SRUNIT)
    for optimizer in method.optimizers.values():
        (group,) = optimizer.param_groups
        assert (group["lr"], group["weight_decay"], list(group["betas"])) == (1e-4, 1e-4, [0.5, 0.999])
    assert (method.reconstruction_weight, method.cycle_weight, method.kl_weight) == (10.0, 10.0, 0.01)
    assert method.mmsr_loss.weights["source_ssim"] == 2.0
    assert method.mmsr_weight == 1.0


def test_the_baselines_differ_by_the_multi_modality_loss_alone():
    assert plain("baselines/cyclegan") == {"mmsr_weight": 0.0}
    assert plain("baselines/unit") == {"mmsr_weight": 0.0, **plain("sr_unit")}


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_another_factor_changes_networks_loss_patches_and_pixels_together(factor):
    parser = parsed("train", "factor", **SMALL, factor=factor)
    method = parser.get_parsed_content("method")
    assert method.generator.factor == method.back_generator.factor == method.mmsr_loss.factor == factor
    assert factor * parser.get_parsed_content("patch_size") == 256
    micro = parser.get_parsed_content("check_micro_size").pixel_mm
    assert micro == pytest.approx((5 / 64, 5 / 64))
    assert parsed("train", "factor", "demo", factor=factor).get_parsed_content("phantom")["factor"] == factor


def test_training_and_inference_encode_alike():
    """The two files cannot share a section; the transforms and their arguments must be the same all the same."""
    train, inference = plain("train"), plain("inference")
    assert inference["load"] == {**train["load"], "read": "@read"}
    encode = [step for step in inference["to_network"]["transforms"] if step["keys"] == "image"]
    kept = [step for step in encode if step["_target_"] == "CopyItemsd"]  # beside the image: its padding is put back
    assert train["encode"]["transforms"] == [step for step in encode if step not in kept]
    assert train["hu_range"] == inference["paper_network"]["codec"]["hu"]
    assert train["spacing_mm"] == inference["paper_network"]["spacing_mm"]


def test_no_config_has_an_absolute_path():
    for file in CONFIGS.rglob("*.yaml"):
        assert not re.findall(r"(?<!\+ )['\"]/\w|: /\w", file.read_text()), file


def test_walls_trains_from_nothing_and_stays_within_its_tolerance(tmp_path):
    """One command: the phantom, the network of the overlay on pairs, and weights that inference can read."""
    parser = parsed(
        "train",
        "walls",
        dataset_dir=str(tmp_path / "data"),
        output_dir=str(tmp_path / "out"),
        models_dir=str(tmp_path / "models"),
        phantom={"patients": 4, "size": 128, "slices": 8},
        patch_size=8,
        samples_per_epoch=4,
        max_epochs=1,
        channels=8,
        num_res_blocks=1,
        device="cpu",
    )
    parser.get_parsed_content("run")
    method = parser.get_parsed_content("method")
    assert type(method) is TexturedRegression
    definition = read_definition(tmp_path / "models")
    network = build_network(definition)
    load_weights(network, tmp_path / "models" / "model.pt")
    assert definition["training_data"]["parameters"]["kind"] == "lung_walls"
    assert network.texture_limit == pytest.approx((-500 + 1200) / 800 - 1)
    low, high = definition["codec"]["hu"]
    assert network.tolerance * (high - low) / 2 == pytest.approx(14)
    assert network.head.weight.any()


def test_a_patch_and_its_truth_are_turned_alike():
    pair = parsed("train", "walls", patch_size=4).get_parsed_content("train#dataset#transform", instantiate=True)
    coarse = torch.arange(16.0).reshape(1, 4, 4)
    turned = set()
    for seed in range(20):
        pair.set_random_state(seed)
        item = pair({"source": coarse, "target": coarse.repeat_interleave(8, 1).repeat_interleave(8, 2)})
        torch.testing.assert_close(item["target"][:, 4::8, 4::8], item["source"], check_stride=False)
        turned.add(tuple(item["source"].flatten().tolist()))
    assert len(turned) > 5
