"""Means, SDs, tests and tables of synthetic results, against computations of their own."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from common.leaderboard import find_board
from common.leaderboard.entries import entries, entry, holm, mean_and_sd, paired_tests, patient_means, seed_sd
from common.leaderboard.page import best_entry, cost_table, ranked, score_table, significance

BOARD = find_board("ggcl")
DIRECTIONS = ("B30f->B70f", "B70f->B30f")
COST = {"parameters": 1000, "generator_images": 240, "discriminator_updates": 300, "seconds": 90.0}


def rows(values: np.ndarray, *, method: str = "network", directions=DIRECTIONS) -> list[dict]:
    """Of PSNR values (patients, directions)."""
    return [
        {"patient": f"p{i}", "direction": direction, "method": method, "psnr": float(value), "rmse": 1.0}
        for i, patient in enumerate(values)
        for direction, value in zip(directions, patient)
    ]


def run(method: str, seed: int, values: np.ndarray, **more) -> dict:
    return {"method": method, "seed": seed, "cost": COST, "rows": rows(values, **more)}


@pytest.fixture
def content() -> dict:
    """GGCL with two seeds, AttGAN with one, CUT in one direction only, an ablation, and a baseline; 6 patients."""
    rng = np.random.default_rng(0)
    base = rng.normal(40.0, 2.0, (6, 2))
    close = base - rng.normal(0.3, 0.2, (6, 2))
    runs = [run("ggcl", 0, base), run("ggcl", 1, base + 0.5), run("attgan", 0, close)]
    runs.append(run("cut:B70f:B30f", 0, base[:, 1:] - rng.normal(3.0, 1.0, (6, 1)), directions=DIRECTIONS[1:]))
    runs.append(run("ablations/patches_128", 0, base - 1.0))
    return {"runs": runs, "baselines": rows(base - rng.normal(8.0, 1.0, (6, 2)), method="identity")}


def sign_test_of_ranks(differences: np.ndarray) -> float:
    """Wilcoxon's exact two-sided p by enumeration of all signs."""
    ranks = np.argsort(np.argsort(np.abs(differences))) + 1
    seen = min(ranks[differences > 0].sum(), ranks[differences < 0].sum())
    sums = [sum(r for r, up in zip(ranks, signs) if up) for signs in itertools.product((0, 1), repeat=len(ranks))]
    return min(1.0, 2 * float(np.mean([value <= seen for value in sums])))


def t_test(differences: np.ndarray) -> float:
    """Two-sided p by numerical integration of Student's density."""
    n = len(differences)
    t = abs(differences.mean()) / (differences.std(ddof=1) / math.sqrt(n))
    freedom = n - 1
    x = np.linspace(0.0, t, 200_001)
    scale = math.gamma((freedom + 1) / 2) / (math.sqrt(freedom * math.pi) * math.gamma(freedom / 2))
    return 1 - 2 * float(np.trapezoid(scale * (1 + x**2 / freedom) ** (-(freedom + 1) / 2), x))


def test_a_line_has_the_mean_and_sd_over_patients_and_the_sd_over_seeds(content):
    """The mean of each patient over directions and seeds first, then over patients; numpy's SDs with ddof 1."""
    found = {each.name: each for each in entries(BOARD, content)}
    values = np.array([row["psnr"] for row in content["runs"][0]["rows"]]).reshape(6, 2)
    patients = (values.mean(axis=1) + (values + 0.5).mean(axis=1)) / 2
    assert found["ggcl"].cells["psnr"] == pytest.approx((patients.mean(), patients.std(ddof=1)))
    assert found["ggcl"].seed_sd == pytest.approx(np.std([values.mean(), values.mean() + 0.5], ddof=1))
    assert found["ggcl"].seeds == 2
    assert found["attgan"].seed_sd is None
    one = values[:, 1] + 0.25
    assert found["ggcl"].cells["psnr B70f->B30f"] == pytest.approx((one.mean(), one.std(ddof=1)))
    assert mean_and_sd([]) is None
    assert mean_and_sd([3.0]) == (3.0, 0.0)


def test_the_tests_are_paired_over_patients(content):
    first, second = (patient_means(content["runs"][i]["rows"], "psnr") for i in (0, 2))
    differences = np.array(list(first.values())) - np.array(list(second.values()))
    found = paired_tests(first, second)
    assert found == pytest.approx((t_test(differences), sign_test_of_ranks(differences)), rel=1e-5)
    shuffled = dict(reversed(list(second.items())))
    assert paired_tests(first, shuffled) == found
    assert paired_tests(first, {"p0": 1.0}) is None
    assert paired_tests(first, first) == (1.0, 1.0)


def test_holm_multiplies_by_the_number_of_hypotheses_that_are_left():
    """By hand: sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1 = 0.02, 0.03, 0.06, 0.04, made monotone."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_best_is_tested_against_every_line_in_the_directions_that_both_have(content):
    found = [each for each in entries(BOARD, content) if each.kind != "ablation"]
    best = best_entry(BOARD, found)
    assert best.name == "ggcl"
    p_values = significance(BOARD, best, found)
    assert p_values.keys() == {"attgan", "cut", "identity"}
    mine = np.array(list(patient_means(best.rows, "psnr").values()))
    raw = []
    for other in ("attgan", "cut", "identity"):
        (line,) = (each for each in found if each.name == other)
        theirs = np.array(list(patient_means(line.rows, "psnr").values()))
        one = np.array(list(patient_means(best.rows, "psnr", direction=DIRECTIONS[1]).values()))
        raw.append(sign_test_of_ranks((one if other == "cut" else mine) - theirs))
    assert [p_values[name][1] for name in ("attgan", "cut", "identity")] == pytest.approx(holm(raw))


def test_a_line_of_one_direction_has_its_number_there_and_comes_last(content):
    found = [each for each in entries(BOARD, content) if each.kind != "ablation"]
    table = [line.split(" | ") for line in score_table(BOARD, found).splitlines()]
    head, last = table[0], table[-1]
    assert [line[0].strip("| ") for line in table[2:]] == ["**GGCL**", "AttGAN", "identity", "CUT"]
    assert last[head.index("psnr")] == last[head.index("psnr B30f->B70f")] == ""
    values = np.array([row["psnr"] for row in content["runs"][3]["rows"]])
    assert last[head.index("psnr B70f->B30f")] == f"{values.mean():.2f} ± {values.std(ddof=1):.2f}"
    assert ranked(BOARD, found)[-1].name == "cut"


def test_the_cost_of_a_method_stands_beside_it(content):
    lines = cost_table(entries(BOARD, content)).splitlines()
    assert lines[0] == "| method | parameters, deployed | generator images | discriminator updates | wall time (s) |"
    assert lines[2] == "| GGCL | 1,000 | 240 | 300 | 90 |"
    assert not any("identity" in line for line in lines)


def test_lower_is_better_where_it_is():
    board = find_board("nect2cect")
    mse = type(board)(board.bundle, board.own, ("mse_window",), 1)
    lines = [
        entry(mse, name, [{"patient": "a", "direction": "x->y", "mse_window": value}], costs=[COST])
        for name, value in (("single", 0.5), ("ours_s", 0.2))
    ]
    assert best_entry(mse, lines).name == "ours_s"
    assert [each.name for each in ranked(mse, lines)] == ["ours_s", "single"]


def test_results_without_a_trained_method_are_refused():
    with pytest.raises(ValueError, match="must hold a trained method with 'psnr', got none"):
        best_entry(BOARD, [])


def test_a_seed_counts_once_in_the_spread():
    values = [{"seed": seed, "psnr": psnr} for seed, psnr in ((0, 1.0), (0, 3.0), (1, 5.0))]
    assert seed_sd(values, "psnr") == pytest.approx(np.std([2.0, 5.0], ddof=1))
