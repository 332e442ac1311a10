"""The NEC bundle's configs: complete for MONAI, true to the paper, consistent with each other."""

from __future__ import annotations

import json
import re

import pytest
import torch
import yaml
from monai.bundle import ConfigParser, ConfigWorkflow, verify_metadata, verify_net_in_out

import common
from common import preflight
from tests.helpers.bundles import BUNDLE, CONFIGS
from tests.helpers.released_steps import receptive_field
from tests.helpers.shared import needs_shared, shared

SCHEMA = ("data", "schema", "meta_schema_20240725.json")
BASELINES = ["pix2pix", "cyclegan", "cut"]


def files(*names: str) -> list[str]:
    return [str(CONFIGS / f"{name}.yaml") for name in names]


def parsed(*names: str, **overrides: object) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(files(*names))
    parser.update({"bundle_root": str(BUNDLE), **overrides})
    return parser


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["train"], "train"),
        (["train", "demo"], "train"),
        (["train", "volume"], "train"),
        (["train", "official"], "train"),
        (["inference"], "infer"),
        (["inference", "evaluate"], "infer"),
    ],
)
def test_monais_required_properties_are_there(names, kind):
    workflow = ConfigWorkflow(
        config_file=files(*names), workflow_type=kind, logging_file=False, bundle_root=str(BUNDLE)
    )
    workflow.parser["network_def"] = {"_target_": "torch.nn.Identity"}  # the paper's takes 580 MB
    missing = [
        name
        for name, entry in workflow.properties.items()
        if entry["required"] and entry["id"].replace("#", "::") not in workflow.parser
    ]
    assert missing == []


@needs_shared(*SCHEMA)
def test_metadata_is_valid():
    verify_metadata(meta_file=str(CONFIGS / "metadata.json"), filepath=str(shared(*SCHEMA)))


def test_metadata_says_what_other_consumers_ask_for():
    metadata = json.loads((CONFIGS / "metadata.json").read_text())
    assert metadata["version"] in metadata["changelog"]
    assert next(iter(metadata["network_data_format"]["inputs"])) == "image"
    assert next(iter(metadata["network_data_format"]["outputs"])) == "pred"
    assert "common" not in metadata["required_packages_version"]
    assert "RESEARCH USE ONLY" in metadata["description"]


def test_network_takes_and_gives_what_metadata_says():
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(CONFIGS / "metadata.json"),
        config_file=str(CONFIGS / "inference.yaml"),
        device="cpu",
        p=1,
        n=1,
        any=1,
        bundle_root=str(BUNDLE),
    )


@pytest.mark.parametrize(
    "names",
    [
        ["train"],
        ["train", "demo"],
        ["train", "official"],
        ["train", "volume"],
        ["train", "randomised"],
        ["train", "randomised", "pairs"],
        ["train", "randomised", "pairs", "randomised_3d"],
        ["train", "randomised", "pairs", "finetune", "nec_terms"],
        ["train", "brats"],
        ["train", "official", "brats"],
        ["train", "baselines/pix2pix", "brats"],
        ["train", "multi_gpu_train"],
        *(["train", f"baselines/{name}"] for name in BASELINES),
        *(["train", f"baselines/{name}", "demo"] for name in BASELINES),
        *(["train", f"baselines/{name}", "demo", f"baselines/{name}_own"] for name in ("cyclegan", "cut")),
        ["inference"],
        ["inference", "evaluate"],
    ],
)
def test_every_combination_passes_the_preflight(names):
    parser = parsed(*names)
    parser.parse()
    preflight.check(config=parser)


def test_paper_hyper_parameters():
    """Jaouen et al., ISBI 2024, section 3 and equations (1) to (4)."""
    train = yaml.safe_load((CONFIGS / "train.yaml").read_text())
    assert train["edge_epsilon"] == 0.15
    assert train["edge_weight"] == 1.0
    assert train["num_res_units"] == 9
    assert train["image_size"] == 256
    assert train["percentiles"] == [1.0, 99.0]
    assert train["discriminator_def"]["num_scales"] == train["discriminator_def"]["num_layers"] == 3
    assert train["adversarial_loss"]["criterion"] == "bce"


def test_official_is_the_released_code():
    small = {"network_def": {"_target_": "common.networks.CompactGenerator"}}
    parser = parsed("train", "official", **small)
    assert parser["num_res_units"] == 18
    assert parser["percentiles"] == [1.0, 99.9]
    loss = parser.get_parsed_content("edge_loss")
    assert (loss.epsilon, loss.form) == (0.1, "official")
    method = parser.get_parsed_content("method")
    assert method.edge_weight == 3.0
    assert list(method.optimizers) == ["generator"]
    held = {id(p) for group in method.optimizers["generator"].param_groups for p in group["params"]}
    assert held == {id(p) for network in method.networks.values() for p in network.parameters()}
    assert method.discriminator.arguments["num_scales"] == 2


def test_brats_is_the_papers_protocol():
    """Section 3: 400, 400, 10 and 441 of 1251 subjects, slice 80 of 155, 256 x 256 pixels, weights by paired SSIM."""
    parser = parsed("train", "brats")
    assert parser["subjects"] == [400, 400, 10, 441]
    assert sum(parser["subjects"]) == 1251
    assert (parser["axial_slice"], parser["image_size"], parser["percentiles"]) == (80, 256, [1.0, 99.0])
    assert parser["train#trainer#key_metric"] == "paired_score"
    (metric,) = parser.get_parsed_content("validate#key_metric").values()
    assert type(metric).__name__ == "PairedValidation"
    assert metric.pixel_mm == 240 / 256


def test_learning_rate_is_constant():
    parser = parsed("train")
    assert parser["learning_rate"] == 1e-4
    assert parser["lr_schedulers"] == []


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_use_the_same_generator_and_their_papers_optimizer(name):
    parser = parsed("train", f"baselines/{name}")
    assert parser["network_def"] == parsed("train")["network_def"]
    assert (parser["learning_rate"], parser["betas"]) == (2e-4, [0.5, 0.999])


@pytest.mark.parametrize("name", ["cyclegan", "cut"])
def test_own_networks_are_the_authors_but_for_their_width(name):
    """Zhu et al., ICCV 2017, appendix 7, and Park et al., ECCV 2020, appendix C.1; 70 x 70 PatchGAN, batch 1."""
    overlays = ["train", f"baselines/{name}", "demo", f"baselines/{name}_own"]
    parser = parsed(*overlays)
    assert (parser["batch_size"], parser["learning_rate"], parser["betas"]) == (1, 2e-4, [0.5, 0.999])
    assert parser["ema_decay"] is None
    method = parser.get_parsed_content("method")
    assert {group["lr"] for optimizer in method.optimizers.values() for group in optimizer.param_groups} == {2e-4}
    assert method.adversarial_loss.criterion == "least_squares"
    assert receptive_field(method.networks["discriminator" if name == "cut" else "target_discriminator"], 128) == 70
    wide = parsed(*overlays, channels=64).get_parsed_content("network_def")
    assert sum(p.numel() for p in wide.parameters()) == 11_365_633


@pytest.mark.parametrize("overlays", [[], ["demo"], ["volume"]])
def test_pix2pix_shows_its_discriminator_source_and_target(overlays):
    parser = parsed("train", "baselines/pix2pix", *overlays)
    assert parser.get_parsed_content("discriminator_def::in_channels") == 2


def test_cyclegan_networks_do_not_share_weights():
    small = {"network_def": {"_target_": "common.networks.CompactGenerator"}}
    method = parsed("train", "baselines/cyclegan", **small).get_parsed_content("method")
    first, second = method.generator.stem, method.back_generator.stem
    assert not any(p is q for p, q in zip(first.parameters(), second.parameters()))
    assert not torch.equal(first.conv.weight, second.conv.weight)
    held = {id(p) for group in method.optimizers["generator"].param_groups for p in group["params"]}
    assert held == {id(p) for n in ("generator", "back_generator") for p in method.networks[n].parameters()}


def test_training_and_inference_encode_alike():
    """The two files cannot share a section; the transforms and their arguments must be the same all the same."""
    train, inference = (yaml.safe_load((CONFIGS / f"{name}.yaml").read_text()) for name in ("train", "inference"))
    assert inference["load"] == {**train["load"], "read": "@read"}
    *steps, intensities = inference["to_network"]["transforms"]
    replaced = yaml.safe_dump(steps)
    for theirs, ours in (
        ("@definition['spacing_mm']", "@spacing_mm"),
        ("@definition['spacing_tolerance']", "@spacing_tolerance"),
    ):
        replaced = replaced.replace(theirs, ours).replace(theirs.replace("'", "''"), ours)
    *first, last = train["encode"]["transforms"]
    assert yaml.safe_load(replaced) == yaml.safe_load(yaml.safe_dump(first).replace("'@spacing_mm'", "$@spacing_mm"))
    assert intensities["codec"] == "$@definition['codec']"
    built = common.transforms.intensity_encoder("image", {"percentiles": [1.0, 99.0]})
    assert type(built).__name__ == last["_target_"]
    wanted = {name: value for name, value in last.items() if name not in ("_target_", "keys", "lower", "upper")}
    assert {name: getattr(built.scaler, name) for name in wanted} == wanted


@pytest.mark.parametrize("overlays", [["randomised"], ["randomised", "pairs"]])
def test_ranks_are_encoded_alike_in_training_and_inference(overlays):
    trained = parsed("train", *overlays)
    step = trained.get_parsed_content("encode").transforms[-1]
    deployed = common.transforms.intensity_encoder("image", trained.get_parsed_content("codec"))
    assert (type(deployed), deployed.method) == (type(step), step.method)


def test_a_slab_becomes_one_volume_for_the_3d_network():
    parser = parsed("train", "randomised", "pairs", "randomised_3d", image_size=32, slices=16)
    stack = torch.linspace(-0.9, 1, 40 * 40).reshape(1, 40, 40).repeat(16, 1, 1)
    item = parser.get_parsed_content("train#preprocessing")({"source": stack, "target": stack.clone()})
    assert item["source"].shape == item["target"].shape == (1, 32, 32, 16)
    network = parser.get_parsed_content("network_def")
    assert network(item["source"][None]).shape == (1, 1, 32, 32, 16)
    assert parser.get_parsed_content("train#trainer#definition#window") == [32, 32, 16]


def test_made_up_lesions_are_no_part_of_a_training_that_does_not_ask_for_them():
    """A `Compose` seeds its steps in turn: one that does nothing would change the random numbers of the others."""
    without, some = (
        parsed("train", "randomised", **share).get_parsed_content("train#preprocessing").transforms
        for share in ({}, {"lesion_share": 0.3})
    )
    names = ["RandPosed", "RandInverseLookd", "RandRimd", "RandLookd", "Lambdad"]
    assert [type(step).__name__ for step in without] == names
    assert [type(step).__name__ for step in some] == [*names[:2], "RandLesiond", *names[2:]]
    assert some[2].prob == 0.3


def test_no_config_has_an_absolute_path():
    for file in CONFIGS.rglob("*.yaml"):
        assert not re.findall(r"(?<!\+ )['\"]/\w|: /\w", file.read_text()), file
