"""Two sites in NVIDIA FLARE's simulator, by the commands of docs/federated.md."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.networks import load_definition, load_weights
from common.release import build_release

pytestmark = pytest.mark.interop

ROOT = Path(__file__).parents[2]
SITES = ("site-1", "site-2")
ROUNDS = 2
# 8 patients: 5 in training, of whom 3 have T1; 6 patients: 3 and 2. 4 slices each, batches of 2.
ITERATIONS = {"site-1": 3 * 4 // 2, "site-2": 2 * 4 // 2}
RECORDER = """
imports: [$import os, $import time, $import torch, $from monai.fl.utils.constants import FlStatistics]
post_weight_filters:
- "$lambda sent, extra: (torch.save({'weights': sent.weights,
   'iterations': sent.statistics[FlStatistics.NUM_EXECUTED_ITERATIONS]},
   os.environ['RECORD'] + f'/{time.time_ns()}-{os.getpid()}.pt'), sent)[1]"
"""


def documented(block: int) -> list[list[str]]:
    """The commands of one of the page's blocks, but for those that make the environment and set its variable."""
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "docs" / "federated.md").read_text(), flags=re.DOTALL)
    lines = [line.strip() for line in blocks[block].strip().splitlines()]
    return [shlex.split(line) for line in lines if not line.startswith(("environments/", "export "))]


def run(command: list[str], folder: Path, python: Path, *, check: bool = True) -> subprocess.CompletedProcess:
    """A documented command in a folder that has `bundles/`."""
    flare = str(python.with_name("nvflare"))
    places = {"python": sys.executable, "nvflare": flare, ".venvs/flare/bin/nvflare": flare}
    variables = {
        "FEDERATED_DIR": str(folder / "runs" / "federated"),
        "FEDERATED_FOLDERS": str(folder / "bundles"),
        "RECORD": str(folder / "record"),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [places.get(command[0], command[0]), *command[1:]],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **variables},
    )
    assert not check or done.returncode == 0, f"{command}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done


@dataclass
class Federation:
    """What two rounds left: the folder, and what each client sent, by process and in order of time."""

    folder: Path
    log: str
    sent: dict[str, list[dict[str, Any]]]

    def state(self, site: str) -> dict[str, Any]:
        """The site's own training state after its last round."""
        return torch.load(self.folder / site / "output" / "training" / "last.pt", weights_only=True)

    def last_sent(self, site: str) -> dict[str, Any]:
        """Found by its weights: a process does not say which site it is."""
        own = self.state(site)["networks"]["generator"]
        matches = [sent[-1] for sent in self.sent.values() if equal(sent[-1]["weights"], own)]
        (found,) = matches
        return found


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def released(folder: Path) -> Path:
    """The bundle in `folder/bundles`, unpacked from its release."""
    build_release(ROOT / "bundles" / "nec_t1t2", folder)
    (archive,) = folder.glob("*.zip")
    zipfile.ZipFile(archive).extractall(folder / "bundles")
    return folder / "bundles" / "nec_t1t2"


@pytest.fixture(scope="module")
def federation(environment: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Federation:
    """The page's commands in order, with the bundle's release, to which a filter is added that notes what is sent."""
    python, folder = environment("flare"), tmp_path_factory.mktemp("federation")
    bundle = released(folder)
    (bundle / "configs" / "record.yaml").write_text(RECORDER)
    (folder / "record").mkdir()
    *preparation, simulator = documented(0)
    for command in preparation:
        run(command, folder, python)
    client = folder / "runs" / "federated" / "job" / "app" / "config" / "config_fed_client.json"
    config = json.loads(client.read_text())
    config["components"][0]["args"]["filters"] = "configs/record.yaml"
    client.write_text(json.dumps(config))
    done = run(simulator, folder, python)
    sent: dict[str, list[dict[str, Any]]] = {}
    for path in sorted((folder / "record").iterdir()):
        sent.setdefault(path.stem.split("-")[1], []).append(torch.load(path, weights_only=True))
    return Federation(folder / "runs" / "federated", done.stdout + done.stderr, sent)


def test_two_sites_take_part_in_two_rounds(federation):
    assert len(federation.sent) == len(SITES)
    assert [len(sent) for sent in federation.sent.values()] == [ROUNDS] * len(SITES)
    for number in range(ROUNDS):
        assert f"Round {number} finished" in federation.log
    assert [federation.state(site)["epoch"] for site in SITES] == [ROUNDS] * len(SITES)


def test_the_sites_have_no_patient_in_common(federation):
    volumes = [
        {
            hashlib.sha256(path.read_bytes()).hexdigest()
            for path in (federation.folder / site / "data").rglob("*.nii.gz")
        }
        for site in SITES
    ]
    assert all(volumes)
    assert volumes[0].isdisjoint(volumes[1])


def test_the_global_weights_are_the_mean_weighted_by_iterations(federation):
    last = {site: federation.last_sent(site) for site in SITES}
    assert {site: last[site]["iterations"] for site in SITES} == ITERATIONS
    ours = torch.load(
        federation.folder / "workspace" / "server" / "simulate_job" / "app_server" / "FL_global_model.pt",
        weights_only=True,
    )["model"]
    for name, value in ours.items():
        parts = [ITERATIONS[site] * last[site]["weights"][name].double().numpy() for site in SITES]
        np.testing.assert_allclose(value.double().numpy(), sum(parts) / sum(ITERATIONS.values()), rtol=1e-5, atol=1e-7)
        assert not np.array_equal(parts[0] / ITERATIONS["site-1"], parts[1] / ITERATIONS["site-2"]), name


def test_discriminators_are_not_in_what_is_sent(federation):
    for site in SITES:
        networks = federation.state(site)["networks"]
        kept = {value.numpy().tobytes() for value in networks["discriminator"].values() if value.numel() > 8}
        assert kept
        for sent in federation.sent.values():
            for one in sent:
                assert one["weights"].keys() == networks["generator"].keys()
                assert kept.isdisjoint(value.numpy().tobytes() for value in one["weights"].values())
    first, second = (federation.state(site)["networks"]["discriminator"] for site in SITES)
    assert not equal(first, second)


def test_each_site_scores_and_keeps_the_last_mean(federation):
    job = federation.folder / "workspace" / "server" / "simulate_job"
    ours = torch.load(job / "app_server" / "FL_global_model.pt", weights_only=True)["model"]
    scores = json.loads((job / "cross_site_val" / "cross_val_results.json").read_text())
    for site in SITES:
        models = federation.folder / site / "output" / "models"
        network = load_weights(load_definition(models, {}), models / "model.pt")
        assert equal(network.state_dict(), ours)
        (metrics,) = scores[site].values()
        summary = json.loads((federation.folder / site / "output" / "evaluation" / "summary.json").read_text())
        assert metrics["psnr"] == pytest.approx(summary["T1->T2"]["network"]["psnr"]["mean"])


def test_a_job_that_a_site_has_not_allowed_is_not_built(federation, environment, tmp_path):
    command = ["nvflare", "simulator", str(federation.folder / "job"), "-w", str(tmp_path), "-c", "site-1", "-t", "1"]
    done = run(command, tmp_path, environment("flare"), check=False)
    assert "is not in allow_list" in done.stdout + done.stderr
    assert not list(tmp_path.rglob("FL_global_model.pt"))


def test_a_provisioned_site_allows_the_job_beside_flares_own_classes(federation, environment):
    python, folder = environment("flare"), federation.folder.parents[1]
    for command in [*documented(1), *documented(2)]:
        run(command, folder, python)
    (kit,) = folder.glob("workspace/*/prod_00/site-1")
    (allow,) = documented(3)
    added = run([part.replace("KIT", str(kit)) for part in allow], folder, python).stdout.split()
    assert len(added) == 4
    assert {"common.federated.SiteAlgo", "common.networks.NECGenerator"} < set(added)
    before, after = (json.loads((kit / "local" / f"resources.json{end}").read_text()) for end in (".default", ""))
    assert after == {**before, "class_allow_list": [*before["class_allow_list"], *added]}
