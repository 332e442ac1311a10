"""The configs of the two kernel-conversion bundles: complete for MONAI, true to the papers, alike where they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from monai.bundle import ConfigParser, ConfigWorkflow, verify_metadata, verify_net_in_out

from common import preflight
from common.baselines import start_from_pairs
from common.leaderboard import find_board
from common.networks import SemanticDiscriminator, StarGANDiscriminator, load_pretrained, read_definition
from common.phantoms import generate_phantom
from tests.helpers.bundles import ROOT
from tests.helpers.released_steps import RecordedStep
from tests.helpers.shared import needs_shared, shared

BUNDLES = {name: ROOT / "bundles" / name for name in ("ggcl", "kcgan_kernel_conversion")}
OVER = {"baselines/fastcut": "baselines/cut"}
SCHEMA = ("data", "schema", "meta_schema_20240725.json")
SMALL = {"channels": 8, "num_res_blocks": 1, "discriminator_channels": 4, "image_size": 128}


def files(bundle: str, *names: str) -> list[str]:
    """The configs of a bundle, and those that it shares with GGCL, which lie there; FastCUT's goes over CUT's."""
    folders = [BUNDLES[bundle] / "configs", BUNDLES["ggcl"] / "configs"]
    layers = [layer for name in names for layer in (OVER.get(name), name) if layer]
    return [str(next(f for folder in folders if (f := folder / f"{name}.yaml").is_file())) for name in layers]


def parsed(bundle: str, *names: str, **overrides: object) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(files(bundle, *names))
    parser.update({"bundle_root": str(BUNDLES[bundle]), **overrides})
    return parser


def train(bundle: str) -> dict:
    return yaml.safe_load((BUNDLES[bundle] / "configs" / "train.yaml").read_text())


COMBINATIONS = [
    ["train"],
    ["train", "demo"],
    ["train", "physics"],
    ["train", "physics", "demo"],
    ["train", "leaderboard"],
    ["train", "physics", "leaderboard"],
    ["train", "physics", "ablations/physics_untrained", "leaderboard"],
    ["train", "physics", "baselines/supervised"],
    ["train", "physics", "baselines/supervised", "leaderboard"],
    ["train", "iterative"],
    ["train", "official"],
    ["train", "two_vendors"],
    ["train", "multi_gpu_train"],
    ["train", "baselines/stargan"],
    ["train", "baselines/stargan", "demo"],
    ["train", "baselines/ggdr"],
    ["train", "baselines/ggdr", "demo"],
    ["inference"],
    ["inference", "evaluate"],
]


@pytest.mark.parametrize("names", COMBINATIONS, ids=" ".join)
@pytest.mark.parametrize("bundle", BUNDLES)
def test_every_combination_passes_the_preflight(bundle, names):
    parser = parsed(bundle, *names)
    parser.parse()
    preflight.check(config=parser)


@pytest.fixture(scope="module")
def chest(tmp_path_factory) -> Path:
    """6 patients of 1 slice of 64 x 64 pixels, of which the configs' data sets are made."""
    folder = tmp_path_factory.mktemp("chest")
    generate_phantom("chest", folder, patients=6, slices=1, size=64)
    return folder


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["train"], "train"),
        (["train", "physics"], "train"),
        (["inference"], "infer"),
        (["inference", "evaluate"], "eval"),
    ],
    ids=str,
)
@pytest.mark.parametrize("bundle", BUNDLES)
def test_monai_finds_all_properties_at_their_ids(bundle, names, kind, chest, tmp_path, caplog):
    places = {"dataset_dir": str(chest), "output_dir": str(tmp_path / "out"), "models_dir": str(tmp_path / "models")}
    workflow = ConfigWorkflow(
        config_file=files(bundle, *names),
        meta_file=str(BUNDLES[bundle] / "configs" / "metadata.json"),
        workflow_type=kind,
        logging_file=False,
        bundle_root=str(BUNDLES[bundle]),
        **places,
        **(SMALL if kind == "train" else {"use_paper_network": True}),
    )
    workflow.initialize()
    assert workflow.check_properties() == []  # neither required ones missing nor optional ones elsewhere
    assert [record.message for record in caplog.records if " properties" in record.message] == []
    assert workflow.version == json.loads((BUNDLES[bundle] / "configs" / "metadata.json").read_text())["version"]


@needs_shared(*SCHEMA)
@pytest.mark.parametrize("bundle", BUNDLES)
def test_metadata_is_valid(bundle):
    verify_metadata(meta_file=str(BUNDLES[bundle] / "configs" / "metadata.json"), filepath=str(shared(*SCHEMA)))


@pytest.mark.parametrize("bundle", BUNDLES)
def test_metadata_says_what_other_consumers_ask_for(bundle):
    metadata = json.loads((BUNDLES[bundle] / "configs" / "metadata.json").read_text())
    assert metadata["version"] in metadata["changelog"]
    assert next(iter(metadata["network_data_format"]["inputs"])) == "image"
    assert next(iter(metadata["network_data_format"]["outputs"])) == "pred"
    assert "common" not in metadata["required_packages_version"]
    assert "RESEARCH USE ONLY" in metadata["description"]


@pytest.mark.parametrize("bundle", BUNDLES)
def test_what_the_shipped_weights_are_is_said_wherever_they_are_named(bundle):
    """They are those of `physics.yaml`, whose filters do the work, and the scores without training stand beside."""
    folder = BUNDLES[bundle]
    definition = json.loads((folder / "models" / "network.json").read_text())
    metadata = json.loads((folder / "configs" / "metadata.json").read_text())
    assert definition["class"] == "common.networks.PhysicsGenerator"
    assert definition["method"] == parsed(bundle, "train", "physics")["train#trainer#definition#method"]
    scores = [methods for direction, methods in metadata["eval_metrics"].items() if "->" in direction]
    means = [sum(m[name]["psnr"] for m in scores) / len(scores) for name in ("physics_untrained", "network")]
    for text in (metadata["description"], (folder / "models" / "README.md").read_text()):
        assert "physics.yaml" in text
        assert "filters do the work" in text
        assert all(f"{mean:.2f}" in text for mean in means)


@pytest.mark.parametrize("bundle", BUNDLES)
def test_the_papers_network_takes_and_gives_what_metadata_says(bundle):
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(BUNDLES[bundle] / "configs" / "metadata.json"),
        config_file=str(BUNDLES[bundle] / "configs" / "inference.yaml"),
        device="cpu",
        p=1,
        n=1,
        any=1,
        bundle_root=str(BUNDLES[bundle]),
        use_paper_network=True,
    )


def test_ggcl_has_the_papers_hyper_parameters():
    """Choi et al., MICCAI 2023, sections 2.2 and 3.1."""
    config = train("ggcl")
    expected = {
        "batch_size": 2,
        "learning_rate": 1e-4,
        "betas": [0.5, 0.999],
        "critic_steps": 5,
        "hu_range": [-1024, 3071],
        "image_size": 512,
        "classification_weight": 1,
        "cycle_weight": 10,
        "guidance_weight": 2,
        "num_patches": 64,
        "temperature": 0.07,
        "feature_pooling": 2,
    }
    assert {name: config[name] for name in expected} == expected
    assert config["max_epochs"] * config["samples_per_epoch"] / config["batch_size"] == 400_000


def test_kcgan_has_the_thesis_hyper_parameters_and_the_weights_of_its_table():
    """Choi, 2024: implementation details; table 3's rows for the weights of equation (5)."""
    config = train("kcgan_kernel_conversion")
    assert (config["max_epochs"], config["samples_per_epoch"], config["batch_size"]) == (16, None, 2)
    assert (config["content_weight"], config["style_weight"], config["feature_pooling"]) == (5, 1, 1)


def test_the_two_bundles_differ_in_the_guidance_and_the_length_of_training_alone():
    """Each must run by itself; what both need for that is equal, and a change in one of them belongs into both."""
    ggcl, kcgan = (bundle / "configs" for bundle in BUNDLES.values())
    both = {path.name for path in ggcl.glob("*.yaml")} & {path.name for path in kcgan.glob("*.yaml")}
    assert {path.name for path in ggcl.glob("*.yaml")} - both == {"leaderboard.yaml"}, "comparisons lie in one of them"
    for name in both - {"train.yaml", "official.yaml"}:  # each has its released code (test_official.py)
        text = (ggcl / name).read_text().replace("finetune ggcl", "finetune kcgan_kernel_conversion")  # its command
        assert text == (kcgan / name).read_text(), name
    assert not (kcgan / "baselines").exists()
    first, second = train("ggcl"), train("kcgan_kernel_conversion")
    different = {key for key in {*first, *second} if first.get(key) != second.get(key)}
    assert different == {
        "max_epochs",
        "samples_per_epoch",
        "val_interval",
        "guidance",
        "guidance_weight",
        "content_weight",
        "style_weight",
        "feature_pooling",
    }


@pytest.mark.parametrize("method", find_board("kcgan_kernel_conversion").shared)
def test_a_training_that_the_leaderboards_share_is_the_same_in_both_bundles(method):
    """They differ in parts of the guidance alone, and the method uses the guidance in neither, or one of its own.

    Where the generator is not trained, the guidance does not matter.
    """
    ggcl, kcgan = (
        ConfigParser.load_config_files([str(path) for path in find_board(bundle).files(method, "leaderboard")])
        for bundle in BUNDLES
    )
    different = {key for key in {*ggcl, *kcgan} if ggcl.get(key) != kcgan.get(key)}
    lengths = {"max_epochs", "samples_per_epoch", "val_interval"}
    assert not different & lengths, "the overlay sets them"
    assert different <= {
        "bundle_root",
        "guidance",
        "guidance_weight",
        "content_weight",
        "style_weight",
        "feature_pooling",
    }
    if "@guidance" in ggcl["method"].values() and method not in find_board("ggcl").untrained:
        assert ggcl["guidance"] == kcgan["guidance"]


@pytest.mark.parametrize(
    ("overlays", "guidance", "discriminator", "weight"),
    [
        ([], "GuidedContrastiveLoss", SemanticDiscriminator, 2.0),
        (["baselines/ggdr"], "CosineContentLoss", SemanticDiscriminator, 10.0),
        (["baselines/stargan"], "NoneType", StarGANDiscriminator, 0.0),
    ],
)
def test_the_guidance_is_a_part_that_is_plugged_in(overlays, guidance, discriminator, weight):
    method = parsed("ggcl", "train", *overlays, **SMALL).get_parsed_content("method")
    assert type(method.guidance).__name__ == guidance
    assert type(method.discriminator) is discriminator
    assert method.guidance_weight == weight


def test_the_physics_generator_may_be_trained_on_pairs():
    """The true upper end of the scale: the network of `supervised.yaml` alone ends below the untranslated source."""
    torch.manual_seed(0)
    method = parsed("ggcl", "train", "physics", "baselines/supervised", **SMALL).get_parsed_content("method")
    assert type(method).__name__ == "PairedConversion"
    assert type(method.generator).__name__ == "PhysicsGenerator"
    assert method.rounding == 2 / 4095
    assert len(method.optimizers["generator"].param_groups) == 2
    image, truth = torch.rand(2, 2, 1, 32, 32).mul(1.6).sub(0.8).unbind(0)
    domain, target, spacing = torch.tensor([0, 2]), torch.tensor([2, 1]), torch.tensor([0.7, 0.7])
    batch = {"image": image, "truth": truth, "domain": domain, "target": target, "spacing_mm": spacing}
    step = RecordedStep(method)
    found = method(step, batch)
    predicted = method.generator(image, method.labels(target, domain, spacing)).detach()
    saved = (predicted * 4095 / 2).round() / (4095 / 2)
    torch.testing.assert_close(found["generator"].detach(), (saved - truth).abs().mean())
    filters = torch.cat([p.grad.flatten() for p in method.generator.filters.parameters()])
    assert filters.abs().max() > 0


@pytest.mark.parametrize("bundle", BUNDLES)
def test_a_training_for_iterative_reconstructions_starts_as_filters_fitted_on_pairs(bundle, tmp_path):
    generate_phantom("chest_iterative", tmp_path / "data", patients=13, slices=1, size=64, workers=1)
    places = {"dataset_dir": str(tmp_path / "data"), "models_dir": str(tmp_path / "models")}
    tiny = {"max_epochs": 1, "samples_per_epoch": 2, "batch_size": 2, "image_size": 32, "learning_rate": 0.0}
    parser = parsed(bundle, "train", "iterative", **places, **tiny, output_dir=str(tmp_path / "training"))
    parser.parse()
    parser.get_parsed_content("run")
    definition = read_definition(tmp_path / "models")
    assert definition["class"] == "common.networks.IterativePhysicsGenerator"
    assert definition["domains"] == ["B30f", "B50f", "B70f", "I50f"]
    assert definition["arguments"]["linear"] == [0, 1, 2]
    generator = load_pretrained(tmp_path / "models")
    fresh, prepare = (
        parsed(bundle, "train", "iterative", **places).get_parsed_content(k) for k in ("network", "prepare")
    )
    start_from_pairs(fresh, places["dataset_dir"], definition["domains"], prepare, hu_range=[-1024, 3071])
    torch.testing.assert_close(generator.filters.state_dict(), fresh.filters.state_dict())
    assert (generator.filters.initial[0, 2] - 1).abs().max() > 0.1
    trained = {id(p) for group in parser.get_parsed_content("optimizer").param_groups for p in group["params"]}
    network = parser.get_parsed_content("network")
    assert trained == {id(p) for p in network.residual.parameters()}


def test_official_is_the_released_code():
    parser = parsed("ggcl", "train", "official", **SMALL)
    method = parser.get_parsed_content("method")
    assert method.labels.permute
    assert method.penalty_reduction == "sum"
    assert parser["lr_schedulers"] == []


def test_two_vendors_extend_the_label_by_the_mask_and_split_the_domain_head():
    method = parsed("ggcl", "train", "two_vendors", **SMALL).get_parsed_content("method")
    assert method.generator.num_domains == 8
    assert method.labels.groups == [3, 3]
    assert method.discriminator(torch.zeros(1, 1, 128, 128))[1].shape == (1, 6)


def test_any_number_of_domains_is_one_list():
    method = parsed("ggcl", "train", domains=["a", "b"], **SMALL).get_parsed_content("method")
    assert method.generator.num_domains == method.labels.size == 2


@pytest.mark.parametrize("bundle", BUNDLES)
def test_the_learning_rate_is_constant_and_then_falls_to_zero(bundle):
    parser = parsed(bundle, "train", max_epochs=8, **SMALL)
    schedulers, optimizer = parser.get_parsed_content("lr_schedulers"), parser.get_parsed_content("optimizer")
    rates = []
    for _ in range(8):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedulers[0].step()
    assert rates[:4] == [1e-4] * 4
    assert rates[6] == pytest.approx(0.5e-4)
    assert optimizer.param_groups[0]["lr"] == 0
    assert len(schedulers) == 2


@pytest.mark.parametrize("bundle", BUNDLES)
def test_training_and_inference_read_images_alike(bundle):
    inference = yaml.safe_load((BUNDLES[bundle] / "configs" / "inference.yaml").read_text())
    evaluation = yaml.safe_load((BUNDLES[bundle] / "configs" / "evaluate.yaml").read_text())
    assert evaluation["read"] is None
    assert {**train(bundle)["load"], "read": "@read"} == inference["load"]
    for section in ("orient", "scale"):
        assert train(bundle)[section] == inference[section]


@pytest.mark.parametrize("bundle", BUNDLES)
def test_no_config_has_an_absolute_path(bundle):
    for path in Path(BUNDLES[bundle]).rglob("*.yaml"):
        assert not [line for line in path.read_text().splitlines() if ": /" in line or "'/home" in line]
