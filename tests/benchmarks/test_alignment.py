"""The alignment of phantoms with a known displacement: how it is measured, and its committed results on the page."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import alignment
from tests.helpers.bundles import ROOT

PAGE = ROOT / "docs" / "alignment.md"


def test_the_table_of_the_page_is_that_of_the_committed_results():
    content = json.loads(alignment.RESULT.read_text(encoding="utf-8"))
    lines = alignment.lines(content)
    assert len(lines) == 2 + len(alignment.TITLES)
    assert [line for line in lines if line not in PAGE.read_text(encoding="utf-8")] == []


def test_the_true_displacement_leaves_nothing_and_no_row_is_below_its_noise():
    rows = json.loads(alignment.RESULT.read_text(encoding="utf-8"))["rows"]
    floors = {row["patient"]: row for row in rows if row["method"] == "floor"}
    assert len(floors) > 3
    for row in rows:
        assert row["error_hu"] >= floors[row["patient"]]["error_hu"]
    assert max(row["left_mm"] for row in floors.values()) < 0.1


def test_a_displacement_is_read_at_any_place():
    affine = np.array([[-2.0, 0, 0, 5], [0, -2.0, 0, 7], [0, 0, 3.0, -4], [0, 0, 0, 1]])
    x = np.arange(6.0).reshape(6, 1, 1, 1)
    shift = np.concatenate([np.broadcast_to(x, (6, 5, 4, 1))] * 3, axis=-1) * [1, 2, 3]
    place = np.array([[5 - 2 * 2.5, 7 - 2 * 1.0, -4 + 3 * 2.0]])
    assert alignment._shift_at(place, shift, affine)[0] == pytest.approx([2.5, 5.0, 7.5])


def test_a_transform_is_applied_in_the_frame_of_the_volumes():
    sitk = pytest.importorskip("SimpleITK", reason="SimpleITK (the extra `align`) is not installed")
    moved = alignment._through(sitk.TranslationTransform(3, (1.0, 2.0, 3.0)), np.array([[10.0, 20.0, 30.0]]))
    assert moved[0].tolist() == [9.0, 18.0, 33.0]  # SimpleITK counts to the left and backwards
