"""Calls MONAI's bundle functions as its command line does, in a process of their own that starts in a release's folder.

One process makes many calls, as starting one takes seconds.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Call = tuple[str, dict[str, Any]]  # a function of monai.bundle, or of this file, and its arguments


def call_in(release: Path, calls: Sequence[Call], cwd: Path | None = None) -> list[str | None]:
    """
    Makes the calls one after the other.

    Args:
        release: the unpacked release; its own `common` is imported, not the one that is installed.
        calls: see `Call`; paths are relative to `cwd`.
        cwd: the working directory; by default the release.

    Returns:
        The error of each call, None where there was none.
    """
    environment = {**os.environ, "PYTHONPATH": str(release), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__],
        cwd=cwd or release,
        input=repr(list(calls)),  # JSON would make strings of the keys of `dynamic_shapes`
        capture_output=True,
        text=True,
        timeout=600,
        env=environment,
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def command(release: Path, line: Sequence[str], **environment: str) -> subprocess.CompletedProcess:
    """A documented command, `python -m ...` without the `python`, in a release's folder."""
    return subprocess.run(
        [sys.executable, *line],
        cwd=release,
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", **environment},
    )


def documented(page: str) -> list[str]:
    """The `python -m ...` lines of the code blocks of docs/PAGE.md, continued lines joined."""
    text = (Path(__file__).parents[2] / "docs" / f"{page}.md").read_text()
    blocks = re.findall(r"```\w*\n(.*?)```", text, flags=re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [" ".join(line.split()) for line in lines if line.strip().startswith("python -m ")]


def check_properties(config_file: str | list[str], workflow_type: str, **overrides: object) -> None:
    """Every id that MONAI requires of a workflow is there, and no optional one is where MONAI does not look."""
    from monai.bundle import ConfigWorkflow

    workflow = ConfigWorkflow(
        config_file=config_file,
        meta_file="configs/metadata.json",
        logging_file="configs/logging.conf",
        workflow_type=workflow_type,
        bundle_root=".",
        **overrides,
    )
    workflow.initialize()
    if missing := workflow.check_properties():
        raise ValueError(f"missing or misplaced: {missing}")


def _main() -> None:
    import monai.bundle
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    own = {"check_properties": check_properties}
    errors: list[str | None] = []
    for name, arguments in ast.literal_eval(sys.stdin.read()):
        try:
            (own.get(name) or getattr(monai.bundle, name))(**arguments)
            errors.append(None)
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")
    import common

    own = Path(os.environ["PYTHONPATH"])
    assert Path(common.__file__).is_relative_to(own), f"{common.__file__} is not the release's own"
    print("\n" + json.dumps(errors))


if __name__ == "__main__":
    _main()
