"""Which parts of `common` a bundle's configs reach: what a release takes along."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
NAMED = re.compile(r"\bcommon((?:\.\w+)+)")
NOT_RELEASED = ("release", "deploy", "demo", "leaderboard", "features")  # of the source tree alone


def reached_files(configs: Iterable[Path], *, also: Iterable[Path] = (), package: Path = PACKAGE) -> list[Path]:
    """
    The files of a package that configs name, and all that these import, at any depth.

    Args:
        configs: YAML files, whose `common.module.Name` are followed.
        also: files below `package` to start from as well.
        package: the folder of `common`.

    Returns:
        Paths below `package`, relative to it, sorted; `__init__.py` first of all.

    Raises:
        ValueError: when a config names what is not there, or a reached file imports `common` by its absolute name,
            which in another bundle's process could be another release.
    """
    waiting = [package / "__init__.py", *also]
    for config in configs:
        for dotted in NAMED.findall(config.read_text(encoding="utf-8")):
            waiting += _files(package, dotted.strip(".").split("."), str(config))
    reached: set[Path] = set()
    while waiting:
        file = waiting.pop()
        if file not in reached and file.relative_to(package).parts[0].removesuffix(".py") not in NOT_RELEASED:
            reached.add(file)
            waiting += _imports(package, file)
    return sorted(file.relative_to(package) for file in reached)


def _files(package: Path, names: list[str], origin: str) -> list[Path]:
    """The packages and the module that a dotted name goes through; what follows is an attribute."""
    folder, files = package, []
    for name in names:
        if (folder / name / "__init__.py").is_file():
            folder = folder / name
            files.append(folder / "__init__.py")
        elif (folder / f"{name}.py").is_file():
            return [*files, folder / f"{name}.py"]
        else:
            break
    if not files:
        raise ValueError(f"{origin} names common.{'.'.join(names)}, but `common` has no module {names[0]!r}.")
    return files


def _imports(package: Path, file: Path) -> Iterator[Path]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "common" for alias in node.names):
            raise ValueError(f"{file} must import `common` by a relative name to be released.")
        if not isinstance(node, ast.ImportFrom):
            continue
        if node.level == 0:
            if (node.module or "").split(".")[0] == "common":
                raise ValueError(f"{file} must import `common` by a relative name to be released.")
            continue
        folder = file.parents[node.level - 1]
        names = [*folder.relative_to(package).parts, *(node.module or "").split(".")]
        names = [name for name in names if name]
        for alias in node.names:
            if found := [*names, alias.name]:
                yield from _files(package, found, str(file)) if names else _attribute(package, alias.name)


def _attribute(package: Path, name: str) -> list[Path]:
    """`from .. import name` at the top of the package: a module, or an attribute such as `__version__`."""
    is_module = (package / name / "__init__.py").is_file() or (package / f"{name}.py").is_file()
    return _files(package, [name], name) if is_module else []
