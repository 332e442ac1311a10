"""Nothing needs Linux: the package on a system without `resource`, `fcntl`, `/proc` and forked processes."""

from __future__ import annotations

import ast
import importlib.util
import os
import pickle
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

import common
from common.images.names import target_name

from .helpers.inference import parsed as parsed_inference
from .helpers.tiny_trainings import CASES, DOMAINS, parsed, write_images
from .helpers.translations import save, source

ROOT = Path(common.__file__).parents[1]
SOURCES = sorted(path for folder in ("common", "benchmarks") for path in (ROOT / folder).rglob("*.py"))

# Packages of other programs, without which some modules cannot be imported on any system.
PROGRAMS = ("fastapi", "holoscan", "monai.deploy", "monailabel", "nvflare")

IMPORT_AND_TRANSLATE = f"""
import importlib, multiprocessing, pkgutil, sys

def main():
    import common
    for module in pkgutil.walk_packages(common.__path__, "common."):
        if module.name.endswith(("__main__", "conftest")):
            continue
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            if not str(error.name).startswith({PROGRAMS!r}):
                raise
        print(module.name)
    try:
        open("/proc/meminfo")
    except FileNotFoundError:
        print("no /proc")
    if "resource" not in vars(common.memory):
        print(common.memory.peak_memory_mb() > 1 and common.memory.available_memory() > 1)
    from tests.helpers.translations import translate
    translate("nec_t1t2", sys.argv[1], sys.argv[2], **{{"dataloader#num_workers": 1}})
    print(multiprocessing.get_start_method())

if __name__ == "__main__":
    main()
"""


def test_every_module_can_be_imported_and_a_bundle_translates(tmp_path):
    """Its images are loaded by a process that is spawned, and equal what one process makes on this system."""
    from .helpers.translations import translate

    (tmp_path / "program.py").write_text(IMPORT_AND_TRANSLATE)
    image = save(tmp_path / "in.nii.gz", *source("nec_t1t2"))
    paths = [str(ROOT / "tests" / "helpers" / "absent"), str(ROOT)]
    done = subprocess.run(
        [sys.executable, str(tmp_path / "program.py"), str(image), str(tmp_path / "there")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.split("\n")
    assert len([line for line in lines if line.startswith("common.")]) > 150
    assert [line for line in lines if line and not line.startswith("common.")] == ["no /proc", "True", "spawn"]
    translate("nec_t1t2", image, tmp_path / "here")
    (here,), (there,) = ((tmp_path / name).rglob("*.nii.gz") for name in ("here", "there"))
    np.testing.assert_array_equal(nib.load(there).get_fdata(), nib.load(here).get_fdata())


def test_the_stand_in_lets_nobody_pass():
    """Else the test above could not fail: a module of the package that needs Unix is seen."""
    code = "__name__ = 'common.new'; exec('import resource')"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests" / "helpers" / "absent")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert "No module named 'resource'" in done.stderr


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("images")
    write_images(root / "images")
    return root


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("nect_enhancement", "nect_joint")])
def test_the_data_of_a_training_go_to_a_process_that_is_spawned(root, tmp_path, name):
    """By pickling; the two that are left out have the data of the other two."""
    dataset = parsed(name, root, tmp_path).get_parsed_content("train#dataset")
    copy = pickle.loads(pickle.dumps(dataset))
    for before, after in zip(leaves(dataset[1]), leaves(copy[1]), strict=True):
        torch.testing.assert_close(after, before, rtol=0, atol=0)


@pytest.mark.parametrize("bundle", DOMAINS)
def test_the_data_of_a_translation_go_to_a_process_that_is_spawned(tmp_path, bundle):
    image = save(tmp_path / "in.nii.gz", *source(bundle))
    dataset = parsed_inference(bundle, image, tmp_path / "out").get_parsed_content("dataset")
    copy = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(copy[0]["image"], dataset[0]["image"])


def leaves(item: object) -> list[torch.Tensor]:
    """The numbers of an item, in its order."""
    parts = torch.utils._pytree.tree_leaves(item)
    return [torch.as_tensor(part) for part in parts if isinstance(part, (torch.Tensor, np.ndarray, int, float))]


def test_a_targets_name_is_one_that_windows_permits(monkeypatch):
    assert target_name({"GE:Soft": 0.5, "Br40d\\3": 0.5}) == "0.5GE:Soft+0.5Br40d\\3"
    monkeypatch.setattr("common.images.names.WINDOWS", True)
    assert target_name({"GE:Soft": 0.5, "Br40d\\3": 0.5}) == "0.5GE_Soft+0.5Br40d_3"
    assert target_name("T1/T2?") == "T1_T2_"


# ---- what the sources must not hold

UNIX_CALLS = {
    *("os.fork", "os.getuid", "os.geteuid", "os.kill", "os.mkfifo", "os.statvfs", "os.uname", "os.getpgid", "os.nice"),
    *("os.rename", "signal.alarm", "signal.SIGKILL", "signal.pause", "socket.AF_UNIX"),
}
OPENING = {"open", "read_text", "write_text"}


def unix_calls(tree: ast.AST) -> set[str]:
    return {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)} & UNIX_CALLS


def without_encoding(tree: ast.AST) -> list[str]:
    """Calls that read or write text in the encoding of the system, which is not UTF-8 on Windows."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _name(node.func) in OPENING:
            modes = [word for word in [*node.args, *(key.value for key in node.keywords if key.arg == "mode")]]
            texts = [word.value for word in modes if isinstance(word, ast.Constant) and isinstance(word.value, str)]
            binary = _name(node.func) == "open" and any("b" in text and len(text) <= 3 for text in texts)
            foreign = ast.unparse(node.func) in ("os.open", "Image.open", "file.open", "write_text")  # `file`: of a zip
            if not binary and not foreign and not any(key.arg == "encoding" for key in node.keywords):
                found.append(f"line {node.lineno}: {ast.unparse(node)[:80]}")
    return found


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def test_no_source_calls_what_unix_alone_has():
    found = {str(path.relative_to(ROOT)): unix_calls(ast.parse(path.read_text(encoding="utf-8"))) for path in SOURCES}
    assert found.pop("common/processes.py") == {"signal.SIGKILL"}  # behind questions which system it is
    assert {path: calls for path, calls in found.items() if calls} == {}


def test_every_text_file_names_its_encoding():
    found = {
        str(path.relative_to(ROOT)): without_encoding(ast.parse(path.read_text(encoding="utf-8"))) for path in SOURCES
    }
    assert {path: calls for path, calls in found.items() if calls} == {}


@pytest.mark.parametrize("code", ["open(path)", "Path(p).read_text()", "p.write_text(s)", "p.open('w', newline='')"])
def test_a_text_file_without_encoding_is_seen(code):
    assert without_encoding(ast.parse(code))


@pytest.mark.parametrize(
    "code", ["open(path, 'rb')", "p.open('ab')", "p.read_text(encoding='utf-8')", "write_text(p, s)"]
)
def test_a_file_with_encoding_and_a_binary_one_pass(code):
    assert not without_encoding(ast.parse(code))


def test_psutil_is_a_dependency_that_is_there():
    assert importlib.util.find_spec("psutil") is not None
    assert "psutil" in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
