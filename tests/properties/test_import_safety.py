"""What importing this package does not do, and what none of its code does with a user's data."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import common

PACKAGE = Path(common.__file__).parent
SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "conftest.py")
OTHER_PROGRAMS = ("common.deploy", "common.federated")  # each is imported inside of the program that it serves
OPTIONAL = ("pydicom", "highdicom", "SimpleITK", "matplotlib", "tensorboard", "onnx", "onnxruntime", "onnxscript")
OPTIONAL += ("huggingface_hub", "requests", "monailabel", "nvflare", "hypothesis", "pytest")
EXECUTING = {"eval", "exec", "compile", "__import__"}
UNPICKLING = {"pickle.load", "pickle.loads", "pickle.Unpickler", "joblib.load", "shelve.open", "marshal.loads"}
UNSAFE_YAML = {"yaml.load", "yaml.unsafe_load", "yaml.full_load"}
SHELLS = {"os.system", "os.popen", "subprocess.getoutput"}


def modules() -> list[str]:
    parts = [path.relative_to(PACKAGE.parent).with_suffix("").parts for path in SOURCES]
    names = [".".join(part[:-1] if part[-1] == "__init__" else part) for part in parts]
    return [name for name in names if not name.startswith(OTHER_PROGRAMS) and not name.endswith("__main__")]


def test_importing_every_module_connects_to_nothing_and_loads_no_optional_package():
    """What MONAI itself loads where it is there is MONAI's: the package's own imports come after it."""
    program = f"""
import importlib, sys
def refuse(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname", "urllib.Request"):
        raise SystemExit(f"{{event}} {{arguments}}")
sys.addaudithook(refuse)
import monai.bundle, monai.data, monai.transforms, monai.handlers, monai.engines, monai.inferers, monai.losses
import monai.networks.nets, ignite.engine, ignite.metrics, ignite.handlers, nibabel, scipy, skimage, tqdm
before = set(sys.modules)
for name in {modules()!r}:
    importlib.import_module(name)
loaded = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(sorted(loaded & set({OPTIONAL!r})))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_no_code_runs_text_or_pickles():
    found = {str(path.relative_to(PACKAGE)): list(_dangers(ast.parse(path.read_text("utf-8")))) for path in SOURCES}
    assert len(found) > 100
    assert {path: dangers for path, dangers in found.items() if dangers} == {}


@pytest.mark.parametrize(
    "code",
    [
        "eval(text)",
        "builtins.exec(text)",
        "pickle.load(file)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=flag)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text)",
        "subprocess.run(text, shell=True)",
        "os.system(text)",
        "from pickle import loads",
    ],
)
def test_the_search_finds_what_it_looks_for(code):
    assert list(_dangers(ast.parse(code)))


def _dangers(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in ("pickle", "marshal", "shelve", "dill", "joblib"):
            yield f"line {node.lineno}: from {node.module}"
        if isinstance(node, ast.Call) and (reason := _danger(node)):
            yield f"line {node.lineno}: {reason}"


def _danger(call: ast.Call) -> str | None:
    name = ast.unparse(call.func)
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    if name.removeprefix("builtins.") in EXECUTING or name in UNPICKLING | UNSAFE_YAML | SHELLS:
        return name
    if name == "torch.load" and given.get("weights_only") != "True":
        return f"{name} without weights_only=True"
    if given.get("allow_pickle", "False") != "False" or given.get("shell", "False") != "False":
        return f"{name} with {given}"
    return None
