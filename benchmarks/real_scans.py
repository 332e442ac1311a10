"""
T1 to T2 on open scans of patients of four sets, each scored by weights that saw no subject of its set.

    python benchmarks/real_scans.py prepare ORIGINALS --output_dir runs/real
    python -m monai.bundle run training \
        --config_file "['configs/train.yaml','configs/randomised.yaml','configs/pairs.yaml']" --dataset_dir \
        runs/real/not_stroke_glioma --models_dir MODELS --output_dir TRAINING
    python benchmarks/real_scans.py score runs/real --weights "{'MODELS': ['stroke', 'glioma']}" --name "half pairs"
    python benchmarks/real_scans.py table benchmarks/results/nec_t1t2_real_scans.json
    python benchmarks/real_scans.py pictures runs/real --weights "{'MODELS': ['stroke', 'glioma']}"

ORIGINALS is a folder with the files that `SETS` names (docs/real_scans.md says where they come from). Scores are inside
the brain after the output's histogram was matched to the truth's there, which is the same for every method, and without
matching, after one factor that gives the output the truth's median.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import fire
import nibabel as nib
import numpy as np
from monai.bundle import ConfigParser
from PIL import Image
from scipy import ndimage

from common.baselines import InvertedHistogramMatching, load_baselines
from common.engines.translator import BaselineNetwork, VolumeTranslator
from common.files import checksum
from common.metrics import checkerboard_index, sharpness, ssim_map, summarise
from common.networks import ResidualGenerator, load_weights

ROOT = Path(__file__).parents[1]
BUNDLE = ROOT / "bundles" / "nec_t1t2"
RESULT = ROOT / "benchmarks" / "results" / "nec_t1t2_real_scans.json"
SETS: dict[str, dict[str, str]] = {  # set: scan: start of its files' names
    "cross-sectional MS": {"ms07": "openms_cross07", "ms19": "openms_cross19"},
    "longitudinal MS": {
        "ms01_visit1": "openms_long01_study1",
        "ms01_visit2": "openms_long01_study2",
        "ms03": "openms_long03_study2",
        "ms04": "openms_long04_study1",
    },
    "stroke": {"stroke": "cstar_stroke"},
    "glioma": {"glioma": "TCGA-FG-6692"},
}
SHORT = {"cross": "cross-sectional MS", "long": "longitudinal MS", "stroke": "stroke", "glioma": "glioma"}
FOLDS = {
    "not_stroke_glioma": ("cross", "long"),
    "not_cross": ("long", "stroke", "glioma"),
    "not_long": ("cross", "stroke", "glioma"),
}
DOMAINS = ("T1", "T2", "FLAIR")
INVERTED = InvertedHistogramMatching.name
CLASSICAL = (INVERTED, "intensity_curve", "histogram_matching", "identity")
WITH_SKULL = "openms_long"
RANGE_PERCENTILE = 99.5  # of the truth inside the brain: PSNR's range
METRICS = (
    "psnr",
    "ssim",
    "psnr_unmatched",
    "ssim_unmatched",
    "psnr_volume",
    "ssim_volume",
    "mae_volume",
    "sharpness",
    "checkerboard",
    "csf_to_white",
    "lesion_error",
)


def prepare(originals: str, *, output_dir: str, sets: Sequence[str] = tuple(SETS)) -> None:
    """Write the scans without skull, all under one scheme of names, and one datalist for each fold.

    Args:
        originals: Folder of the files named in `SETS`.
        output_dir: Folder of the scans and of one folder per fold.
        sets: Sets whose scans are written.
    """
    out = Path(output_dir)
    out.mkdir(parents=True, exist_ok=True)
    for scan, stem in [item for name in sets for item in SETS[name].items()]:
        paths = {domain: _original(originals, stem, domain) for domain in DOMAINS}
        images = {domain: nib.as_closest_canonical(nib.load(path)) for domain, path in paths.items() if path.is_file()}
        source = np.asarray(images["T1"].dataobj, dtype=np.float32)
        brain = np.ones(source.shape, dtype=bool)
        if stem.startswith(WITH_SKULL):
            brain = extract_brain(source, [float(size) for size in images["T1"].header.get_zooms()[:3]])
        for domain, image in images.items():
            values = np.where(brain, np.asarray(image.dataobj), 0)
            nib.save(nib.Nifti1Image(values.astype(np.float32), image.affine), scan_path(out, scan, domain))
    for fold, names in FOLDS.items():
        folder = out / fold
        folder.mkdir(exist_ok=True)
        single, paired = [], []
        for scan in [scan for name in names for scan in SETS[SHORT[name]]]:
            patient = scan.split("_")[0]
            files = {domain: f"../{scan_path(out, scan, domain).name}" for domain in ("T1", "T2")}
            single += [{"image": path, "domain": domain, "patient": patient} for domain, path in files.items()]
            paired.append({"patient": patient, **files})
        name = f"open T1 and T2 scans without skull: {', '.join(SHORT[name] for name in names)}"
        lists = {"name": name, "training": single, "training_paired": paired, "validation": [], "test": []}
        (folder / "datalist.json").write_text(json.dumps(lists, indent=1) + "\n", encoding="utf-8")
        print(folder)


def scan_path(scans: str | Path, scan: str, domain: str) -> Path:
    """Return the path of a prepared scan."""
    return Path(scans) / f"{scan}_{domain}.nii.gz"


def _original(folder: str, stem: str, domain: str) -> Path:
    suffix = f"_{domain.lower()}_brain" if stem.startswith("TCGA") else f"_{domain}"
    return Path(folder) / f"{stem}{suffix}.nii.gz"


def score(
    scans: str, *, weights: Mapping[str, Sequence[str]], name: str, baselines: bool = False, result: str | None = None
) -> None:
    """Score weights on the sets that they did not see, and add the rows to the file of results.

    Args:
        scans: Folder that `prepare` wrote.
        weights: Models folder: the short names of the sets that it did not see.
        name: Name of the method in the results; its earlier rows are replaced.
        baselines: Whether to score the classical methods of `baselines.json` as well.
        result: File of results; default: benchmarks/results/nec_t1t2_real_scans.json.
    """
    path = Path(result or RESULT)
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"rows": [], "runs": []}
    rows, new = content["rows"], []
    hashes = {models: checksum(Path(models) / "model.pt") for models in weights}
    for models, unseen in weights.items():
        for short in unseen:
            for scan in SETS[SHORT[short]]:
                for method, translate in translators(models, name, baselines=baselines).items():
                    row = {"set": SHORT[short], "scan": scan, "method": method}
                    row |= score_scan(scans, scan, translate)
                    new.append(row)
                    print(json.dumps(row), flush=True)
    done = {(row["scan"], row["method"]) for row in new}
    rows = [row for row in rows if (row["scan"], row["method"]) not in done] + new
    runs = [run for run in content["runs"] if run["name"] != name or run["models"] not in hashes.values()]
    for models, sha in hashes.items():
        unseen = [scan for short in weights[models] for scan in SETS[SHORT[short]]]
        run = {"name": name, "models": sha, "scans": unseen, "facts": {"weights_sha256": sha}}
        runs.append({**run, "summary": summary_of(run, rows)})
    content = {"rows": rows, "runs": runs}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def summary_of(run: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Summarise the rows of a run's network, as `network`, and those of the classical methods on the same scans."""
    names = {run["name"] + end: "network" + end for end in ("", "_without_residual")}
    names |= {name: name for name in CLASSICAL}
    own = [
        {
            **{key: value for key, value in row.items() if key not in ("scan", "set")},
            "method": names[row["method"]],
            "patient": row["scan"],
            "direction": "T1->T2",
        }
        for row in rows
        if row["scan"] in run["scans"] and row["method"] in names
    ]
    return summarise(own)


def translators(models: str, name: str, *, baselines: bool = False) -> dict[str, Callable]:
    """Return translators as `inference.yaml` applies them: the network, without its residual, and the baselines."""
    parser = ConfigParser()
    parser.read_config(str(BUNDLE / "configs" / "inference.yaml"))
    parser.update({"bundle_root": str(BUNDLE), "models_dir": str(Path(models).absolute()), "device": "cpu"})
    parts = {key: parser.get_parsed_content(key) for key in ("network", "encode", "decode", "inferer", "load")}
    load_weights(parts["network"], Path(models) / "model.pt")

    def whole(network: Any, inferer: Any = None) -> Callable:
        translator = VolumeTranslator(network, parts["encode"], parts["decode"], inferer=inferer)
        return lambda path: translator(parts["load"]({"image": str(path)})["image"], "T2")

    found = {name: whole(parts["network"], parts["inferer"])}
    if baselines:
        if isinstance(parts["network"], ResidualGenerator):
            bare = copy.deepcopy(parts["network"])
            bare.residual_weight = 0.0
            found[f"{name}_without_residual"] = whole(bare, parts["inferer"])
        fitted = load_baselines(Path(models) / "baselines.json")
        found |= {kind: whole(BaselineNetwork(baseline)) for kind, baseline in fitted.items()}
    return found


def score_scan(scans: str, scan: str, translate: Callable) -> dict[str, float]:
    """Score one translation of a scan, inside the brain that T1 and T2 share."""
    arrays = [np.asarray(each.dataobj, dtype=np.float32) for each in translated(scans, scan, translate)]
    flair_path = scan_path(scans, scan, "FLAIR")
    flair = (
        np.asarray(nib.as_closest_canonical(nib.load(flair_path)).dataobj, dtype=np.float32)
        if flair_path.is_file()
        else None
    )
    return measure(
        arrays[0], arrays[1], arrays[2], ndimage.binary_opening((arrays[2] > 0) & (arrays[1] > 0)), flair=flair
    )


def measure(
    output: np.ndarray, truth: np.ndarray, source: np.ndarray, brain: np.ndarray, *, flair: np.ndarray | None = None
) -> dict[str, float]:
    """Measure a translation (X, Y, Z) against the truth on its grid; `METRICS` are the names of the numbers."""
    width = float(np.percentile(truth[brain], RANGE_PERCENTILE))
    matched = np.zeros_like(truth)
    order = np.argsort(output[brain], kind="stable")
    ranked = np.empty(order.size, dtype=np.float32)
    ranked[order] = np.sort(truth[brain])
    matched[brain] = np.clip(ranked, 0, width)
    middle = float(np.median(output[brain]))
    scaled = output * (float(np.median(truth[brain])) / middle if middle > 0 else 1.0)
    limited = np.clip(truth, 0, width)
    row = {
        "psnr": psnr(matched, limited, width, brain),
        "ssim": ssim(matched, np.where(brain, limited, 0), width, brain),
    }
    row |= {
        "psnr_unmatched": psnr(scaled, limited, width, brain),
        "ssim_unmatched": ssim(scaled, limited, width, brain),
    }
    everywhere = np.ones_like(brain)
    row |= {
        "psnr_volume": psnr(scaled, limited, width, everywhere),
        "ssim_volume": ssim(scaled, limited, width, everywhere),
    }
    row["mae_volume"] = float(np.mean(np.abs(np.clip(scaled, 0, width) - limited)) / width)
    row["sharpness"] = sharpness(matched, np.where(brain, limited, 0), brain)
    inner = np.where(brain, matched, 0)
    box = tuple(slice(places.min(), places.max() + 1) for places in np.nonzero(brain))
    row["checkerboard"] = checkerboard_index(inner[box])
    row |= tissues(matched, limited, source, brain, flair)
    return {name: round(float(value), 4) for name, value in row.items()}


def tissues(
    matched: np.ndarray, truth: np.ndarray, source: np.ndarray, brain: np.ndarray, flair: np.ndarray | None
) -> dict[str, float]:
    """Return fluid over white matter, and the error of lesions; both tissues are found in the real T1 and T2."""
    low, inner, upper = (np.percentile(source[brain], p) for p in (10, 70, 90))
    bright, middle = (np.percentile(truth[brain], p) for p in (95, 50))
    fluid = brain & (source < low) & (truth > bright)
    white = brain & (source > inner) & (source < upper) & (truth < middle)
    row = {"csf_to_white": float(matched[fluid].mean() / max(matched[white].mean(), 1e-6))}
    if flair is not None:
        lesion = ndimage.binary_opening(
            brain & (flair > np.percentile(flair[brain], 99.0)) & (truth > np.percentile(truth[brain], 75))
        )
        if lesion.sum() >= 100:
            row["lesion_error"] = float(np.mean(np.abs(matched[lesion] - truth[lesion])) / np.median(truth[brain]))
    return row


def psnr(output: np.ndarray, truth: np.ndarray, width: float, mask: np.ndarray) -> float:
    """Return the PSNR in a mask, of values limited to [0, width]."""
    return float(10 * np.log10(width**2 / max(np.mean((np.clip(output[mask], 0, width) - truth[mask]) ** 2), 1e-12)))


def ssim(output: np.ndarray, truth: np.ndarray, width: float, mask: np.ndarray) -> float:
    """Return the mean of the slices' SSIM in a mask."""
    total, count = 0.0, 0
    for z in np.flatnonzero(mask.any(axis=(0, 1))):
        similarity = ssim_map(np.clip(output[..., z], 0, width), truth[..., z], data_range=width)
        total, count = total + float(similarity[mask[..., z]].sum()), count + int(mask[..., z].sum())
    return total / count


def extract_brain(source: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Return the brain in a T1 of a whole head (X, Y, Z): what an opening separates from the scalp.

    Enough to score and train on; it was looked at in each scan. Sizes in mm.
    """
    smooth = ndimage.gaussian_filter(source, [1 / size for size in spacing])
    head = ndimage.binary_fill_holes(smooth > 0.12 * np.percentile(source[source > 0], 98))
    depth = ndimage.distance_transform_edt(head, sampling=spacing)
    core = depth > 25
    level, high = np.median(source[core]), np.percentile(source[core], 97)
    tissue = (source > 0.55 * level) & (source < 1.35 * high) & (depth > 5)
    opened = ndimage.binary_erosion(tissue, _ball(2.8, spacing))
    labels, _ = ndimage.label(opened)
    brain = labels == np.argmax(np.bincount(labels[core & opened]))
    brain = ndimage.binary_dilation(brain, _ball(3.8, spacing)) & (depth > 5)
    padded = np.pad(brain, [(12, 12), (12, 12), (4, 4)])
    brain = ndimage.binary_closing(padded, _ball(9, spacing))[12:-12, 12:-12, 4:-4]
    return np.stack([ndimage.binary_fill_holes(brain[..., z]) for z in range(brain.shape[2])], axis=-1)


def _ball(radius: float, spacing: Sequence[float]) -> np.ndarray:
    axes = [np.arange(-int(radius // size), int(radius // size) + 1) * size for size in spacing]
    return sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij")) <= radius**2


def table(path: str, *, metric: str = "psnr") -> None:
    """Print one metric as Markdown, a row per method, and its mean over sets beside inverted histogram matching's.

    Args:
        path: File of results.
        metric: One of `METRICS`.
    """
    values = _values(path, metric)
    scans = [scan for names in SETS.values() for scan in names]
    print(f"| {metric} | " + " | ".join(scans) + " | mean of sets | gain |\n|" + "---|" * (len(scans) + 3))
    methods = list(dict.fromkeys(method for _, method in values))
    for method in methods:
        gains, means = [], []
        for names in SETS.values():
            own = [values[scan, method] for scan in names if (scan, method) in values]
            base = [values[scan, INVERTED] for scan in names if (scan, method) in values]
            if own:
                means.append(np.mean(own))
                gains.append(np.mean(own) - np.mean(base))
        cells = [f"{values[scan, method]:.2f}" if (scan, method) in values else "" for scan in scans]
        whole = f"{np.mean(means):.2f}" if len(means) == len(SETS) else ""
        print(f"| {method.replace('_', ' ')} | " + " | ".join(cells) + f" | {whole} | {np.mean(gains):+.2f} |")


def details(path: str, *, method: str = "network", metrics: Sequence[str] = METRICS) -> None:
    """Print several metrics of one method as Markdown, a row per scan."""
    columns = {metric: _values(path, metric) for metric in metrics}
    print("| scan | " + " | ".join(metrics) + " |\n|" + "---|" * (1 + len(metrics)))
    for scan in [scan for names in SETS.values() for scan in names]:
        cells = [columns[metric].get((scan, method)) for metric in metrics]
        if any(cell is not None for cell in cells):
            print(f"| {scan} | " + " | ".join("" if cell is None else f"{cell:.3g}" for cell in cells) + " |")


def _values(path: str, metric: str) -> dict[tuple[str, str], float]:
    rows = json.loads(Path(path).read_text(encoding="utf-8"))["rows"]
    return {(row["scan"], row["method"]): row[metric] for row in rows if metric in row}


def pictures(scans: str, *, weights: Mapping[str, Sequence[str]], output_dir: str | None = None) -> None:
    """Draw three slices of each scan: T1, the network's T2, the real T2.

    Args:
        scans: Folder that `prepare` wrote.
        weights: Models folder: the short names of the sets that it did not see.
        output_dir: Folder of the PNG files; default: docs/images/real_scans.
    """
    folder = Path(output_dir or ROOT / "docs" / "images" / "real_scans")
    folder.mkdir(parents=True, exist_ok=True)
    for models, unseen in weights.items():
        translate = translators(models, "network")["network"]
        for scan in [scan for short in unseen for scan in SETS[SHORT[short]]]:
            arrays = [np.asarray(image.dataobj) for image in translated(scans, scan, translate)]
            Image.fromarray(_panel(arrays[2], arrays[0], arrays[1])).save(folder / f"{scan}.png")
            print(folder / f"{scan}.png")


def translated(scans: str | Path, scan: str, translate: Callable) -> list[Any]:
    """Return translation, truth and source of a scan as NIfTI images along R, A and S."""
    output = translate(scan_path(scans, scan, "T1"))
    image = nib.Nifti1Image(np.asarray(output[0], dtype=np.float32), np.asarray(output.affine))
    others = [nib.load(scan_path(scans, scan, domain)) for domain in ("T2", "T1")]
    return [nib.as_closest_canonical(each) for each in (image, *others)]


def _panel(*volumes: np.ndarray) -> np.ndarray:
    """Return three slices of several volumes side by side, 8 bits."""
    inside = np.nonzero(volumes[0] > 0)
    box = tuple(slice(places.min(), places.max() + 1) for places in inside[:2])
    low, high = inside[2].min(), inside[2].max()
    rows = []
    for share in (0.35, 0.55, 0.72):
        z = int(low + share * (high - low))
        tiles = [np.rot90(volume[(*box, z)]) / np.percentile(volume[volume > 0], 99.5) for volume in volumes]
        rows.append(np.concatenate(tiles, axis=1))
    return (np.concatenate(rows, axis=1).clip(0, 1) * 255).astype(np.uint8)


if __name__ == "__main__":
    fire.Fire()
