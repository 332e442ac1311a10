"""benchmarks/gpu.py on the processor, at tiny sizes: every stage writes its file, and none ends the others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def on_path(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


def rows(path: Path) -> list[dict]:
    content = json.loads(path.read_text())
    assert content["complete"] is True
    assert content["tiny"] is True
    assert content["machine"]["torch"] == torch.__version__
    return content["rows"]


@pytest.mark.slow
def test_speed_is_measured_in_every_form(tmp_path):
    from gpu import main

    main(str(tmp_path), minutes=20, stages="inference,training_steps", tiny=True)
    found = rows(tmp_path / "inference.json")
    assert [row["form"] for row in found][:2] == ["exact", "exact, channels last"]
    assert all(row["images_per_s"] > 0 and row["share_of_peak"] > 0 for row in found if "failed" not in row)
    assert {row["form"] for row in found if "failed" not in row} >= {"exact", "exact, channels last", "fast"}
    found = rows(tmp_path / "training_steps.json")
    assert {row["form"] for row in found if "failed" not in row} >= {"plain optimizers", "fused optimizers", "amp"}


def test_forms_of_a_network_compute_the_same():
    from gpu import inference_forms

    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1)).eval()
    images = torch.rand(2, 1, 8, 8)
    forms = inference_forms(network, images)
    assert set(forms) == {"exact", "exact, channels last", "exact, compiled", "fast", "fast, compiled"}
    torch.testing.assert_close(forms["exact, channels last"](), forms["exact"](), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(forms["fast"](), forms["exact"](), rtol=0, atol=0.05)


def test_a_run_that_is_cut_short_leaves_what_it_has(tmp_path):
    from gpu import Stage

    stage = Stage(tmp_path / "a.json", seconds=-1)  # spent before the first row
    stage.rows(iter([{"form": "first"}, {"form": "second"}]))
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["rows"] == [{"form": "first"}]
    assert content["complete"] is False


def test_a_form_that_fails_is_a_row_that_says_why():
    from gpu import timed

    def broken():
        raise RuntimeError("no kernel for this")

    assert timed(broken, 1, 1.0, 1.0, repeats=1) == {"failed": "RuntimeError: no kernel for this"}


def test_a_stage_that_fails_does_not_end_the_later_ones(tmp_path, monkeypatch):
    import gpu

    def broken(stage, *, tiny):
        raise OSError("no pytest here")

    monkeypatch.setitem(gpu.RUN, "tests", broken)
    monkeypatch.setitem(gpu.RUN, "inference", lambda stage, *, tiny: stage.rows(iter([{"form": "exact"}])))
    gpu.main(str(tmp_path), stages="tests,inference", tiny=True)
    assert json.loads((tmp_path / "tests.json").read_text())["failed"] == "OSError: no pytest here"
    assert rows(tmp_path / "inference.json") == [{"form": "exact"}]


def test_an_unknown_stage_is_refused(tmp_path):
    from gpu import main

    with pytest.raises(ValueError, match=r"`stages` must be among \['tests', .*got \['metrics'\]"):
        main(str(tmp_path), stages="tests,metrics")
