"""Download and run where MONAI is installed but this project is not: the outputs are those of the source tree."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import monai.bundle
import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, scripts

from common.networks import load_weights

from .conftest import BUNDLES, PHANTOMS, ROOT

pytestmark = pytest.mark.interop

KINDS = {"nec_t1t2": "brain", "nect2cect": "abdomen", "sr_cyclegan": "lung"}  # else chest
INFERENCE = {
    "ggcl": ["--source", "B30f", "--target", "B70f"],
    "kcgan_kernel_conversion": ["--source", "B30f", "--target", "B50f"],
    "sr_cyclegan": ["--region", "all"],
}
# One iteration of the demonstration. The contrast bundle's first training is its classifier.
TRAINING = {
    "nec_t1t2": (["train", "demo"], ["--samples_per_epoch", "4", "--image_size", "64", "--spacing_mm", "[4.0,4.0,-1]"]),
    "ggcl": (["train", "physics", "demo"], ["--samples_per_epoch", "4"]),
    "kcgan_kernel_conversion": (["train", "physics", "demo"], ["--samples_per_epoch", "4"]),
    "nect2cect": (
        ["train", "demo", "train_classifier"],
        ["--image_size", "64", "--spacing_mm", "[5.3333,5.3333]", "--classifier_width", "2"],
    ),
    "sr_cyclegan": (["train", "demo"], ["--samples_per_epoch", "4"]),
}


class Bundle:
    """A bundle's folder and the python that runs it, from a working directory of its own."""

    def __init__(self, root: Path, python: Path, folder: Path, data: Path) -> None:
        self.root, self.python, self.folder, self.data = root, python, folder, data
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, run_id: str, names: list[str], *options: str) -> Path:
        """`python -m monai.bundle run`; returns the output's folder."""
        files = [str(self.root / "configs" / f"{name}.yaml") for name in names]
        out = self.folder / run_id
        command = [self.python, "-m", "monai.bundle", "run", run_id, "--config_file", str(files)]
        command += ["--bundle_root", self.root, "--dataset_dir", self.data, "--output_dir", out, *options]
        call(command, self.folder)
        return out


def call(command: list, cwd: Path) -> subprocess.CompletedProcess:
    """Without a path to the source tree."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True,
                          timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-4000:]
    return done


@pytest.fixture(scope="module")
def clean(environment: Callable[[str], Path]) -> Path:
    """The python that has MONAI and not this project."""
    python = environment("clean")
    code = "import importlib.util as u; print(u.find_spec('monai') is not None, u.find_spec('common') is None)"
    assert call([python, "-c", code], Path.home()).stdout.split() == ["True", "True"]
    return python


@pytest.fixture(scope="module", params=BUNDLES)
def pair(request: pytest.FixtureRequest, clean: Path, address: str, phantoms: dict[str, Path],
         tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Bundle]:  # fmt: skip
    """A bundle downloaded from a web server by MONAI, and that of the source tree."""
    name, folder = request.param, tmp_path_factory.mktemp(request.param)
    version = json.loads((ROOT / "bundles" / name / "configs" / "metadata.json").read_text())["version"]
    url = f"{address}/{name}_v{version}.zip"
    call([clean, "-m", "monai.bundle", "download", "--name", name, "--url", url, "--bundle_dir", folder], folder)
    data = phantoms[KINDS.get(name, "chest")]
    downloaded = Bundle(folder / name, clean, folder / "downloaded_runs", data)
    return downloaded, Bundle(ROOT / "bundles" / name, Path(sys.executable), folder / "source_runs", data)


def volumes(folder: Path) -> dict[str, nib.Nifti1Image]:
    return {str(path.relative_to(folder)): nib.load(path) for path in sorted(folder.rglob("*.nii*"))}


def test_a_downloaded_bundle_translates_as_the_source_tree_does(pair):
    name = pair[0].root.name
    downloaded, source = (volumes(b.run("inference", ["inference"], *INFERENCE.get(name, []))) for b in pair)
    assert downloaded.keys() == source.keys()
    assert downloaded
    for file, image in downloaded.items():
        np.testing.assert_array_equal(np.asarray(image.dataobj), np.asarray(source[file].dataobj))
        np.testing.assert_array_equal(image.affine, source[file].affine)
        assert np.asarray(image.dataobj).std() > 0


def numbers(summary, path=()):
    """The numbers of nested mappings, by their path."""
    for key, value in summary.items():
        if isinstance(value, dict):
            yield from numbers(value, (*path, key))
        else:
            yield (*path, key), value


def test_a_downloaded_bundle_scores_as_the_source_tree_does(pair):
    summaries = []
    for bundle in pair:
        out = bundle.run("evaluating", ["inference", "evaluate"])
        summaries.append(json.loads((out / "summary.json").read_text()))
    found, expected = (dict(numbers(summary)) for summary in summaries)
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-6)  # the consumer's scipy is another
    scores = [method["psnr"]["mean"] for direction in summaries[0].values() for method in direction.values()]
    assert all(np.isfinite(scores))
    call([pair[0].python, "-m", "common", "report", "--help"], pair[0].root)


def test_a_downloaded_bundle_trains_as_the_source_tree_does(pair):
    files, options = TRAINING[pair[0].root.name]
    results = []
    for bundle in pair:
        models = bundle.folder / "models"
        out = bundle.run("training", files, *options, "--max_epochs", "1", "--models_dir", str(models),
                         "--make_data", "$None and @phantom", "--val_interval", "1")  # fmt: skip
        (path,) = out.rglob("losses.csv")
        with path.open(newline="") as file:
            losses = [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]
        (weights,) = models.rglob("model.pt")
        results.append((losses, torch.load(weights, weights_only=True)))
    assert results[0][0] == results[1][0]
    assert results[0][1].keys() == results[1][1].keys()
    for key, value in results[0][1].items():
        torch.testing.assert_close(value, results[1][1][key], rtol=0, atol=0)


PHANTOM = """
import sys
from pathlib import Path
from monai.bundle import ConfigParser
parser = ConfigParser()
parser.read_config([f"configs/{name}.yaml" for name in ("train", "demo")])
parser.update({"bundle_root": ".", "dataset_dir": sys.argv[1], "phantom": eval(sys.argv[2])})
parser.get_parsed_content("make_data")
import common
assert Path(common.__file__).is_relative_to(Path.cwd()), common.__file__
"""


SOURCE_TREES = """
import sys
from common.phantoms import generate_phantom
generate_phantom(sys.argv[1], sys.argv[2], **eval(sys.argv[3]))
"""


def test_a_downloaded_bundle_makes_the_phantom_of_its_demonstration(pair, tmp_path):
    """Both with the consumer's packages: the random numbers of another numpy are others."""
    python, root = pair[0].python, pair[0].root
    kind = KINDS.get(root.name, "chest")
    made, expected = tmp_path / "data", tmp_path / "expected"
    call([python, "-c", PHANTOM, made, PHANTOMS[kind]], root)
    call([python, "-c", SOURCE_TREES, kind, expected, PHANTOMS[kind]], ROOT)
    assert (made / "datalist.json").read_bytes() == (expected / "datalist.json").read_bytes()
    assert volumes(made).keys() == volumes(expected).keys()
    for file, image in volumes(made).items():
        np.testing.assert_array_equal(image.dataobj, volumes(expected)[file].dataobj, err_msg=str(file))


def test_monai_finds_the_latest_version_in_the_index_and_downloads_it(address, dist, tmp_path, monkeypatch):
    """By `--source github`, with the two addresses that MONAI builds led to the local server."""
    monkeypatch.setattr(scripts, "_get_git_release_url", lambda *_, filename, **__: f"{address}/{filename}")
    asked = scripts.requests.get
    monkeypatch.setattr(scripts.requests, "get", lambda url, **_: asked(f"{address}/{url.rpartition('/')[2]}"))
    monai.bundle.download(
        name="nec_t1t2", source="github", repo="owner/name/0.1.0", bundle_dir=tmp_path, progress=False
    )
    assert (tmp_path / "nec_t1t2" / "models" / "model.pt").is_file()


LOAD = """
import sys
import torch
import monai.bundle
network = monai.bundle.load(sys.argv[1], bundle_dir="..", source="github", workflow_type="inference", device="cpu")
torch.manual_seed(0)
with torch.no_grad():
    torch.save(network.eval()(torch.rand(1, int(sys.argv[2]), 64, 64)), sys.argv[3])
"""


def test_a_downloaded_bundle_loads_by_name(clean, unpacked, tmp_path):
    """`load` reads the JSON twin. `common` must be importable for it: the bundle is the working directory."""
    for name, root in unpacked.items():
        channels = json.loads((root / "configs" / "metadata.json").read_text())["network_data_format"]["inputs"][
            "image"
        ]["num_channels"]
        call([clean, "-c", LOAD, name, channels, tmp_path / name], root)
        parser = ConfigParser()
        parser.read_config(str(ROOT / "bundles" / name / "configs" / "inference.yaml"))
        parser["bundle_root"] = str(ROOT / "bundles" / name)
        network = load_weights(parser.get_parsed_content("network_def"), root / "models" / "model.pt").eval()
        torch.manual_seed(0)
        with torch.no_grad():
            expected = network(torch.rand(1, channels, 64, 64))
        assert expected.std() > 0
        torch.testing.assert_close(torch.load(tmp_path / name), expected, rtol=0, atol=1e-6)
