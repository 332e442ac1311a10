"""An installation that was killed, or met a full disk, leaves no bundle behind, and the next one completes it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import DiskFullError
from common.release import build_release, install_release
from tests.helpers.limits import file_size_limit

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_release(ROOT / "bundles" / "nec_t1t2", tmp_path_factory.mktemp("dist"))


def test_a_full_disk_is_named_and_nothing_is_left(archive, tmp_path):
    message = r"nec_t1t2' \([\d.]+ MB\) could not be written: File too large .*run the same command again"
    with file_size_limit(10_000), pytest.raises(DiskFullError, match=message):
        install_release(archive, tmp_path / "bundles")
    assert list((tmp_path / "bundles").iterdir()) == []


def test_what_a_killed_installation_left_is_removed(archive, tmp_path):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    left = tmp_path / f".nec_t1t2.{process.pid}.partial" / "nec_t1t2" / "models"
    left.mkdir(parents=True)
    (left / "model.pt").write_bytes(b"half")
    assert install_release(archive, tmp_path) == tmp_path / "nec_t1t2"
    assert [path.name for path in tmp_path.iterdir()] == ["nec_t1t2"]
