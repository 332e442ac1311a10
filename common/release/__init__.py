"""Releases: self-contained zips of bundles, the index from which MONAI downloads them, and their safe installation."""

from __future__ import annotations

from .build import build_release
from .index import write_index
from .install import install_release

__all__ = ["build_release", "install_release", "write_index"]
