"""What a report says about numbers: who wins, who loses, what alarms, which value is bold."""

from __future__ import annotations

import re
from typing import Any

import pytest

from common.reports import results_table, verdict
from common.reports.scores import alarms, region_lines
from common.reports.tables import QUALITY, facts_table, metric_table, patient_table, quality_table, region_table


def psnr(**means: float) -> dict[str, dict[str, dict[str, float]]]:
    return {name: {"psnr": {"mean": mean, "std": 0.5, "n": 8}} for name, mean in means.items()}


def row(text: str, name: str) -> str:
    """The table row of a method."""
    return next(line for line in text.split("<tr") if f">{name}</th>" in line)


@pytest.mark.parametrize(
    ("means", "kind", "words"),
    [
        (
            {"identity": 14, "inverted_histogram_matching": 19, "intensity_curve": 22},
            "wins",
            "is ahead of the untranslated",
        ),
        (
            {"identity": 14, "inverted_histogram_matching": 19, "intensity_curve": 26},
            "mixed",
            "loses to the intensity curve",
        ),
        (
            {"identity": 14, "inverted_histogram_matching": 25, "intensity_curve": 26},
            "loses",
            "loses to the best unpaired",
        ),
        ({"identity": 24.3, "intensity_curve": 22}, "loses", "loses to the untranslated source (identity) by 0.30 dB"),
        ({"identity": 24.02}, "wins", "is level with the untranslated source"),
    ],
)
def test_the_verdict_says_it_plainly(means: dict[str, float], kind: str, words: str) -> None:
    result = verdict("T1->T2", psnr(network=24.0, **means))
    assert result.kind == kind
    assert words in result.text
    assert result.text.startswith("T1 → T2 (8 patients): the network, at 24.00 dB PSNR, ")


def test_every_column_in_which_the_network_loses_is_named() -> None:
    """Ahead in PSNR beside an SSIM far below is no clean win; what is printed alike is no loss."""
    methods: dict[str, Any] = psnr(network=24, identity=14, inverted_histogram_matching=23)
    for name, ssim, mae in (("network", 0.59, 80.0), ("identity", 0.63, 237.0)):
        methods[name] |= {"ssim": {"mean": ssim}, "mae": {"mean": mae}}
    methods["inverted_histogram_matching"] |= {"ssim": {"mean": 0.84}, "mae": {"mean": 79.99}}
    result = verdict("T1->T2", methods)
    assert result.kind == "mixed"
    assert "by 1.00 dB. It loses in SSIM (0.590 against 0.840, inverted histogram matching)." in result.text
    assert "beats" not in result.text


def test_the_best_unpaired_baseline_is_the_one_compared() -> None:
    text = verdict("x->y", psnr(network=20, histogram_matching=15, inverted_histogram_matching=12)).text
    assert "best unpaired baseline (histogram matching) by 5.00 dB" in text
    assert "inverted" not in text


def test_losing_inside_a_tumour_is_not_a_clean_win() -> None:
    methods: dict[str, Any] = psnr(network=24, identity=14)
    methods["network"]["mae_tumour"], methods["identity"]["mae_tumour"] = {"mean": 90.0}, {"mean": 60.0}
    assert verdict("T1->T2", methods).kind == "mixed"
    assert region_lines(methods) == ["By mean absolute error it loses inside tumour (90 against 60, identity)."]


def test_few_patients_and_missing_methods() -> None:
    one = {name: {"psnr": {"mean": mean, "n": 1}} for name, mean in (("network", 20), ("identity", 10))}
    assert "(1 patient)" in verdict("a->b", one).text
    assert "too few patients" in verdict("a->b", one).text
    assert "too few" not in verdict("a->b", psnr(network=20, identity=10)).text
    assert verdict("a->b", psnr(identity=10)).kind == "open"
    assert "no baseline was scored" in verdict("a->b", psnr(network=10)).text


def test_alarms() -> None:
    base = {"patient": "p1", "direction": "T1->T2", "method": "network"}
    rows = [
        base | {"source_correlation": 0.4, "target_correlation": -0.5},
        base | {"patient": "p2", "source_correlation": 0.4, "target_correlation": 0.6},  # nothing to invert
        base | {"patient": "p3", "source_correlation": -0.5, "target_correlation": -0.5, "slice_jump": 2.25},
        base | {"patient": "p4", "method": "identity", "source_correlation": 1.0},
        base | {"patient": "p11", "source_correlation": 0.1},
    ]
    found = alarms(rows, {"warnings": ["12 voxels were clipped"]})
    assert found[0] == "12 voxels were clipped"
    assert found[1].startswith("p1, T1 → T2: contrast not inverted (correlation of source and output +0.40")
    assert found[2] == "p3, T1 → T2: neighbouring slices differ 2.2 times as much as in the truth."
    assert found[3].startswith("p11, T1 → T2: contrast not inverted")
    assert len(found) == 4
    told = {"patient": "p1", "direction": "T1->T2", "about": "contrast", "text": "p1: the contrast was not inverted"}
    found = alarms(rows, {"warnings": [told["text"]], "alarms": [told]})
    assert [line.split(",")[0] for line in found[1:]] == ["p3", "p11"]
    other = alarms(rows, {"warnings": [told["text"]], "alarms": [told | {"about": "units"}]})
    assert [line.split(",")[0] for line in other[1:]] == ["p1", "p3", "p11"]


def test_the_table_holds_mean_and_sd_and_marks_the_best() -> None:
    methods = {
        "identity": {"psnr": {"mean": 13.456, "std": 0.789}, "mae": {"mean": 90.0, "std": 1.0}},
        "network": {"psnr": {"mean": 24.123, "std": 1.25}, "mae": {"mean": 120.0, "std": 1.0}},
    }
    table = quality_table(methods)
    assert '<b>24.12</b><span class="sd"> ± 1.25</span>' in row(table, "Network")
    assert "13.46<span" in row(table, "Identity (source as it is)")
    assert "<b>90</b>" in row(table, "Identity (source as it is)")
    assert table.index("Network") < table.index("Identity")
    assert "protocol" not in table  # no matched metric, no such column


def test_the_matched_columns_are_labelled_as_the_papers_protocol() -> None:
    table = quality_table({"network": {"psnr_matched": {"mean": 24.0, "std": 0.0}}})
    assert "After histogram matching to the target and 0.5 mm smoothing, the paper&#39;s protocol" in table


def test_bias_is_best_near_zero_and_disease_comes_first() -> None:
    methods = {
        "network": {"bias_tumour": {"mean": -5.0}, "mae_tumour": {"mean": 9.0}, "mae_ventricles": {"mean": 1.0}},
        "identity": {"bias_tumour": {"mean": -40.0}, "mae_tumour": {"mean": 40.0}, "mae_ventricles": {"mean": 2.0}},
    }
    table = region_table(methods)
    assert "<b>-5</b>" in row(table, "Network")
    assert table.index("tumour") < table.index("ventricles")


def test_equal_values_are_bold_together_and_nothing_alone() -> None:
    both = metric_table({"network": {"ssim": {"mean": 0.9001}}, "x": {"ssim": {"mean": 0.9002}}}, QUALITY)
    assert both.count("<b>0.900</b>") == 2
    assert "<b>" not in metric_table({"network": {"ssim": {"mean": 0.9}}}, QUALITY)
    assert metric_table({"network": {}}, QUALITY) == ""


def test_the_patient_table() -> None:
    rows = [
        {"patient": "<i>", "direction": "T1->T2", "method": "identity", "psnr": 13.0},
        {"patient": "<i>", "direction": "T1->T2", "method": "network", "psnr": 21.0},
        {"patient": "b", "direction": "T1->T2", "method": "network", "psnr": 20.0},
        {"patient": "b", "direction": "T2->T1", "method": "network", "psnr": 99.0},
    ]
    table = patient_table(rows, "T1->T2")
    assert "&lt;i&gt;" in table
    assert "<i>" not in table
    assert "<b>21.00</b></td><td>13.00" in table
    assert "99.00" not in table
    assert "&ndash;" in row(table, "b")


def test_facts_are_readable_and_escaped() -> None:
    table = facts_table(
        {
            "seconds": 83.4,
            "parameters": 9230912,
            "peak_memory_mb": 1512.2,
            "seed": 0,
            "warnings": ["no"],
            "network": {"class": "<b>"},
            "device": None,
        }
    )
    text = re.sub(r"<[^>]+>", "|", table)
    for expected in ("|1 min 23 s|", "|9,230,912|", "|1,512 MB|", "|seed||0|", "|network.class||&lt;b&gt;|"):
        assert expected in text
    assert "warnings" not in text
    assert "device" not in text


def test_the_terminal_table() -> None:
    text = results_table({"T1->T2": psnr(network=24.0, identity=13.5)})
    assert re.search(r"^Network +24\.00 ± 0\.50$", text, flags=re.MULTILINE)
    assert "is ahead of the untranslated source (identity) by 10.50 dB" in text


def test_where_the_truth_is_in_another_unit_the_matched_scores_decide() -> None:
    methods = {
        "network": {"psnr": {"mean": -2.0}, "psnr_matched": {"mean": 20.0}},
        "identity": {"psnr": {"mean": -1.0}, "psnr_matched": {"mean": 15.0}},
    }
    text = verdict("T1->T2", methods).text
    assert "20.00 dB PSNR after histogram matching" in text
    assert "is ahead of" in text
