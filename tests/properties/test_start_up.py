"""What the command line imports before it has to compute anything, by the names of the modules."""

from __future__ import annotations

import json
import subprocess
import sys

HEAVY = ("torch", "monai", "numpy", "scipy", "nibabel", "skimage", "matplotlib", "ignite", "pydicom")
PROGRAM = """
import json, sys
from common.__main__ import main
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["common", *arguments]
    try:
        main()
    except SystemExit as end:
        assert not end.code, (arguments, end.code)
print(json.dumps(sorted(name for name in sys.modules if "." not in name)))
"""


def imported(*commands: list[str]) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(commands)], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_help_imports_nothing_that_computes():
    """PyTorch and MONAI take seconds, of which the help needs nothing."""
    found = imported(["--help"], ["phantom", "--help"], ["leaderboard", "--help"])
    assert "fire" in found
    assert not found & set(HEAVY)


def test_the_search_finds_what_a_command_imports(tmp_path):
    command = ["datalist", str(tmp_path), "--rule", "{patient}_{domain}.nii.gz", "--dry_run"]
    program = PROGRAM.replace("assert not end.code", "assert True")  # there are no images
    done = subprocess.run([sys.executable, "-c", program, json.dumps([command])], capture_output=True, text=True)
    assert {"torch", "numpy"} <= set(json.loads(done.stdout.splitlines()[-1]))
