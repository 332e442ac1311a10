"""A test whose process is killed runs once more and says so; killed again, it fails. Nothing hangs or is lost."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.faults

CONFTEST = Path(__file__).parents[1] / "conftest.py"
TESTS = """
import os, pathlib, signal
import pytest

DIED = pathlib.Path(__file__).with_name("died")

@pytest.mark.parametrize("number", range(20))
def test_of_many(number):
    if number == 7 and ({always} or not DIED.exists()):
        DIED.touch()
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(("always", "summary"), [(False, "20 passed, 1 rerun"), (True, "1 failed, 19 passed, 1 rerun")])
def test_a_killed_test_runs_once_more(tmp_path: Path, always: bool, summary: str) -> None:
    (tmp_path / "test_many.py").write_text(TESTS.format(always=always), encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    hooks = "from tests.conftest import pytest_handlecrashitem, pytest_terminal_summary\n"
    plugin = f"import sys\nsys.path.insert(0, {str(CONFTEST.parents[1])!r})\n{hooks}"
    (tmp_path / "conftest.py").write_text(plugin, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "worksteal", "-p", "no:cacheprovider"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300, check=False)
    last = ended.stdout.strip().splitlines()[-1]
    assert re.sub(r"[=.]| in .*", "", last).strip() == summary, ended.stdout + ended.stderr
    assert "test_many.py::test_of_many[7] was killed" in ended.stdout
    assert ended.returncode == int(always)
