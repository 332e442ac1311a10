"""Kernels of two vendors in one generator, as a user runs it: train, convert to either vendor's kernels, evaluate."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from common.phantoms import generate_phantom
from tests.helpers.bundles import ROOT, done, run

BUNDLE = ROOT / "bundles" / "ggcl"
VENDORS = {"vendor_1": ["B30f", "B50f", "B70f"], "vendor_2": ["SOFT", "CHEST", "EDGE"]}
TINY = """
max_epochs: 1
samples_per_epoch: 4
batch_size: 2
image_size: 128
critic_steps: 1
channels: 8
num_res_blocks: 1
discriminator_channels: 4
val_interval: 1
validation_slices: 1
"""


@pytest.fixture(scope="module")
def scanners(tmp_path_factory) -> Path:
    """Two phantoms of other seeds in one datalist; the second one's kernels have other names."""
    folder = tmp_path_factory.mktemp("scanners")
    joined: dict[str, list] = {"training": [], "validation": [], "test": []}
    for seed, (vendor, kernels) in enumerate(VENDORS.items()):
        generate_phantom("chest", folder / vendor, patients=6, slices=1, size=128, seed=seed)
        names = dict(zip(VENDORS["vendor_1"], kernels))
        for key, entries in json.loads((folder / vendor / "datalist.json").read_text()).items():
            for entry in entries if key in joined else []:
                paths = {names.get(k, k): f"{vendor}/{v}" for k, v in entry.items() if k not in ("patient", "domain")}
                domain = {"domain": names[entry["domain"]]} if "domain" in entry else {}
                joined[key].append({"patient": f"{vendor}_{entry['patient']}", **paths, **domain})
    (folder / "datalist.json").write_text(json.dumps(joined))
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory, scanners) -> Path:
    folder = tmp_path_factory.mktemp("vendors")
    (folder / "tiny.yaml").write_text(TINY)
    places = ["--dataset_dir", scanners, "--output_dir", folder / "training", "--models_dir", folder / "models"]
    done(run(BUNDLE, "training", ["train", "two_vendors", folder / "tiny.yaml"], *places, cwd=folder))
    return folder


def test_the_vendors_are_stored_with_the_weights(trained):
    definition = json.loads((trained / "models" / "network.json").read_text())
    assert definition["domains"] == [*VENDORS["vendor_1"], *VENDORS["vendor_2"]]
    assert definition["kernels_per_vendor"] == [3, 3]
    assert definition["arguments"]["num_domains"] == 8  # six kernels and the mask of two vendors


def test_the_kernels_of_either_vendor_are_targets_for_the_images_of_both(trained, scanners, tmp_path):
    images = {}
    for target in ("B70f", "EDGE"):
        arguments = ["--dataset_dir", scanners, "--output_dir", tmp_path / target, "--target", target]
        done(run(BUNDLE, "inference", ["inference"], *arguments, "--models_dir", trained / "models", cwd=tmp_path))
        for path in (tmp_path / target).rglob("*.nii.gz"):
            images[target, path.relative_to(tmp_path / target).as_posix()] = nib.load(path).get_fdata()
    # two test patients a vendor: all three kernels of the other vendor, and two of the target's own
    assert len(images) == 2 * (2 * 3 + 2 * 2)
    (one,) = [name for target, name in images if target == "B70f" and "vendor_1" in name and "0004_B30f" in name]
    other = one.replace("B70f", "EDGE")
    assert np.abs(images["B70f", one] - images["EDGE", other]).max() >= 1


def test_evaluation_scores_the_directions_within_each_vendor_and_their_blends(trained, scanners, tmp_path):
    places = ["--dataset_dir", scanners, "--output_dir", tmp_path, "--models_dir", trained / "models"]
    done(run(BUNDLE, "evaluating", ["inference", "evaluate"], *places, cwd=tmp_path))
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert set(summary) == {f"{s}->{t}" for kernels in VENDORS.values() for s in kernels for t in kernels if s != t}
    assert set(summary["SOFT->EDGE"]) == {"network", "identity", "radial_filter_unpaired", "band_energy"}
    blends = json.loads((tmp_path / "blends.json").read_text())
    assert set(blends) == {"B50f->0.5B30f+0.5B70f", "CHEST->0.5SOFT+0.5EDGE"}
