"""
How much of a known misalignment `python -m common align` takes away: NECT and CECT of the abdomen phantom.

    env OMP_NUM_THREADS=1 ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS=1 python benchmarks/alignment.py run
    python benchmarks/alignment.py table

The phantom knows the CECT without noise on the NECT's grid, and the displacement between both scans. Errors are means
over the voxels of the body that every row has measured. The floor is the CECT resampled by the true displacement: noise
and interpolation.
"""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import fire
import numpy as np
from scipy import ndimage
from tqdm import tqdm

from common.alignment.volumes import Loaded, Options, align_volumes
from common.files import write_json
from common.images.registration import LPS_TO_RAS, require_simpleitk
from common.phantoms.abdomen.phantom import abdomen_parameters, make_abdomen
from common.transforms.unchanged import body_mask

RESULT = Path(__file__).parent / "results" / "alignment.json"
TITLES = {"misaligned": "as scanned", "affine": "affine", "bspline": "affine, B-spline", "floor": "true displacement"}
SAMPLED = 7  # every seventh voxel of the body, whose place is compared


def run(*, patients: int = 6, slices: int = 20, size: int = 128, seed: int = 0, result: str = str(RESULT)) -> None:
    """Register the scans of the phantom's patients and write one JSON file.

    Args:
        patients: number of patients.
        slices: axial slices of 3 mm of a patient.
        size: pixels along each side of a slice.
        seed: of the phantom and of the registration.
        result: the JSON file.
    """
    parameters = abdomen_parameters(patients=max(4, patients), slices=slices, size=size, seed=seed)
    rows = [row for patient in tqdm(range(patients)) for row in _patient(patient, parameters, seed)]
    machine = {"cores": os.cpu_count(), "system": platform.machine()}
    facts = {"phantom": parameters, "machine": machine, "simpleitk": require_simpleitk().Version.VersionString()}
    print(write_json(result, {**facts, "rows": rows}))


def table(path: str = str(RESULT)) -> None:
    """Print the means and SDs over the patients.

    Args:
        path: the JSON that `run` wrote.
    """
    print("\n".join(lines(json.loads(Path(path).read_text(encoding="utf-8")))))


def lines(content: dict[str, Any]) -> list[str]:
    """The lines of the table."""
    heads = ["", "error (HU)", "displacement left (mm)", "smallest Jacobian", "passed", "processor time (s)"]
    found = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for name, title in TITLES.items():
        rows = [row for row in content["rows"] if row["method"] == name]
        jacobians = [row["smallest_jacobian"] for row in rows if "smallest_jacobian" in row]
        verdicts = [row["verdict"] for row in rows if "verdict" in row]
        cells = [
            title,
            _spread([row["error_hu"] for row in rows]),
            _spread([row["left_mm"] for row in rows]),
            f"{min(jacobians):.2f}" if jacobians else "",
            f"{verdicts.count('passed')} of {len(verdicts)}" if verdicts else "",
            f"{mean(row['seconds'] for row in rows):.0f}" if verdicts else "",
        ]
        found.append("| " + " | ".join(cells) + " |")
    return found


def _spread(values: list[float]) -> str:
    return f"{mean(values):.1f} ± {stdev(values):.1f}" if len(values) > 1 else f"{mean(values):.1f}"


def _patient(patient: int, parameters: dict[str, Any], seed: int) -> list[dict[str, Any]]:
    made = make_abdomen(patient, parameters)
    affine = made["NECT"].affine
    fixed, moving = (Loaded(made[key].data.astype(np.float32), affine, True, {}, []) for key in ("NECT", "CECT"))
    truth, shift = made["truth"].data, made["displacement"].data.astype(float)
    spacing = np.abs(np.linalg.norm(affine[:2, :2], axis=0))
    body = np.stack([body_mask(fixed.values[..., z], spacing) for z in range(truth.shape[2])], axis=-1)
    places = np.moveaxis(np.indices(truth.shape).astype(float), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
    true_places = places.copy()
    for _ in range(30):  # where a place of the NECT is in the CECT: y with y + shift(y) = place
        true_places = places - _shift_at(true_places, shift, affine)
    found = {"misaligned": (moving.values, np.ones(truth.shape, dtype=bool), places, {})}
    for method in ("affine", "bspline"):
        start = time.process_time()
        values, measured, facts, transform = align_volumes(fixed, moving, options=Options(method=method, seed=seed))
        cost = {"seconds": round(time.process_time() - start, 1), "verdict": facts["verdict"]}
        cost["smallest_jacobian"] = round(facts["deformation"]["smallest_jacobian"], 4)
        cost["similarity"] = {name: round(facts["similarity"][name], 4) for name in ("before", "after")}
        found[method] = (values, measured, transform, cost)
    index = np.moveaxis((true_places - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T, -1, 0)
    resampled = ndimage.map_coordinates(moving.values, index, order=1, cval=np.nan)
    found["floor"] = (resampled, np.isfinite(resampled), true_places, {})
    common = body & np.logical_and.reduce([measured for _, measured, _, _ in found.values()])
    chosen = tuple(axis[::SAMPLED] for axis in np.nonzero(common))
    rows = []
    for name, (values, _, mapping, cost) in found.items():
        moved = mapping[chosen] if isinstance(mapping, np.ndarray) else _through(mapping, places[chosen])
        left = np.linalg.norm(moved + _shift_at(moved, shift, affine) - places[chosen], axis=-1)
        error = {
            "error_hu": round(float(np.abs(values - truth)[common].mean()), 3),
            "left_mm": round(float(left.mean()), 3),
        }
        share = round(float(common.sum() / body.sum()), 4)
        rows.append({"patient": patient, "method": name, **error, "compared_share": share, **cost})
    return rows


def _shift_at(places: np.ndarray, shift: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Displacement in mm at places (..., 3) in RAS mm, linearly interpolated."""
    index = np.moveaxis((places - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T, -1, 0)
    return np.stack([ndimage.map_coordinates(shift[..., k], index, order=1, mode="nearest") for k in range(3)], axis=-1)


def _through(transform: Any, places: np.ndarray) -> np.ndarray:
    """Where a transform of SimpleITK puts places (N, 3) in RAS mm."""
    signs = np.diag(LPS_TO_RAS)[:3]
    return np.array([transform.TransformPoint(point.tolist()) for point in places * signs]) * signs


if __name__ == "__main__":
    fire.Fire({"run": run, "table": table})
