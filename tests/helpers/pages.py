"""Commands of the documentation pages."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def commands(file: Path) -> list[str]:
    """The `python -m ...` lines of a page's code blocks, each once, continued lines joined."""
    blocks = re.findall(r"```\w*\n(.*?)```", file.read_text(), flags=re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return list(dict.fromkeys(" ".join(line.split()) for line in lines if line.strip().startswith("python -m ")))
