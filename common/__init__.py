"""Shared package of the MONAI translation bundles: networks, losses, methods, engines, data, metrics, reports.

A bundle's config says `$import common` and then names what it needs, `common.losses.AdversarialLoss`; each part is
imported when it is first named.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

__version__ = "0.1.0"


def __getattr__(name: str) -> ModuleType:
    if name.startswith("release_"):  # imported by a released bundle's configs instead of `common`
        from .identity import require_release

        require_release(name, __version__)
        return sys.modules[__name__]
    try:
        return importlib.import_module(f".{name}", __name__)
    except ModuleNotFoundError as error:
        if error.name != f"{__name__}.{name}":
            raise
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
