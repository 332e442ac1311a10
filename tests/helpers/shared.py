"""Data beside the project: real scans, MONAI's schema, a released checkpoint. Tests without them are skipped, counted.

They lie in the folder that the environment variable `MONAI_TRANSLATION_SHARED` names, by default `../shared`, seen from
the repository's root. The last lines of a run count the tests that were skipped for want of them.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

VARIABLE = "MONAI_TRANSLATION_SHARED"
SHARED = Path(os.environ.get(VARIABLE) or Path(__file__).parents[3] / "shared")
WANT = f"data beside the project are not there ({VARIABLE}): "


def shared(*parts: str) -> Path:
    """A path below the folder of data beside the project, whether it is there or not."""
    return SHARED.joinpath(*parts)


def needs_shared(*parts: str) -> pytest.MarkDecorator:
    """Mark a test that is skipped where the path is not there."""
    return pytest.mark.skipif(not shared(*parts).exists(), reason=WANT + "/".join(parts))


def require_shared(*parts: str) -> Path:
    """The path, for a test or a fixture that is skipped where it is not there."""
    if not shared(*parts).exists():
        pytest.skip(WANT + "/".join(parts))
    return shared(*parts)
