"""Draw the folders of `common` and their imports into docs/architecture.md.

    python docs/draw_architecture.py

`tests/test_layout.py` reads the imports and states which may exist; `tests/test_architecture.py` compares the picture.
"""

from __future__ import annotations

import sys
from pathlib import Path

import networkx as nx

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.test_layout import FILES, IMPORTS, floor_of

PAGE = Path(__file__).with_name("architecture.md")
FENCE, END = "```mermaid\n", "```\n"
LEFT_OUT = {"errors", "files", "tensor_files"}  # used nearly everywhere
LEFT_OUT |= {"common", "moved", "__main__"}  # the package itself, old names, and the list of verbs


def diagram() -> str:
    """Return the Mermaid source of the folders and their arrows, without the arrows that follow from others."""
    graph = nx.DiGraph()
    graph.add_nodes_from({floor_of(module) for module in FILES} - LEFT_OUT - {"deploy"})
    for each in IMPORTS:
        source, target = floor_of(each.source), floor_of(each.target)
        if source != target and {source, target} <= set(graph) and FILES[each.source].name != "__init__.py":
            graph.add_edge(source, target)
    nodes = [f'  {_node(name)}["{name.replace(".", "/")}"]' for name in sorted(graph)]
    arrows = [
        f"  {_node(source)} --> {_node(target)}" for source, target in sorted(nx.transitive_reduction(graph).edges)
    ]
    return "\n".join(["flowchart TB", *nodes, *arrows, ""])


def with_diagram(text: str) -> str:
    """Return a page's text with its Mermaid block replaced by the diagram."""
    before, _, rest = text.partition(FENCE)
    return before + FENCE + diagram() + END + rest.partition(END)[2]


def _node(name: str) -> str:
    return name.replace(".", "_")


if __name__ == "__main__":
    PAGE.write_text(with_diagram(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"Drawn: {PAGE}")
