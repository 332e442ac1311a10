"""`compact.yaml`: a small network on one's own data; `demo.yaml` may be laid over them, too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from monai.bundle import ConfigParser

from common import preflight
from common.networks import load_definition
from tests.helpers.bundles import ROOT

STAGES: dict[str, tuple[str, ...]] = {"nect2cect": ("train_classifier", "train_contrast_removal")}
DOMAINS: dict[str, tuple[str, ...]] = {
    "ggcl": ("B30f", "B50f", "B70f"),
    "kcgan_kernel_conversion": ("B30f", "B50f", "B70f"),
    "nec_t1t2": ("T1", "T2"),
    "nect2cect": ("NECT", "CECT"),
    "sr_cyclegan": ("clinical", "micro"),
}
QUICK: dict[str, dict[str, Any]] = {
    "ggcl": {"max_epochs": 1, "samples_per_epoch": 2, "batch_size": 2, "critic_steps": 1},
    "kcgan_kernel_conversion": {"max_epochs": 1, "samples_per_epoch": 2, "batch_size": 2, "critic_steps": 1},
    "nec_t1t2": {"max_epochs": 1, "samples_per_epoch": 2, "batch_size": 2, "image_size": 64},
    "nect2cect": {"max_epochs": 1, "classifier_epochs": 1, "samples_per_epoch": 2, "image_size": 64},
    "sr_cyclegan": {"max_epochs": 1, "samples_per_epoch": 2, "batch_size": 2, "factor": 2, "patch_size": 16},
}
DATA: dict[str, dict[str, Any]] = {  # what describes a user's images
    "nect2cect": {"training_list": "training", "spacing_mm": [1.0, 1.0], "fit": None},  # no pairs to fit a curve on
    "sr_cyclegan": {"spacing_mm": [1.0, 1.0], "mask_key": None, "grey_levels": [-1000, 0]},
}


def parsed(bundle: str, *overlays: str, **options: Any) -> ConfigParser:
    configs = ROOT / "bundles" / bundle / "configs"
    parser = ConfigParser()
    parser.read_config([str(configs / f"{name}.yaml") for name in ("train", *overlays)])
    parser.update({"bundle_root": str(configs.parent), **options})
    return parser


def own_data(bundle: str, folder: Path) -> Path:
    """Two patients of each domain and list, of noise; smaller in plane than the crops of the kernels."""
    rng = np.random.default_rng(0)
    lists: dict[str, list[dict[str, str]]] = {"training": [], "validation": []}
    for name, entries in lists.items():
        for domain in DOMAINS[bundle]:
            for number in range(2):
                path = folder / f"{name}_{number}_{domain}.nii.gz"
                spacing = 0.5 if domain == "micro" else 1.0
                volume = rng.integers(-1000, 400, (72, 64, 4)) + (1100 if bundle == "nec_t1t2" else 0)
                nib.save(nib.Nifti1Image(volume.astype(np.int16), np.diag([-spacing, -spacing, 1.0, 1.0])), path)
                entries.append({"image": path.name, "domain": domain, "patient": f"{name}_{number}_{domain}"})
    (folder / "datalist.json").write_text(json.dumps(lists))
    return folder


@pytest.mark.parametrize("bundle", DOMAINS)
def test_the_overlay_sets_networks_and_schedule_and_nothing_of_the_data(bundle):
    content = yaml.safe_load((ROOT / "bundles" / bundle / "configs" / "compact.yaml").read_text())
    ids = {id_.partition("#")[0] for id_ in content}
    assert not ids & {"dataset_dir", "output_dir", "models_dir", "make_data", "phantom", "run", "start"}
    assert not ids & {"source", "target", "domains", "hu_range", "percentiles", "spacing_mm", "mask_key", "grey_levels"}


@pytest.mark.parametrize("bundle", DOMAINS)
def test_the_generator_has_02_to_2_million_parameters(bundle):
    network = parsed(bundle, "compact").get_parsed_content("network_def")
    assert 0.2e6 <= sum(parameter.numel() for parameter in network.parameters()) <= 2e6


@pytest.mark.parametrize("bundle", DOMAINS)
def test_it_passes_the_preflight_alone_and_with_the_demonstration_behind_it(bundle):
    for overlays in (("compact",), ("compact", "demo"), *(("compact", stage) for stage in STAGES.get(bundle, ()))):
        parser = parsed(bundle, *overlays)
        parser.parse()
        preflight.check(config=parser)


@pytest.mark.parametrize("bundle", DOMAINS)
def test_the_demonstrations_networks_may_be_trained_on_own_data_as_well(bundle):
    for nothing in (None, "$None"):
        parser = parsed(bundle, "demo", make_data=nothing, dataset_dir="mine")
        parser.parse()
        preflight.check(config=parser)


@pytest.mark.parametrize("bundle", DOMAINS)
def test_it_trains_on_own_data(bundle, tmp_path):
    data = own_data(bundle, tmp_path)
    places = {"dataset_dir": str(data), "output_dir": str(tmp_path / "out"), "models_dir": str(tmp_path / "models")}
    options = {**places, **DATA.get(bundle, {}), **QUICK[bundle]}
    for stage in (*STAGES.get(bundle, ()), None):
        parser = parsed(bundle, "compact", *([stage] if stage else []))
        classifier = {"max_epochs": "@classifier_epochs"} if stage == "train_classifier" else {}
        parser.update({**options, **classifier})
        parser.get_parsed_content("run")
    deployed = load_definition(tmp_path / "models", {})
    deployed.load_state_dict(torch.load(tmp_path / "models" / "model.pt", weights_only=True))
    assert type(deployed) is type(parser.get_parsed_content("network_def"))
