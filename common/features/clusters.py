"""Pixels of feature maps in clusters by k-means."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.cluster.vq import kmeans2, vq

MAX_PIXELS = 20_000  # from which the centres are found; all pixels are then assigned


def cluster_features(
    features: Sequence[np.ndarray], *, clusters: int = 12, seed: int = 0, brightness: Sequence[np.ndarray] | None = None
) -> list[np.ndarray]:
    """
    Cluster the pixels of several feature maps together, so that one cluster means the same in all of them.

    K-means as in figure 4 of the KCGAN thesis (Choi, University of Ulsan, 2024), k = 12, of the pixels' feature vectors
    scaled to length 1: the guidance compares directions of features, not lengths.

    Args:
        features: maps `(C, H, W)` with the same C.
        clusters: k, >= 2.
        seed: of the first centres.
        brightness: an image `(H, W)` for each map; clusters are then numbered from the darkest to the brightest.

    Returns:
        the cluster of each pixel, from 0, `(H, W)` for each map.

    Raises:
        ValueError: when there are fewer than two clusters, no map, fewer pixels than clusters, or maps do not fit.

    Example:
        >>> halves = np.zeros((2, 4, 4)); halves[0, :, :2] = 1.0; halves[1, :, 2:] = 5.0
        >>> (labels,) = cluster_features([halves], clusters=2, brightness=[halves[1]])
        >>> labels[0].tolist()
        [0, 0, 1, 1]
    """
    if clusters < 2:
        raise ValueError(f"`clusters` must be >= 2, got {clusters}.")
    if not features or len({feature.shape[0] for feature in features}) != 1:
        raise ValueError(
            f"`features` must be maps (channels, height, width) of equally many channels, got the shapes"
            f" {[feature.shape for feature in features]}."
        )
    pixels = np.concatenate([feature.reshape(len(feature), -1).T for feature in features]).astype(np.float64)
    if len(pixels) < clusters:
        raise ValueError(f"`features` must have at least {clusters} pixels, one a cluster, got {len(pixels)}.")
    pixels /= np.maximum(np.linalg.norm(pixels, axis=1, keepdims=True), 1e-12)
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(pixels))[:MAX_PIXELS]
    centres, _ = kmeans2(pixels[chosen], clusters, minit="++", seed=rng, missing="raise")
    labels = vq(pixels, centres)[0]
    if brightness is not None:
        labels = _by_brightness(labels, np.concatenate([image.ravel() for image in brightness]), clusters)
    ends = np.cumsum([feature[0].size for feature in features])
    return [part.reshape(feature.shape[1:]) for part, feature in zip(np.split(labels, ends[:-1]), features)]


def _by_brightness(labels: np.ndarray, brightness: np.ndarray, clusters: int) -> np.ndarray:
    """Number the clusters anew, by the mean of an image over their pixels; empty ones last."""
    counts = np.bincount(labels, minlength=clusters)
    sums = np.bincount(labels, weights=brightness, minlength=clusters)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
    return np.argsort(np.argsort(means))[labels]
