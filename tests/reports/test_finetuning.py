"""Before and after a fine-tuning: what is compared, what is advised, and what the page says."""

from __future__ import annotations

import pytest

from common.reports.finetuning import DISCARD, KEEP, OPEN, compare_before, finetuning_section


def rows(gains, *, similarity=0.0, metric="psnr"):
    """Two directions for each patient, of which the second gains 1 more and the first 1 less."""
    return [
        {
            **{"patient": f"p{index}", "direction": direction, "method": method, "ssim": 0.9 + similarity * after},
            metric: 20.0 + index + after * (gain + shift),
        }
        for index, gain in enumerate(gains)
        for direction, shift in (("a->b", 1.0), ("b->a", -1.0))
        for method, after in (("before", 0), ("network", 1), ("identity", 9))
    ]


@pytest.mark.parametrize(
    ("gains", "similarity", "verdict"),
    [
        ([1.0, 1.2, 0.8], 0.0, KEEP),  # every patient gains
        ([2.0, 2.1, 1.9, -0.1, 2.0], 0.0, KEEP),  # mean 1.58, standard error 0.42
        ([3.0, -1.0, -1.0, 0.0], 0.0, OPEN),  # mean 0.25, standard error 0.95
        ([1.0, 1.0], 0.0, OPEN),  # too few
        ([-0.5, -0.2, 0.1], 0.0, DISCARD),
        ([0.0, 0.0, 0.0], 0.0, DISCARD),  # nothing gained
        ([1.0, 1.2, 0.8], -0.01, DISCARD),  # structures suffer
    ],
)
def test_weights_are_kept_only_where_held_out_patients_gain(gains, similarity, verdict):
    assert compare_before(rows(gains, similarity=similarity)).verdict == verdict


def test_a_patient_counts_once_however_many_directions_it_has():
    comparison = compare_before(rows([1.0, 3.0, 2.0]))
    assert comparison.patients == {"p0": (20.0, 21.0), "p1": (21.0, 24.0), "p2": (22.0, 24.0)}
    assert "+2.00 dB PSNR on average over 3 held-out patients, better in 3, standard error 0.58" in comparison.text


def test_without_a_truth_the_consistency_with_the_source_is_compared():
    assert compare_before(rows([1.0, 1.0, 1.0], metric="consistency_psnr")).metric == "consistency_psnr"


def test_where_nothing_was_fine_tuned_there_is_no_section():
    plain = [row for row in rows([1.0]) if row["method"] != "before"]
    assert compare_before(plain) is None
    assert finetuning_section(plain) == ""


def test_the_section_shows_each_patient_and_no_name_becomes_markup():
    named = [{**row, "patient": row["patient"].replace("p1", "<b>")} for row in rows([1.0, -2.0, 3.0])]
    page = finetuning_section(named)
    assert "<td>21.00</td><td>19.00</td><td>-2.00</td>" in page
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
