"""Sphinx configuration: `make docs` builds the pages and the API reference into build/docs.

The source folder is the repository, so that links between pages are the same here and in a browser of the repository.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from common import __version__  # noqa: E402

project = "MONAI translation bundles"
author = "The monai-translation-bundles authors"
copyright = author
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinxcontrib.mermaid"]
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**", "bundles/*/docs/*.md"]
exclude_patterns = [".*", "build", "runs", "common", "tests", "benchmarks", "environments", "**/.*"]

html_theme = "furo"
html_title = project
html_static_path: list[str] = []

myst_heading_anchors = 3
myst_fence_as_directive = ["mermaid"]
suppress_warnings = ["myst.header"]  # a page may begin its sections at a deeper level

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # no second description beside that of a dataclass field
napoleon_custom_sections = ["Differences from the official code", "Differences from the paper"]


def to_restructured_text(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Turn a docstring with single backticks, as in Markdown, into reStructuredText; examples stay as they are."""
    parts = re.split(r"(^ *>>> .*?(?:\n *\n|\Z))", "\n".join(lines), flags=re.DOTALL | re.MULTILINE)
    lines[:] = "".join(part if index % 2 else _prose(part) for index, part in enumerate(parts)).split("\n")


def _prose(text: str) -> str:
    parts = re.split(r"``?([^`]+)``?", text)
    code = [f"``{part}``\\ " for part in parts[1::2]]  # the escaped blank lets any character follow
    words = [re.sub(r"([*|]|_(?!\w))", r"\\\1", part) for part in parts[::2]]
    return "".join(word + inner for word, inner in zip(words, [*code, ""]))


def setup(app: Any) -> None:
    """Called by Sphinx; the lower priority makes it run before napoleon reads the sections."""
    app.connect("autodoc-process-docstring", to_restructured_text, priority=100)
