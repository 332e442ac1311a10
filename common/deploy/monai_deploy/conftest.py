"""Without MONAI Deploy's SDK, which has an environment of its own, the modules that import it hold no doctest."""

from __future__ import annotations

import importlib.util


def _sdk_installed() -> bool:
    try:
        return importlib.util.find_spec("monai.deploy.core") is not None
    except ModuleNotFoundError:  # `monai` without `monai.deploy`
        return False


collect_ignore = [] if _sdk_installed() else ["app.py", "operators.py"]
