"""The spread of enhancement is measured once, from the truth of the training pairs, and only read afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from common.baselines import load_spread, measure_and_save_spread

NAMES = {"1": "liver", "6": "aorta"}


def load(item: dict[str, str]) -> dict[str, np.ndarray]:
    return {"image": np.asarray(nibabel.load(item["image"]).dataobj, dtype=np.float32)[None]}


def make_data(folder: Path, enhancements: dict[str, float], *, truth: bool = True) -> Path:
    """Patients whose aorta is enhanced by the given HU; the test patient's must not be read."""
    labels = np.zeros((6, 6, 2), dtype=np.int16)
    labels[:3], labels[3:5] = 1, 6
    entries = {}
    for patient, hu in enhancements.items():
        nect = np.full(labels.shape, 40, dtype=np.int16)
        volumes = {"NECT": nect, "CECT": nect + 500, "truth": nect + (labels == 6) * np.int16(hu), "label": labels}
        entries[patient] = {"patient": patient}
        for key, volume in volumes.items():
            if truth or key not in ("truth", "label"):
                nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), folder / f"{patient}_{key}.nii.gz")
                entries[patient][key] = f"{patient}_{key}.nii.gz"
    *training, test = entries.values()
    content = {"training_paired": training, "test": [test], "label_names": NAMES}
    (folder / "datalist.json").write_text(json.dumps(content))
    return folder


def test_the_training_patients_alone_are_measured(tmp_path: Path) -> None:
    data = make_data(tmp_path, {"a": 80.0, "b": 100.0, "c": 120.0, "test": 999.0})
    path = measure_and_save_spread(tmp_path / "models", data, "NECT", "truth", load)
    assert path == tmp_path / "models" / "enhancement_spread.json"
    spread = load_spread(tmp_path / "models")
    assert spread is not None
    assert spread["aorta"] == {"mean_hu": 100.0, "sd_hu": 20.0, "patients": 3}
    assert spread["liver"]["sd_hu"] == 0.0
    assert json.loads(path.read_text())["facts"]["patients"] == ["a", "b", "c"]


def test_without_truth_there_is_no_file(tmp_path: Path) -> None:
    data = make_data(tmp_path, {"a": 80.0, "b": 100.0, "test": 999.0}, truth=False)
    assert measure_and_save_spread(tmp_path / "models", data, "NECT", "truth", load) is None
    assert load_spread(tmp_path / "models") is None


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "enhancement_spread.json"
    file.write_text("{")
    with pytest.raises(ValueError, match=r"enhancement_spread.json` must be JSON, got .* remove it, or train again"):
        load_spread(tmp_path)
    file.write_text('{"format": 7, "spread": {}}')
    with pytest.raises(ValueError, match="must be a file of true enhancement of format 1, got 7; remove it"):
        load_spread(tmp_path)
