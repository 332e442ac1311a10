"""Mean and SD over patients, and the files that hold them."""

from __future__ import annotations

import csv
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.files import write_json
from common.metrics import read_rows, summarise, write_rows


def row(patient: str, method: str = "network", direction: str = "T1->T2", **metrics: Any) -> dict[str, Any]:
    return {"patient": patient, "direction": direction, "method": method, **metrics}


def test_mean_and_sample_sd() -> None:
    values = [20.5, 24.0, 22.25]
    rows = [row(str(k), psnr=v) for k, v in enumerate(values)] + [row("0", "identity", psnr=12.0)]
    summary = summarise(rows)["T1->T2"]
    assert summary["network"]["psnr"]["mean"] == pytest.approx(statistics.mean(values))
    assert summary["network"]["psnr"]["std"] == pytest.approx(statistics.stdev(values))
    assert summary["network"]["psnr"]["n"] == 3
    assert summary["identity"]["psnr"] == {"mean": 12.0, "std": 0.0, "n": 1}


def test_missing_metrics_are_left_out_of_their_mean() -> None:
    rows = [
        row("a", mae_tumour=4.0, psnr=1.0),
        row("b", psnr=2.0),
        row("c", mae_tumour=float("nan"), psnr=None),
        row("d", mae_tumour=float("inf"), psnr=""),
    ]
    summary = summarise(rows)["T1->T2"]["network"]
    assert summary["mae_tumour"] == {"mean": 4.0, "std": 0.0, "n": 1}
    assert summary["psnr"]["mean"] == 1.5
    json.dumps(summary, allow_nan=False)


def test_directions_are_kept_apart() -> None:
    summary = summarise([row("a", psnr=1.0), row("a", direction="T2->T1", psnr=3.0)])
    assert {name: methods["network"]["psnr"]["mean"] for name, methods in summary.items()} == {
        "T1->T2": 1.0,
        "T2->T1": 3.0,
    }


def test_rows_survive_the_file(tmp_path: Path) -> None:
    rows = [row('nasty, "name"\n', psnr=np.float64(1 / 3)), row("ä", "identity", psnr=2.0, mae_tumour=0.1)]
    path = write_rows(tmp_path / "deep" / "metrics.csv", rows)
    assert read_rows(path) == rows
    with open(path, encoding="utf-8", newline="") as file:
        assert next(csv.reader(file)) == ["patient", "direction", "method", "psnr", "mae_tumour"]
    assert [p.name for p in path.parent.iterdir()] == ["metrics.csv"]


def test_patients_that_look_like_numbers_stay_text(tmp_path: Path) -> None:
    assert read_rows(write_rows(tmp_path / "m.csv", [row("007", psnr=1.0)]))[0]["patient"] == "007"


def test_json_takes_numpy_and_refuses_nan(tmp_path: Path) -> None:
    path = write_json(tmp_path / "s.json", {"a": np.float32(0.5), "b": np.arange(2), "c": tmp_path})
    assert json.loads(path.read_text()) == {"a": 0.5, "b": [0, 1], "c": str(tmp_path)}
    with pytest.raises(ValueError, match="must hold finite numbers only"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text())["a"] == 0.5  # the old file is whole


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_json(tmp_path / "s.json", {"a": 1})

    def fail(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_row_without_its_keys() -> None:
    with pytest.raises(ValueError, match=r"without \['method'\]"):
        summarise([{"patient": "a", "direction": "T1->T2", "psnr": 1.0}])
