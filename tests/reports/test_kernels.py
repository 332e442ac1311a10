"""A report of six directions: one verdict, the papers' tables, the physicist's table, one patient in all directions."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from common.files import write_json
from common.metrics import summarise, write_rows
from common.reports import results_table, write_report
from common.reports.inputs import Case, Inputs
from common.reports.kernels import kernel_table, paper_table
from common.reports.scores import grouped_directions, overall, softest_first, verdict
from common.reports.sections import typical_patients
from tests.helpers.thorax import NAMES, labels, save, thorax

KERNELS = {"B30f": 10.0, "B50f": 20.0, "B70f": 40.0}  # noise SD in HU
DIRECTIONS = [f"{s}->{t}" for s in KERNELS for t in KERNELS if s != t]
PSNR = {"network": 45.0, "identity": 35.0, "radial_filter_unpaired": 44.0, "radial_filter": 46.0}
SHARP_TO_SOFT = ["B50f->B30f", "B70f->B30f", "B70f->B50f"]
SOFT_TO_SHARP = ["B30f->B50f", "B30f->B70f", "B50f->B70f"]


def rows_of(patients: list[str]) -> list[dict[str, Any]]:
    """PSNR rises by 1 dB a patient; outputs of all methods but the identity have the target's noise."""
    rows = []
    for index, patient in enumerate(patients):
        for direction in DIRECTIONS:
            source, target = direction.split("->")
            for method, psnr in PSNR.items():
                noise = KERNELS[source if method == "identity" else target]
                rows.append(
                    {"patient": patient, "direction": direction, "method": method, "psnr": psnr + index}
                    | {"ssim": 0.98765, "rmse": 12.345, "source_correlation": 0.99, "target_correlation": 0.98}
                    | {"noise_sd": noise, "noise_sd_target": KERNELS[target]}
                    | {"noise_sd_error": abs(noise - KERNELS[target]) / KERNELS[target], "nps_error": 0.25}
                    | {"edge_error": 0.0125, "emphysema_index": 11.0, "emphysema_index_target": 12.0}
                    | {"emphysema_true": 9.0, "emphysema_error": 2.0, "mae_lung_parenchyma": 7.0}
                )
    return rows


SUMMARY = summarise(rows_of(["p0", "p1"]))


def cells(table: str, name: str) -> list[str]:
    """The cells of each row of a method, as text."""
    found = [row for row in table.split("<tr") if f">{name}</th>" in row]
    return [
        " ".join(re.sub(r"<[^>]+>", " ", cell).split()) for row in found for cell in re.findall("<td>.*?</td>", row)
    ]


def make_run(folder: Path, patients: list[str]) -> Path:
    folder.mkdir()
    for place, (kernel, noise) in enumerate(KERNELS.items()):
        save(folder / f"{kernel}.nii.gz", thorax(noise, place))
    save(folder / "label.nii.gz", labels())
    cases = []
    for patient in patients:
        for direction in DIRECTIONS:
            source, target = direction.split("->")
            files = {"source": source, "prediction": target, "target": target, "label": "label"}
            paths = {key: f"{name}.nii.gz" for key, name in files.items()}
            cases.append({"patient": patient, "direction": direction, **paths})
    rows = rows_of(patients)
    write_rows(folder / "metrics.csv", rows)
    write_json(folder / "summary.json", summarise(rows))
    write_json(folder / "cases.json", {"cases": cases, "label_names": {str(k): v for k, v in NAMES.items()}})
    write_json(folder / "run.json", {"bundle": "ggcl", "seed": 4711, "warnings": []})
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_run(tmp_path_factory.mktemp("conversion") / "run", ["p0", "p<1>", "p2"])
    write_report(folder, viewer=False)
    return folder


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    return (run / "report.html").read_text(encoding="utf-8")


def test_one_verdict_leads_and_each_direction_follows(page: str) -> None:
    assert page.count("<h2>Verdict</h2>") == 1
    text = unescape(re.sub(r"<[^>]+>", "", page))
    assert (
        "Over 6 directions (3 patients): against the untranslated source (identity) the network gains 10.00 dB" in text
    )
    assert (
        "B70f → B30f: the network, at 46.00 dB PSNR, loses to the paired radial filter by 1.00 dB, and is ahead of"
        in text
    )
    assert text.count("too few patients to conclude from") == 1
    assert "<h2>Alarms" not in page  # kernels do not invert contrast


def test_the_tables_stand_in_the_papers_order(page: str) -> None:
    places = [page.index(f"<h3>{heading}") for heading in ("Sharp to soft", "Soft to sharp", "Noise, sharpness")]
    assert places == sorted(places)
    assert page.index("B50f → B30f</span>") < page.index("B70f → B50f</span>") < page.index("B30f → B50f</span>")


def test_the_median_patient_is_shown_in_every_direction(page: str, run: Path) -> None:
    assert "<h2>Patient p&lt;1&gt;</h2>" in page
    assert page.count("<h2>Patient") == 1
    assert page.count('class="panels four"') == 6
    assert page.count("Window 1500/-700 HU (width/level). The framed 50 mm around an airway") == 6
    names = {path.name for path in (run / "pictures").iterdir()}
    for direction in DIRECTIONS:
        stem = f"case_1_{direction.replace('->', '_to_')}_p_1.png"
        assert {stem, f"curves_{stem}"} <= names


def test_the_details_are_folded_away(page: str) -> None:
    for direction in DIRECTIONS:
        assert f"<details><summary>{direction.replace('->', ' → ')}</summary><h3>Image quality</h3>" in page
    assert page.count("<details>") == page.count("</details>")
    assert ": numbers</h2>" not in page


def test_the_page_stays_small_and_alone(run: Path, page: str) -> None:
    assert (run / "report.html").stat().st_size < 6e6
    assert not re.search(r"https?://|@import|url\(|<script", page)


def test_fewer_or_more_patients_on_request(run: Path) -> None:
    inputs = Inputs(rows=rows_of(["a", "b", "c", "d"]), cases=[Case(p, DIRECTIONS[0], Path(), Path()) for p in "dbca"])
    assert typical_patients(inputs, 0) == []
    assert typical_patients(inputs, 1) == ["c"]
    assert typical_patients(inputs, 2) == ["a", "d"]
    assert typical_patients(inputs, 3) == ["a", "c", "d"]
    assert typical_patients(Inputs(cases=inputs.cases), 2) == ["d", "b"]
    assert 'class="panels' not in write_report(run, cases=0).read_text(encoding="utf-8")


def test_one_direction_has_its_own_sections(tmp_path: Path, run: Path) -> None:
    rows = [row for row in rows_of(["p0"]) if row["direction"] == "B70f->B30f"]
    write_json(tmp_path / "summary.json", summarise(rows))
    paths = {"source": "B70f", "prediction": "B30f", "target": "B30f"}
    case = {"patient": "p0", "direction": "B70f->B30f"} | {k: str(run / f"{v}.nii.gz") for k, v in paths.items()}
    write_json(tmp_path / "cases.json", {"cases": [case]})
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "<h2>B70f → B30f: numbers</h2>" in page
    assert "<h3>Noise, sharpness and emphysema index</h3>" in page
    assert "The framed 50 mm of the lung are enlarged" in page  # no labels
    assert "histogram matching" not in page.lower()


def test_directions_are_ordered_by_noise_whatever_the_kernels_names_are() -> None:
    assert grouped_directions(SUMMARY, DIRECTIONS) == {"Sharp to soft": SHARP_TO_SOFT, "Soft to sharp": SOFT_TO_SHARP}
    noise = {"lung": 60.0, "standard": 12.0}
    scores = {
        f"{s}->{t}": {"identity": {"noise_sd": {"mean": noise[s]}, "noise_sd_target": {"mean": noise[t]}}}
        for s, t in (("lung", "standard"), ("standard", "lung"))
    }
    assert softest_first(scores, list(scores)) == ["standard", "lung"]
    one = {"lung->standard": scores["lung->standard"]}
    assert grouped_directions(one, list(one)) == {"Sharp to soft": ["lung->standard"]}


def test_without_noise_the_names_numbers_tell_and_else_nothing() -> None:
    edge = {"network": {"edge_error": {"mean": 0.1}}}
    assert softest_first({"B70f->B30f": edge}, ["B70f->B30f"]) == ["B30f", "B70f"]
    assert grouped_directions({"bone->soft": edge}, ["bone->soft"]) == {"": ["bone->soft"]}
    mr = {"network": {"psnr": {"mean": 20.0}}}
    assert grouped_directions({"T1->T2": mr}, ["T1->T2", "T2->T1"]) == {"": ["T1->T2", "T2->T1"]}


def test_the_papers_table() -> None:
    table = paper_table(SUMMARY, SHARP_TO_SOFT)
    # Mean and sample SD of 45 and 46.
    assert cells(table, "Network") == ["45.50 (0.71)", "0.9877 (0.0000)", "12.35 (0.00)"] * 3
    assert "<b>46.50</b>" in table  # the paired filter's
    assert table.count("RMSE (HU)") == 3
    assert [table.index(name) for name in ("B50f → B30f", "B70f → B30f", "B70f → B50f")] == sorted(
        table.index(name) for name in ("B50f → B30f", "B70f → B30f", "B70f → B50f")
    )
    mr = {"T1->T2": {"network": {"rmse": {"mean": 123.4, "std": 1.0}}}}
    assert "RMSE (HU)" not in paper_table(mr, ["T1->T2"])
    assert paper_table({}, ["T1->T2"]) == ""


def test_the_physicists_table() -> None:
    table = kernel_table(SUMMARY, ["B70f->B30f", "B30f->B70f"])
    network, identity = cells(table, "Network"), cells(table, "Identity (source as it is)")
    assert network[:3] == ["10.0 (0.0)", "10.0 (0.0)", "0.0% (0.0%)"]
    assert identity[:3] == ["40.0 (0.0)", "10.0 (0.0)", "300.0% (0.0%)"]
    assert network[3:9] == ["0.250 (0.000)", "0.013 (0.000)"] + [f"{v:.1f} (0.0)" for v in (11, 12, 9, 2)]
    assert len(network) == len(identity) == 18
    assert table.count('class="direction"') == 2
    assert "<b>11.0" not in table  # an index is compared with two others: none is best
    assert kernel_table({"T1->T2": {"network": {"psnr": {"mean": 1.0}}}}, ["T1->T2"]) == ""


def summary_of(**gains: list[float]) -> dict[str, Any]:
    """The network at 40 dB, and baselines by the network's gain over them in each direction."""
    number = len(next(iter(gains.values())))
    return {
        f"a->b{index}": {"network": {"psnr": {"mean": 40.0, "n": 8}}}
        | {name: {"psnr": {"mean": 40.0 - values[index], "n": 8}} for name, values in gains.items()}
        for index in range(number)
    }


def test_the_overall_verdict_counts_and_averages() -> None:
    result = overall(summary_of(identity=[3, 6, 9], radial_filter_unpaired=[1, -0.4, 0.0], radial_filter=[-1, -2, -3]))
    assert result.text == (
        "Over 3 directions (8 patients): against the untranslated source (identity) the network gains 6.00 dB PSNR on "
        "average and is better in 3 of 3 directions; against the unpaired radial filter it gains 0.20 dB on average "
        "and is better in 1 of 3, level in 1; against the paired radial filter it loses 2.00 dB on average and is "
        "better in 0 of 3."
    )
    assert result.kind == "mixed"


@pytest.mark.parametrize(
    ("gains", "kind"),
    [
        ({"identity": [3, 3], "radial_filter_unpaired": [1, 1], "radial_filter": [1, 1]}, "wins"),
        ({"identity": [3, 3], "radial_filter_unpaired": [1, 1], "radial_filter": [1, -1]}, "mixed"),
        ({"identity": [3, 3], "radial_filter_unpaired": [1, -2]}, "loses"),
        ({"identity": [-3, 1], "radial_filter_unpaired": [1, 1]}, "loses"),
    ],
)
def test_the_kind_of_the_overall_verdict(gains: dict[str, list[float]], kind: str) -> None:
    assert overall(summary_of(**gains)).kind == kind


def test_the_overall_verdict_without_network_or_baselines() -> None:
    assert overall({"a->b": {"network": {"psnr": {"mean": 1.0}}}}).kind == "open"
    several = summary_of(histogram_matching=[1, 1]) | {"c->d": summary_of(radial_filter_unpaired=[2])["a->b0"]}
    assert "against the best unpaired baseline of each direction the network gains 1.33 dB" in overall(several).text


def test_each_verdict_names_both_filters() -> None:
    text = verdict("B30f->B70f", SUMMARY["B30f->B70f"]).text
    assert text == (
        "B30f → B70f (2 patients): the network, at 45.50 dB PSNR, loses to the paired radial filter by 1.00 dB, and "
        "is ahead of the untranslated source (identity) by 10.00 dB and the unpaired radial filter by 1.00 dB; this is "
        "too few patients to conclude from."
    )


def test_the_terminal_shows_one_row_a_direction() -> None:
    lines = results_table(SUMMARY).splitlines()
    assert re.fullmatch(r"PSNR dB +Network +Identity +Unpaired radial filter +Paired radial filter", lines[0])
    assert [line.split("  ")[1] for line in lines[2:5]] == [d.replace("->", " → ") for d in SHARP_TO_SOFT]
    assert (lines[1], lines[5]) == ("Sharp to soft", "Soft to sharp")
    assert re.fullmatch(r"  B30f → B70f +45\.50 ± 0\.71 +35\.50 ± 0\.71 +44\.50 ± 0\.71 +46\.50 ± 0\.71", lines[7])
    assert lines[-1].startswith("Over 6 directions (2 patients): against")
    assert max(len(line) for line in lines[:9]) <= 100
