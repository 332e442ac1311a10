"""What people wrote for earlier versions (docs/upgrading.md) goes on working, with a warning where it will go."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import yaml
from monai.bundle import ConfigParser

from common import preflight
from common.data import load_domain
from common.moved import MOVED
from common.phantoms import generate_phantom

ROOT = Path(__file__).parents[1]
BUNDLES = sorted(path.parents[1].name for path in (ROOT / "bundles").glob("*/configs/train.yaml"))
OWN_SAMPLER = {"_target_": "common.data.EpochSampler", "length": 4, "samples_per_epoch": 3}
OWN_LOADER = {
    "_target_": "DataLoader",
    "dataset": "@train#dataset",
    "batch_size": 1,
    "sampler": "@train#sampler",
    "drop_last": False,
}


@pytest.fixture(scope="module")
def phantom_data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("brain")
    generate_phantom("brain", folder, patients=4, slices=2, size=32, workers=1)
    return folder


def loader(folder: Path, overlay: dict, bundle: str = "nec_t1t2") -> torch.utils.data.DataLoader:
    """The loader that a bundle's training has under an overlay, built by a `run` list behind the preflight."""
    more: dict = {"bundle_root": str(ROOT / "bundles" / bundle), "samples_per_epoch": 6, "batch_size": 2}
    more["models_dir"] = str(folder / "models")  # the bundle's own may be reserved by another test process
    run = ["$common.preflight.check()", "$setattr(torch, '_found_loader', @train#dataloader)"]
    train = ROOT / "bundles" / bundle / "configs" / "train.yaml"
    parts = yaml.safe_load(train.read_text())["train"].keys() - {"sampler", "dataloader"}
    unused = [f"@train#{name}" for name in sorted(parts)]  # by the replaced data set
    more |= {"run": run, "finalize": unused, "train#dataset": "$[0.0, 1.0, 2.0, 3.0]"}
    (folder / "overlay.yaml").write_text(yaml.safe_dump(more))
    (folder / "own.yaml").write_text(yaml.safe_dump(overlay))
    parser = ConfigParser()
    parser.read_config([str(train), str(folder / "overlay.yaml"), str(folder / "own.yaml")])
    try:
        parser.get_parsed_content("run")
        return torch._found_loader
    finally:
        if hasattr(torch, "_found_loader"):
            del torch._found_loader


@pytest.mark.parametrize("bundle", BUNDLES)
def test_the_arguments_of_the_sampler_may_be_set_at_their_old_ids(tmp_path, recwarn, bundle):
    found = loader(tmp_path, {"train#sampler#samples_per_epoch": 3, "train#sampler#seed": 5}, bundle)
    assert (found.sampler.samples_per_epoch, found.sampler.seed, found.sampler.length) == (3, 5, 4)
    assert (found.batch_size, found.drop_last) == (2, True)
    assert not [each for each in recwarn if each.category is FutureWarning], "these ids stay"


def test_a_sampler_of_ones_own_may_be_set_at_its_old_id(tmp_path, recwarn):
    found = loader(tmp_path, {"train#sampler": OWN_SAMPLER, "train#dataloader#drop_last": False})
    assert (found.sampler.samples_per_epoch, found.drop_last) == (3, False)
    assert not [each for each in recwarn if each.category is FutureWarning]


def test_a_loader_of_ones_own_finds_the_sampler_that_the_configs_had(tmp_path):
    with pytest.warns(FutureWarning, match="`train#sampler` holds arguments alone now"):
        found = loader(tmp_path, {"train#dataloader": OWN_LOADER, "train#sampler#seed": 5})
    assert (type(found.sampler).__name__, found.sampler.length) == ("EpochSampler", 4)
    assert (found.sampler.samples_per_epoch, found.sampler.seed, found.batch_size) == (6, 5, 1)


def test_a_data_set_of_ones_own_leaves_the_volumes_to_be_loaded_from_the_datalist(phantom_data, tmp_path):
    """The volumes are loaded from `train#dataset#data` now, which a data set of an earlier overlay does not have."""
    root = ROOT / "bundles" / "nec_t1t2"
    names = {name: f"@train#{name}" for name in ("source_volumes", "target_volumes", "preprocessing")}
    overlay = {
        "bundle_root": str(root),
        "dataset_dir": str(phantom_data),
        "train#dataset": {"_target_": "builtins.dict", **names},
        "run": ["$common.preflight.check(exists=@dataset_dir)", "$setattr(torch, '_found', @train#dataset)"],
    }
    parser = ConfigParser()
    parser.read_config([str(root / "configs" / "train.yaml")])
    parser.update(overlay)
    try:
        parser.get_parsed_content("run")
        found = torch._found
    finally:
        if hasattr(torch, "_found"):
            del torch._found
    assert found.keys() == names.keys(), "the data set is given no argument that it does not know"
    assert len(found["source_volumes"]) == len(load_domain(phantom_data, "training", "T1"))


def test_loading_may_be_a_composition_of_ones_own():
    """As the configs had it: every name of its parts is still there."""
    parser = ConfigParser()
    parser.read_config(str(ROOT / "bundles" / "ggcl" / "configs" / "train.yaml"))
    names = [
        {"_target_": "common.transforms.CheckHeaderd", "keys": "image"},
        {"_target_": "LoadImaged", "keys": "image", "reader": "$common.data.image_readers()"},
        {"_target_": "EnsureChannelFirstd", "keys": "image"},
        {"_target_": "common.transforms.CheckImaged", "keys": "image"},
        {"_target_": "common.transforms.CheckHUd", "keys": "image"},
    ]
    root = str(ROOT / "bundles" / "ggcl")
    parser.update({"bundle_root": root, "load": {"_target_": "Compose", "transforms": names}})
    preflight.check(config=parser)
    with pytest.warns(FutureWarning, match=re.escape("common.data.image_readers is now common.dicom.image_readers")):
        steps = parser.get_parsed_content("load").transforms
    assert [type(step).__name__ for step in steps][1] == "LoadImaged"


def test_the_page_names_what_moved():
    page = (ROOT / "docs" / "upgrading.md").read_text()
    lines = [f"| `{old}` | `{new}` |" for old, new in MOVED.items()]
    missing = [line for line in lines if line not in page.splitlines()]
    assert not missing, "add to the table of docs/upgrading.md:\n" + "\n".join(missing)
