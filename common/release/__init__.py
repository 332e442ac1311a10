"""Releases: self-contained zips of bundles, the index from which MONAI downloads them, and their safe installation."""

from .build import build_release, write_index
from .install import install_release

__all__ = ["build_release", "install_release", "write_index"]
