"""Which part of a package configs reach, followed by symbol, and the trimmed `__init__.py` files of that part.

A name that an `__init__.py` exports is followed to the module that defines it, and that module's imports from there on,
in functions as well. What the `__init__.py` exports beside it is not reached by that, and the trimmed file lacks it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from ..networks.definition import PUBLIC_PACKAGE

NAMED = re.compile(r"\bcommon((?:\.\w+)+)")
# A network by its class's bare name, as `network.json` and the paper's network in a config give it.
NETWORK = re.compile(r"""["']?\bclass["']?:\s*["']?(\w+)\b(?!\.)""")
# A folder of data, such as templates, that a module reads.
DATA = re.compile(r"""\bPath\(__file__\)\.with_name\(["'](\w+)["']\)""")
COMMAND = re.compile(r"^python -m common (\w+)", flags=re.MULTILINE)
MAIN = "__main__.py"
ALWAYS = ("moved.py",)  # which answers for the names that are not there
INIT = "__init__.py"
WIDTH = 120  # of a line of code
REFUSING_IMPORT = "from ..moved import moved_attribute\n"
REFUSING = "\n\ndef __getattr__(name: str) -> object:\n    return moved_attribute(__name__, name)\n"


class Reached(NamedTuple):
    """The part of a package that was reached.

    Attributes:
        files: Content by path relative to the package.
        left_out: Exported names that are not there, by the dotted name of the package that exports them.
        verbs: Commands of its command line, `python -m common VERB`.
    """

    files: dict[str, bytes]
    left_out: dict[str, list[str]]
    verbs: list[str]


def named_parts(text: str) -> Iterator[list[str]]:
    r"""Find what a config or a `network.json` names of `common`, each as the parts of the dotted name.

    Example:
        >>> list(named_parts("_target_: common.losses.AdversarialLoss"))
        [['losses', 'AdversarialLoss']]
        >>> list(named_parts("paper_network:\n  class: NECGenerator"))
        [['networks', 'NECGenerator']]
    """
    for dotted in NAMED.findall(text):
        yield dotted.strip(".").split(".")
    for network in NETWORK.findall(text):
        if network != "common":
            yield [*PUBLIC_PACKAGE.split(".")[1:], network]


def reached_part(texts: dict[str, str], package: Path, *, pages: Iterable[str] = ()) -> Reached:
    """Follow what texts name of a package, and all that this imports, at any depth.

    Args:
        texts: Configs and definitions of networks, by the name that an error gives.
        package: Folder of the package.
        pages: Documentation, whose commands `python -m common VERB` are to work.

    Returns:
        Files, with `__init__.py` of every folder, trimmed to what is there, and the data that they read.

    Raises:
        ValueError: If something is named that does not exist, or a reached file imports the package by its absolute
            name, which in another bundle's process could be another release.
    """
    tree = _Tree(package)
    waiting = {package / INIT, *(package / name for name in ALWAYS if (package / name).is_file())}
    for origin, text in texts.items():
        for parts in named_parts(text):
            waiting |= tree.files_of(package, parts, origin)
    verbs = sorted({verb for page in pages for verb in COMMAND.findall(page)})
    if verbs:
        waiting.add(package / MAIN)
    reached: set[Path] = set()
    while waiting:
        file = waiting.pop()
        if file not in reached:
            reached |= {file}
            waiting |= tree.imported_by(file, verbs) - reached
    files, left_out = {}, {}
    for file in sorted(reached):
        content = file.read_bytes()
        if file.name == INIT:
            missing = sorted(name for name, needed in tree.exports(file).items() if not needed <= reached)
            if file.parent == package:
                there = {path.relative_to(package).parts[0].removesuffix(".py") for path in reached}
                missing = sorted(_modules(package) - there)
            if missing:
                left_out[".".join(("common", *file.parent.relative_to(package).parts))] = missing
                content = content if file.parent == package else trimmed_init(content.decode(), missing).encode()
        files[file.relative_to(package).as_posix()] = content
        files |= {path.relative_to(package).as_posix(): path.read_bytes() for path in _data_of(file)}
    return Reached(files, left_out, verbs)


def trimmed_init(text: str, left_out: Iterable[str]) -> str:
    r"""Leave some of the exported names out of the text of a package's `__init__.py`, which then refuses them.

    Args:
        text: The file's text.
        left_out: Exported names that go.

    Returns:
        The trimmed text, in the same style.

    Example:
        >>> text = 'from .a import A\nfrom .b import B\n\n__all__ = [\n    "A",\n    "B",\n]\n'
        >>> print(trimmed_init(text, ["A"]))
        from ..moved import moved_attribute
        from .b import B
        <BLANKLINE>
        __all__ = ["B"]
        <BLANKLINE>
        <BLANKLINE>
        def __getattr__(name: str) -> object:
            return moved_attribute(__name__, name)
        <BLANKLINE>
    """
    tree, lines, gone = ast.parse(text), text.splitlines(keepends=True), set(left_out)
    for node in reversed(tree.body):
        first, last = node.lineno - 1, node.end_lineno or node.lineno
        if isinstance(node, ast.ImportFrom) and node.level:
            own = {each: each.asname or each.name for each in node.names}
            imported = [ast.unparse(each) for each, name in own.items() if name not in gone]
            if len(imported) < len(node.names):
                start = f"from {'.' * node.level}{node.module or ''} import "
                lines[first:last] = _wrapped(start, imported, "()") if imported else []
        elif isinstance(node, ast.Assign) and _is_all(node):
            names = [f'"{name}"' for name in ast.literal_eval(node.value) if name not in gone]
            lines[first:last] = _wrapped("__all__ = " if names else "__all__: list[str] = ", names, "[]")
    if not any(isinstance(node, ast.FunctionDef) and node.name == "__getattr__" for node in tree.body):
        at = next(node.lineno for node in tree.body if isinstance(node, ast.ImportFrom) and node.level)
        lines.insert(at - 1, REFUSING_IMPORT)
        lines.append(REFUSING)
    return "".join(lines)


class _Tree:
    """The imports of a package's files."""

    def __init__(self, package: Path) -> None:
        self.package = package
        self.exports = cache(self._exports)

    def files_of(self, folder: Path, parts: list[str], origin: str) -> set[Path]:
        """Find the files that a dotted name below a folder needs.

        Args:
            folder: A package.
            parts: Of the name: packages, then a module or an attribute; what follows is an attribute of that.
            origin: Where it is named, for the message.

        Raises:
            ValueError: If there is no such name.
        """
        name, *rest = parts
        own = {folder / INIT}
        if (folder / name / INIT).is_file():
            inner = folder / name
            if rest:
                return own | self.files_of(inner, rest, origin)
            return own | {inner / INIT}.union(*self.exports(inner / INIT).values())  # the module itself is handed on
        if (folder / f"{name}.py").is_file():
            return own | {folder / f"{name}.py"}
        exports = self.exports(folder / INIT)
        if name in exports:
            return own | exports[name]
        if name in _defined(folder / INIT):
            return own
        place = ".".join(("common", *folder.relative_to(self.package).parts))
        raise ValueError(f"{origin} names {place}.{'.'.join(parts)}, but `{place}` has no {name!r}.")

    def imported_by(self, file: Path, verbs: list[str]) -> set[Path]:
        """Find the files that a file imports, in functions as well; exports of an `__init__.py` do not count."""
        text = file.read_text(encoding="utf-8")
        tree = ast.parse(text)
        if file == self.package / MAIN:
            tree.body = [node for node in tree.body if not _is_verb(node) or getattr(node, "name", "") in verbs]
        exported = set(_exported(tree)) if file.name == INIT else set()
        found: set[Path] = set()
        for node in ast.walk(tree):
            absolute = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                absolute = [node.module or ""]
            if any(name.split(".")[0] == "common" for name in absolute):
                raise ValueError(f"{file} must import `common` by a relative name to be released.")
            if isinstance(node, ast.ImportFrom) and node.level:
                folder = file.parents[node.level - 1]
                for alias in node.names:
                    if (alias.asname or alias.name) not in exported:
                        found |= self.files_of(folder, _parts(node, alias), str(file))
        return found

    def _exports(self, init: Path) -> dict[str, set[Path]]:
        """Find the files of each name that an `__init__.py` imports from its package and lists in `__all__`."""
        tree = ast.parse(init.read_text(encoding="utf-8"))
        exported = set(_exported(tree))
        return {
            alias.asname or alias.name: self.files_of(init.parents[node.level - 1], _parts(node, alias), str(init))
            for node in tree.body
            if isinstance(node, ast.ImportFrom) and node.level
            for alias in node.names
            if (alias.asname or alias.name) in exported
        }


def _parts(node: ast.ImportFrom, alias: ast.alias) -> list[str]:
    return [*(node.module.split(".") if node.module else []), alias.name]


def _modules(package: Path) -> set[str]:
    """List the modules and packages directly below a package."""
    folders = {path.parent.name for path in package.glob(f"*/{INIT}")}
    return folders | {path.stem for path in package.glob("*.py")} - {"__init__", "__main__"}


def _data_of(file: Path) -> list[Path]:
    """List the files of the folders of data that a module names as `Path(__file__).with_name("folder")`."""
    folders = DATA.findall(file.read_text(encoding="utf-8"))
    return sorted(path for name in folders for path in file.with_name(name).glob("*") if path.is_file())


def _is_verb(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and node.name != "main"


def _is_all(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"


def _exported(tree: ast.Module) -> list[str]:
    """Return the names in `__all__`, but for those that the file itself uses, which it needs."""
    lists = [node.value for node in tree.body if isinstance(node, ast.Assign) and _is_all(node)]
    names: list[str] = ast.literal_eval(lists[0]) if lists else []
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return [name for name in names if name not in used]


@cache
def _defined(file: Path) -> set[str]:
    """Return the names that a file defines or imports at its top."""
    names: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {alias.asname or alias.name for alias in node.names}
        names |= {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
    return names


def _wrapped(start: str, items: list[str], brackets: str) -> list[str]:
    """Write a list on one line where it fits, else with one item a line."""
    opening, closing = brackets[0], brackets[1]
    bare = start.startswith("from")
    line = f"{start}{', '.join(items)}" if bare else f"{start}{opening}{', '.join(items)}{closing}"
    if len(line) <= WIDTH:
        return [f"{line}\n"]
    return [f"{start}{opening}\n", *(f"    {item},\n" for item in items), f"{closing}\n"]
