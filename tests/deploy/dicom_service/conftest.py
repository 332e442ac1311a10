"""A rule file that makes a sharp CT smooth, for a service in a folder of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.deploy.dicom_service.settings import Settings, read_settings
from tests.helpers.bundles import ROOT
from tests.helpers.dicom_series import write_source_series
from tests.helpers.translations import CT_AFFINE, trunk

RULES = f"""
folder: service
senders: [SCANNER]
port: 0
quiet_seconds: 0
free_mb: 0
destination: {{ae_title: ARCHIVE, address: 127.0.0.1, port: PORT}}
rules:
  - name: smooth
    bundle: {ROOT}/bundles/ggcl
    target: B30f
    match: {{kernel: ^B70f$}}
    options: {{device: cpu}}
"""


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., Settings]:
    """The settings for an archive at a port, with texts of the file replaced."""

    def read(port: int, /, **replaced: Any) -> Settings:
        text = RULES.replace("PORT", str(port))
        for old, new in replaced.items():
            line = next(each for each in text.splitlines() if each.strip().startswith(f"{old}:"))
            text = text.replace(line, f"{line.split(':')[0]}: {new}")
        (tmp_path / "rules.yaml").write_text(text)
        found = read_settings(tmp_path / "rules.yaml")
        found.folder.mkdir(exist_ok=True)
        return found

    return read


@pytest.fixture
def sharp(tmp_path: Path) -> list[Path]:
    """The files of a CT series of four slices, of the kernel B70f, without contrast agent."""
    said = {"ConvolutionKernel": "B70f", "ContrastBolusAgent": ""}
    return sorted(write_source_series(tmp_path / "sharp", trunk(), CT_AFFINE, **said).iterdir())
