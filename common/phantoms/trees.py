"""Space-filling vessel and airway trees: minimum spanning trees with a path cost, and radii by Murray's law."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .fields import FloatArray


def spanning_tree(root: FloatArray, points: FloatArray, *, balance: float = 0.4) -> NDArray[np.intp]:
    """Connect points to a root by the greedy minimum spanning tree with path cost.

    Each step joins the free point and the tree node of least cost, which is their Euclidean distance plus `balance`
    times the path length from the root to the node (H. Cuntz, F. Forstner, A. Borst, M. Haeusser, "One Rule to Grow
    Them All", PLoS Computational Biology 6(8), 2010, e1000877, "Greedy algorithm"). A `balance` of 0 gives the minimum
    spanning tree; larger values give more direct paths.

    Args:
        root: Position (3,) of the root in mm.
        points: Positions (N, 3) in mm.
        balance: Weight of the path length, >= 0.

    Returns:
        Parent (N + 1,) of each node, where node 0 is the root (its own parent) and node i is `points[i - 1]`.

    Raises:
        ValueError: `balance` is negative.

    Example:
        >>> spanning_tree(np.zeros(3), np.array([[0.0, 0.0, 2.0], [0.0, 0.0, 1.0]])).tolist()
        [0, 2, 0]
    """
    if balance < 0:
        raise ValueError(f"`balance` must be >= 0, got {balance}.")
    nodes = np.vstack([root, points])
    parents = np.zeros(len(nodes), dtype=np.intp)
    path = np.zeros(len(nodes))
    cost = np.linalg.norm(nodes - nodes[0], axis=1)
    free = np.ones(len(nodes), dtype=bool)
    free[0] = False
    for _ in range(len(points)):
        new = int(np.argmin(np.where(free, cost, np.inf)))
        path[new] = path[parents[new]] + np.linalg.norm(nodes[new] - nodes[parents[new]])
        free[new] = False
        through_new = np.linalg.norm(nodes - nodes[new], axis=1) + balance * path[new]
        closer = free & (through_new < cost)
        parents[closer], cost[closer] = new, through_new[closer]
    return parents


def murray_radii(parents: NDArray[np.intp], *, leaf_radius: float, exponent: float = 2.7) -> FloatArray:
    """Compute the radii of branches by Murray's law: r_parent^exponent is the sum of r_child^exponent.

    Args:
        parents: Parent (N,) of each node, as `spanning_tree` returns it.
        leaf_radius: Radius of every terminal branch in mm.
        exponent: 3 in C. D. Murray, "The Physiological Principle of Minimum Work", PNAS 12(3), 1926, 207-214; 2.7 is
            closer to measurements in lungs and livers.

    Returns:
        Radius (N,) in mm of the branch that ends at each node; for the root, of the trunk that feeds the tree.

    Raises:
        ValueError: `leaf_radius` is not positive.
    """
    if leaf_radius <= 0:
        raise ValueError(f"`leaf_radius` must be > 0 mm, got {leaf_radius}.")
    leaf = np.ones(len(parents), dtype=bool)
    leaf[parents[1:]] = False
    flow = np.where(leaf, leaf_radius**exponent, 0.0)
    for node in _leaves_to_root(parents):
        flow[parents[node]] += flow[node]
    return np.asarray(flow ** (1 / exponent))


def tree_segments(root: FloatArray, points: FloatArray, *, parents: NDArray[np.intp]) -> FloatArray:
    """Return the end points (N, 2, 3) (parent, node) of the branches to N points, as `draw_tubes` takes them."""
    nodes = np.vstack([root, points])
    return np.stack([nodes[parents[1:]], nodes[1:]], axis=1)


def bend_segments(rng: np.random.Generator, segments: FloatArray, *, bend: float = 0.1) -> FloatArray:
    """Split each segment at its middle and move the joint by a random vector.

    Args:
        rng: Source of the vectors.
        segments: End points (N, 2, 3).
        bend: Standard deviation of the movement along each axis, relative to the length of the segment.

    Returns:
        Segments (2 N, 2, 3): all first halves, then all second halves; their radii are those of `segments`, repeated
        twice.
    """
    length = np.linalg.norm(segments[:, 1] - segments[:, 0], axis=1, keepdims=True)
    middle = segments.mean(axis=1) + bend * length * rng.standard_normal((len(segments), 3))
    first = np.stack([segments[:, 0], middle], axis=1)
    second = np.stack([middle, segments[:, 1]], axis=1)
    return np.concatenate([first, second])


def _leaves_to_root(parents: NDArray[np.intp]) -> list[int]:
    """List all nodes but the root, every node before its parent."""
    children: list[list[int]] = [[] for _ in parents]
    for node in range(1, len(parents)):
        children[parents[node]].append(node)
    order, waiting = [], [0]
    while waiting:
        order += waiting
        waiting = [child for node in waiting for child in children[node]]
    return order[:0:-1]
