"""Runs the commands of a documentation page."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests.helpers.commands import ROOT
from tests.helpers.pages import commands


def run_page(page: str, places: dict[str, object], cwd: Path = ROOT) -> list[str]:
    """Each `python -m ...` of docs/<page>, in order, with its placeholders filled in; returns the commands."""
    lines = []
    for command in commands(ROOT / "docs" / page):
        line = re.sub(r"\b(" + "|".join(places) + r")\b", lambda match: str(places[match.group()]), command)
        arguments = [sys.executable, *shlex.split(line)[1:]]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(arguments, cwd=cwd, capture_output=True, text=True, timeout=300, env=environment)
        assert done.returncode == 0, f"{line}\n{done.stderr[-3000:]}"
        lines.append(line)
    return lines
