"""What the networks of a kernel conversion see: their features in clusters, as a picture."""

from __future__ import annotations

from .clusters import cluster_features
from .picture import write_features

__all__ = ["cluster_features", "write_features"]
