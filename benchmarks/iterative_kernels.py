"""
Conversion between linear kernels and iterative reconstructions: on unseen phantom patients, a true pair, real chests.

    python -m common phantom chest_iterative runs/iterative/data --patients 32 --slices 3
    python -m monai.bundle run training --config_file "['configs/train.yaml','configs/iterative.yaml']" \
        --dataset_dir runs/iterative/data --models_dir MODELS --output_dir TRAINING
    python benchmarks/iterative_kernels.py score runs/iterative/data --models MODELS --name "network, seed 0"
    python benchmarks/iterative_kernels.py table benchmarks/results/iterative_kernels.json
    python benchmarks/iterative_kernels.py prepare_pair SOFT.nii.gz SHARP.nii.gz --output_dir runs/iterative/pair
    python benchmarks/iterative_kernels.py chests ORIGINALS --models MODELS --output_dir runs/iterative/chests

`score` compares with the identity, the radial filters that the training fitted (with pairs and without), and the same
network without its residual. `chests` runs the bundle's inference on real chest CT, of which no pair exists.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import fire
import nibabel as nib
import numpy as np
import torch
from PIL import Image

from common.baselines import load_kernel_filters, start_from_filters
from common.data import load_datalist
from common.engines.validation import low_pass_change
from common.files import checksum
from common.metrics import kernel_curves
from common.metrics.kernel import emphysema_index
from common.networks import build_network, load_weights, read_definition, target_weights
from common.processes import run_child
from common.transforms import lung_mask

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "iterative_kernels.json"
BUNDLE = ROOT / "bundles" / "ggcl"
WIDTH = 4095.0  # range of PSNR, in HU
PAIR, PAIR_SLICES = ("UB", "YA"), {"training": (0, 32), "test": (32, 40)}  # half-open, counted from 0
CHESTS = {  # start of a file's name: its kernel, the domain that stands for it, and the targets
    "cmb_crc_01068_LUNG": ("LUNG, GE", "B70f", ("I50f", "B30f")),
    "rider_pilot_0117_STANDARD": ("STANDARD, GE", "B50f", ("I50f",)),
    "lungfcp_01-0001_B31f": ("B31f, Siemens", "B30f", ("I50f",)),
    "acrin_flt_breast_001_SOFT": ("SOFT, GE", "B30f", ("I50f",)),
}
WINDOW_HU = (-1000.0, 300.0)
NOISE_BAND_LP_MM = (0.1, 0.6)

Volume = np.ndarray  # (X, Y, Z) in HU
Convert = Callable[[Volume, Sequence[float], str, str], Volume]


def score(
    data: str,
    *,
    models: str,
    name: str,
    phantom: str = "chest_iterative",
    without_residual: bool = True,
    baselines: bool = False,
    patients: int | None = None,
    slices: int | None = None,
    split: str = "test",
    result: str | None = None,
) -> None:
    """Score weights on a list of a data set, in all directions, and add the rows to the file of results.

    Args:
        data: Folder of the data set.
        models: Folder of the weights.
        name: Name of the method in the results; its earlier rows of this phantom are replaced.
        phantom: Name of the data set in the results.
        without_residual: Whether to score the network without its residual as well.
        baselines: Whether to score the identity and the filters in `models` as well.
        patients: Number of patients, negative: of the last ones; default: all.
        slices: Number of slices per patient; default: all.
        split: The list, `test` or `validation`.
        result: File of results; default: benchmarks/results/iterative_kernels.json.
    """
    definition = read_definition(models)
    converters = {name: network_converter(models)}
    if without_residual:
        converters[f"{name}, no residual"] = network_converter(models, residual=False)
    if baselines:
        converters |= baseline_converters(models)
    rows = []
    for patient, volumes, spacing in test_cases(data, definition["domains"], patients, slices, split=split):
        for source, target in permutations(volumes, 2):
            for method, convert in converters.items():
                value = psnr(convert(volumes[source], spacing, source, target), volumes[target])
                row = {"phantom": phantom, "patient": patient, "direction": f"{source}->{target}", "method": method}
                rows.append(row | {"psnr": round(value, 3)})
        print(patient, flush=True)
    run = {"phantom": phantom, "name": name, "weights_sha256": checksum(Path(models) / "model.pt")}
    _add(Path(result or RESULT), rows, run | {"linear": definition.get("linear", definition["domains"])})


def test_cases(
    data: str, domains: Sequence[str], patients: int | None, slices: int | None, *, split: str
) -> Iterator[tuple[str, dict[str, Volume], tuple[float, float]]]:
    """Yield name, volumes of those domains that it has, and pixel size of each patient of a list."""
    entries = load_datalist(data, split)
    for entry in entries[patients:] if patients is not None and patients < 0 else entries[:patients]:
        images = {domain: nib.load(entry[domain]) for domain in domains if domain in entry}
        volumes = {key: np.asarray(each.dataobj, dtype=np.float32)[..., :slices] for key, each in images.items()}
        first = next(iter(images.values()))
        yield entry["patient"], volumes, tuple(float(size) for size in first.header.get_zooms()[:2])


def network_converter(models: str | Path, *, residual: bool = True) -> Convert:
    """Return the conversion of whole HU by a generator that starts from a filter, as its files in `models` say.

    Args:
        models: Folder of `model.pt` and `network.json`.
        residual: Whether the network adds its residual.
    """
    definition = read_definition(models)
    network: Any = build_network(definition)
    load_weights(network, Path(models) / "model.pt")
    network.eval()
    if not residual:
        network.refine, network.residual_weight = None, 0.0  # whichever of the two it has
    domains, (low, high) = definition["domains"], definition["codec"]["hu"]

    @torch.no_grad()
    def convert(volume: Volume, spacing: Sequence[float], source: str, target: str) -> Volume:
        hot = [*target_weights(domains, target), *target_weights(domains, source), sum(spacing[:2]) / 2]
        encoded = torch.from_numpy(np.moveaxis(volume, 2, 0)[:, None]).clamp(low, high)
        encoded = 2 * (encoded - low) / (high - low) - 1
        output = torch.cat([network(image[None], torch.tensor([hot])) for image in encoded])
        return np.moveaxis(np.rint((output[:, 0].numpy() + 1) / 2 * (high - low) + low), 0, 2)

    return convert


def baseline_converters(models: str | Path) -> dict[str, Convert]:
    """Return the identity and the radial filters of a training."""
    filters = load_kernel_filters(Path(models) / "filters.json")

    def filtered(kind: str) -> Convert:
        return lambda volume, spacing, s, t: np.rint(filters[s, t][kind].apply(volume, (*spacing, 1.0)))

    kinds = {kind for fitted in filters.values() for kind in fitted}
    return {"identity": lambda volume, *_: volume} | {kind: filtered(kind) for kind in sorted(kinds)}


def psnr(output: Volume, truth: Volume) -> float:
    """Return the PSNR in dB, range 4095 HU."""
    return float(10 * np.log10(WIDTH**2 / np.mean((output.astype(np.float64) - truth) ** 2)))


def _add(path: Path, rows: list[dict[str, Any]], run: dict[str, Any]) -> None:
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"rows": [], "runs": []}
    keys = {(row["phantom"], row["method"]) for row in rows}
    content["rows"] = [row for row in content["rows"] if (row["phantom"], row["method"]) not in keys] + rows
    names = (run["phantom"], run["name"])
    content["runs"] = [each for each in content["runs"] if (each["phantom"], each["name"]) != names] + [run]
    _write(path, content)


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def table(path: str, *, phantom: str = "chest_iterative") -> None:
    """Print PSNR as Markdown: means over patients of each direction, and over three groups of directions.

    Args:
        path: File of results.
        phantom: Data set.
    """
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    rows = [row for row in content["rows"] if row["phantom"] == phantom]
    linear = set.intersection(*(set(run["linear"]) for run in content["runs"] if run["phantom"] == phantom))
    directions = list(dict.fromkeys(row["direction"] for row in rows))
    groups: dict[str, list[str]] = {"into iterative": [], "out of it": [], "between linear": []}
    for direction in directions:
        source, target = direction.split("->")
        group = "into iterative" if target not in linear else "out of it" if source not in linear else "between linear"
        groups[group].append(direction)
    groups = {title: members for title, members in groups.items() if members}
    ordered = [direction for members in groups.values() for direction in members]
    print("| method | " + " | ".join([*(f"mean {title}" for title in groups), *ordered]) + " |")
    print("|" + "---|" * (1 + len(groups) + len(ordered)))
    for method in dict.fromkeys(row["method"] for row in rows):
        values: dict[str, list[float]] = {}
        for row in rows:
            if row["method"] == method:
                values.setdefault(row["direction"], []).append(row["psnr"])
        means = {direction: float(np.mean(found)) for direction, found in values.items()}
        cells = [float(np.mean([means[d] for d in members])) for members in groups.values()]
        cells += [means[direction] for direction in ordered]
        print(f"| {method.replace('_', ' ')} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |")


def untrained(models: str, *, output_dir: str) -> None:
    """Write the weights from which a training with `physics.yaml` began: its unpaired filters, and no residual.

    Args:
        models: Folder of the trained weights.
        output_dir: Folder of the untrained ones.
    """
    out = Path(output_dir)
    out.mkdir(parents=True, exist_ok=True)
    for name in ("network.json", "filters.json"):
        shutil.copy(Path(models) / name, out / name)
    network: Any = build_network(read_definition(models))
    start_from_filters(network, models, read_definition(models)["domains"])
    torch.save(network.state_dict(), out / "model.pt")


def prepare_pair(soft: str, sharp: str, *, output_dir: str) -> None:
    """Cut the two reconstructions of one scan into slices 1 to 32, to adapt on, and 33 to 40, to score on.

    Args:
        soft: Volume of the soft kernel, 40 slices.
        sharp: That of the sharp kernel, on the same grid.
        output_dir: Folder of the volumes and of datalist.json.
    """
    out = Path(output_dir)
    out.mkdir(parents=True, exist_ok=True)
    entries: dict[str, dict[str, str]] = {}
    for part, (first, last) in PAIR_SLICES.items():
        entries[part] = {"patient": f"slices {first + 1}-{last}"}
        for domain, path in zip(PAIR, (soft, sharp)):
            nib.save(nib.load(path).slicer[:, :, first:last], out / f"{part}_{domain}.nii.gz")
            entries[part][domain] = f"{part}_{domain}.nii.gz"
    own = entries["training"]
    single = [{"image": own[domain], "domain": domain, "patient": own["patient"]} for domain in PAIR]
    validation = [{**entry, "patient": f"{entry['patient']}, not used"} for entry in single]
    lists = {"domains": list(PAIR), "training": single, "training_paired": [own], "validation": validation}
    _write(out / "datalist.json", {"name": "a true kernel pair", **lists, "test": [entries["test"]]})
    print(out / "datalist.json")


def chests(originals: str, *, models: str, output_dir: str, result: str | None = None) -> None:
    """Convert real chest CT by the bundle's inference, measure source and output, and draw a picture of each.

    Args:
        originals: Folder of the files named in `CHESTS`.
        models: Folder of the weights.
        output_dir: Folder of the converted volumes and the pictures.
        result: File of results; default: benchmarks/results/iterative_chests.json.
    """
    out = Path(output_dir).absolute()
    rows = []
    for stem, (kernel, source, targets) in CHESTS.items():
        (path,) = Path(originals).absolute().glob(f"{stem}_*.nii.gz")
        for target in targets:
            folder = out / f"{stem}_{target}"
            _convert(path, source, target, Path(models).absolute(), folder)
            (converted,) = folder.rglob("*_synthetic_*.nii.gz")
            before, after = (nib.as_closest_canonical(nib.load(each)) for each in (path, converted))
            images = [np.asarray(each.dataobj, dtype=np.float32) for each in (before, after)]
            row = {"scan": stem, "kernel": kernel, "as": source, "target": target}
            rows.append(row | compare(*images, [float(size) for size in before.header.get_zooms()[:3]]))
            print(json.dumps(rows[-1]), flush=True)
            _picture(*images, folder.with_suffix(".png"))
    content = {"weights_sha256": checksum(Path(models) / "model.pt"), "rows": rows}
    _write(Path(result or RESULT.with_name("iterative_chests.json")), content)


def _convert(path: Path, source: str, target: str, models: Path, folder: Path) -> None:
    arguments = ["--bundle_root", str(BUNDLE), "--dataset_dir", str(path), "--models_dir", str(models)]
    arguments += ["--source", source, "--target", target, "--output_dir", str(folder), "--guards", "warn"]
    config = str(BUNDLE / "configs" / "inference.yaml")
    code = run_child([sys.executable, "-m", "monai.bundle", "run", "inference", "--config_file", config, *arguments])
    if code:
        raise SystemExit(f"the inference of {path.name} ended with exit code {code}.")


def compare(source: Volume, output: Volume, spacing: Sequence[float]) -> dict[str, float]:
    """Measure a conversion that has no truth.

    Args:
        source: Volume (X, Y, Z) in HU.
        output: Converted volume on the same grid.
        spacing: Voxel size in mm.

    Returns:
        `noise_before`, `noise_after` [HU], by the noise power spectrum from 0.1 to 0.6 lp/mm in uniform soft tissue;
        `frequency_before`, `frequency_after` [lp/mm], its mean frequency; `edge_before`, `edge_after`, the mean of the
        edge curve over the same band; `low_change` [HU], the RMS change below 0.1 lp/mm; `emphysema_before`,
        `emphysema_after` [%]; what a volume does not have is left out.
    """
    lung = lung_mask(source, spacing)
    row = {"low_change": float(np.mean([low_pass_change(*pair, spacing[0]) for pair in _slices(output, source)]))}
    for when, volume in (("before", source), ("after", output)):
        curves = kernel_curves(volume, spacing, reference_hu=source)
        row[f"emphysema_{when}"] = emphysema_index(volume, lung)
        if "nps" in curves:
            frequency, power = np.array(curves["nps_lp_mm"]), np.array(curves["nps"])
            band = (frequency >= NOISE_BAND_LP_MM[0]) & (frequency <= NOISE_BAND_LP_MM[1])
            weight = power[band] * frequency[band]  # of a ring
            row[f"noise_{when}"] = float(np.sqrt(2 * np.pi * np.trapezoid(weight, frequency[band])))
            row[f"frequency_{when}"] = float((weight * frequency[band]).sum() / weight.sum())
        if "edge" in curves:
            frequency, edge = np.array(curves["edge_lp_mm"]), np.array(curves["edge"])
            row[f"edge_{when}"] = float(edge[(frequency > 0) & (frequency <= NOISE_BAND_LP_MM[1])].mean())
    return {key: round(value, 3) for key, value in sorted(row.items())}


def _slices(first: Volume, second: Volume) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    return zip(np.moveaxis(first, 2, 0), np.moveaxis(second, 2, 0), strict=True)


def _picture(source: Volume, output: Volume, path: Path) -> None:
    """Draw the middle slice before and after, and their difference (grey: none, +-200 HU)."""
    z = source.shape[2] // 2
    low, high = WINDOW_HU
    parts = [(volume[..., z] - low) / (high - low) for volume in (source, output)]
    parts.append((output[..., z] - source[..., z]) / 400 + 0.5)
    shown = np.concatenate([part.T[::-1] for part in parts], axis=1)
    Image.fromarray((255 * np.clip(shown, 0, 1)).astype(np.uint8)).save(path)


def chest_table(path: str) -> None:
    """Print the numbers of the real chests as Markdown.

    Args:
        path: File of results.
    """
    names = ("noise", "frequency", "edge", "emphysema")
    print("| scan | kernel | as | target | " + " | ".join(f"{name} before, after" for name in names), end="")
    print(" | change below 0.1 lp/mm |\n|" + "---|" * (5 + len(names)))
    for row in json.loads(Path(path).read_text(encoding="utf-8"))["rows"]:
        pairs = [[row.get(f"{name}_{when}") for when in ("before", "after")] for name in names]
        cells = ["" if None in pair else f"{pair[0]:.3g}, {pair[1]:.3g}" for pair in pairs]
        first = [row[key] for key in ("scan", "kernel", "as", "target")]
        print(f"| {' | '.join([*first, *cells])} | {row['low_change']:.2f} |")


if __name__ == "__main__":
    commands = (score, table, untrained, prepare_pair, chests, chest_table)
    fire.Fire({command.__name__: command for command in commands})
