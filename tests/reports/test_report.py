"""The whole page: what it holds, what it survives, and that nothing leaves it or breaks out of it."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from common.files import write_json
from common.metrics import summarise, write_rows
from common.reports import write_report

NASTY = '<script>alert("1")</script>&\'$x_{'
VOID = {"meta", "img", "source", "br", "input"}


class Checker(HTMLParser):
    """Collects tags and addresses, and notes tags that are not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.faults: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "srcset", "href", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(tag)


def checked(path: Path) -> tuple[str, Checker]:
    text = path.read_text(encoding="utf-8")
    checker = Checker()
    checker.feed(text)
    assert checker.faults == []
    assert checker.open == []
    return text, checker


def nifti(path: Path, volume: np.ndarray) -> str:
    nibabel.save(nibabel.Nifti1Image(volume.astype(np.float32), np.diag([1.0, 1.2, 4.0, 1.0])), path)
    return path.name


def make_run(folder: Path, *, network: float = 24.0, targets: bool = True, scored: bool = True) -> Path:
    """A tiny run of four patients, one of them with a nasty name."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    cases = []
    for index, patient in enumerate([NASTY, "p1", "p2", "p3"]):
        body = np.zeros((24, 28, 3))
        body[4:20, 4:24] = rng.uniform(50, 150, (16, 20, 3))
        label = np.zeros(body.shape)
        label[8:12, 8:12, index % 3] = 2
        files = {
            "source": nifti(folder / f"s{index}.nii.gz", body),
            "prediction": nifti(folder / f"o{index}.nii.gz", 200 - body),
        }
        if targets:
            files["target"] = nifti(folder / f"t{index}.nii.gz", 210 - body * 1.1)
            files["label"] = str(folder / nifti(folder / f"l{index}.nii.gz", label))
        cases.append({"patient": patient, "direction": "T1->T2", **files})
        for method, value in (("network", network), ("identity", 13.0), ("inverted_histogram_matching", 19.0)):
            rows.append(
                {
                    "patient": patient,
                    "direction": "T1->T2",
                    "method": method,
                    "psnr": value + index / 10,
                    "ssim": 0.875,
                    "psnr_matched": value + 1,
                    "ssim_matched": 0.9,
                    "mae_tumour": 10.0 + index,
                    "bias_tumour": -3.0,
                    "source_correlation": 0.5 if index == 2 else -0.6,
                }
            )
    if scored:
        write_rows(folder / "metrics.csv", rows)
        write_json(folder / "summary.json", summarise(rows))
    write_json(folder / "cases.json", {"cases": cases, "label_names": {"2": "tumour"}})
    write_json(
        folder / "run.json",
        {"bundle": "nec_t1t2", "seed": 4711, "seconds": 61, "warnings": [f"watch {NASTY}"], "training": "train"},
    )
    (folder / "train").mkdir()
    for name, columns in (("losses", ["iteration", "epoch", "generator"]), ("validation", ["epoch", "unpaired_score"])):
        with open(folder / "train" / f"{name}.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows([[k] * (len(columns) - 1) + [1 / k] for k in range(1, 6)])
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("report") / "run")


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    return checked(write_report(run, cases=2, viewer=False))[0]


def test_one_file_without_external_resources(run: Path, page: str) -> None:
    _, checker = checked(run / "report.html")
    assert "script" not in checker.tags
    assert "link" not in checker.tags
    assert checker.addresses
    assert all(address.startswith("data:image/png;base64,") for address in checker.addresses)
    assert not re.search(r"https?://|@import|url\(", page)


def test_it_holds_the_numbers(page: str) -> None:
    text = re.sub(r"<[^>]+>", "", page)
    assert "24.15 ± 0.13" in text  # mean and sample SD of 24.0, 24.1, 24.2, 24.3
    assert "19.15 ± 0.13" in text
    assert "11.5 ± 1.29" in text  # of 10, 11, 12, 13
    assert "T1 → T2 (4 patients): the network, at 24.15 dB PSNR, is ahead of" in text
    assert "After histogram matching to the target and 0.5 mm smoothing" in text
    assert "4711" in text
    assert "p2, T1 → T2: contrast not inverted" in text
    assert text.count("Research use only. Not for diagnosis.") == 2


def test_every_text_is_escaped(page: str, run: Path) -> None:
    assert "<script" not in page
    assert "&lt;script&gt;alert(&#34;1&#34;)&lt;/script&gt;&amp;&#39;$x_{" in page
    names = [path.name for path in (run / "pictures").iterdir()]
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+\.png", name) for name in names)


def test_pictures_are_saved_for_documents(run: Path, page: str) -> None:
    names = {path.name for path in (run / "pictures").iterdir()}
    assert {"psnr_distribution_T1_to_T2.png", "psnr_scatter_T1_to_T2.png", "losses_generator.png"} <= names
    assert {"validation_unpaired_score.png", "case_2_T1_to_T2_p3.png"} <= names
    assert "worst_tumour_T1_to_T2_p3.png" in names  # p3 has the largest mae_tumour
    assert "the patient with the largest error in tumour" in page


def test_it_says_when_the_network_loses(tmp_path: Path) -> None:
    text, _ = checked(write_report(make_run(tmp_path / "run", network=12.0), cases=0))
    assert "loses to the untranslated source (identity) by 1.00 dB" in text
    assert 'class="verdict loses"' in text
    assert 'class="panels"' not in text


def test_inference_alone(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", targets=False, scored=False)
    text, _ = checked(write_report(run, cases=1))
    assert text.count('class="panels"') == 1
    assert "Output (T2)" in text
    assert "Target (T2)" not in text
    assert "Difference" not in text
    assert "<h2>Verdict" not in text
    assert "4711" in text


@pytest.mark.parametrize("kept", ["metrics.csv", "summary.json", "cases.json", "train/losses.csv"])
def test_any_single_file_is_enough(tmp_path: Path, kept: str) -> None:
    run = make_run(tmp_path / "run")
    for name in ("metrics.csv", "summary.json", "cases.json", "train/losses.csv", "train/validation.csv"):
        if name != kept:
            (run / name).unlink()
    text, _ = checked(write_report(run, cases=1))
    assert ("24.15" in text) == (kept in ("metrics.csv", "summary.json"))
    assert ("<h2>Training</h2>" in text) == (kept == "train/losses.csv")
    assert ('class="panels"' in text) == (kept == "cases.json")


def test_nothing_to_report(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"`output_dir` must hold at least one of .* found none in .*evaluating"
    ):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError, match="must hold at least one of"):
        write_report(tmp_path / "nowhere")


def test_the_window_changes_the_picture(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")

    def picture(**options: Any) -> bytes:
        write_report(run, cases=1, **options)
        return next((run / "pictures").glob("case_1_*.png")).read_bytes()

    default = picture()
    assert picture() == default
    assert picture(window=(100.0, 120.0)) != default


def _change(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda case: case.update({key: value})


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (_change("source", ""), ValueError, r"each case of `cases.json` must have \['source'\]"),
        (_change("target", "gone.nii.gz"), FileNotFoundError, "`target` of patient p1 must exist, found no file"),
    ],
)
def test_broken_cases(tmp_path: Path, change: Callable[[dict[str, Any]], None], error: type, message: str) -> None:
    run = make_run(tmp_path / "run")
    case: dict[str, Any] = {"patient": "p1", "direction": "T1->T2", "source": "s1.nii.gz", "prediction": "o1.nii.gz"}
    change(case)
    write_json(run / "cases.json", {"cases": [case]})
    with pytest.raises(error, match=message):
        write_report(run)


def test_broken_json_and_options(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    with pytest.raises(ValueError, match="`cases` must be >= 0 patients, got -1"):
        write_report(run, cases=-1)
    (run / "summary.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"summary.json` must hold a JSON object, got list"):
        write_report(run)
    (run / "summary.json").write_text("{")
    with pytest.raises(ValueError, match=r"summary.json` must be JSON"):
        write_report(run)


def test_without_matplotlib_only_drawing_fails(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from common.reports import results_table, write_report\n"
        "print(results_table({'a->b': {'identity': {'psnr': {'mean': 1.5}}}}))\n"
        "write_report(sys.argv[1])"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 1
    assert "1.50" in done.stdout
    assert "ModuleNotFoundError: `matplotlib` is needed to draw a report" in done.stderr
    assert "pip install monai-translation-bundles[report]" in done.stderr
