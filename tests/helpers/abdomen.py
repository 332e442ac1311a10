"""A run of contrast enhancement on abdomens of simple shapes, as an evaluation leaves it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from common.files import write_json
from common.metrics import contrast_metrics, removal_metrics, score, summarise, write_rows

SPACING = (4.0, 4.0, 5.0)
NAMES = {6: "aorta", 13: "cyst", 16: "fat"}
SPREAD = {"aorta": {"sd_hu": 15.0}}
SHAPE = (80, 60, 3)


def volumes(seed: int = 0) -> dict[str, np.ndarray]:
    """NECT, the aligned truth (100 HU more in the aorta), a CECT shifted by 5 pixels, labels."""
    x, y, _ = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    body = ((x - 40) / 34) ** 2 + ((y - 30) / 25) ** 2 + np.zeros((1, 1, 3)) <= 1.0
    labels = np.where(body, 16, 0)
    labels[36:46, 36:46], labels[20:28, 20:28] = 6, 13
    nect = np.select([labels == 0, labels == 16, labels == 6], [-1000.0, -100.0, 40.0], 5.0)
    truth = nect + 100.0 * (labels == 6)
    noise = np.random.default_rng(seed).normal(0.0, 10.0, SHAPE)
    return {"NECT": nect + noise, "truth": truth, "CECT": np.roll(truth, 5, axis=0) + noise, "label": labels}


def write_run(folder: Path, patients: list[str], *, gain: float = 0.9, removal: bool = False) -> Path:
    """A network that gives ``gain`` of the enhancement, beside the identity; with ``removal`` the way back too."""
    folder.mkdir(parents=True)
    rows: list[dict[str, Any]] = []
    cases = []
    for seed, patient in enumerate(patients):
        data = volumes(seed)
        paths = {key: save(folder / f"{seed}_{key}.nii.gz", volume) for key, volume in data.items()}
        directions = [("NECT", "CECT"), ("truth", "NECT")] if removal else [("NECT", "CECT")]
        for source, target in directions:
            truth = "truth" if target == "CECT" else target
            change = gain * (data["truth"] - data["NECT"]) * (data["label"] == 6)
            output = data[source] + (change if target == "CECT" else -change)
            saved = save(folder / f"{seed}_synthetic_{target}.nii.gz", output)
            files = {"source": paths[source], "target": paths[truth], "label": paths["label"], "prediction": saved}
            cases.append({"patient": patient, "direction": f"{source}->{target}", **files})
            for method, volume in (("network", output), ("identity", data[source])):
                names = {"patient": patient, "direction": f"{source}->{target}", "method": method}
                rows.append(names | _numbers(volume, data, source, target))
    write_rows(folder / "metrics.csv", rows)
    write_json(folder / "summary.json", summarise(rows))
    write_json(folder / "cases.json", {"cases": cases, "label_names": {str(k): v for k, v in NAMES.items()}})
    write_json(folder / "run.json", {"bundle": "nect2cect", "warnings": []})
    return folder


def save(path: Path, volume: np.ndarray) -> str:
    """Save int16; the name, as a run folder's files hold it."""
    nibabel.save(nibabel.Nifti1Image(np.rint(volume).astype(np.int16), np.diag([*SPACING, 1.0])), path)
    return path.name


def _numbers(output: np.ndarray, data: dict[str, np.ndarray], source: str, target: str) -> dict[str, float]:
    options: dict[str, Any] = {"labels": data["label"], "label_names": NAMES, "spacing_mm": SPACING}
    truth = data["truth" if target == "CECT" else target]
    general = score(output, truth, data_range=300.0, matched_too=False, **options)
    if target == "NECT":
        return general | removal_metrics(output, truth, source=data[source], **options)
    aligned = contrast_metrics(output, truth, source=data[source], spread=SPREAD, **options)
    other = contrast_metrics(output, data["CECT"], source=data[source], spacing_mm=SPACING)
    return general | aligned | {f"misaligned_{name}": value for name, value in other.items()}
