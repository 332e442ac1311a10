from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import cdist

from common.phantoms.stack import draw_tubes
from common.phantoms.trees import bend_segments, murray_radii, spanning_tree, tree_segments

ROOT = np.array([0.0, 0.0, 0.0])


@pytest.fixture(scope="module")
def points():
    return np.random.default_rng(3).uniform(0, 40, (150, 3))


def path_lengths(points, parents):
    """Path length from the root to every node; fails where a node does not lead to the root."""
    nodes = np.vstack([ROOT, points])
    lengths = []
    for node in range(len(nodes)):
        length, current, steps = 0.0, node, 0
        while current != 0:
            length += np.linalg.norm(nodes[current] - nodes[parents[current]])
            current, steps = parents[current], steps + 1
            assert steps < len(nodes), f"node {node} runs in a circle"
        lengths.append(length)
    return np.array(lengths)


def total_length(points, parents):
    segments = tree_segments(ROOT, points, parents=parents)
    return np.linalg.norm(segments[:, 1] - segments[:, 0], axis=1).sum()


@pytest.mark.parametrize("balance", [0.0, 0.4, 2.0])
def test_every_point_is_connected_to_the_root(points, balance):
    parents = spanning_tree(ROOT, points, balance=balance)
    assert len(parents) == len(points) + 1
    direct = np.linalg.norm(points, axis=1)
    assert (path_lengths(points, parents)[1:] >= direct - 1e-9).all()


def test_without_path_cost_it_is_the_minimum_spanning_tree(points):
    nodes = np.vstack([ROOT, points])
    shortest = minimum_spanning_tree(cdist(nodes, nodes)).sum()
    assert total_length(points, spanning_tree(ROOT, points, balance=0.0)) == pytest.approx(shortest)


def test_path_cost_trades_total_length_for_direct_paths(points):
    trees = [spanning_tree(ROOT, points, balance=balance) for balance in (0.0, 0.4, 1.5)]
    wire = [total_length(points, tree) for tree in trees]
    paths = [path_lengths(points, tree).mean() for tree in trees]
    assert wire[0] < wire[1] < wire[2]
    assert paths[0] > paths[1] > paths[2]


def test_an_enormous_path_cost_gives_a_star(points):
    assert not spanning_tree(ROOT, points, balance=1e6).any()


def test_negative_balance_is_refused(points):
    with pytest.raises(ValueError, match=r"`balance` must be >= 0, got -0.1"):
        spanning_tree(ROOT, points, balance=-0.1)


@pytest.mark.parametrize("exponent", [2.7, 3.0])
def test_murrays_law_holds_at_every_branching(points, exponent):
    parents = spanning_tree(ROOT, points)
    radii = murray_radii(parents, leaf_radius=0.4, exponent=exponent)
    for node in range(len(parents)):
        children = [child for child in range(1, len(parents)) if parents[child] == node]
        if children:
            assert radii[node] ** exponent == pytest.approx(sum(radii[children] ** exponent))
        else:
            assert radii[node] == pytest.approx(0.4)


def test_trunk_carries_the_flow_of_all_leaves(points):
    parents = spanning_tree(ROOT, points)
    leaves = len(set(range(len(parents))) - set(parents[1:].tolist()))
    assert murray_radii(parents, leaf_radius=0.5, exponent=3.0)[0] == pytest.approx(0.5 * leaves ** (1 / 3))


def test_leaf_radius_must_be_positive():
    with pytest.raises(ValueError, match=r"`leaf_radius` must be > 0 mm, got 0"):
        murray_radii(np.array([0, 0]), leaf_radius=0)


def test_segments_run_from_parent_to_node(points):
    parents = spanning_tree(ROOT, points)
    segments = tree_segments(ROOT, points, parents=parents)
    nodes = np.vstack([ROOT, points])
    np.testing.assert_array_equal(segments[:, 1], points)
    np.testing.assert_array_equal(segments[:, 0], nodes[parents[1:]])


def test_bent_segments_stay_joined_and_keep_their_ends(points):
    segments = tree_segments(ROOT, points, parents=spanning_tree(ROOT, points))
    bent = bend_segments(np.random.default_rng(0), segments, bend=0.2)
    first, second = bent[: len(segments)], bent[len(segments) :]
    np.testing.assert_array_equal(first[:, 0], segments[:, 0])
    np.testing.assert_array_equal(first[:, 1], second[:, 0])
    np.testing.assert_array_equal(second[:, 1], segments[:, 1])
    off_line = np.linalg.norm(first[:, 1] - segments.mean(axis=1), axis=1)
    length = np.linalg.norm(segments[:, 1] - segments[:, 0], axis=1)
    # Three axes of SD 0.2 each.
    assert np.sqrt(np.mean((off_line / length) ** 2)) == pytest.approx(0.2 * np.sqrt(3), rel=0.15)


def test_a_drawn_tree_is_one_connected_piece(points):
    from scipy import ndimage

    parents = spanning_tree(ROOT, points)
    distance = np.full((42, 42, 42), -100.0)
    radii = murray_radii(parents, leaf_radius=1.2)[1:]
    segments = tree_segments(ROOT, points, parents=parents)
    draw_tubes(distance, segments, radii=radii, origin=(-1, -1, -1), spacing=(1, 1, 1))
    _, pieces = ndimage.label(distance > 0, structure=np.ones((3, 3, 3)))
    assert pieces == 1
