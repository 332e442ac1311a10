"""The compared methods of the kernel bundles: pairs of kernels and AttGAN, from overlay to conversion and scores."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from common import preflight
from common.data import load_datalist
from common.networks import SemanticDiscriminator, StarGANDiscriminator
from common.phantoms import generate_phantom
from tests.helpers.bundles import ROOT, done, run

BUNDLES = {name: ROOT / "bundles" / name for name in ("ggcl", "kcgan_kernel_conversion")}
OVER = {"baselines/fastcut": "baselines/cut"}
PAIRS = {
    "cyclegan": "CycleGAN",
    "cut": "ContrastiveUnpairedTranslation",
    "fastcut": "ContrastiveUnpairedTranslation",
    "dclgan": "DualContrastiveTranslation",
    "unit": "UNIT",
}
ALL_DOMAINS = {"attgan": "AttGAN", "attgan_guided": "AttGAN"}
TINY = {
    "max_epochs": 1,
    "samples_per_epoch": 2,
    "batch_size": 2,
    "image_size": 64,
    "critic_steps": 1,
    "channels": 8,
    "num_res_blocks": 1,
    "discriminator_channels": 4,
    "val_interval": 1,
    "validation_slices": 1,
}
LAYERS = {name: {"discriminator_def#num_layers": 2} for name in PAIRS} | {
    name: {"num_layers": 3, "discriminator_def#num_layers": 5} for name in ALL_DOMAINS
}


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


def tiny(name: str, bundle: str = "ggcl", **overrides: object) -> ConfigParser:
    return parsed(bundle, "train", f"baselines/{name}", **{**TINY, **LAYERS[name], **overrides})


@pytest.fixture(scope="module")
def chest(tmp_path_factory) -> Path:
    """6 patients of 1 slice of 64 x 64 pixels."""
    folder = tmp_path_factory.mktemp("chest")
    generate_phantom("chest", folder, patients=6, slices=1, size=64)
    return folder


@pytest.mark.parametrize("demo", [[], ["demo"]], ids=["paper", "demo"])
@pytest.mark.parametrize("name", [*PAIRS, *ALL_DOMAINS])
@pytest.mark.parametrize("bundle", BUNDLES)
def test_every_overlay_passes_the_preflight(bundle, name, demo):
    parser = parsed(bundle, "train", f"baselines/{name}", *demo)
    parser.parse()
    preflight.check(config=parser)


@pytest.mark.parametrize("name", PAIRS)
def test_an_overlay_of_two_domains_names_its_pair_by_two_scalars(name):
    parser = tiny(name, source="SOFT", target="EDGE")
    assert type(parser.get_parsed_content("method")).__name__ == PAIRS[name]
    assert parser.get_parsed_content("domains") == ["SOFT", "EDGE"]
    assert parser.get_parsed_content("targets") == ["EDGE"]


@pytest.mark.parametrize("name", ["cyclegan", "dclgan", "unit"])
def test_both_directions_have_networks_of_their_own_and_one_optimizer(name):
    method = tiny(name).get_parsed_content("method")
    networks = list(method.networks.values())
    assert len({id(network) for network in networks}) == len(networks)
    stepped = [id(p) for o in method.optimizers.values() for group in o.param_groups for p in group["params"]]
    assert sorted(stepped) == sorted(id(p) for network in networks for p in network.parameters())


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("cyclegan", {"cycle_weight": 10.0, "identity_weight": 0.5}),
        ("cut", {"contrastive_weight": 1.0, "identity_weight": 1.0, "flip_equivariance": False}),
        ("fastcut", {"contrastive_weight": 10.0, "identity_weight": 0.0, "flip_equivariance": True}),
        ("dclgan", {"contrastive_weight": 2.0, "identity_weight": 1.0}),
        ("unit", {"reconstruction_weight": 10.0, "cycle_weight": 10.0, "kl_weight": 0.01}),
        ("attgan", {"reconstruction_weight": 100.0, "fake_classification_weight": 10.0, "classification_weight": 1.0}),
    ],
)
def test_the_weights_are_the_papers(name, weights):
    method = tiny(name).get_parsed_content("method")
    assert {key: getattr(method, key) for key in weights} == weights


def test_the_networks_are_the_papers():
    parser = parsed("ggcl", "train", "baselines/cyclegan")
    assert (parser["num_res_blocks"], parser["channels"], parser["discriminator_channels"]) == (9, 64, 64)
    parser = parsed("ggcl", "train", "baselines/unit")
    assert (parser["num_res_blocks"], parser["num_shared_blocks"], parser["weight_decay"]) == (3, 1, 0.0001)
    assert parser["discriminator_def"]["num_scales"] == 3
    fast, cut = (parsed("ggcl", "train", f"baselines/{name}").get() for name in ("fastcut", "cut"))
    different = {key for key in fast if fast[key] != cut[key]}
    assert different == {"contrastive_weight", "identity_weight", "flip_equivariance"}


@pytest.mark.parametrize("bundle", BUNDLES)
def test_attgan_has_no_guidance_and_the_guided_one_that_of_its_bundle(bundle):
    plain, guided = (tiny(name, bundle).get_parsed_content("method") for name in ALL_DOMAINS)
    assert plain.guidance is None
    assert type(plain.discriminator) is StarGANDiscriminator
    own = parsed(bundle, "train", **TINY, **{"discriminator_def#num_layers": 5}).get_parsed_content("method")
    assert type(guided.guidance) is type(own.guidance)
    assert guided.guidance_weight == own.guidance_weight
    assert type(guided.discriminator) is SemanticDiscriminator


@pytest.mark.parametrize("name", [*PAIRS, *ALL_DOMAINS])
def test_the_learning_rates_are_constant_and_then_fall_to_zero(name):
    parser = tiny(name, max_epochs=4)
    optimizers = list(parser.get_parsed_content("method").optimizers.values())
    schedulers = parser.get_parsed_content("lr_schedulers")
    assert {id(s.optimizer) for s in schedulers} == {id(o) for o in optimizers}
    expected = 0.0001 if name == "unit" else 0.0002
    for epoch in range(4):
        assert all(o.param_groups[0]["lr"] == (expected if epoch < 3 else expected / 2) for o in optimizers)
        for optimizer, scheduler in zip(optimizers, schedulers):
            optimizer.step()
            scheduler.step()
    assert [o.param_groups[0]["lr"] for o in optimizers] == [0.0] * len(optimizers)


def trained(name: str, folder: Path, chest: Path) -> Path:
    """What one iteration of a method leaves, in this process."""
    places = {"dataset_dir": str(chest), "output_dir": str(folder / "training"), "models_dir": str(folder / "models")}
    tiny(name, **places).get_parsed_content("run")
    return folder / "models"


@pytest.mark.parametrize("name", [*PAIRS, *ALL_DOMAINS])
def test_one_iteration_leaves_a_network_that_inference_runs(name, chest, tmp_path):
    models = trained(name, tmp_path, chest)
    definition = json.loads((models / "network.json").read_text())
    two = name in PAIRS
    assert definition["domains"] == (["B70f", "B30f"] if two else ["B30f", "B50f", "B70f"])
    assert definition["targets"] == (["B30f"] if two else definition["domains"])
    parser = parsed("ggcl", "inference", models_dir=str(models), target="B30f", source="B70f")
    network = parser.get_parsed_content("network").eval()
    network.load_state_dict(torch.load(models / "model.pt", weights_only=True))
    assert network(torch.zeros(2, 1, 40, 33)).shape == (2, 1, 40, 33)


@pytest.fixture(scope="module")
def pair(tmp_path_factory, chest) -> Path:
    """CycleGAN, one iteration on the command line."""
    folder = tmp_path_factory.mktemp("pair")
    places = ["--dataset_dir", chest, "--output_dir", folder / "training", "--models_dir", folder / "models"]
    options = [part for key, value in {**TINY, **LAYERS["cyclegan"]}.items() for part in (f"--{key}", value)]
    done(run(BUNDLES["ggcl"], "training", ["train", "baselines/cyclegan"], *places, *options, cwd=folder))
    return folder


def test_a_pair_converts_from_its_source_to_its_target(pair, chest, tmp_path):
    places = {"dataset_dir": str(chest), "output_dir": str(tmp_path / "out"), "models_dir": str(pair / "models")}
    parsed("ggcl", "inference", **places).get_parsed_content("run")
    patients = [entry["patient"] for entry in load_datalist(chest, "test")]
    outputs = {path.name: path for path in (tmp_path / "out").rglob("*.nii.gz")}
    assert set(outputs) == {f"{patient}_B70f_synthetic_B30f.nii.gz" for patient in patients}
    image, source = nib.load(next(iter(outputs.values()))), nib.load(load_datalist(chest, "test")[0]["B70f"])
    assert image.shape == source.shape
    assert image.get_data_dtype() == np.int16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "B70f"}, "`target` must be 'B30f', the only domain that this network translates into, got 'B70f'"),
        ({"target": "B50f"}, "`target` must be 'B30f', the only domain that this network translates into, got 'B50f'"),
        ({"source": "B50f"}, r"`source` must be one of the trained kernels \['B70f', 'B30f'\], got 'B50f'"),
    ],
)
def test_what_a_pair_was_not_trained_for_is_refused(pair, chest, options, message):
    parser = parsed("ggcl", "inference", models_dir=str(pair / "models"), dataset_dir=str(chest), **options)
    with pytest.raises(RuntimeError) as caught:
        parser.get_parsed_content("network")
    error: BaseException | None = caught.value
    while error is not None and not isinstance(error, ValueError):
        error = error.__cause__
    with pytest.raises(ValueError, match=message):
        raise error


def test_evaluation_scores_the_one_direction_with_all_methods(pair, chest, tmp_path):
    places = {"dataset_dir": str(chest), "output_dir": str(tmp_path), "models_dir": str(pair / "models")}
    parsed("ggcl", "inference", "evaluate", **places).get_parsed_content("run")
    ((direction, methods),) = json.loads((tmp_path / "summary.json").read_text()).items()
    assert direction == "B70f->B30f"
    assert set(methods) == {"network", "identity", "radial_filter", "radial_filter_unpaired", "band_energy"}
    assert not (tmp_path / "blends.json").exists()
