"""A training on a long datalist opens a few images before its first batch, for every bundle; no time is asserted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from monai.utils import set_determinism

ROOT = Path(__file__).parents[2]
ENTRIES = 2000
MOST_OPENED = 120  # 24 of each domain for a fit, the same ones for most, validation, and a batch


@pytest.fixture(autouse=True)
def on_path(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield
    set_determinism(None)
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("bundle", ["ggcl", "kcgan_kernel_conversion", "nect2cect", "nec_t1t2", "sr_cyclegan"])
def test_a_start_opens_few_of_many_images(bundle, tmp_path, capsys):
    import first_batch
    import many_entries

    paired = bundle in many_entries.PAIRED
    data = many_entries.make_data(tmp_path / "data", many_entries.SCANS[bundle], ENTRIES, paired=paired)
    first_batch.start(bundle, str(data), str(tmp_path / "out"))
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert 24 <= found["opened_images"] <= MOST_OPENED
