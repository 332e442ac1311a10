"""Shared package of the MONAI translation bundles: networks, losses, methods, engines, data, metrics, reports.

A bundle's config says `$import common` and then names what it needs, `common.losses.AdversarialLoss`; each part is
imported when it is first named. So is `common.translate`, which translates a scan with a bundle.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

__version__ = "0.1.0"
LAZY = {"translate": "translation", "Translation": "translation"}  # names, and the files that they are imported from


def __getattr__(name: str) -> Any:
    from .identity import refuse_left_out, require_release

    if name.startswith("release_"):  # imported by a released bundle's configs instead of `common`
        require_release(name, __version__)
        return sys.modules[__name__]
    file = LAZY.get(name, name)
    refuse_left_out(__name__, file)
    try:
        module = importlib.import_module(f".{file}", __name__)
        return getattr(module, name) if name in LAZY else module
    except ModuleNotFoundError as error:
        if error.name != f"{__name__}.{file}":
            raise
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
