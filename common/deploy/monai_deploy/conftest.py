"""Collect no doctests of modules that import MONAI Deploy's SDK where that is not installed."""

from __future__ import annotations

import importlib.util


def _sdk_installed() -> bool:
    try:
        return importlib.util.find_spec("monai.deploy.core") is not None
    except ModuleNotFoundError:  # `monai` without `monai.deploy`
        return False


collect_ignore = [] if _sdk_installed() else ["app.py", "operators.py"]
