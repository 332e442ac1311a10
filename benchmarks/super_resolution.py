"""
Super-resolution by 8 of lung CT: structures, spectrum and consistency on unseen phantom patients and on real chests.

    python -m common phantom lung_walls runs/walls --patients 40
    python -m common phantom lung_walls runs/unseen --patients 12 --seed 1
    python benchmarks/super_resolution.py score runs/walls --models MODELS --name "network" --unseen runs/unseen
    python benchmarks/super_resolution.py chests ORIGINALS --models MODELS --name "network"
    python benchmarks/super_resolution.py table benchmarks/results/super_resolution.json
    python benchmarks/super_resolution.py micro OUT --data phantom --name "network"
    python benchmarks/super_resolution.py pictures ORIGINALS --models MODELS --data runs/walls

OUT is what an evaluation with `evaluate_micro.yaml` has written (docs/bundles/sr_cyclegan.md).

The rule that finds structures is the same for every method. A pixel of a method's output is found where it is at
least a threshold, which is chosen for each structure on training patients: that of the highest mean Dice. A structure
of the truth is where it fills more than half of the slice's thickness. Pixels of the tumour do not count, and for one
structure alone neither do those that hold another one; all other pixels do, wherever they are.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import fire
import nibabel as nib
import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from common.baselines.base import Interpolation
from common.data import load_datalist
from common.files import checksum
from common.metrics import consistency, slice_quality, spectrum_distance, thick_slices
from common.networks import BicubicResidualGenerator, build_network, load_weights, read_definition
from common.transforms import lung_mask

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "super_resolution.json"
MICRO = ROOT / "benchmarks" / "results" / "micro_test.json"
IMAGES = ROOT / "docs" / "images" / "real_scans"
STRUCTURES = {"vessel": 1, "bronchial_wall": 2, "septum": 3}  # values of the phantom's labels
TUMOUR, TOGETHER = 4, "together"
LEVELS_HU = np.arange(-1000, 101, 10)  # thresholds to choose from
VESSEL_HU = -400.0  # half way from lung to vessel: edges of wide vessels, on real scans as well
CHESTS = {  # file: first slice
    "lidc_idri_0314_native_40slices.nii.gz": 19,
    "rider_pilot_0117_STANDARD_40slices.nii.gz": 19,
    "lungfcp_01-0001_B31f_40slices.nii.gz": 19,
    "cmb_crc_01068_LUNG_40slices.nii.gz": 19,
}
MEDIAN = 5  # pixels of the output along each side
REGION, REGION_SLICES = 64, 3  # pixels along each side, at the lung's centre
COLUMNS = (
    "dice_together", "dice_vessel", "dice_bronchial_wall", "dice_septum", "spectrum_distance", "psnr", "ssim",
    "consistency_rms_hu", "consistency_largest_hu", "vessel_roughness",
)  # fmt: skip

Volume = np.ndarray  # (X, Y, Z) in HU
Method = Callable[[Volume], Volume]


def methods(models: str, name: str) -> tuple[dict[str, Method], tuple[float, float]]:
    """Return the network, with and without its parts, interpolations, and the codec's limits in HU."""
    definition = read_definition(models)
    low, high = definition["codec"]["hu"]
    network: Any = build_network(definition)
    load_weights(network, Path(models) / "model.pt")
    network.eval()

    def run(volume: Volume, **weights: float) -> Volume:
        kept = {key: getattr(network, key) for key in weights}
        encoded = torch.from_numpy(np.moveaxis(volume, 2, 0)[:, None].astype(np.float32)).clamp(low, high)
        try:
            vars(network).update(weights)
            with torch.no_grad():
                output = torch.cat([network(one[None]) for one in 2 * (encoded - low) / (high - low) - 1])
        finally:
            vars(network).update(kept)
        return np.rint(np.moveaxis((output[:, 0].numpy() + 1) / 2 * (high - low) + low, 0, 2))

    def interpolated(mode: str) -> Method:
        interpolation = Interpolation(mode, network.factor)
        return lambda volume: interpolation.predict(np.clip(volume, low, high))

    found: dict[str, Method] = {name: run, "bicubic": interpolated("bicubic"), "nearest": interpolated("nearest")}
    if isinstance(network, BicubicResidualGenerator):
        found[f"{name}, no texture"] = lambda volume: run(volume, texture_weight=0.0)
        found[f"{name}, no texture, no residual"] = lambda volume: run(volume, texture_weight=0.0, residual_weight=0.0)
    return found, (low, high)


def cases(data: str, *splits: str) -> Iterator[tuple[str, Volume, Volume, Volume]]:
    """Yield name, clinical volume, truth and label map of each patient, axial slices last."""
    for entry in (entry for split in splits for entry in load_datalist(data, split)):
        images = (nib.as_closest_canonical(nib.load(entry[key])) for key in ("clinical", "truth", "label"))
        yield entry["patient"], *(np.asarray(image.dataobj).astype(np.float32) for image in images)


def structures(labels: Volume, slices: int) -> dict[str, tuple[Volume, Volume]]:
    """Return where each structure is, and all of them together, and which pixels count."""
    thick = labels.reshape(*labels.shape[:2], slices, -1)
    shares = {name: (thick == value).mean(axis=3) for name, value in STRUCTURES.items()}
    counted = (thick == TUMOUR).mean(axis=3) == 0
    total = np.sum(list(shares.values()), axis=0)
    found = {name: (share > 0.5, counted & (total == share)) for name, share in shares.items()}
    return found | {TOGETHER: (total > 0.5, counted)}


def dice_by_level(output: Volume, structure: Volume, counted: Volume) -> np.ndarray:
    """Return the Dice of `output >= level` with a structure for each of `LEVELS_HU`, among the pixels that count."""
    edges = np.append(LEVELS_HU, np.inf)
    inside, all_found = (
        np.histogram(output[where], edges)[0][::-1].cumsum()[::-1] for where in (structure & counted, counted)
    )
    size = (structure & counted).sum()
    return 2 * inside / np.maximum(all_found + size, 1)


def thresholds(data: str, found: Mapping[str, Method]) -> dict[str, dict[str, int]]:
    """Choose the threshold of each method and structure: of the highest mean Dice over the patients that have it."""
    values: dict[str, dict[str, list[np.ndarray]]] = {method: {} for method in found}
    for _, clinical, _, labels in cases(data, "training_paired"):
        truth = structures(labels, clinical.shape[2])
        for method, apply in found.items():
            output = apply(clinical)
            for structure, (inside, counted) in truth.items():
                if (inside & counted).any():
                    values[method].setdefault(structure, []).append(dice_by_level(output, inside, counted))
    return {
        method: {name: int(LEVELS_HU[np.mean(curves, axis=0).argmax()]) for name, curves in of.items()}
        for method, of in values.items()
    }


def measure(
    output: Volume,
    source: Volume,
    *,
    limits: Sequence[float],
    truth: Volume | None = None,
    spacing_mm: Sequence[float] = (1.0, 1.0),
) -> dict[str, float]:
    """Measure an output without structures: consistency in HU, and with a truth PSNR and spectrum."""
    clipped = np.clip(source, limits[0], limits[1])
    width = float(limits[1] - limits[0])
    factor = output.shape[0] // source.shape[0]
    blocks = output.reshape(source.shape[0], factor, source.shape[1], factor, -1).mean(axis=(1, 3))
    row = {
        "consistency_rms_hu": consistency(output, clipped, data_range=width)["consistency_mse"] ** 0.5,
        "consistency_largest_hu": float(abs(blocks - clipped).max()),
        "vessel_roughness": vessel_roughness(output, clipped),
    }
    if truth is not None:
        quality = [slice_quality(output[..., z], truth[..., z], data_range=width) for z in range(output.shape[2])]
        row["psnr"] = float(np.mean([each["psnr"] for each in quality]))
        row["spectrum_distance"] = spectrum_distance(output, truth, spacing_mm)
        row["vessel_roughness_truth"] = vessel_roughness(truth, clipped)
    return row


def vessel_roughness(image: Volume, source: Volume) -> float:
    """Return how frayed wide vessels are: their edges' length at -400 HU, over that after a median filter of 0.4 mm.

    Wide vessels are those in which a clinical pixel fits, in the source interpolated bicubically; what hangs together
    with them counts up to a clinical pixel farther.
    """
    factor = image.shape[0] // source.shape[0]
    smooth = Interpolation("bicubic", factor).predict(source) >= VESSEL_HU
    radius = np.hypot(*np.mgrid[-factor : factor + 1, -factor : factor + 1]) <= factor
    lengths = np.zeros(2)
    for z in range(image.shape[2]):
        wide = ndimage.binary_opening(smooth[..., z], radius)
        found = (image[..., z] >= VESSEL_HU) & ndimage.binary_dilation(wide, radius)
        found = ndimage.binary_propagation(found & wide, mask=found)
        lengths += [_edge_length(found), _edge_length(ndimage.median_filter(found, MEDIAN))]
    return float(lengths[0] / lengths[1]) if lengths[1] else 1.0


def _edge_length(mask: np.ndarray) -> int:
    return sum(int(np.diff(mask, axis=axis).sum()) for axis in (0, 1))


def score(data: str, *, models: str, name: str, unseen: str | None = None, result: str | None = None) -> None:
    """Score weights on phantom patients, beside bicubic interpolation, and keep the rows.

    Args:
        data: Folder of the training's data set, on whose list `training_paired` thresholds are chosen.
        models: Models folder.
        name: Name of the weights in the results; its earlier rows are replaced.
        unseen: Folder of another data set, all of whose patients are scored; default: the list `test` of `data`.
        result: File of results; default: benchmarks/results/super_resolution.json.
    """
    found, limits = methods(models, name)
    chosen = thresholds(data, found)
    rows = []
    scored = (data, "test") if unseen is None else (unseen, "training_paired", "validation", "test")
    for patient, clinical, truth, labels in cases(*scored):
        mean, where = thick_slices(truth, clinical.shape[2]), structures(labels, clinical.shape[2])
        spacing = (0.625 * clinical.shape[0] / truth.shape[0],) * 2
        for method, apply in found.items():
            output = apply(clinical)
            row = measure(output, clinical, limits=limits, truth=mean, spacing_mm=spacing)
            for structure, (inside, counted) in where.items():
                if (inside & counted).any():
                    level = LEVELS_HU.tolist().index(chosen[method][structure])
                    row[f"dice_{structure}"] = float(dice_by_level(output, inside, counted)[level])
            rows.append(
                {"data": "test" if unseen is None else "unseen", "case": patient, "method": method} | _rounded(row)
            )
    run: dict[str, Any] = {"name": name, "data": rows[0]["data"]}
    run |= {"weights_sha256": checksum(Path(models) / "model.pt"), "thresholds_hu": chosen}
    _add(result, rows, run | {"summary": {"clinical->micro": _means(rows)}})
    _print(rows)


def chests(originals: str, *, models: str, name: str, result: str | None = None) -> None:
    """Score weights on regions of real chests, of which there is no truth, and keep the rows.

    Args:
        originals: Folder of the files.
        models: Models folder.
        name: Name of the weights in the results.
        result: File of results; default: benchmarks/results/super_resolution.json.
    """
    found, limits = methods(models, name)
    rows = []
    for file in CHESTS:
        source = chest(originals, file)
        for method, apply in found.items():
            row = measure(apply(source), source, limits=limits)
            rows.append({"data": "chests", "case": file.split(".")[0], "method": method} | _rounded(row))
    _add(result, rows, None)
    _print(rows)


def chest(originals: str, file: str) -> Volume:
    """Return the region at the centre of the larger lung in the slices that are judged."""
    image = nib.as_closest_canonical(nib.load(Path(originals) / file))
    slices = slice(CHESTS[file], CHESTS[file] + REGION_SLICES)
    volume = np.asarray(image.dataobj[..., slices], dtype=np.float32)
    parts, _ = ndimage.label(lung_mask(volume, image.header.get_zooms()[:3]))
    largest = np.bincount(parts.ravel())[1:].argmax() + 1
    centre = ndimage.center_of_mass(parts == largest)[:2]
    first = [int(np.clip(c - REGION / 2, 0, n - REGION)) for c, n in zip(centre, volume.shape)]
    return volume[first[0] : first[0] + REGION, first[1] : first[1] + REGION]


def micro(output_dir: str, *, data: str, name: str, result: str | None = None) -> None:
    """Keep the scores that an evaluation with `evaluate_micro.yaml` has left.

    Args:
        output_dir: Output folder of the evaluation.
        data: Name of the data in the results.
        name: Name of the weights in the results; its earlier rows are replaced.
        result: File of results; default: benchmarks/results/micro_test.json.
    """
    with (Path(output_dir) / "metrics.csv").open(newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    rows = []
    for each in found:
        method = name if each["method"] == "network" else each["method"]
        row = {key: float(each[key]) for key in ("psnr", "ssim", "spectrum_distance")}
        row["consistency_rms_hu"] = float(each["consistency_mse"]) ** 0.5
        rows.append({"data": data, "case": each["patient"], "method": method} | _rounded(row))
    facts = json.loads((Path(output_dir) / "run.json").read_text(encoding="utf-8"))
    _add(result or str(MICRO), rows, {"name": name, "data": data, "weights_sha256": facts["weights_sha256"]})
    _print(rows)


def table(path: str, *, data: str = "unseen") -> None:
    """Print the means over the cases as Markdown, a row per method.

    Args:
        path: File of results.
        data: `unseen`, `test` or `chests`; of the test on micro CT `phantom`, `tooth`, or one of them and `_spline`.
    """
    _print([row for row in json.loads(Path(path).read_text(encoding="utf-8"))["rows"] if row["data"] == data])


def pictures(originals: str, *, models: str, data: str, output_dir: str | None = None) -> None:
    """Draw a phantom patient and a real chest: source, bicubic, network without texture, network, and truth if any.

    Args:
        originals: Folder of the real scans.
        models: Models folder.
        data: Folder of a phantom data set, whose first test patient is drawn.
        output_dir: Folder of the PNG files; default: docs/images/real_scans.
    """
    folder = Path(output_dir or IMAGES)
    found, _ = methods(models, "network")
    order = [found[key] for key in ("bicubic", "network, no texture", "network") if key in found]
    _, clinical, truth, _ = next(cases(data, "test"))
    _draw(folder / "super_resolution_phantom.png", clinical, order, thick_slices(truth, clinical.shape[2]))
    _draw(folder / "super_resolution_chest.png", chest(originals, next(iter(CHESTS))), order, None)


def _draw(path: Path, source: Volume, order: Sequence[Method], truth: Volume | None) -> None:
    side = min(source.shape[0], 40)
    source = source[:side, :side, :1]
    outputs = [np.kron(source, np.ones((8, 8, 1))), *(apply(source) for apply in order)]
    if truth is not None:
        outputs.append(truth[: 8 * side, : 8 * side, :1])
    tiles = [np.rot90(np.clip((image[::-1, :, 0] + 1100) / 1300, 0, 1)) for image in outputs]
    Image.fromarray((np.concatenate(tiles, axis=1) * 255).astype(np.uint8)).save(path)
    print(path)


def _means(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """Return the mean of each metric over the cases, by method."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        for metric, value in row.items():
            if isinstance(value, float):
                found.setdefault(row["method"], {}).setdefault(metric, []).append(value)
    return {
        method: {metric: {"mean": round(float(np.mean(values)), 6)} for metric, values in of.items()}
        for method, of in found.items()
    }


def _rounded(row: Mapping[str, float]) -> dict[str, float]:
    return {key: round(value, 4) for key, value in row.items()}


def _add(result: str | None, rows: list[dict[str, Any]], run: dict[str, Any] | None) -> None:
    path = Path(result or RESULT)
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"rows": [], "runs": []}
    keys = {(row["data"], row["method"]) for row in rows}
    content["rows"] = [row for row in content["rows"] if (row["data"], row["method"]) not in keys] + rows
    if run is not None:
        key = (run["name"], run["data"])
        content["runs"] = [each for each in content["runs"] if (each["name"], each["data"]) != key] + [run]
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _print(rows: Sequence[Mapping[str, Any]]) -> None:
    columns = [name for name in (*COLUMNS, "vessel_roughness_truth") if any(name in row for row in rows)]
    print("| method | " + " | ".join(columns) + " |\n|" + "---|" * (1 + len(columns)))
    for method in dict.fromkeys(row["method"] for row in rows):
        values = {c: [row[c] for row in rows if row["method"] == method and c in row] for c in columns}
        largest = "consistency_largest_hu"
        cells = [f"{(max if c == largest else np.mean)(values[c]):.4g}" if values[c] else "" for c in columns]
        print(f"| {method} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    fire.Fire({"score": score, "chests": chests, "micro": micro, "table": table, "pictures": pictures})
