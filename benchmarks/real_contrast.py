"""
Contrast enhancement on open scans: training data of two patients, and an organ by organ judgement of a third.

    python benchmarks/real_contrast.py prepare ORIGINALS --output_dir runs/contrast
    python -m monai.bundle run training --config_file "['configs/train.yaml','configs/twins.yaml']" \
        --dataset_dir runs/contrast/training --models_dir MODELS --output_dir TRAINING
    python benchmarks/real_contrast.py score ORIGINALS --models MODELS --name network
    python benchmarks/real_contrast.py table benchmarks/results/nect2cect_real.json
    python benchmarks/real_contrast.py picture ORIGINALS --models MODELS

ORIGINALS is a folder with the files that `ENHANCED`, `PLAIN` and `JUDGED` name (docs/real_scans_contrast.md has their
sources). No training sees the judged patient.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import fire
import nibabel as nib
import numpy as np
from monai.bundle import ConfigParser
from PIL import Image
from scipy import ndimage
from skimage.draw import polygon2mask

from common.data import load_datalist
from common.engines.translator import VolumeTranslator
from common.files import checksum
from common.networks import ResidualGenerator, load_weights
from common.phantoms import generate_phantom
from common.transforms import write_contrast_twins
from common.transforms.unchanged import body_mask

ROOT = Path(__file__).parents[1]
BUNDLE = ROOT / "bundles" / "nect2cect"
RESULT = ROOT / "benchmarks" / "results" / "nect2cect_real.json"
RANGES = ROOT / "benchmarks" / "enhancement_ranges.json"
ENHANCED = ("totalseg_example_contrast_Br38f_20slices.nii.gz", "totalseg_example_contrast_seg_20slices.nii.gz")
PLAIN = "acrin_flt_breast_001_abdomen_SOFT_44slices.nii.gz"
JUDGED = ("totalseg_example_ct_noncontrast_3mm.nii.gz", "totalseg_example_seg_slices82to111.nii.gz")
FIRST_LABELLED, LAST_LABELLED = 82, 111  # slices of the judged scan
LABELS = {  # of the judged scan
    "liver": (5,),
    "spleen": (1,),
    "kidney_right": (2,),
    "kidney_left": (3,),
    "aorta": (52,),
    "inferior_vena_cava": (63,),
    "portal_vein": (64,),
    "muscle": (86, 87),
    "psoas": (88, 89),
    "lung": (11, 12, 13, 14),
    "vertebrae": (30, 31, 32, 33),
    "pancreas": (7,),
    "gallbladder": (4,),
}
CORTEX_MM = 6.0
PHANTOM_METRICS = (
    "psnr_window",
    "ms_ssim_window",
    "false_enhancement_hu",
    "enhancement_bias_liver_hu",
    "enhancement_bias_aorta_hu",
    "enhancement_bias_kidney_cortex_hu",
)
SHOWN = (84, 91, 97, 104)
TWINS = {"enhanced": 10, "plain": 4}
PHANTOM = {"patients": 48, "slices": 6, "slice_mm": 6.0, "seed": 7}

# Organs of the scan `PLAIN`, which has no labels: outlines drawn by eye on every few slices, in pixels twice its size
# (RAS), filled in between, and limited to the HU of the organ. An ellipse is its centre and half axes.
Outline = dict[int, Any]
KIDNEY_LEFT: Outline = {
    11: (97, 91, 7, 5), 14: (96, 91, 14, 10), 18: (97, 89, 16, 11), 22: (96, 88, 18, 11), 25: (98, 89, 17, 12),
    28: (100, 88, 17, 13), 31: (101, 88, 16, 13), 34: (102, 88, 15, 13), 37: (108, 87, 11, 12), 38: (108, 87, 8, 9),
}  # fmt: skip
KIDNEY_RIGHT: Outline = {
    9: (173, 101, 7, 6), 14: (174, 101, 14, 13), 18: (172, 99, 15, 14), 22: (173, 95, 17, 13),
    25: [(156, 104), (152, 100), (160, 88), (172, 81), (184, 82), (187, 92), (180, 106), (165, 112)],
    28: (167, 94, 16, 15), 31: (163, 94, 15, 14), 34: (161, 92, 13, 13), 37: (160, 91, 6, 8),
}  # fmt: skip
AORTA: Outline = {
    0: (131.5, 119, 4.5, 4.5), 4: (131.5, 118, 4.5, 4.5), 9: (130, 118.5, 4.8, 4.8), 14: (131, 116, 4.8, 4.8),
    18: (131, 115.5, 4.3, 4.5), 22: (130.8, 114.5, 4.3, 4.5), 25: (129, 113.5, 4.6, 4.6), 28: (128, 112, 4.8, 4.8),
    31: (129, 110.5, 5, 5), 34: (127, 111, 5, 5), 37: (127.5, 110.5, 5.5, 5.5), 40: (127, 109.5, 5.5, 5.5),
    43: (126.5, 109, 5.5, 5.5),
}  # fmt: skip
CAVA: Outline = {
    0: (145, 115, 6.5, 4), 4: (144, 115, 6.5, 4), 9: (142.5, 115.5, 6.5, 4), 14: (143.5, 116, 7, 5),
    18: (144, 115, 6.5, 5.5), 22: (145, 114, 6, 4.5), 34: (146.5, 112.2, 7.8, 4), 37: (147, 111, 7.5, 5.5),
    40: (145, 113, 9, 6),
}  # fmt: skip
LIVER: Outline = {
    25: [(187, 104), (187, 120), (192, 123), (196, 110), (192, 101)],
    28: [(186, 91), (182, 103), (184, 118), (192, 132), (199, 128), (200, 112), (195, 96)],
    31: [(164, 106), (172, 96), (185, 83), (193, 83), (201, 105), (205, 125), (197, 144), (189, 134), (178, 121)],
    34: [(158, 112), (165, 99), (178, 82), (190, 81), (202, 97), (206, 122), (200, 144), (190, 141), (178, 124)],
    37: [(155, 113), (160, 97), (175, 79), (190, 80), (201, 97), (206, 120), (203, 140), (195, 151), (180, 163),
         (166, 162), (164, 155), (178, 149), (180, 134), (165, 121)],
    40: [(150, 112), (155, 94), (168, 77), (185, 76), (201, 100), (205, 125), (201, 148), (185, 163), (150, 162),
         (131, 155), (140, 146), (152, 153), (163, 143), (175, 136), (160, 124)],
    43: [(150, 80), (148, 95), (150, 110), (135, 112), (132, 122), (150, 126), (137, 129), (139, 160), (160, 166),
         (185, 161), (204, 140), (206, 115), (201, 95), (185, 77), (165, 74)],
}  # fmt: skip
SPLEEN: Outline = {
    35: [(78, 88), (84, 90), (90, 84), (86, 79), (80, 81)],
    37: [(75, 90), (82, 93), (94, 86), (98, 77), (85, 77), (76, 84)],
    40: [(70, 98), (74, 101), (84, 95), (98, 91), (107, 86), (107, 75), (100, 72), (83, 76)],
    43: [(71, 99), (77, 103), (85, 95), (100, 89), (110, 91), (116, 86), (111, 77), (95, 72), (82, 76)],
}  # fmt: skip
DRAWN = {  # TotalSegmentator's value: outlines, lowest and highest HU
    3: (KIDNEY_LEFT, 6, 48), 2: (KIDNEY_RIGHT, 6, 48), 52: (AORTA, 12, 200), 63: (CAVA, 12, 80),
    5: (LIVER, 44, 110), 1: (SPLEEN, 34, 90),
}  # fmt: skip


def prepare(originals: str, *, output_dir: str, workers: int | None = None) -> None:
    """Write the training data: contrast twins of two patients, and varied phantoms.

    Args:
        originals: Folder of the files.
        output_dir: Folder of the data; its part `training` is the data set.
        workers: Processes that make the phantoms.
    """
    out, source = Path(output_dir), Path(originals)
    pairs: list[dict[str, Any]] = []
    (out / "labels").mkdir(parents=True, exist_ok=True)
    drawn = out / "labels" / "plain.nii.gz"
    scan = nib.load(source / PLAIN)
    nib.save(nib.Nifti1Image(draw_labels(scan), nib.as_closest_canonical(scan).affine), drawn)
    scans = {"enhanced": (source / ENHANCED[0], source / ENHANCED[1], "CECT"), "plain": (source / PLAIN, drawn, "NECT")}
    for patient, (image, label, domain) in scans.items():
        entry = {"image": str(image.resolve()), "label": str(label.resolve()), "domain": domain, "patient": patient}
        (out / f"{patient}.json").write_text(
            json.dumps({"name": patient, "training": [entry]}) + "\n", encoding="utf-8"
        )
        made, _ = write_contrast_twins(out / f"{patient}.json", out / patient, twins=TWINS[patient])
        pairs += load_datalist(made, "training_paired")
    phantom = generate_phantom("abdomen_varied", out / "phantom", workers=workers, **PHANTOM)
    phantoms = [
        {"patient": entry["patient"], "NECT": entry["plain"], "CECT": entry["truth"], "truth": entry["truth"]}
        for key in ("training_paired", "validation", "test")
        for entry in load_datalist(phantom, key)
    ]
    pairs += phantoms  # about as many slices as of the scans
    single = [
        {"image": pair[key], "domain": key, "patient": pair["patient"]} for pair in pairs for key in ("NECT", "CECT")
    ]
    name = "contrast twins of two open scans, and varied abdomen phantoms"
    lists = {"name": name, "training": single, "training_paired": pairs, "validation": [], "test": []}
    (out / "training").mkdir(exist_ok=True)
    (out / "training" / "datalist.json").write_text(json.dumps(lists, indent=1) + "\n", encoding="utf-8")
    print(out / "training")


def draw_labels(scan: Any) -> np.ndarray:
    """Return the organs of the scan `PLAIN` (X, Y, Z) along R, A and S, with TotalSegmentator's values."""
    values = np.asarray(nib.as_closest_canonical(scan).dataobj, dtype=np.float32)
    smooth = ndimage.gaussian_filter(values, (1.6, 1.6, 0.4))
    label = np.zeros(values.shape, dtype=np.uint8)
    for value, (outline, low, high) in DRAWN.items():
        mask = between(outline, values.shape) & (smooth > low) & (smooth < high)
        mask = ndimage.binary_closing(ndimage.binary_opening(mask, np.ones((5, 5, 1))), np.ones((5, 5, 1)))
        label[mask & (label == 0)] = value
    return label


def between(outline: Outline, shape: tuple[int, ...]) -> np.ndarray:
    """Fill outlines on some slices, and the slices in between by interpolation of the distance to the outline."""
    half = (shape[0] // 2, shape[1] // 2)
    x, y = np.mgrid[: half[0], : half[1]]
    distances = {}
    for z, form in outline.items():
        if isinstance(form, list):
            inside = polygon2mask(half, np.array(form))
        else:
            inside = ((x - form[0]) / form[2]) ** 2 + ((y - form[1]) / form[3]) ** 2 <= 1
        distances[z] = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
    found = np.zeros(shape, dtype=bool)
    levels = sorted(distances)
    for z in range(levels[0], min(levels[-1], shape[2] - 1) + 1):
        above = next(level for level in levels if level >= z)
        below = max(level for level in levels if level <= z)
        share = 0.0 if above == below else (z - below) / (above - below)
        distance = (1 - share) * distances[below] + share * distances[above]
        found[..., z] = np.kron(distance > 0, np.ones((2, 2), dtype=bool))
    return found


def score(originals: str, *, models: str, name: str, evaluation: str | None = None, result: str | None = None) -> None:
    """Score weights on the judged patient, with and without what the network adds, and keep the rows.

    Args:
        originals: Folder of the files.
        models: Models folder.
        name: Name of the weights in the results; its earlier rows are replaced.
        evaluation: Output folder of `evaluating` with these weights on the abdomen phantom, whose scores are kept, too.
        result: File of results; default: benchmarks/results/nect2cect_real.json.
    """
    path = Path(result or RESULT)
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"rows": [], "runs": []}
    source, label = judged(originals)
    regions = find_regions(source, label)
    rows, runs = [], [run for run in content["runs"] if run["name"] != name]
    for method, output in outputs(originals, models, name).items():
        for region, row in measure(output, source, regions).items():
            rows.append({"method": method, "region": region, **row})
            print(json.dumps(rows[-1]))
    done = {row["method"] for row in rows}
    rows = [row for row in content["rows"] if row["method"] not in done] + rows
    run: dict[str, Any] = {"name": name, "weights_sha256": checksum(Path(models) / "model.pt")}
    if evaluation is not None:
        summary = json.loads((Path(evaluation) / "summary.json").read_text(encoding="utf-8"))
        run["summary"] = {key: value for key, value in summary.items() if "->" in key}
    runs.append(run)
    path.write_text(json.dumps({"rows": rows, "runs": runs}, indent=1) + "\n", encoding="utf-8")


def judged(originals: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the judged scan in HU and its labels, both (X, Y, Z)."""
    scan, label = (np.asarray(nib.load(Path(originals) / name).dataobj) for name in JUDGED)
    return scan.astype(np.float32), label


def outputs(originals: str, models: str, name: str) -> dict[str, np.ndarray]:
    """Translate the judged scan as `inference.yaml` does; by method, and without what the network adds if it can."""
    parser = ConfigParser()
    parser.read_config(str(BUNDLE / "configs" / "inference.yaml"))
    places = {"bundle_root": str(BUNDLE), "models_dir": str(Path(models).absolute())}
    parser.update({**places, "device": "cpu", "read": None})
    parts = {key: parser.get_parsed_content(key) for key in ("network", "encode", "decode", "inferer", "load")}
    load_weights(parts["network"], Path(models) / "model.pt")
    networks = {name: parts["network"]}
    if isinstance(parts["network"], ResidualGenerator):
        networks["identity"] = copy.deepcopy(parts["network"])
        networks["identity"].residual_weight = 0.0
    volume = parts["load"]({"image": str(Path(originals) / JUDGED[0])})["image"]
    made = {}
    for method, network in networks.items():
        translate = VolumeTranslator(network, parts["encode"], parts["decode"], inferer=parts["inferer"])
        made[method] = np.asarray(translate(volume.clone(), "CECT")[0], dtype=np.float32)
    return made


def find_regions(source: np.ndarray, label: np.ndarray) -> dict[str, np.ndarray]:
    """Return the voxels of each region that is judged, in the labelled slices alone."""
    labelled = np.zeros(source.shape, dtype=bool)
    labelled[..., FIRST_LABELLED : LAST_LABELLED + 1] = True
    body = np.stack([body_mask(source[..., z], (3.0, 3.0)) for z in range(source.shape[2])], axis=-1)
    regions = {name: np.isin(label, values) for name, values in LABELS.items()}
    for side in ("right", "left"):
        kidney = regions[f"kidney_{side}"]
        deep = ndimage.distance_transform_edt(kidney) * 3.0 > CORTEX_MM
        regions[f"kidney_{side}_rim"], regions[f"kidney_{side}_core"] = kidney & ~deep, kidney & deep
    smooth = ndimage.uniform_filter(source, 3)
    regions["fat"] = labelled & body & (abs(smooth + 100) < 20) & (abs(source + 100) < 40) & (label == 0)
    regions["cortical_bone"] = labelled & body & (source > 300)
    regions["air"] = labelled & ~body & (source < -900)
    return regions


def measure(output: np.ndarray, source: np.ndarray, regions: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Measure the change of each region: mean, that of its inside, the SD of the change, and the source's mean."""
    change, rows = output - source, {}
    for name, region in regions.items():
        if not region.any():
            continue
        inside = region & ndimage.binary_erosion(region)
        values = change[region]
        rows[name] = {
            "voxels": int(region.sum()),
            "source_hu": float(source[region].mean()),
            "change_hu": float(values.mean()),
            "inside_hu": float(change[inside].mean()) if inside.any() else float(values.mean()),
            "sd_hu": float(values.std()),
            "largest_hu": float(abs(values).max()),
        }
    return {name: {key: round(value, 2) for key, value in row.items()} for name, row in rows.items()}


def table(path: str, *, column: str = "change_hu") -> None:
    """Print the change of each region as Markdown, a column per method, beside the range.

    Args:
        path: File of results.
        column: `change_hu`, `inside_hu`, `sd_hu` or `largest_hu`.
    """
    rows = json.loads(Path(path).read_text(encoding="utf-8"))["rows"]
    stated = json.loads(RANGES.read_text(encoding="utf-8"))
    values = {(row["method"], row["region"]): row[column] for row in rows}
    methods, regions = (list(dict.fromkeys(row[key] for row in rows)) for key in ("method", "region"))
    print("| region | HU before | range | " + " | ".join(methods) + " |\n|" + "---|" * (3 + len(methods)))
    for region in regions:
        limits = stated["ranges"].get(region)
        before = next(row["source_hu"] for row in rows if row["region"] == region)
        cells = [_cell(values[method, region], limits if column == "change_hu" else None) for method in methods]
        allowed = "" if limits is None else f"{limits[0]} to {limits[1]}"
        print(f"| {region.replace('_', ' ')} | {before:.0f} | {allowed} | " + " | ".join(cells) + " |")
    if column == "change_hu":
        most = [0, stated["kidneys_differ_by_at_most"]]
        apart = [abs(values[method, "kidney_right"] - values[method, "kidney_left"]) for method in methods]
        print(f"| kidneys apart | | {most[0]} to {most[1]} | " + " | ".join(_cell(a, most) for a in apart) + " |")


def _cell(value: float, limits: list[float] | None) -> str:
    value = round(value, 1) + 0.0  # no minus before a zero
    outside = limits is not None and not limits[0] <= value <= limits[1]
    return f"**{value:.1f}**" if outside else f"{value:.1f}"


def phantom(path: str) -> None:
    """Print the scores on the test patients of the abdomen phantom as Markdown, a row per method.

    Args:
        path: File of results.
    """
    runs = json.loads(Path(path).read_text(encoding="utf-8"))["runs"]
    print("| weights | " + " | ".join(PHANTOM_METRICS) + " |\n|" + "---|" * (1 + len(PHANTOM_METRICS)))
    for run in (run for run in runs if "summary" in run):
        (methods,) = run["summary"].values()
        names = ["network"] if run is not runs[-1] else list(methods)
        for name in names:
            cells = [f"{methods[name][metric]['mean']:.4g}" for metric in PHANTOM_METRICS]
            print(f"| {run['name'] if name == 'network' else name} | " + " | ".join(cells) + " |")


def picture(originals: str, *, models: str, output: str | None = None) -> None:
    """Draw slices of the judged scan: before, the network's CECT, and the change; the patient's right on the left.

    Args:
        originals: Folder of the files.
        models: Models folder.
        output: PNG file; default: docs/images/real_scans/contrast.png.
    """
    path = Path(output or ROOT / "docs" / "images" / "real_scans" / "contrast.png")
    source, _ = judged(originals)
    made = outputs(originals, models, "network")["network"]
    rows = []
    for volume, low, high in ((source, -60, 200), (made, -60, 200), (made - source, -20, 160)):
        tiles = [np.rot90(volume[::-1, :, z]).repeat(3, 0).repeat(3, 1) for z in SHOWN]  # X runs to the right
        rows.append(np.clip((np.concatenate(tiles, axis=1) - low) / (high - low), 0, 1))
    Image.fromarray((np.concatenate(rows) * 255).astype(np.uint8)).save(path)
    print(path)


if __name__ == "__main__":
    fire.Fire({"prepare": prepare, "score": score, "table": table, "phantom": phantom, "picture": picture})
