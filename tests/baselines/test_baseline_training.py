"""Fitting at the start of a training: pairs that are not on one grid are left out, and said to be."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import torch

from common.baselines import fit_and_save, load_baselines, load_facts

CT = ["identity", "intensity_curve"]


def datalist(folder: Path, shapes: list[tuple[int, int]]) -> Path:
    """One patient for each (rows of the source, rows of the target)."""
    entries = []
    for patient, (source, target) in enumerate(shapes):
        entry = {"patient": f"p{patient}"}
        for domain, rows in (("NECT", source), ("CECT", target)):
            ramp = np.linspace(-1, 1, rows * 20 * 3).reshape(rows, 20, 3).astype(np.float32)
            entry[domain] = f"{patient}_{domain}.nii.gz"
            nib.save(nib.Nifti1Image(ramp, np.eye(4)), folder / entry[domain])
        entries.append(entry)
    (folder / "datalist.json").write_text(json.dumps({"training_paired": entries}))
    return folder


def prepare(item: dict[str, str]) -> dict[str, torch.Tensor]:
    return {"image": torch.from_numpy(np.asarray(nib.load(item["image"]).dataobj))[None]}


def test_a_curve_is_fitted_on_the_pairs_that_share_a_grid(tmp_path, caplog):
    data = datalist(tmp_path, [(20, 20), (20, 24)])
    with caplog.at_level(logging.WARNING):
        path = fit_and_save(tmp_path / "models", data, "NECT", "CECT", prepare, [], names=CT)
    assert list(load_baselines(path)) == CT
    assert load_facts(path)["paired"]
    assert "p1: NECT and CECT are not on one grid ((20, 20, 3) and (24, 20, 3) voxels)" in caplog.text
    assert "p0" not in caplog.text


def test_without_a_common_grid_there_is_no_curve_and_training_goes_on(tmp_path):
    data = datalist(tmp_path, [(20, 24)])
    path = fit_and_save(tmp_path / "models", data, "NECT", "CECT", prepare, [], names=CT)
    assert list(load_baselines(path)) == ["identity"]
    assert not load_facts(path)["paired"]
