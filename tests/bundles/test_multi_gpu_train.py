"""`multi_gpu_train.yaml` of every bundle: two ranks, other numbers of ranks in one training, accumulated gradients."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser

from common.data import load_domain
from common.methods import DomainLabels
from common.networks.spectral import SpectralConv2d
from tests.helpers.bundles import BUNDLE, CONFIGS, ROOT, done
from tests.helpers.devices import pretend
from tests.helpers.tiny_trainings import AFTER, CASES, EPOCHS, JOINED_BATCH, train, write_images

BUNDLES = sorted(path.parents[1] for path in (ROOT / "bundles").glob("*/configs/multi_gpu_train.yaml"))
TOLERANCE = {"rtol": 0.0, "atol": 1e-9}  # in float64, for weights that move by 1e-3 a step


def torchrun(arguments: list[str], cwd: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done(subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, env=environment))


def test_the_overlays_of_all_bundles_are_one():
    assert len(BUNDLES) == 5
    assert len({(bundle / "configs" / "multi_gpu_train.yaml").read_text() for bundle in BUNDLES}) == 1


def test_the_device_is_that_of_the_local_rank(monkeypatch):
    pretend(monkeypatch, "cuda", 8)
    monkeypatch.setenv("RANK", "5")
    monkeypatch.setenv("LOCAL_RANK", "1")
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / "train.yaml"), str(CONFIGS / "multi_gpu_train.yaml")])
    assert parser.get_parsed_content("device") == torch.device("cuda", 1)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Every training by one process, by two, and by two from the state that one left after epoch `AFTER`."""
    root = tmp_path_factory.mktemp("trainings")
    write_images(root / "images")
    for name in CASES:
        torch.save(train(name, root, root / "single" / name), root / "single" / name / "found.pt")
        (root / "resumed" / name).mkdir(parents=True)
        shutil.copyfile(root / "single" / name / "after.pt", root / "resumed" / name / "last.pt")
    torchrun(["tests.helpers.tiny_trainings", str(root)], ROOT)
    return root


def found_by(root: Path, kind: str, name: str) -> dict[str, Any]:
    """What two ranks have found, which is the same but for their samples; those are joined."""
    first, second = (torch.load(root / kind / name / f"rank{rank}.pt", weights_only=True) for rank in range(2))
    samples = {key: torch.stack([part, second["samples"][key]], dim=1) for key, part in first["samples"].items()}
    for part in ("weights", "pools", "rates"):
        torch.testing.assert_close(first[part], second[part], rtol=0, atol=0)
    return {**first, "samples": {key: part.flatten() for key, part in samples.items()}}


def check_equal(found: dict[str, Any], single: dict[str, Any], *, first_epoch: int = 1) -> None:
    """Weights and pools at the end; learning rates and samples from an epoch on."""
    torch.testing.assert_close(found["weights"], single["weights"], **TOLERANCE)
    torch.testing.assert_close(found["pools"], single["pools"], **TOLERANCE)
    assert found["rates"] == {e: rates for e, rates in single["rates"].items() if e >= first_epoch}
    steps = len(single["samples"]) // EPOCHS
    assert list(found["samples"]) == list(range((first_epoch - 1) * steps + 1, EPOCHS * steps + 1))
    for step, sums in found["samples"].items():
        torch.testing.assert_close(sums, single["samples"][step], rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_two_ranks_train_what_one_process_trains_on_the_joined_batch(root, name):
    single = torch.load(root / "single" / name / "found.pt", weights_only=True)
    check_equal(found_by(root, "ranks", name), single)
    assert all(len(sums) == JOINED_BATCH for sums in single["samples"].values())
    early = torch.load(root / "single" / name / "after.pt", weights_only=True)["networks"]
    for network, weights in single["weights"].items():  # an optimizer that stood still would prove nothing
        moved = max(float((w - early[network][k]).abs().max()) for k, w in weights.items() if w.is_floating_point())
        assert moved > 1e4 * TOLERANCE["atol"], network


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_training_goes_on_with_another_number_of_ranks(root, name):
    """From one process to two, and from two to one."""
    single = torch.load(root / "single" / name / "found.pt", weights_only=True)
    check_equal(found_by(root, "resumed", name), single, first_epoch=AFTER + 1)
    out = root / "back" / name
    out.mkdir(parents=True)
    shutil.copyfile(root / "ranks" / name / "after.pt", out / "last.pt")
    check_equal(train(name, root, out), single, first_epoch=AFTER + 1)


# ---- accumulated gradients

STILL = {"generator": "discriminator_optimizer#lr", "discriminator": "optimizer#lr"}
WHOLE = {  # what of a training is equal while the other side stands still; `None`: all, with nothing standing still
    "ggcl": ("generator", "discriminator"),
    "kcgan": ("discriminator",),
    "nec": ("generator", "discriminator"),
    "nec_official": (None,),
    "nect_removal": ("generator", "discriminator"),
    "nect_enhancement": (None,),
    "nect_joint": ("generator", "discriminator"),
    "sr_cyclegan": (None,),
}


@pytest.fixture
def without_chance(monkeypatch):
    """Draws depend on the batch: here they are fixed, and a spectral norm rests, which follows each forward pass."""
    monkeypatch.setattr(DomainLabels, "draw", lambda self, domain: (domain + 1) % self.num_domains)
    monkeypatch.setattr("common.methods.stargan.draw_for_each", lambda count, draw: torch.full((count,), 0.3))
    monkeypatch.setattr(torch, "randperm", lambda places, device=None: torch.arange(places, device=device))
    monkeypatch.setattr(SpectralConv2d, "_sigma", resting_sigma)


def resting_sigma(layer: SpectralConv2d, kernel: torch.Tensor) -> torch.Tensor:
    """A spectral norm without a step of the power method."""
    norm = layer.parametrizations.weight[0]
    return norm._u.clone() @ (kernel.flatten(1) @ norm._v.clone())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "side"), [(name, side) for name, sides in WHOLE.items() for side in sides])
def test_accumulated_gradients_are_those_of_the_joined_batch(root, tmp_path, without_chance, name, side):
    """Of a side whose opponent moves within a step, once that opponent stands still."""
    options: dict[str, object] = {"pool_size": 50} if name == "sr_cyclegan" else {}  # it fills, and gives nothing back
    if side is not None:
        options[STILL[side]] = 0.0
    joined = train(name, root, tmp_path / "joined", **options)
    parts = {"batch_size": 1, "train#trainer#accumulation_steps": JOINED_BATCH}
    accumulated = train(name, root, tmp_path / "accumulated", **options, **parts)
    moving = {
        n: w for n, w in joined["weights"].items() if side is None or ("discriminator" in n) == (side != "generator")
    }
    for network, weights in moving.items():
        torch.testing.assert_close(accumulated["weights"][network], weights, **TOLERANCE)
    assert joined["rates"] == accumulated["rates"]


# ---- the command


@pytest.mark.slow
def test_two_processes_train_with_torchrun(phantom, tiny, tmp_path):
    files = [str(CONFIGS / "train.yaml"), str(CONFIGS / "multi_gpu_train.yaml"), str(tiny)]
    arguments = ["monai.bundle", "run", "training", "--config_file", str(files), "--bundle_root", str(BUNDLE)]
    arguments += ["--dataset_dir", str(phantom), "--output_dir", "out", "--models_dir", "models"]
    torchrun(arguments, tmp_path)
    assert (tmp_path / "models" / "model.pt").is_file()
    with (tmp_path / "out" / "losses.csv").open(newline="") as file:
        (*_, last) = csv.DictReader(file)
    slices = 4 * len(load_domain(phantom, "training", "T1"))
    assert int(last["iteration"]) == slices // 4  # two processes with two slices each
