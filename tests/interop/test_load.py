"""
MONAI's own functions on releases as a library: `load`, `create_workflow`, `ConfigWorkflow`, in a script and a notebook.

A network either has the shipped weights, or there is an error: from any directory, with this project installed and with
the release's own copy of `common` alone.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from .conftest import BUNDLES, ROOT

pytestmark = pytest.mark.interop

SCRIPT = Path(__file__).with_name("load_network.py")
EACH = pytest.mark.parametrize("bundle", BUNDLES)


def found(python: Path | str, bundle: str, folder: Path, places: list[Path], **more: str) -> dict[str, Any]:
    """What `load_network.py` says of each place and workflow."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", **more}
    command = [str(part) for part in (python, "-W", "ignore", SCRIPT, bundle, folder, *places)]
    done = subprocess.run(command, cwd=places[0], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def tensors(release: Path) -> int:
    return len(torch.load(release / "models" / "model.pt", weights_only=True))


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory) -> Path:
    """A directory that has nothing to do with bundles."""
    return tmp_path_factory.mktemp("elsewhere")


@EACH
@pytest.mark.parametrize("kind", ["installed", "vendored"])
def test_load_gives_the_shipped_weights_or_an_error_from_three_directories(
    bundle, kind, environment, unpacked, elsewhere
):
    release = unpacked[bundle]
    places = [release, release.parent, elsewhere]
    # Without this project, Python must be told where the release's `common` is.
    python, path = (sys.executable, ROOT) if kind == "installed" else (environment("clean"), release)
    answers = found(python, bundle, release.parent, places, PYTHONPATH=str(path))
    count = tensors(release)
    for place in places:
        assert answers[f"{place} inference"] == [count, count, count]
        assert 'monai.bundle.load(..., workflow_type="inference")' in answers[f"{place} default"]


def test_load_from_the_folder_of_another_bundle_does_not_mix_both(unpacked):
    release = unpacked["ggcl"]
    answers = found(sys.executable, "ggcl", release.parent, [unpacked["nect2cect"]], PYTHONPATH=str(ROOT))
    assert all("ValueError" in answer for answer in answers.values())
    assert "or that of the working directory" in answers[f"{unpacked['nect2cect']} inference"]


def test_without_any_common_load_raises(environment, unpacked, elsewhere):
    answers = found(environment("clean"), "ggcl", unpacked["ggcl"].parent, [elsewhere], PYTHONPATH=str(elsewhere))
    assert all("common" in answer and "Error" in answer for answer in answers.values())


@EACH
def test_a_release_without_its_network_json_raises(bundle, unpacked, elsewhere, tmp_path):
    shutil.copytree(unpacked[bundle], tmp_path / bundle)
    (tmp_path / bundle / "models" / "network.json").unlink()
    answers = found(sys.executable, bundle, tmp_path, [elsewhere, tmp_path / bundle], PYTHONPATH=str(ROOT))
    for place in (elsewhere, tmp_path / bundle):
        assert "FileNotFoundError: no network at" in answers[f"{place} inference"]
        assert "ValueError" in answers[f"{place} default"]


def executed(code: str, cwd: Path, **more: str) -> str:
    """What a script prints, run with MONAI and this project."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **more}
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


LIBRARY = """
from monai.bundle import ConfigWorkflow, create_workflow
config, out = {config!r}, {out!r}
places = dict(dataset_dir={image!r}, output_dir=out + "/created", source="B30f", target="B70f")
places["workflow_type"] = "inference"
workflow = create_workflow(config_file=config, **places)
assert not workflow.check_properties()
workflow.run()
workflow.finalize()
places["output_dir"] = out + "/library"
workflow = ConfigWorkflow(config, **places)
workflow.initialize()
workflow.evaluator.run()
"""


def command_line(release: Path, image: Path, out: Path) -> np.ndarray:
    given = ["--dataset_dir", image, "--output_dir", out, "--source", "B30f", "--target", "B70f"]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", release / "configs" / "inference.yaml"]
    done = subprocess.run(
        [str(part) for part in [*command, *given]],
        cwd=release,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return volume(out)


def volume(folder: Path) -> np.ndarray:
    (path,) = folder.rglob("*.nii.gz")
    return np.asarray(nib.load(path).dataobj)


def test_a_workflow_as_a_library_gives_the_command_lines_volume(unpacked, phantoms, elsewhere, tmp_path):
    release, image = unpacked["ggcl"], phantoms["chest"] / "images" / "chest_0005_B30f.nii.gz"
    config = str(release / "configs" / "inference.json")
    executed(LIBRARY.format(config=config, image=str(image), out=str(tmp_path)), elsewhere)
    expected = command_line(release, image, tmp_path / "command")
    for name in ("created", "library"):
        np.testing.assert_array_equal(volume(tmp_path / name), expected)


NOTEBOOK = """
import json
notebook = json.load(open({notebook!r}))
space = {{"__name__": "__main__"}}
for cell in notebook["cells"]:
    if cell["cell_type"] == "code":
        exec(compile("".join(cell["source"]), cell["id"], "exec"), space)
import numpy
numpy.save("translated.npy", space["translated"][0].numpy())
"""


def test_the_cells_of_the_notebook_run_in_order(unpacked, phantoms, tmp_path):
    (tmp_path / "BUNDLES").mkdir()
    shutil.copytree(unpacked["nec_t1t2"], tmp_path / "BUNDLES" / "nec_t1t2")
    shutil.copy(phantoms["brain"] / "images" / "brain_0005_T1.nii.gz", tmp_path / "T1.nii.gz")
    executed(NOTEBOOK.format(notebook=str(ROOT / "docs" / "notebooks" / "library.ipynb")), tmp_path)
    np.testing.assert_array_equal(np.load(tmp_path / "translated.npy"), volume(tmp_path / "OUT"))
