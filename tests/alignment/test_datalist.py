"""A datalist whose pairs are aligned: what it names, what it leaves out, and what it does not touch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from common.alignment import align_datalist, files
from common.data.datalist import load_datalist, load_domain
from common.phantoms import generate_phantom

pytest.importorskip("SimpleITK", reason="SimpleITK (the extra `align`) is not installed")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    generate_phantom("abdomen", folder, patients=5, slices=6, size=64)
    return folder


def quick(monkeypatch, verdicts):
    """Replace the registration: the moving volume as it is, with these verdicts in turn."""
    left = iter(verdicts)

    def instead(fixed, moving, *, options, step):
        inside = np.ones(fixed.values.shape, dtype=bool)
        return moving.values, inside, {"verdict": next(left), "checks": []}, None

    monkeypatch.setattr(files, "align_volumes", instead)


def test_a_new_datalist_names_the_aligned_volumes_and_their_masks(data, tmp_path):
    out = align_datalist(data, tmp_path / "out", fixed="NECT", moving="CECT", method="affine", doubtful=True)
    before, after = (load_datalist(place, "training_paired") for place in (data, out))
    assert [entry["patient"] for entry in after] == [entry["patient"] for entry in before]
    for old, new in zip(before, after):
        assert new["NECT"] == old["NECT"]
        assert Path(new["CECT"]).parent == (tmp_path / "out").resolve()
        assert Path(new["CECT_mask"]).is_file()
    assert len(load_domain(out, "training_paired", "CECT_mask")) == len(before)
    for key in ("training", "validation", "test"):
        assert load_datalist(out, key) == load_datalist(data, key)


def test_doubtful_pairs_are_left_out_and_named(data, tmp_path, monkeypatch, caplog):
    quick(monkeypatch, ["passed", "warned", "passed"])
    out = align_datalist(data, tmp_path / "out", fixed="NECT", moving="CECT")
    (left,) = [entry for entry in load_datalist(data, "training_paired")][1:2]
    assert left["patient"] not in [entry["patient"] for entry in load_datalist(out, "training_paired")]
    assert f"{left['patient']}_CECT_aligned.nii.gz is left out" in caplog.text
    assert json.loads((Path(out) / "datalist.json").read_text())["alignment"]["doubtful"] == 1


def test_when_none_passes_no_datalist_is_written(data, tmp_path, monkeypatch):
    quick(monkeypatch, ["warned"] * 3)
    with pytest.raises(ValueError, match="None of the 3 alignments passed"):
        align_datalist(data, tmp_path / "out", fixed="NECT", moving="CECT")
    assert not (tmp_path / "out" / "datalist.json").exists()


def test_keys_that_no_entry_has_are_refused(data, tmp_path):
    with pytest.raises(ValueError, match=r"'NECT' and 'T1' in training_paired.*keys there: \['CECT', 'NECT'"):
        align_datalist(data, tmp_path / "out", fixed="NECT", moving="T1")


def test_two_scans_of_a_patient_have_two_names(data, tmp_path, monkeypatch):
    content = json.loads((data / "datalist.json").read_text())
    content["training"] = load_datalist(data, "training")
    content["training_paired"] = load_datalist(data, "training_paired")[:1] * 2
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "datalist.json").write_text(json.dumps(content | {"validation": [], "test": []}))
    quick(monkeypatch, ["passed", "passed"])
    out = align_datalist(tmp_path / "in", tmp_path / "out", fixed="NECT", moving="CECT")
    names = [Path(entry["CECT"]).name for entry in load_datalist(out, "training_paired")]
    assert names == ["abdomen_0000_CECT_aligned.nii.gz", "abdomen_0000_CECT_2_aligned.nii.gz"]
