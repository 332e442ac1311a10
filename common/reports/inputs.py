"""Output files of a run from which a report is made, each of which may be missing, and how methods are shown.

The latter are names, order and colours in tables and curves, and which labels are diseases.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..bundles import CONTRAST_ENHANCEMENT, KERNEL_CONVERSION, SUPER_RESOLUTION
from ..files import read_json
from ..images.names import MAP_SUFFIX
from ..metrics.summary import BEFORE, NETWORK, Summary, read_rows, summarise

FILES = ("summary.json", "metrics.csv", "cases.json", "losses.csv", "validation.csv")
Columns = dict[str, list[float]]

# Metrics that one task alone has, by task.
METRICS = {
    KERNEL_CONVERSION: re.compile("noise_sd|nps_error|edge_error|emphysema_index"),
    CONTRAST_ENHANCEMENT: re.compile("mse_window|removal_.*"),
    SUPER_RESOLUTION: re.compile("consistency_mse"),
}

IDENTITY = "identity"
UNPAIRED = ("inverted_histogram_matching", "histogram_matching", "radial_filter_unpaired", "band_energy")
PAIRED = ("intensity_curve", "radial_filter")
INTERPOLATED = ("bicubic", "nearest")
NAMES = {
    NETWORK: "Network",
    BEFORE: "Network before fine-tuning",
    "blend_of_outputs": "Blend of the network's outputs",
    IDENTITY: "Identity (source as it is)",
    "histogram_matching": "Histogram matching (unpaired)",
    "inverted_histogram_matching": "Inverted histogram matching (unpaired)",
    "intensity_curve": "Intensity curve (fitted on pairs)",
    "radial_filter_unpaired": "Unpaired radial filter",
    "band_energy": "Energy of frequency bands (unpaired)",
    "radial_filter": "Paired radial filter (fitted on pairs)",
    "bicubic": "Bicubic interpolation",
    "nearest": "Nearest neighbour",
}
# Colour-blind safe, each for a light and a dark page.
COLOURS = {
    NETWORK: ("#1d4ed8", "#7aa7ff"),
    BEFORE: ("#6d28d9", "#b79bff"),
    IDENTITY: ("#6b7280", "#a3acb9"),
    "histogram_matching": ("#b45309", "#f0a94a"),
    "inverted_histogram_matching": ("#047857", "#4cc79a"),
    "intensity_curve": ("#be185d", "#f48ab8"),
    "radial_filter_unpaired": ("#b45309", "#f0a94a"),
    "band_energy": ("#047857", "#4cc79a"),
    "radial_filter": ("#be185d", "#f48ab8"),
    "bicubic": ("#b45309", "#f0a94a"),
    "nearest": ("#6b7280", "#a3acb9"),
}
OTHER_COLOURS = (("#6d28d9", "#b79bff"), ("#0e7490", "#5cc8dd"), ("#854d0e", "#d9b45b"), ("#9f1239", "#ff8fa3"))

# Names of labels that are disease: these choose the slice and are outlined. All others are anatomy.
LESION = re.compile(r"tumou?r|o?edema|necro|lesion|enhanc|metasta|stroke|infarct|cyst|nodule", re.IGNORECASE)


@dataclass(frozen=True)
class Case:
    """Translated patient: paths of NIfTI volumes on one grid; in super-resolution the source's is coarser.

    `uncertainty` is a map in the output's unit, which the viewer shows.
    """

    patient: str
    direction: str
    source: Path
    prediction: Path
    target: Path | None = None
    label: Path | None = None
    bicubic: Path | None = None
    uncertainty: Path | None = None


@dataclass(frozen=True)
class Inputs:
    """All content of a report."""

    summary: Summary = field(default_factory=dict)
    blends: Summary = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    cases: list[Case] = field(default_factory=list)
    label_names: dict[int, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    losses: Columns = field(default_factory=dict)
    validation: Columns = field(default_factory=dict)

    @property
    def task(self) -> str | None:
        """What was translated, see `common.bundles`: as the evaluation recorded it, or `task_of_metrics`."""
        return self.facts.get("task") or task_of_metrics(self.summary)


def task_of_metrics(summary: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str | None:
    """Infer the task from the scored metrics: a fallback for evaluations that did not record it.

    Args:
        summary: `{direction: {method: {metric: ...}}}`.

    Example:
        >>> task_of_metrics({"B30f->B70f": {"network": {"psnr": {}, "nps_error": {}}}})
        'kernel_conversion'
        >>> task_of_metrics({"T1->T2": {"network": {"psnr": {}}}}) is None
        True
    """
    found = {metric for methods in summary.values() for metrics in methods.values() for metric in metrics}
    return next((task for task, own in METRICS.items() if any(map(own.fullmatch, found))), None)


def read_inputs(output_dir: str | os.PathLike[str]) -> Inputs:
    """Read a run's output folder.

    Args:
        output_dir: Folder with any of `summary.json`, `metrics.csv`, `cases.json`, `run.json`, and beside a
            summary maybe `blends.json`, of the same form; the training's
            `losses.csv` and `validation.csv` lie in the folder that `run.json` names as `training` (relative to
            `output_dir`), or in `output_dir` itself.

    Raises:
        FileNotFoundError: If the folder is missing or holds nothing to report.
        ValueError: If a file is not what its name says.
    """
    folder = Path(output_dir)
    facts = _read_json(folder / "run.json")
    training = folder / str(facts.get("training") or ".")
    if not any((folder / name).is_file() or (training / name).is_file() for name in FILES):
        raise FileNotFoundError(
            f"`output_dir` must hold at least one of {list(FILES)} to report on, found none in `{folder}`; "
            "run `python -m monai.bundle run inference` or `run evaluating` with this output folder first."
        )
    rows = read_rows(folder / "metrics.csv") if (folder / "metrics.csv").is_file() else []
    listed = _read_json(folder / "cases.json")
    return Inputs(
        summary=_read_json(folder / "summary.json") or summarise(rows),
        blends=_read_json(folder / "blends.json"),
        rows=rows,
        cases=[_case(entry, folder) for entry in listed.get("cases", []) if entry.get("prediction")],
        label_names={int(value): str(name) for value, name in listed.get("label_names", {}).items()},
        facts=facts,
        losses=_read_columns(training / "losses.csv"),
        validation=_read_columns(training / "validation.csv"),
    )


def _case(entry: Mapping[str, Any], folder: Path) -> Case:
    missing = [key for key in ("patient", "direction", "source") if not entry.get(key)]
    if missing:
        raise ValueError(f"each case of `cases.json` must have {missing}, got {dict(entry)}; write the file again.")
    named = ("source", "prediction", "target", "label", "bicubic", "uncertainty")
    paths = {key: folder / entry[key] for key in named if entry.get(key)}
    if entry.get("prediction"):
        beside = _map_of(paths["prediction"])
        paths |= {"uncertainty": beside} if "uncertainty" not in paths and beside.is_file() else {}
    for key, path in paths.items():
        if not path.is_file():
            raise FileNotFoundError(f"`{key}` of patient {entry['patient']} must exist, found no file `{path}`.")
    return Case(patient=str(entry["patient"]), direction=str(entry["direction"]), **paths)


def _map_of(output: Path) -> Path:
    """Return where the map of uncertainty lies that belongs to an output: beside it, by its name."""
    return output.with_name(f"{output.name.removesuffix('.gz').removesuffix('.nii')}{MAP_SUFFIX}.nii.gz")


def _read_json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _read_columns(path: Path) -> Columns:
    """Read the columns of a CSV file of numbers; empty cells are NaN."""
    if not path.is_file():
        return {}
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        return {}
    return {name: [float(row[name]) if row[name] else float("nan") for row in rows] for name in rows[0] if name}


def name_of(method: str) -> str:
    """Return the readable name of a method; unknown ones keep their own.

    Example:
        >>> name_of("intensity_curve"), name_of("cycle_gan")
        ('Intensity curve (fitted on pairs)', 'cycle gan')
    """
    return NAMES.get(method, method.replace("_", " "))


def short_name_of(method: str) -> str:
    """Return the name without its brackets, in lower case, for sentences and legends.

    Example:
        >>> short_name_of("intensity_curve")
        'intensity curve'
    """
    return name_of(method).split(" (")[0].lower()


def direction_of(direction: str) -> str:
    """Write a direction as it is printed.

    Example:
        >>> direction_of("T1->T2")
        'T1 → T2'
    """
    return " → ".join(part.strip() for part in direction.split("->"))


def ordered(methods: Iterable[str]) -> list[str]:
    """Sort methods: the network, other methods, then the baselines from the weakest to those fitted on pairs."""
    known = (NETWORK, BEFORE, IDENTITY, *reversed(INTERPOLATED), *reversed(UNPAIRED), *PAIRED)
    given = list(dict.fromkeys(methods))
    others = [method for method in given if method not in known]
    return [method for method in (*known[:2], *others, *known[2:]) if method in given]


def colour_of(method: str, *, dark: bool) -> str:
    """Return the colour of a method on a light or a dark page, the same in every picture of every run."""
    light_and_dark = COLOURS.get(method) or OTHER_COLOURS[sum(method.encode()) % len(OTHER_COLOURS)]
    return light_and_dark[dark]
