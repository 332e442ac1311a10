"""The tests mirror the source, and no folder of tests imports another."""

from __future__ import annotations

import ast
from pathlib import Path

TESTS = Path(__file__).parent
COMMON = TESTS.parent / "common"
# Tests of these folders, and of these files, span several files of the source.
SPANNING = {"benchmarks", "bundles", "faults", "fuzz", "helpers", "interop", "properties"}
SPANNING_FILES = {
    "methods/test_two_domain_methods.py",
    "networks/test_export.py",
    "networks/test_generators.py",
    "release/test_release.py",
}


def test_each_file_of_tests_is_named_after_the_file_that_it_tests():
    unknown = []
    for path in TESTS.glob("*/**/test_*.py"):
        place = path.relative_to(TESTS)
        name = place.stem.removeprefix("test_")
        sources = [COMMON / place.parent / f"{stem}.py" for stem in (name, f"__{name}__")]
        if place.parts[0] not in SPANNING and str(place) not in SPANNING_FILES and not any(map(Path.is_file, sources)):
            unknown.append(str(place))
    assert unknown == []


def test_no_folder_of_tests_imports_another():
    wrong = []
    for path in TESTS.rglob("*.py"):
        package = path.relative_to(TESTS).parent.parts
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            module = imported(node, package) if isinstance(node, ast.ImportFrom) else None
            if module and module[0] != "helpers" and (not package or module[: len(package)] != package):
                wrong.append(f"{path.relative_to(TESTS)} line {node.lineno}: tests.{'.'.join(module)}")
    assert wrong == []


def imported(node: ast.ImportFrom, package: tuple[str, ...]) -> tuple[str, ...] | None:
    """The module of `tests` that is imported from, in parts; None for another one."""
    parts = tuple(node.module.split(".")) if node.module else ()
    if node.level:
        return package[: len(package) - node.level + 1] + parts
    return parts[1:] if parts[:1] == ("tests",) else None


def test_the_search_finds_an_import_of_another_folder():
    for line in ("from ..methods.x import y", "from tests.methods.x import y"):
        (node,) = ast.parse(line).body
        assert imported(node, ("engines",)) == ("methods", "x")
    (node,) = ast.parse("from common.methods import y").body
    assert imported(node, ("engines",)) is None
