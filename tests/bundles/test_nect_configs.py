"""NECT2CECT's training configs: true to the paper, complete for MONAI, one overlay a stage."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser

from common import preflight
from common.data import load_datalist
from common.errors import own_error
from common.methods import (
    ContrastClassification,
    ContrastEnhancement,
    ContrastRemoval,
    CycleGAN,
    JointContrastEnhancement,
    PairedRegression,
    SingleStageEnhancement,
)
from common.networks import VGG16BN, ResidualGenerator, SPADEGenerator, save_definition
from common.phantoms import generate_phantom
from tests.helpers.bundles import ROOT

BUNDLE = ROOT / "bundles" / "nect2cect"
CONFIGS = BUNDLE / "configs"
METHODS = {
    (): ContrastEnhancement,
    ("train_classifier",): ContrastClassification,
    ("train_contrast_removal",): ContrastRemoval,
    ("train_joint",): JointContrastEnhancement,
    ("baselines/single",): SingleStageEnhancement,
    ("baselines/cycle",): CycleGAN,
    ("baselines/misaligned",): PairedRegression,
    ("baselines/registered",): PairedRegression,
}
CONTRAST_TWINS = ("twins",)  # one stage with a network of its own


def parsed(*names: str, **overrides: object) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / f"{name}.yaml") for name in names])
    parser.update({"bundle_root": str(BUNDLE), "device": "$torch.device('cpu')", **overrides})
    return parser


@pytest.fixture(scope="module")
def stages(tmp_path_factory) -> Path:
    """The weights that stages 0 and 1 leave, tiny and untrained."""
    models = tmp_path_factory.mktemp("models")
    networks = {"classifier": VGG16BN(width=2), "contrast_removal": SPADEGenerator(channels=(8, 8), spade_channels=4)}
    for name, network in networks.items():
        save_definition(models / name / "network.json", network)
        torch.save(network.state_dict(), models / name / "model.pt")
    return models


@pytest.mark.parametrize("demo", [(), ("demo",)])
@pytest.mark.parametrize("names", [*METHODS, CONTRAST_TWINS])
def test_every_combination_passes_the_preflight(names, demo):
    parser = parsed("train", *demo, *names)
    parser.parse()
    preflight.check(config=parser)


@pytest.mark.parametrize(
    "names", [["inference", "evaluate"], ["inference", "evaluate", "evaluate_removal"], ["train", "multi_gpu_train"]]
)
def test_evaluation_and_several_gpus_pass_it_too(names):
    parser = parsed(*names)
    parser.parse()
    preflight.check(config=parser)


@pytest.mark.parametrize(("names", "method"), METHODS.items())
def test_each_stage_and_baseline_is_its_method_on_the_same_networks(names, method, stages):
    parser = parsed("train", "demo", *names, models_dir=str(stages))
    built = parser.get_parsed_content("method")
    assert type(built) is method
    if names == ("train_classifier",):
        assert isinstance(built.generator, VGG16BN)
    else:
        assert isinstance(built.generator, SPADEGenerator)
        assert built.generator.arguments["channels"] == parser["channels"]


def test_a_discriminator_has_three_classes_but_cycles_has_one(stages):
    for names, classes in {("train_contrast_removal",): 3, ("train_joint",): 3, ("baselines/cycle",): 1}.items():
        parser = parsed("train", "demo", *names, models_dir=str(stages))
        assert parser.get_parsed_content("discriminator").arguments["num_classes"] == classes


def test_both_generators_of_joint_training_and_of_the_cycle_are_stepped(stages):
    for name, other in {"train_joint": "remover", "baselines/cycle": "back_network"}.items():
        parser = parsed("train", "demo", name, models_dir=str(stages))
        held = {id(p) for group in parser.get_parsed_content("optimizer").param_groups for p in group["params"]}
        for network in ("network", other):
            assert {id(p) for p in parser.get_parsed_content(network).parameters()} <= held


def test_paper_hyper_parameters():
    """Seo et al., WACV 2021, sections 3 and 4.1, 4.3.1."""
    train = parsed("train")
    assert train["channels"] == [512, 512, 256, 128, 64, 32]
    assert train["discriminator_channels"] == [64, 128, 256, 512, 1024, 2048]
    assert (train["learning_rate"], train["betas"], train["decay"]) == (1e-4, [0.5, 0.999], 0.9)
    assert (train["batch_size"], train["max_epochs"], train["l1_weight"]) == (4, 30, 10.0)
    assert train["perceptual_weights"] == [1 / 32, 1 / 16, 1 / 8, 1 / 4]
    assert (train["hu_range"], train["image_size"]) == ([-100, 200], 256)
    assert [1 / s for s in train["spacing_mm"]] == pytest.approx([0.75, 0.75], abs=1e-4)
    assert not train["residual"]
    assert train.config["train"]["trainer"]["validator"] is None  # a fixed length, the last weights


@pytest.mark.parametrize("names", [(), ("train_contrast_removal",)])
def test_the_learning_rate_falls_by_a_tenth_each_epoch(names, stages):
    parser = parsed("train", "demo", *names, models_dir=str(stages), learning_rate=1e-4)
    schedulers = parser.get_parsed_content("lr_schedulers")
    assert len(schedulers) == 1 + bool(names)
    rates = []
    for _ in range(30):
        rates.append([scheduler.get_last_lr()[0] for scheduler in schedulers])
        for scheduler in schedulers:
            scheduler.optimizer.step()
            scheduler.step()
    for epoch in (0, 14, 29):
        assert rates[epoch] == pytest.approx([1e-4 * 0.9**epoch] * len(schedulers))


@pytest.mark.parametrize("stage", ["classifier", "contrast_removal"])
def test_without_the_stage_before_the_error_names_the_command_that_makes_it(stage, stages, tmp_path):
    for other in stages.iterdir():
        if other.name != stage:
            (tmp_path / other.name).symlink_to(other)
    parser = parsed("train", "demo", models_dir=str(tmp_path))
    with pytest.raises(RuntimeError) as error:
        parser.get_parsed_content("method")
    causes = []
    cause: BaseException | None = error.value
    while cause is not None:
        causes.append(str(cause))
        cause = cause.__cause__
    assert f"train_{stage}.yaml" in " ".join(causes)
    assert "python -m monai.bundle run training" in " ".join(causes)


def test_training_on_twins_starts_at_the_scan_itself_and_needs_no_stage_before(tmp_path):
    parser = parsed("train", *CONTRAST_TWINS, models_dir=str(tmp_path))
    method = parser.get_parsed_content("method")
    network = method.generator
    assert type(method) is PairedRegression
    assert isinstance(network, ResidualGenerator)
    assert 2e5 < sum(parameter.numel() for parameter in network.parameters()) < 1e6
    scan = torch.rand(2, 3, 48, 40) * 2 - 1
    scan[..., :8] = -1
    assert torch.equal(network(scan), scan)
    assert parser["train"]["paired"] is True
    assert parser.get_parsed_content("lr_schedulers")


def test_registered_pairs_lie_on_one_grid_and_show_only_what_both_scans_measured(stages, tmp_path):
    pytest.importorskip("SimpleITK", reason="SimpleITK (the extra `align`) is not installed")
    generate_phantom("abdomen", tmp_path / "data", patients=4, slices=8, size=64)
    places = {"dataset_dir": str(tmp_path / "data"), "output_dir": str(tmp_path / "out"), "models_dir": str(stages)}
    parser = parsed("train", "demo", "baselines/registered", **places, registration="affine", spacing_mm=[5.3333] * 2)
    sources, targets, masks = (
        parser.get_parsed_content(name) for name in ("measured_sources", "measured_targets", "masks")
    )
    data = parser.get_parsed_content("train#dataset")
    kept = load_datalist(parser.get_parsed_content("registered"), "training_paired")
    assert len(sources) == len(targets) == len(masks) == len(kept)
    assert data.paired
    assert len(data.source) == len(data.target) > 0
    outside = 0
    for source, target, mask in zip(sources, targets, masks):
        assert source.shape == target.shape
        left_out = torch.as_tensor(mask) <= 0.999
        assert (source[left_out] == -1).all()
        assert (target[left_out] == -1).all()
        outside += int(left_out.sum())
    assert outside > 0
    assert (tmp_path / "out" / "registered" / "datalist.json").is_file()


def test_without_simpleitk_the_extra_is_named(stages, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    generate_phantom("abdomen", tmp_path / "data", patients=4, slices=3, size=32)
    places = {"dataset_dir": str(tmp_path / "data"), "output_dir": str(tmp_path / "out"), "models_dir": str(stages)}
    with pytest.raises(RuntimeError) as error:
        parsed("train", "demo", "baselines/registered", **places).get_parsed_content("registered")
    assert "the extra `align`" in str(own_error(error.value))
