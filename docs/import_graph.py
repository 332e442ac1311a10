"""
The imports between the folders of `common`, and the diagram of them in docs/architecture.md.

    python docs/import_graph.py            # writes the diagram anew

tests/test_layout.py states which arrows may be there, tests/test_architecture.py that the diagram shows those of today.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
COMMON = ROOT / "common"
PAGE = Path(__file__).with_name("architecture.md")
FENCE, END = "```mermaid\n", "```\n"
# Nearly every folder uses the first three; the others only hand on what users ask for.
LEFT_OUT = {"errors", "files", "tensor_files", "moved", "__main__"}


class Import(NamedTuple):
    """One imported name.

    Attributes:
        module: dotted name of the importing module, below the package: `engines.trainer`.
        imported: dotted name of the imported module, below the package.
        name: what is imported from it.
        at_run_time: false below `if TYPE_CHECKING:`.
        at_import: whether it runs when the module is imported, not first in a function.
    """

    module: str
    imported: str
    name: str
    at_run_time: bool
    at_import: bool


def imports(package: Path = COMMON) -> list[Import]:
    """List the imports within a package, by reading its files.

    Args:
        package: folder of the package.

    Returns:
        One entry per imported name, in the order of the files.
    """
    files = modules(package)
    return [found for module, path in files.items() for found in _of_file(module, path, set(files), package.name)]


def modules(package: Path = COMMON) -> dict[str, Path]:
    """Find the files of a package by their dotted name below it; the package itself is ''."""
    return {_dotted(path, package): path for path in sorted(package.rglob("*.py")) if path.name != "conftest.py"}


def folder(module: str) -> str:
    """Return the folder (or the file, at the top) that a module belongs to; `deploy`'s two apps count as two.

    Example:
        >>> folder("engines.trainer"), folder("errors"), folder("deploy.monailabel.app")
        ('engines', 'errors', 'deploy.monailabel')
    """
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "deploy" and len(parts) > 2 else parts[0]


def arrows(found: list[Import]) -> dict[tuple[str, str], int]:
    """Count the imported names for each pair of importing and imported folder.

    Args:
        found: what `imports` gave.

    Returns:
        `{(importing folder, imported folder): names}`, without a folder's imports of itself and of the package.
    """
    counted: dict[tuple[str, str], int] = {}
    for entry in found:
        pair = folder(entry.module), folder(entry.imported)
        if pair[0] != pair[1] and all(pair):
            counted[pair] = counted.get(pair, 0) + 1
    return counted


def diagram(package: Path = COMMON) -> str:
    """Draw the folders of `common` and their arrows as Mermaid source, sorted."""
    drawn = {pair for pair in arrows(imports(package)) if not set(pair) & LEFT_OUT}
    names = sorted({folder(module) for module in modules(package) if module} - LEFT_OUT)
    lines = ["flowchart TB", *(f'  {_node(name)}["{name.replace(".", "/")}"]' for name in names)]
    lines += [f"  {_node(start)} --> {_node(end)}" for start, end in sorted(drawn)]
    return "\n".join(lines) + "\n"


def page_with_diagram(page: Path = PAGE) -> str:
    """Return the text of a page, its first Mermaid block replaced by the diagram of today."""
    before, _, rest = page.read_text(encoding="utf-8").partition(FENCE)
    return before + FENCE + diagram() + END + rest.partition(END)[2]


def _of_file(module: str, path: Path, known: set[str], package: str) -> Iterator[Import]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {id(inner) for node in ast.walk(tree) if _is_type_checking(node) for inner in ast.walk(node)}
    at_import = {id(node) for node in tree.body}
    is_package = path.name == "__init__.py"
    home = [package, *module.split(".")] if module else [package]
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom):
            continue
        base = home[: len(home) - node.level + is_package] if node.level else []
        target = [*base, *(node.module or "").split(".")] if node.module else base
        if not target or target[0] != package:
            continue
        below = ".".join(target[1:])
        for alias in node.names:
            inner = f"{below}.{alias.name}".strip(".")
            imported = inner if inner in known else below
            yield Import(module, imported, alias.name, id(node) not in for_types, id(node) in at_import)


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _dotted(path: Path, package: Path) -> str:
    parts = path.relative_to(package).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _node(name: str) -> str:
    return name.replace(".", "_")


if __name__ == "__main__":
    PAGE.write_text(page_with_diagram(), encoding="utf-8")
    print(f"Diagram: {PAGE}")
