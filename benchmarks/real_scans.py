"""
T1 to T2 on open scans of patients of four sets, each scored by weights that saw no subject of its set.

    python benchmarks/real_scans.py prepare SCANS --output_dir runs/real
    python -m monai.bundle run training \
        --config_file "['configs/train.yaml','configs/randomised.yaml','configs/pairs.yaml']" --dataset_dir \
        runs/real/not_stroke_glioma --models_dir MODELS --output_dir TRAINING
    python benchmarks/real_scans.py score SCANS --weights "{'MODELS': ['stroke', 'glioma']}" --name "half pairs"
    python benchmarks/real_scans.py table benchmarks/results/nec_t1t2_real_scans.json
    python benchmarks/real_scans.py pictures SCANS --weights "{'MODELS': ['stroke', 'glioma']}" --output_dir docs/images

SCANS is a folder with the files of `FILES` below (docs/real_scans.md says where they come from). Scores are inside the
brain after the output's histogram was matched to the truth's there, which is the same for every method, and without
matching, after one factor that gives the output the truth's median.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import fire
import nibabel as nib
import numpy as np
from monai.bundle import ConfigParser
from scipy import ndimage

from common.baselines import load_baselines
from common.engines.translator import BaselineNetwork, VolumeTranslator
from common.inference.inferers import load_weights
from common.metrics import checkerboard_index, sharpness, ssim_map

ROOT = Path(__file__).parents[1]
BUNDLE = ROOT / "bundles" / "nec_t1t2"
RESULT = ROOT / "benchmarks" / "results" / "nec_t1t2_real_scans.json"
SETS: dict[str, dict[str, str]] = {  # set: scan: start of its files' names
    "cross-sectional MS": {"ms07": "openms_cross07", "ms19": "openms_cross19"},
    "longitudinal MS": {
        "ms01, visit 1": "openms_long01_study1",
        "ms01, visit 2": "openms_long01_study2",
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


def prepare(scans: str, *, output_dir: str) -> None:
    """Write one data folder for each fold, with links to the scans.

    Args:
        scans: Folder of the scans.
        output_dir: Folder of the data folders.
    """
    for fold, names in FOLDS.items():
        folder = Path(output_dir) / fold
        folder.mkdir(parents=True, exist_ok=True)
        single, paired = [], []
        for name in names:
            for scan, stem in SETS[SHORT[name]].items():
                entry = {"patient": scan.split(",")[0]}
                for domain in ("T1", "T2"):
                    path = scan_path(scans, stem, domain)
                    shutil.copyfile(path, folder / path.name)
                    entry[domain] = path.name
                    single.append({"image": path.name, "domain": domain, "patient": entry["patient"]})
                paired.append(entry)
        lists = {"training": single, "training_paired": paired, "validation": [], "test": []}
        content = {"name": f"open T1 and T2 scans: {', '.join(SHORT[name] for name in names)}", **lists}
        (folder / "datalist.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        print(folder)


def scan_path(scans: str, stem: str, domain: str) -> Path:
    """Return the path of a scan's T1, T2 or FLAIR."""
    suffix = f"_{domain.lower()}_brain" if stem.startswith("TCGA") else f"_{domain}"
    return Path(scans) / f"{stem}{suffix}.nii.gz"


def score(
    scans: str, *, weights: Mapping[str, Sequence[str]], name: str, baselines: bool = False, result: str | None = None
) -> None:
    """Score weights on the sets that they did not see, and add the rows to the file of results.

    Args:
        scans: Folder of the scans.
        weights: Models folder: the short names of the sets that it did not see.
        name: Name of the method in the results; its earlier rows are replaced.
        baselines: Whether to score the classical methods of `baselines.json` as well.
        result: File of results; default: benchmarks/results/nec_t1t2_real_scans.json.
    """
    path = Path(result or RESULT)
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.is_file() else []
    new = []
    for models, unseen in weights.items():
        for short in unseen:
            for scan, stem in SETS[SHORT[short]].items():
                for method, translate in translators(models, name, baselines=baselines).items():
                    row = {"set": SHORT[short], "scan": scan, "method": method}
                    row |= score_scan(scans, stem, translate)
                    new.append(row)
                    print(json.dumps(row), flush=True)
    done = {(row["scan"], row["method"]) for row in new}
    rows = [row for row in rows if (row["scan"], row["method"]) not in done] + new
    path.write_text(json.dumps({"rows": rows}, indent=1) + "\n", encoding="utf-8")


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
        fitted = load_baselines(Path(models) / "baselines.json")
        found |= {kind: whole(BaselineNetwork(baseline)) for kind, baseline in fitted.items()}
    return found


def score_scan(scans: str, stem: str, translate: Callable) -> dict[str, float]:
    """Score one translation of a scan."""
    source, truth = (nib.as_closest_canonical(nib.load(scan_path(scans, stem, domain))) for domain in ("T1", "T2"))
    output = translate(scan_path(scans, stem, "T1"))
    image = nib.as_closest_canonical(nib.Nifti1Image(np.asarray(output[0]), np.asarray(output.affine)))
    arrays = [np.asarray(each.dataobj, dtype=np.float32) for each in (image, truth, source)]
    spacing = [float(size) for size in truth.header.get_zooms()[:3]]
    flair_path = scan_path(scans, stem, "FLAIR")
    flair = (
        np.asarray(nib.as_closest_canonical(nib.load(flair_path)).dataobj, dtype=np.float32)
        if flair_path.is_file()
        else None
    )
    return measure(arrays[0], arrays[1], arrays[2], brain_mask(arrays[2], arrays[1], spacing), flair=flair)


def measure(
    output: np.ndarray, truth: np.ndarray, source: np.ndarray, brain: np.ndarray, *, flair: np.ndarray | None = None
) -> dict[str, float]:
    """Measure a translation (X, Y, Z) against the truth on its grid; `METRICS` are the names of the numbers."""
    width = float(np.percentile(truth[brain], RANGE_PERCENTILE))
    matched = np.zeros_like(truth)
    order = np.argsort(output[brain], kind="stable")
    ranked = np.empty(order.size, dtype=np.float32)
    ranked[order] = np.sort(truth[brain])
    matched[brain] = ranked
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


def brain_mask(source: np.ndarray, truth: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Return the brain: what is not 0 in a skull-stripped scan, else what opening separates from the scalp in T1."""
    both = (source > 0) & (truth > 0)
    depth = ndimage.distance_transform_edt(ndimage.binary_fill_holes(both), sampling=spacing)
    if float((source == 0).mean()) > 0.3 and not _has_scalp(source, depth):
        return ndimage.binary_opening(both)
    smooth = ndimage.gaussian_filter(source, [1 / size for size in spacing])
    head = ndimage.binary_fill_holes(smooth > 0.12 * np.percentile(source[source > 0], 98))
    depth = ndimage.distance_transform_edt(head, sampling=spacing)
    core = depth > 25  # mm below the skin
    level, high = np.median(source[core]), np.percentile(source[core], 97)
    tissue = (source > 0.55 * level) & (source < 1.35 * high) & (depth > 5)
    opened = ndimage.binary_erosion(tissue, _ball(2.8, spacing))
    labels, _ = ndimage.label(opened)
    brain = labels == np.argmax(np.bincount(labels[core & opened]))
    brain = ndimage.binary_dilation(brain, _ball(3.8, spacing)) & (depth > 5)
    padded = np.pad(brain, [(12, 12), (12, 12), (4, 4)])
    brain = ndimage.binary_closing(padded, _ball(9, spacing))[12:-12, 12:-12, 4:-4]
    return np.stack([ndimage.binary_fill_holes(brain[..., z]) for z in range(brain.shape[2])], axis=-1)


def _has_scalp(source: np.ndarray, depth: np.ndarray) -> bool:
    """Return whether a T1's outermost tissue is brighter than what lies deep, as fat is and cortex is not."""
    rim, deep = source[(depth > 2) & (depth < 6)], source[depth > 25]
    return bool(np.percentile(rim, 90) > np.percentile(deep, 95))


def _ball(radius: float, spacing: Sequence[float]) -> np.ndarray:
    axes = [np.arange(-int(radius // size), int(radius // size) + 1) * size for size in spacing]
    return sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij")) <= radius**2


def table(path: str, *, metrics: Sequence[str] = METRICS) -> None:
    """Print the results as Markdown: one table per metric group, one row per scan and method."""
    rows = json.loads(Path(path).read_text(encoding="utf-8"))["rows"]
    print("| set | scan | method | " + " | ".join(metrics) + " |\n|" + "---|" * (3 + len(metrics)))
    for row in rows:
        numbers = " | ".join(f"{row[name]:.3g}" if name in row else "" for name in metrics)
        print(f"| {row['set']} | {row['scan']} | {row['method'].replace('_', ' ')} | {numbers} |")


if __name__ == "__main__":
    fire.Fire({"prepare": prepare, "score": score, "table": table})
