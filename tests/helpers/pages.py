"""Commands of the documentation pages."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from .commands import ONE_THREAD, python_m


def commands(file: Path) -> list[str]:
    """The `python -m ...` lines of a page's code blocks, each once, continued lines joined."""
    blocks = re.findall(r"```\w*\n(.*?)```", file.read_text(), flags=re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return list(dict.fromkeys(" ".join(line.split()) for line in lines if line.strip().startswith("python -m ")))


def run_line(line: str, *, cwd: Path, fork: bool = True) -> subprocess.CompletedProcess:
    """Run a `python -m ...` of a page, by default without a new interpreter (see `commands.py`)."""
    _, _, module, *arguments = shlex.split(line)
    if fork:
        return python_m(module, arguments, cwd=cwd)
    command = [sys.executable, "-m", module, *arguments]
    environment = {**os.environ, **ONE_THREAD}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, env=environment)
