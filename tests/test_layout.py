"""
The layout of `common`: which folder may import which, and that nothing imports in a circle.

`FLOORS` is the plan of the house, from the ground up. An arrow that the code needs and that is missing here is drawn
here first, and only downwards: to a floor that stands above this one.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

COMMON = Path(__file__).parents[1] / "common"

# What every file may use: our errors, files on a disk, the names that moved, and the version.
GROUND = {"errors", "files", "moved", "common.__version__"}

# A folder, or a file beside the folders, and what it may import besides the ground.
FLOORS: dict[str, set[str]] = {
    "errors": set(),
    "files": set(),
    "moved": {"identity"},
    "common": {"identity"},  # the package itself, which refuses a release that is not its own
    # without torch, or without anything of a medical image
    "identity": set(),
    "memory": set(),
    "processes": set(),
    "distributed": set(),
    "devices": {"memory"},
    "run_facts": {"devices", "memory"},
    "tensor_files": set(),
    "preflight": {"devices"},
    "bundles": set(),
    # images
    "images": set(),
    "dicom": {"images", "bundles"},
    "phantoms": {"processes"},
    # learning
    "losses": {"devices"},
    "networks": {"devices", "tensor_files"},
    "methods": {"losses", "networks", "distributed"},
    "convert_ggcl": {"networks"},
    # data, numbers and checks
    "metrics": set(),
    "transforms": {"images", "metrics"},
    "transforms.guards": {"transforms", "images", "metrics", "dicom"},
    "data": {"images", "dicom", "tensor_files", "distributed"},
    "datalists": {"data", "dicom", "images"},
    "baselines": {"data", "metrics", "networks", "transforms"},
    "uncertainty": {"metrics"},
    # programs; an engine knows no method
    "inference": {
        "uncertainty",
        *("data", "dicom", "images", "transforms", "transforms.guards", "metrics", "networks"),
        *("bundles", "devices", "run_facts", "memory"),
    },
    "engines": {
        *("inference", "baselines", "metrics", "images", "networks", "distributed", "uncertainty"),
        *("bundles", "devices", "tensor_files", "run_facts", "memory"),
    },
    "calibration": {"engines", "uncertainty", "metrics", "data", "images", "networks", "bundles", "distributed"},
    "alignment": {"transforms", "transforms.guards", "data", "images"},
    "reports": {"metrics", "data", "images", "networks", "bundles"},
    "demo": {"reports", "processes", "bundles"},
    "scoring": {"reports", "metrics", "data", "images", "bundles"},
    "finetune": {"demo", "reports", "metrics", "data", "bundles"},
}

# The top floor: each of them may import all that is below, and none of the others.
TOP = ("leaderboard", "release", "federated", "deploy.monailabel", "deploy.monai_deploy", "deploy.dicom_service")
FLOORS |= {name: set(FLOORS) for name in TOP}
# One call for a person or a notebook: it also unpacks a release.
FLOORS["translation"] = {"release", "bundles", "dicom", "images"}
FLOORS["__main__"] = set(FLOORS)

# Packages whose parts have a floor of their own.
DIVIDED = {"deploy": 2, "transforms": 2}


class Import(NamedTuple):
    """
    One name that a file imports from another one of `common`.

    Attributes:
        source: dotted name of the importing module, without `common.`.
        target: that of the imported one; `common` is the package itself.
        name: what is imported from it.
        at_load: whether it happens while the file is loaded: not in a function, nor for type checkers alone.
    """

    source: str
    target: str
    name: str
    at_load: bool


def module_of(path: Path) -> str:
    """Dotted name below `common`; a package has that of its `__init__.py`."""
    parts = path.relative_to(COMMON).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts) or "common"


FILES = {module_of(path): path for path in sorted(COMMON.rglob("*.py"))}


def loaded(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes that run when a file is loaded."""
    for child in ast.iter_child_nodes(tree):
        typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        if not typing_only and not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield child
            yield from loaded(child)


def _ours(name: str) -> bool:
    return name.split(".")[0] == "common"


def imports_of(module: str, text: str | None = None, *, is_package: bool | None = None) -> list[Import]:
    """The imports of a file of `common`; `text` in place of its own."""
    tree = ast.parse(FILES[module].read_text(encoding="utf-8") if text is None else text)
    package = [] if module == "common" else module.split(".")
    if not (FILES[module].name == "__init__.py" if is_package is None else is_package):
        package = package[:-1]
    at_load = {id(node) for node in loaded(tree)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [Import(module, alias.name, "", id(node) in at_load) for alias in node.names if _ours(alias.name)]
        if isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            for alias in node.names if node.level or _ours(base) else ():
                inner = f"{base}.{alias.name}".lstrip(".")
                target = inner if inner in FILES else base or "common"
                found.append(Import(module, target, alias.name, id(node) in at_load))
    return found


IMPORTS = [each for module in FILES for each in imports_of(module)]


def floor_of(module: str) -> str:
    """The entry of `FLOORS` to which a module belongs."""
    parts = module.split(".")
    divided = ".".join(parts[: DIVIDED.get(parts[0], 1)])
    return divided if divided in FLOORS else parts[0]


def is_allowed(each: Import) -> bool:
    """Whether an import stays on its floor, or goes along an arrow of the plan."""
    source, target = floor_of(each.source), floor_of(each.target)
    if each.source in ("transforms", "deploy") or source == target:  # the former list the public names of their parts
        return True
    return bool({target, f"{target}.{each.name}"} & (FLOORS.get(source, set()) | GROUND))


def circle_of(graph: dict[str, set[str]]) -> list[str] | None:
    """A circle of a graph, if it has one."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return None


def test_every_file_has_its_floor():
    unknown = sorted({floor_of(module) for module in FILES} - set(FLOORS) - {"deploy"})
    assert not unknown, f"Draw them into FLOORS: {unknown}"
    gone = sorted(set(FLOORS) - {floor_of(module) for module in FILES})
    assert not gone, f"Remove them from FLOORS: {gone}"


def test_imports_follow_the_arrows():
    wrong = [f"{each.source} -> {each.target}.{each.name}" for each in IMPORTS if not is_allowed(each)]
    assert not wrong, "\n".join(["imports against the plan of the house:", *sorted(wrong)])


def test_imports_are_relative():
    """A release carries a copy of the package, which must not reach for an installed one."""
    absolute = [f"{each.source} -> {each.target}" for each in IMPORTS if each.target.startswith("common.")]
    assert not absolute


def test_every_arrow_is_needed():
    used = {(floor_of(each.source), floor_of(each.target)) for each in IMPORTS}
    drawn = {(source, target) for source, targets in FLOORS.items() for target in targets}
    unused = {(source, target) for source, target in drawn - used if source not in (*TOP, "__main__")}
    assert not unused, f"No file uses these arrows: {sorted(unused)}"


def test_the_plan_has_no_circle():
    assert circle_of({floor: targets - {"common"} for floor, targets in FLOORS.items()}) is None


def test_no_file_is_loaded_in_a_circle():
    graph: dict[str, set[str]] = {}
    for each in IMPORTS:
        if each.at_load and FILES[each.source].name != "__init__.py":
            graph.setdefault(each.source, set()).add(each.target)
    assert circle_of(graph) is None


def test_no_private_name_crosses_files():
    private = [
        f"{each.source} -> {each.target}.{each.name}"
        for each in IMPORTS
        if each.name.startswith("_") and not each.name.startswith("__")
    ]
    assert not private, private


def test_phantoms_need_no_torch():
    """They are made where torch is not installed, and a worker process of theirs starts in a moment."""
    wanted, seen = ["phantoms", *(module for module in FILES if module.startswith("phantoms."))], set()
    while wanted:
        module = wanted.pop()
        if module not in seen:
            seen.add(module)
            wanted += [each.target for each in imports_of(module) if each.at_load and each.target != "moved"]
    with_torch = [
        module
        for module in sorted(seen)
        for node in loaded(ast.parse(FILES[module].read_text(encoding="utf-8")))
        if isinstance(node, (ast.Import, ast.ImportFrom)) and "torch" in ast.unparse(node).replace(".", " ").split()
    ]
    assert not with_torch


@pytest.mark.parametrize(
    ("module", "text", "allowed"),
    [
        ("engines.trainer", "from ..metrics.score import score", True),
        ("engines.trainer", "from ..methods.cut import CUT", False),
        ("engines.trainer", "if TYPE_CHECKING:\n    from ..methods.cut import CUT", False),
        ("transforms.lung", "def late():\n    from ..data.datalist import load_datalist", False),
        ("transforms.lung", "from .guards.image import CheckImaged", False),
        ("transforms.guards.image", "from ..lung import lung_mask", True),
        ("data.datasets", "from .. import __version__", True),
        ("data.datasets", "from .. import preflight", False),
        ("federated.job", "from ..release.build import build_release", False),
        ("deploy.monailabel.app", "from ..monai_deploy.app import TranslationApp", False),
        ("deploy.monailabel.app", "from ...engines.trainer import LAST", True),
    ],
)
def test_this_test_can_fail(module: str, text: str, allowed: bool):
    (each,) = imports_of(module, text, is_package=False)
    assert is_allowed(each) is allowed


def test_a_circle_is_found():
    assert set(circle_of({"a": {"b"}, "b": {"c"}, "c": {"a"}}) or []) == {"a", "b", "c"}
