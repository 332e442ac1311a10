"""Evaluation of volumes: the network and its baselines on the same cases, per patient."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.engines import SupervisedEvaluator
from monai.inferers import Inferer
from torch import nn

from ..bundles import translation_task
from ..files import write_json
from ..images.names import SOURCE, file_name, refuse_equal_names
from ..metrics.score import NOT_INVERTED, UNIT_FACTOR, score
from ..metrics.summary import COVERAGE_FILE, NETWORK, summarise, write_rows
from ..run_facts import run_facts
from ..uncertainty import Uncertainty
from .coverage import CoverageRows
from .training_log import Progress
from .translator import Translator

logger = logging.getLogger(__name__)
CONTRAST, UNITS, TRUTH = "contrast", "units", "truth"  # subjects of alarms


class TranslationEvaluator(SupervisedEvaluator):
    """Translate held-out cases with each translator, score the volumes, and write the results.

    The files are `metrics.csv` (one row per patient, direction and method), `summary.json` (mean and SD over patients),
    `cases.json` (paths of the images for the report), `run.json` (facts of the run) and the network's volumes.

    Args:
        device: Device of the network.
        cases: Items with the path of one volume per domain, `patient`, and optionally `label`.
        load: Function from `{"image": path}` to `{"image": volume (C, X, Y, Z)}`, in the file's units and grid.
        translators: Translators by name; `network` is the bundle's own, whose volumes are saved. A mapping from targets
            to translators may stand in place of a translator; it leaves out all other targets.
        directions: Pairs of a source and a target domain.
        save: Transform that saves `{"pred": volume}`, as in inference; or one such transform per target.
        output_dir: Folder of all files.
        bundle_root: Folder of the bundle, for the facts of the run.
        network: Network as MONAI's property of the evaluator; federated evaluation sets its weights.
        load_label: Function like `load` for label maps; default: `load`.
        label_names: Names of the label values.
        contrast_inverts: Whether to raise an alarm if the network's output does not invert the contrast of its source.
        data_range: Intensity range for PSNR and SSIM; default: p99 - p1 of the truth.
        matched: Whether to score after histogram matching as well, the NEC paper's protocol.
        more_metrics: Function that returns further metrics of `(prediction, truth, labels, spacing_mm, label_names,
            source)` with axial arrays; or one such function per target.
        truth_keys: Keys of a case with its aligned truth by target, for targets whose own volume is not aligned (a
            second scan). Scores against that own volume are then called `misaligned_*`.
        run: Further facts for `run.json`.
        training_dir: Output folder of the training, whose curves the report shows.
        intervals: Calibration of the weights (`common.uncertainty.shipped`), whose coverage of these patients is
            measured and written to `coverage.json`; None: it is not.
        task: Task of the bundle, see `common.bundles`, which selects the report's sections; default: the declared one.
        val_handlers: Further Ignite handlers.
        inferer: Inferer as MONAI's property of the evaluator; the translators hold their own.

    Raises:
        ValueError: If a case lacks a volume, or two sources would have outputs of one name; when run, if the volumes of
            a case are on different grids.
    """

    def __init__(
        self,
        device: str | torch.device,
        cases: Sequence[dict[str, Any]],
        load: Callable,
        translators: Mapping[str, Translator | Mapping[str, Translator]],
        *,
        directions: Sequence[Sequence[str]],
        save: Callable | Mapping[str, Callable],
        output_dir: str | Path,
        bundle_root: str | Path,
        network: nn.Module,
        load_label: Callable | None = None,
        label_names: Mapping[int, str] | None = None,
        contrast_inverts: bool = False,
        data_range: float | None = None,
        matched: bool = True,
        more_metrics: Callable[..., dict[str, float]] | Mapping[str, Callable[..., dict[str, float]]] | None = None,
        truth_keys: Mapping[str, str] | None = None,
        run: dict[str, Any] | None = None,
        training_dir: str | Path | None = None,
        intervals: Uncertainty | None = None,
        task: str | None = None,
        val_handlers: Sequence | None = None,
        inferer: Inferer | None = None,
    ) -> None:
        super().__init__(
            device=torch.device(device),
            val_data_loader=self._work(cases, directions),
            network=network,
            inferer=inferer,
            iteration_update=self._evaluate_case,
            val_handlers=val_handlers,
            decollate=False,
        )
        sources = [str(case[key]) for case in cases for key in {source for source, _ in directions} if case.get(key)]
        folders = [os.path.dirname(os.path.abspath(source)) for source in sources]
        if folders:
            refuse_equal_names(map(os.path.abspath, sources), data_root_dir=os.path.commonpath(folders))
        self.load, self.load_label = load, load_label or load
        self.translators, self.save = translators, save
        self.output_dir, self.bundle_root = Path(output_dir), bundle_root
        self.task = task or translation_task(bundle_root)
        self.label_names = dict(label_names or {})
        self.contrast_inverts = contrast_inverts
        self.data_range, self.matched, self.more_metrics = data_range, matched, more_metrics
        self.truth_keys = dict(truth_keys or {})
        self.facts = {} if run is None else run  # no copy: handlers add to it
        if training_dir is not None and Path(training_dir).is_dir():
            self.facts["training"] = os.path.relpath(training_dir, self.output_dir)
        self.coverage = CoverageRows(intervals)
        self.rows: list[dict[str, Any]] = []
        self.cases: list[dict[str, Any]] = []
        self.alarms: list[dict[str, str]] = []
        self.add_event_handler(Events.EPOCH_STARTED, self._reset)
        self.add_event_handler(Events.EPOCH_COMPLETED, self._write)
        Progress("evaluating").attach(self)

    def _work(self, cases: Sequence[dict[str, Any]], directions: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
        for case in cases:
            needed = [name for direction in directions for name in self._needed(direction)]
            if missing := [name for name in dict.fromkeys(needed) if not case.get(name)]:
                raise ValueError(
                    f"The test entry of patient {case.get('patient')!r} must name its volumes"
                    f" {' and '.join(map(repr, dict.fromkeys(needed)))}, on one grid, to be evaluated; it lacks"
                    f" {missing} and has {sorted(case)}. An entry of one image can only be translated (docs/data.md)."
                )
        return [{"case": case, "direction": list(direction)} for case in cases for direction in directions]

    def _needed(self, direction: Sequence[str]) -> Sequence[str]:
        """Return the keys that a case must have to be scored in a direction."""
        return direction

    def _reset(self) -> None:
        self.rows, self.cases, self.alarms = [], [], []
        self.coverage = CoverageRows(self.coverage.known)

    def _evaluate_case(self, engine: Engine, item: dict[str, Any]) -> list[dict[str, Any]]:
        case, (source, target) = item["case"], item["direction"]
        names = {"patient": str(case.get("patient", Path(case[source]).name)), "direction": f"{source}->{target}"}
        truth_key = self._truth_key(case, target, names)
        keys = [source, truth_key, *([target] if truth_key != target and case.get(target) else [])]
        volume, truth, *others = (self.load({"image": case[key]})["image"] for key in keys)
        labels = self.load_label({"image": case["label"]})["image"] if case.get("label") else None
        for other in (truth, *others, labels):
            if other is not None:
                same_grid(volume, other)
        volume.meta[SOURCE] = source
        rows = []
        for method, translator in self.translators.items():
            translate = translator.get(target) if isinstance(translator, Mapping) else translator
            if translate is None:
                continue
            prediction = translate(volume, target)
            metrics = self._score(prediction, truth, labels, volume, target)
            for misaligned in others:
                against = self._score(prediction, misaligned, None, volume, target)
                metrics |= {f"misaligned_{name}": value for name, value in against.items()}
            rows.append({**names, "method": method, **metrics})
            if method == NETWORK:
                self._keep({**case, target: case[truth_key]}, source, target, names, prediction)
                self._look_at_contrast(names, metrics)
                self._look_at_units(names, prediction, truth)
                aligned = truth_key == self.truth_keys.get(target, target)
                self.coverage.add(names, volume, prediction, axial(truth) if aligned else None)
        self.rows += rows
        return rows

    def _truth_key(self, case: Mapping[str, Any], target: str, names: Mapping[str, str]) -> str:
        """Return the key of the truth: the target itself, with a warning, if the case lacks an aligned truth."""
        key = self.truth_keys.get(target, target)
        if key != target and not case.get(key):
            self._warn(TRUTH, names, f"no aligned truth {key!r}; scored against its {target}, which is another scan.")
            return target
        return key

    def _warn(self, about: str, names: Mapping[str, str], message: str) -> None:
        text = f"{names['patient']}: {message}"
        self.alarms.append({**names, "about": about, "text": text})
        logger.warning(text)

    def _score(
        self, prediction: MetaTensor, truth: MetaTensor, labels: MetaTensor | None, volume: MetaTensor, target: str
    ) -> dict[str, float]:
        arrays = (axial(prediction), axial(truth), None if labels is None else axial(labels))
        facts: dict[str, Any] = {"label_names": self.label_names, "spacing_mm": _axial_spacing(volume)}
        options: dict[str, Any] = {"data_range": self.data_range, "matched_too": self.matched, "source": axial(volume)}
        metrics = score(arrays[0], arrays[1], labels=arrays[2], **facts, **options)
        more = self.more_metrics.get(target) if isinstance(self.more_metrics, Mapping) else self.more_metrics
        if more is not None:
            metrics |= more(arrays[0], arrays[1], labels=arrays[2], source=options["source"], **facts)
        return metrics

    def _keep(
        self, case: dict[str, Any], source: str, target: str, names: dict[str, str], prediction: MetaTensor
    ) -> None:
        save = self.save[target] if isinstance(self.save, Mapping) else self.save
        saved = save({"pred": prediction})["pred"].meta["saved_to"]
        files = {"source": case[source], "target": case[target], "label": case.get("label"), "prediction": saved}
        self.cases.append(names | {k: os.path.relpath(path, self.output_dir) for k, path in files.items() if path})

    def _look_at_contrast(self, names: Mapping[str, str], metrics: dict[str, float]) -> None:
        correlation = metrics.get("source_correlation", 1.0)
        if self.contrast_inverts and correlation > NOT_INVERTED:
            told = f"the contrast was not inverted (source and output correlate by {correlation:+.2f})."
            self._warn(CONTRAST, names, told)

    def _look_at_units(self, names: Mapping[str, str], prediction: MetaTensor, truth: MetaTensor) -> None:
        ranges = [float(np.subtract(*np.percentile(np.asarray(v), [99, 1]))) for v in (prediction, truth)]
        if max(ranges) > UNIT_FACTOR * min(ranges):
            self._warn(
                UNITS,
                names,
                f"the range of the truth is {ranges[1]:.4g}, of the output {ranges[0]:.4g}: they are not in"
                " the same unit. PSNR, RMSE and MAE as saved compare units; read the matched columns.",
            )

    def _write(self) -> None:
        self.output_dir.mkdir(parents=True, exist_ok=True)
        summary = summarise(self.rows)
        self.state.metrics.update({k: v["mean"] for d in summary.values() for k, v in d.get(NETWORK, {}).items()})
        write_rows(self.output_dir / "metrics.csv", self.rows)
        write_json(self.output_dir / "summary.json", summary)
        write_json(
            self.output_dir / "cases.json",
            {"cases": self.cases, "label_names": {str(k): v for k, v in self.label_names.items()}},
        )
        if (covered := self.coverage.summary()) is not None:
            write_json(self.output_dir / COVERAGE_FILE, covered)
        facts = run_facts(bundle_root=self.bundle_root, network=self.network, task=self.task, **self.facts)
        told = {"warnings": [alarm["text"] for alarm in self.alarms], "alarms": self.alarms}
        write_json(self.output_dir / "run.json", {**facts, **told})


def axial(volume: MetaTensor) -> np.ndarray:
    """Return the first channel (X, Y, Z) along the patient's axes R, A and S, so that slices along Z are axial."""
    image = nib.Nifti1Image(np.asarray(volume[0]), np.asarray(volume.affine))
    return np.asarray(nib.as_closest_canonical(image).dataobj)


def same_grid(volume: MetaTensor, other: MetaTensor) -> None:
    """Refuse two volumes (C, X, Y, Z) of one case that are not on one grid.

    Raises:
        ValueError: If they differ in shape or affine. The message names both files.
    """
    if volume.shape != other.shape or not np.allclose(volume.affine, other.affine, atol=1e-2):
        raise ValueError(
            f"{file_name(other)}, shape {tuple(other.shape[1:])}, is not on the grid of {file_name(volume)}, shape"
            f" {tuple(volume.shape[1:])}: register the volumes of a patient and resample them to one grid first."
        )


def _axial_spacing(volume: MetaTensor) -> list[float]:
    image = nib.Nifti1Image(np.zeros(volume.shape[1:], np.uint8), np.asarray(volume.affine))
    return [float(z) for z in nib.as_closest_canonical(image).header.get_zooms()[:3]]
