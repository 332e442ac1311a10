"""Calibrate how far a bundle's outputs may be from the truth, on patients with truth, and test it on others.

Of the patients in one list of the datalist, a random quarter gives the scale of the errors and the others its factor;
those of another list say whether the promise holds, and whether the half-widths tell where the errors are: the gate.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.bundle import ConfigParser
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from scipy.stats import rankdata, spearmanr
from tqdm import tqdm

from .bundles import find_bundle
from .data.datalist import describe, load_datalist
from .distributed import rank
from .engines.coverage import on_grid
from .engines.evaluator import TranslationEvaluator, axial
from .engines.super_resolution_evaluator import most_frequent
from .errors import own_error
from .files import checksum, write_json
from .images.names import SOURCE
from .metrics.summary import BEFORE, NETWORK
from .networks.weights import load_weights
from .uncertainty import (
    FILE,
    NOVELTY_FEATURES,
    Novelty,
    Pair,
    Scale,
    binomial_interval,
    coarse_pixels,
    conformal_quantile,
    in_unit_of,
    paired,
    patient_score,
    risk_factor,
    slices_of,
    standardised,
)

logger = logging.getLogger(__name__)
COVERAGE, CONFIDENCE, FALSE_ALARMS = 0.9, 0.9, 0.05
SPEARMAN, AUC = 0.5, 0.75  # of the gate
SCALE_EVERY = 4  # one patient in four gives the scale
LEAST_PATIENTS = 13  # 4 for the scale, 9 for a factor with a confidence of 90 %
KEPT = 20000  # voxels kept of a patient who gives the scale
SAMPLES = 4000  # voxels per patient from which the scale is fitted
RATIOS = 4000  # voxels per patient for the factor of the mean coverage
RANKED = 20000  # voxels per patient for correlations and AUC
BINS = 8  # strata along each feature
STRATA = ((0, 1), (0, 4), (4, 6), (2, 5), (5, 6), (5, 8))  # pairs of features that may make the strata
BANK = 300  # samples that stand for the known local features
STEPS, BATCH, WIDTH = 1500, 4096, 24  # training of the network of the scale
NO_BASELINE = (NETWORK, BEFORE, "identity", "nearest")


class Case(NamedTuple):
    """One patient and direction, at voxels of the foreground.

    Attributes:
        patient: Name of the patient.
        direction: `source->target`.
        features: Local features (9, N).
        error: Output minus truth (N,), in the output's units.
        labels: Labels (N,), or None.
        coarse: Features (9, M) of the pixels whose novelty is measured.
        rivals: Other maps that may tell where the error is (N,) each, by name, see `Cases`.
    """

    patient: str
    direction: str
    features: NDArray[np.float32]
    error: NDArray[np.float32]
    labels: NDArray[np.int16] | None
    coarse: NDArray[np.float32]
    rivals: Mapping[str, NDArray[np.float32]] = MappingProxyType({})

    def sample(self, most: int) -> Case:
        """Return the case at a random choice of its voxels."""
        places = np.random.default_rng(0).permutation(self.error.size)[:most]
        return self._replace(
            features=self.features[:, places],
            error=self.error[places],
            labels=None if self.labels is None else self.labels[places],
            rivals={name: rival[places] for name, rival in self.rivals.items()},
        )


def calibrate(
    bundle: str | Path,
    dataset_dir: str | Path,
    *,
    models_dir: str | Path | None = None,
    output: str | Path | None = None,
    split: str = "validation",
    test: str = "test",
    coverage: float = COVERAGE,
    confidence: float = CONFIDENCE,
    lesions: Sequence[str] = (),
    lesion_test: str | None = None,
    description: str | None = None,
    ensemble: Sequence[str | Path] = (),
    **ids: Any,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Write the `uncertainty.json` of a bundle's weights, without the directions whose promise the test refutes.

    Args:
        bundle: A folder in `bundles`, or the path of another bundle.
        dataset_dir: Data folder whose datalist lists patients with truth that no training has seen.
        models_dir: Folder of the weights; default: the bundle's `models`.
        output: File to write; default: `uncertainty.json` in `models_dir`.
        split: List of the patients who calibrate.
        test: List of the patients on whom the promise and the gate are tested.
        coverage: Share of a patient's foreground voxels that must lie within the interval.
        confidence: Share of patients of whom that is promised.
        lesions: Names of the labels in which the half-width should be larger than elsewhere.
        lesion_test: Further list of patients with lesions that no other patient has; default: those of `test`.
        description: Words for the patients calibrated on; default: the name of the datalist.
        ensemble: Folders with the weights of further trainings, whose disagreement goes through the gate as well.
        ids: Ids of `inference.yaml` and `evaluate.yaml`, and their values.

    Returns:
        Content of the file, and what was measured on each patient of `test` and `lesion_test`, see `Fit.measure`.

    Raises:
        ValueError: If there are too few patients, or one has no truth.
    """
    for name, value in (("coverage", coverage), ("confidence", confidence)):
        if not 0 < value < 1:
            raise ValueError(f"`{name}` must lie between 0 and 1, got {value!r}.")
    root = find_bundle(bundle)
    models = Path(models_dir or root / "models")
    sha256 = checksum(models / "model.pt")
    cases = Cases(root, models, dataset_dir, split, **ids)
    fitting: dict[str, list[Case]] = {}
    for case in cases.of_scale():
        fitting.setdefault(case.direction, []).append(case.sample(KEPT))
    fits = {direction: Fit(mine, coverage) for direction, mine in fitting.items()}
    for case in cases.of_factor():
        fits[case.direction].add(case)
    directions = {direction: fit.finish(confidence) for direction, fit in fits.items()}
    rows: dict[str, list[dict[str, Any]]] = {direction: [] for direction in fits}
    tests = [(test, True), *([(lesion_test, False)] if lesion_test else [])]
    for name, counted in tests:
        tested = Cases(root, models, dataset_dir, name, rivals=True, ensemble=ensemble, **ids)
        for case in tested:
            row = fits[case.direction].measure(
                case, tested.label_names, lesions if lesion_test is None or not counted else ()
            )
            rows[case.direction].append({**row, "direction": case.direction, "list": name, "counted": counted})
    gates = {direction: gate(mine, coverage, confidence) for direction, mine in rows.items()}
    facts = describe(dataset_dir)
    content = {
        "weights_sha256": sha256,
        "unit": "HU" if cases.hu else "the output's intensities",
        "hu": cases.hu,
        "promise": {"coverage": coverage, "confidence": confidence, "novelty": FALSE_ALARMS},
        "data": {
            "description": description or f"the {facts['name']}",
            "parameters": facts["parameters"],
            "patients": {
                "scale": len(cases.for_scale),
                "factor": len(cases.for_factor),
                "test": tested_patients(gates),
            },
        },
        "gate": {
            "passed": all(each["passed"] for each in gates.values()),
            "least": {"spearman": SPEARMAN, "lesion_auc": AUC},
            "directions": gates,
        },
        "directions": {name: part for name, part in directions.items() if gates[name]["promise_kept"]},
    }
    path = write_json(output or models / FILE, _rounded(content))
    logger.info(f"Written: {path}")
    return content, [row for mine in rows.values() for row in mine]


def calibrate_trained(
    bundle_root: str | Path, models_dir: str | Path, dataset_dir: str | Path, *, wanted: bool = True, **ids: Any
) -> bool:
    """Calibrate new weights as the last step of their training, where there are patients to do it on.

    The patients of `validation` calibrate, those of `test` say whether the promise holds. What cannot be calibrated,
    for want of patients or of their truth, is left out with a message: the weights are complete without it.

    Args:
        bundle_root: Folder of the bundle.
        models_dir: Folder of the new weights.
        dataset_dir: Data folder of the training.
        wanted: Whether to calibrate at all.
        ids: Ids of `inference.yaml` and `evaluate.yaml`, and their values.

    Returns:
        Whether `uncertainty.json` was written.
    """
    if not wanted or rank() > 0:
        return False
    try:
        listed = [load_datalist(dataset_dir, name) for name in ("validation", "test")]
        patients = {str(entry.get("patient", number)) for number, entry in enumerate(listed[0])}
        if len(patients) < LEAST_PATIENTS:
            raise ValueError(f"{len(patients)} patients are in `validation`, at least {LEAST_PATIENTS} are needed.")
        calibrate(Path(bundle_root).resolve(), dataset_dir, models_dir=Path(models_dir), **ids)
    except (ValueError, OSError, RuntimeError) as error:  # MONAI wraps errors of components in RuntimeError
        logger.warning(
            f"The uncertainty of the new weights was not calibrated, and `--uncertainty True` will be refused:"
            f" {own_error(error) or error}"
        )
        return False
    return True


def tested_patients(gates: Mapping[str, Mapping[str, Any]]) -> int:
    """Return the largest number of patients on whom a direction was tested."""
    return max(int(each["patients"]) for each in gates.values())


class Cases:
    """The patients of a list with truth, translated as evaluation does, at the voxels of their foreground.

    Args:
        root: Folder of the bundle.
        models_dir: Folder of the weights.
        dataset_dir: Data folder.
        split: List of the datalist.
        rivals: Whether to make the other maps: `baseline`, |output - a classical method's output|; `cycle`, |output on
            its way back - source|, where there is a way back; `ensemble`.
        ensemble: Folders with the weights of further trainings: their SD and that of the output is the last map.
        ids: Ids of the configs and their values.
    """

    def __init__(
        self,
        root: Path,
        models_dir: Path,
        dataset_dir: str | Path,
        split: str,
        *,
        rivals: bool = False,
        ensemble: Sequence[str | Path] = (),
        **ids: Any,
    ) -> None:
        parser = ConfigParser()
        parser.read_config([str(root / "configs" / f"{name}.yaml") for name in ("inference", "evaluate")])
        given = {
            "bundle_root": str(root),
            "models_dir": str(models_dir),
            "dataset_dir": str(dataset_dir),
            "split": split,
        }
        parser.update({**given, "output_dir": str(Path(dataset_dir)), **ids})
        self.evaluator: TranslationEvaluator = parser.get_parsed_content("evaluator")
        load_weights(parser.get_parsed_content("network"), models_dir / "model.pt")
        self.hu = "hu" in parser.get_parsed_content("definition")["codec"]
        self.label_names = self.evaluator.label_names
        loader: Any = self.evaluator.data_loader
        self.items = [item for item in loader if isinstance(item["direction"][1], str)]
        self.patients = list(dict.fromkeys(self._patient(item) for item in self.items))
        mixed = [self.patients[place] for place in np.random.default_rng(0).permutation(len(self.patients))]
        self.for_scale, self.for_factor = mixed[::SCALE_EVERY], [p for n, p in enumerate(mixed) if n % SCALE_EVERY]
        self.rivals, self.split = rivals, split
        self.ensemble = [Cases(root, Path(folder), dataset_dir, split, **ids) for folder in ensemble]

    def of_scale(self) -> Iterator[Case]:
        """Yield the cases of the patients who give the scale."""
        return self._cases(self.for_scale)

    def of_factor(self) -> Iterator[Case]:
        """Yield the cases of the patients who give the factor."""
        return self._cases(self.for_factor)

    def __iter__(self) -> Iterator[Case]:
        return self._cases(self.patients)

    def _cases(self, patients: Sequence[str]) -> Iterator[Case]:
        wanted = set(patients)
        for item in tqdm([i for i in self.items if self._patient(i) in wanted], desc=self.split, mininterval=5):
            yield self._case(item)

    def _patient(self, item: Mapping[str, Any]) -> str:
        case = item["case"]
        return str(case.get("patient", case[item["direction"][0]]))

    def _case(self, item: Mapping[str, Any]) -> Case:
        evaluator, case, (source, target) = self.evaluator, item["case"], item["direction"]
        volume = evaluator.load({"image": case[source]})["image"]
        volume.meta[SOURCE] = source
        made = self._translated(NETWORK, volume, target)
        pair = paired(
            np.asarray(volume[0]), np.asarray(volume.affine), np.asarray(made[0]), np.asarray(made.affine), hu=self.hu
        )
        key = getattr(evaluator, "truth_key", None) or evaluator.truth_keys.get(target, target)
        if not case.get(key):
            raise ValueError(
                f"Patient {self._patient(item)!r} has no truth {key!r} on the grid of its source, but {sorted(case)}:"
                " the error of its output is unknown, so it cannot calibrate."
            )
        truth = on_grid(axial(evaluator.load({"image": case[key]})["image"]), pair)
        labels = None
        if case.get("label"):
            labels = _labels(axial(evaluator.load_label({"image": case["label"]})["image"]), pair)
        if not self.hu:
            truth = in_unit_of(pair, truth)
        rivals = {}
        if self.rivals:
            if (name := self._baseline(target)) is not None:
                rivals["baseline"] = np.abs(pair.output - on_grid(axial(self._translated(name, volume, target)), pair))
            if (cycle := self._cycle(pair, made, source, target)) is not None:
                rivals["cycle"] = cycle
            if self.ensemble:
                others = [on_grid(axial(each._translated(NETWORK, volume, target)), pair) for each in self.ensemble]
                alike = others if self.hu else [in_unit_of(pair, other) for other in others]
                rivals["ensemble"] = np.std([pair.output, *alike], axis=0)
        return case_of(self._patient(item), f"{source}->{target}", pair, pair.output - truth, labels, rivals)

    def _cycle(self, pair: Pair, made: Any, source: str, target: str) -> NDArray[np.float32] | None:
        """Return |output on its way back - source| (X, Y, Z): by the network, or by the mean over coarser pixels."""
        if any(list(item["direction"]) == [target, source] for item in self.items):
            output = made.clone()
            output.meta[SOURCE] = target
            back = axial(self._translated(NETWORK, output, source))
        elif pair.finer > 1:
            back = uniform_filter(pair.output, (pair.finer, pair.finer, 1))
        else:
            return None
        return np.asarray(np.abs(back - pair.source), dtype=np.float32)

    def _translated(self, method: str, volume: Any, target: str) -> Any:
        translator = self.evaluator.translators[method]
        return (translator[target] if isinstance(translator, Mapping) else translator)(volume, target)

    def _baseline(self, target: str) -> str | None:
        """Return the name of the last classical method that makes this target."""
        names = [
            name
            for name, translator in self.evaluator.translators.items()
            if name not in NO_BASELINE and (not isinstance(translator, Mapping) or target in translator)
        ]
        return names[0] if names else None


def _labels(array: np.ndarray, pair: Pair) -> NDArray[np.int16]:
    if array.shape != pair.output.shape:
        array = most_frequent(array, pair.output.shape[2])
    return np.rint(array).astype(np.int16)


def case_of(
    patient: str,
    direction: str,
    pair: Pair,
    error: np.ndarray,
    labels: np.ndarray | None,
    rivals: Mapping[str, np.ndarray] | None = None,
) -> Case:
    """Return a case at the voxels of the foreground.

    Args:
        patient: Name of the patient.
        direction: `source->target`.
        pair: Source and output.
        error: Output minus truth (X, Y, Z).
        labels: Labels (X, Y, Z), or None.
        rivals: Other maps that may tell where the error is, (X, Y, Z) each.
    """
    every_x, every_y = coarse_pixels(pair)
    features, errors, coarse = [], [], []
    for level, values in slices_of(pair):
        mask = pair.mask[..., level]
        features.append(values[:, mask])
        errors.append(error[mask, level])
        coarse.append(values[:, every_x, every_y][:, mask[every_x, every_y]])
    return Case(
        patient,
        direction,
        np.concatenate(features, axis=1),
        np.concatenate(errors).astype(np.float32),
        None if labels is None else np.moveaxis(labels, -1, 0)[np.moveaxis(pair.mask, -1, 0)],
        np.concatenate(coarse, axis=1),
        {
            name: np.moveaxis(rival, -1, 0)[np.moveaxis(pair.mask, -1, 0)].astype(np.float32)
            for name, rival in (rivals or {}).items()
        },
    )


class Fit:
    """The scales of one direction's errors, their factors, and the novelty of its sources.

    Args:
        cases: Patients who give the scales; a quarter of them chooses among the scales.
        coverage: Share of a patient's voxels that must be covered.
    """

    def __init__(self, cases: Sequence[Case], coverage: float) -> None:
        self.coverage = coverage
        self.rng = np.random.default_rng(0)
        chosen = max(1, len(cases) // 4)
        if len(cases) < 4:
            raise ValueError(f"At least 4 patients must give the scale of the errors, got {len(cases)}: add some.")
        fitted, choosing = cases[chosen:], cases[:chosen]
        samples = [self._sampled(case, SAMPLES) for case in fitted]
        features = np.concatenate([case.features[:, places] for case, places in zip(fitted, samples)], axis=1)
        errors = np.abs(np.concatenate([case.error[places] for case, places in zip(fitted, samples)]))
        strata = [fit_strata(features, errors, pair, coverage) for pair in STRATA]
        self.scales = {
            "constant": Scale("constant", _rounded({"value": float(np.quantile(errors, coverage))})),
            "strata": min(strata, key=lambda scale: self._width(scale, choosing)),
            "network": fit_network(features, errors, coverage),
        }
        self.kind = min(self.scales, key=lambda kind: self._width(self.scales[kind], choosing))
        self.novelty = fit_novelty(cases, self.rng)
        self.scores: dict[str, list[float]] = {kind: [] for kind in self.scales}
        self.ratios: list[NDArray[np.floating[Any]]] = []
        self.novelties: list[float] = []
        self.far: list[NDArray[np.floating[Any]]] = []
        self.factors: dict[str, float] = {}

    def _sampled(self, case: Case, most: int) -> NDArray[np.intp]:
        return self.rng.permutation(case.error.size)[:most]

    def _width(self, scale: Scale, cases: Sequence[Case]) -> float:
        """Return the mean half-width that covers a share of the voxels of nearly all of a few patients."""
        sizes = [scale(case.features) for case in cases]
        scores = [patient_score(case.error, size, self.coverage) for case, size in zip(cases, sizes)]
        return float(np.quantile(scores, self.coverage) * np.mean([size.mean() for size in sizes]))

    def add(self, case: Case) -> None:
        """Add a patient to those who give the factors."""
        for kind, scale in self.scales.items():
            sizes = scale(case.features)
            self.scores[kind].append(patient_score(case.error, sizes, self.coverage))
            if kind == self.kind:
                places = self._sampled(case, RATIOS)
                self.ratios.append(np.abs(case.error[places]) / sizes[places])
        distances = self.novelty.distances(case.coarse)
        self.novelties.append(self.novelty.score(self.novelty.statistics(distances, case.coarse)))
        self.far.append(self.rng.permutation(distances)[:RATIOS])

    def finish(self, confidence: float) -> dict[str, Any]:
        """Return the calibration for JSON, see `common.uncertainty.Calibrated`."""
        self.factors = {kind: conformal_quantile(scores, confidence) for kind, scores in self.scores.items()}
        self.mean_factor = risk_factor(self.ratios, self.coverage)
        beyond = {"scores": sorted(self.novelties), "limit": float(np.quantile(np.concatenate(self.far), 0.999))}
        self.novelty = Novelty({**self.novelty.content, **beyond})
        scale = self.scales[self.kind]
        return {
            "scale": {"kind": scale.kind, **scale.content},
            "factors": {
                "patients": self.factors[self.kind],
                "voxels": self.mean_factor if np.isfinite(self.mean_factor) else None,
            },
            "novelty": self.novelty.content,
        }

    def measure(self, case: Case, label_names: Mapping[int, str], lesions: Sequence[str]) -> dict[str, Any]:
        """Return coverage, width and ranking of a patient who took no part in the calibration."""
        error = np.abs(case.error)
        sizes = {kind: scale(case.features) for kind, scale in self.scales.items()}
        half = self.factors[self.kind] * sizes[self.kind]
        places = self._sampled(case, RANKED)
        distances = self.novelty.distances(case.features[:, places])
        rankings = {kind: size[places] for kind, size in sizes.items() if kind != "constant"} | {"novelty": distances}
        rankings |= {name: rival[places] for name, rival in case.rivals.items()}
        labels = np.zeros(case.error.shape, dtype=np.int16) if case.labels is None else case.labels
        structures = {}
        for value, name in label_names.items():
            inside = labels == value
            if inside.sum() >= 20:
                structures[name] = {
                    "covered": float((error[inside] <= half[inside]).mean()),
                    "half_width": float(half[inside].mean()),
                    "error": float(error[inside].mean()),
                }
        lesion = None
        if lesions:
            lesion = np.isin(labels, [value for value, name in label_names.items() if name in lesions])[places]
        score = self.novelty.score(self.novelty.statistics(self.novelty.distances(case.coarse), case.coarse))
        return {
            "patient": case.patient,
            "covered": float((error <= half).mean()),
            "covered_by_mean_factor": float((error <= self.mean_factor * sizes[self.kind]).mean()),
            "half_width": float(half.mean()),
            "half_width_constant": float(self.factors["constant"] * sizes["constant"].mean()),
            "half_width_strata": float(self.factors["strata"] * sizes["strata"].mean()),
            "half_width_network": float(self.factors["network"] * sizes["network"].mean()),
            "error": float(error.mean()),
            "spearman": {name: _correlation(rank, error[places]) for name, rank in rankings.items()},
            "lesion_auc": {} if lesion is None else {name: auc(rank, lesion) for name, rank in rankings.items()},
            "error_auc": None if lesion is None else auc(error[places], lesion),
            "structures": structures,
            "novelty_score": score,
            "novelty": self.novelty.p_value(score),
            "kind": self.kind,
        }


def fit_strata(features: np.ndarray, errors: np.ndarray, pair: Sequence[int], coverage: float) -> Scale:
    """Return the quantile of |error| within bins of equal counts along two features.

    Args:
        features: Features (9, N).
        errors: |error| (N,).
        pair: Numbers of the two features.
        coverage: Level of the quantile.
    """
    shares = np.linspace(0, 1, BINS + 1)[1:-1]
    edges = [np.unique(np.quantile(features[index], shares)) for index in pair]
    bins = [np.searchsorted(each, features[index]) for index, each in zip(pair, edges)]
    values = np.full([len(each) + 1 for each in edges], float(np.quantile(errors, coverage)))
    for place in np.ndindex(*values.shape):
        inside = errors[(bins[0] == place[0]) & (bins[1] == place[1])]
        if inside.size >= 50:
            values[place] = max(float(np.quantile(inside, coverage)), 1e-3)
    content = {"features": list(pair), "edges": [each.tolist() for each in edges], "values": values.tolist()}
    return Scale("strata", _rounded(content))


def fit_network(features: np.ndarray, errors: np.ndarray, coverage: float) -> Scale:
    """Return a perceptron that predicts the quantile of |error| from local features, fitted by the pinball loss.

    Koenker and Bassett, Econometrica 1978; Romano et al., NeurIPS 2019 (conformalized quantile regression).

    Args:
        features: Features (9, N).
        errors: |error| (N,).
        coverage: Level of the quantile.
    """
    samples = features.T.astype(np.float64)
    mean, sd = samples.mean(axis=0), samples.std(axis=0) + 1e-6
    unit = max(float(np.quantile(errors, coverage)), 1e-3)
    inputs = torch.from_numpy(standardised(samples, mean, sd))
    targets = torch.from_numpy((errors / unit).astype(np.float32))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = torch.nn.Sequential(
            torch.nn.Linear(inputs.shape[1], WIDTH),
            torch.nn.ReLU(),
            torch.nn.Linear(WIDTH, WIDTH),
            torch.nn.ReLU(),
            torch.nn.Linear(WIDTH, 1),
        )
        optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
        for _ in range(STEPS):
            batch = torch.randint(len(inputs), (BATCH,))
            beyond = targets[batch] - network(inputs[batch])[:, 0].clamp(-7, 7).exp()
            loss = torch.maximum(coverage * beyond, (coverage - 1) * beyond).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    linear = [layer for layer in network if isinstance(layer, torch.nn.Linear)]
    layers = [[layer.weight.tolist(), layer.bias.tolist()] for layer in linear]
    layers[-1][1] = [layers[-1][1][0] + float(np.log(unit))]
    return Scale("network", _rounded({"mean": mean.tolist(), "sd": sd.tolist(), "layers": layers}))


def fit_novelty(cases: Sequence[Case], rng: np.random.Generator) -> Novelty:
    """Return the novelty measure of patients: half of them fill the bank, the statistics are those of the others."""
    bank_cases, others = cases[::2], cases[1::2]
    samples = np.concatenate([case.coarse[list(NOVELTY_FEATURES)] for case in bank_cases], axis=1).T
    mean, sd = samples.mean(axis=0), samples.std(axis=0) + 1e-6
    bank = (samples[rng.permutation(len(samples))[:BANK]] - mean) / sd
    content = {"mean": mean.tolist(), "sd": sd.tolist(), "bank": bank.tolist(), "middle": [0.0], "spread": [1.0]}
    first = Novelty(content)
    rows = np.stack([first.statistics(first.distances(case.coarse), case.coarse) for case in others])
    middle = np.median(rows, axis=0)
    spread = 1.4826 * np.median(np.abs(rows - middle), axis=0) + 1e-3
    return Novelty({**content, "middle": middle.tolist(), "spread": spread.tolist()})


def gate(rows: Sequence[Mapping[str, Any]], coverage: float, confidence: float) -> dict[str, Any]:
    """Summarise what was measured on the patients of one direction.

    Args:
        rows: Rows of `Fit.measure`; those not `counted` give the figures of lesions alone.
        coverage: Share of a patient's voxels that must be covered.
        confidence: Share of patients of whom that was promised; refuted if the 95 % interval lies below it.
    """
    counted = [row for row in rows if row["counted"]]
    covered = sum(row["covered"] >= coverage for row in counted)
    interval = binomial_interval(covered, len(counted))
    kind = counted[0]["kind"]
    spearman = _means(row["spearman"] for row in counted)
    lesion = _means(row["lesion_auc"] for row in rows if row["lesion_auc"])
    found = [row["error_auc"] for row in rows if row["error_auc"] is not None and np.isfinite(row["error_auc"])]
    structures = {
        name: {**_means(each), "patients": len(each)}
        for name in dict.fromkeys(name for row in rows for name in row["structures"])
        for each in [[row["structures"][name] for row in rows if name in row["structures"]]]
    }
    widths = _means({key: row[f"half_width_{key}"] for key in ("constant", "strata", "network")} for row in counted)
    return {
        "patients": len(counted),
        "voxel_coverage": float(np.mean([row["covered"] for row in counted])),
        "voxel_coverage_by_mean_factor": float(np.mean([row["covered_by_mean_factor"] for row in counted])),
        "patients_covered": covered,
        "patient_coverage": covered / len(counted),
        "patient_coverage_interval": list(interval),
        "promise_kept": interval[1] >= confidence,
        "kind": kind,
        "half_width": float(np.mean([row["half_width"] for row in counted])),
        "half_widths": widths,
        "error": float(np.mean([row["error"] for row in counted])),
        "spearman": spearman,
        "lesion_auc": lesion,
        "lesion_auc_of_the_error": float(np.mean(found)) if found else None,
        "false_novelty": float(np.mean([row["novelty"] <= FALSE_ALARMS for row in counted])),
        "structures": structures,
        "passed": bool(spearman.get(kind, 0.0) >= SPEARMAN and lesion.get(kind, 0.0) >= AUC),
    }


def auc(values: np.ndarray, inside: np.ndarray) -> float:
    """Return the area under the ROC of `values` for a mask; NaN if it is empty or whole.

    Example:
        >>> auc(np.array([1.0, 2.0, 3.0, 4.0]), np.array([False, True, False, True]))
        0.75
    """
    positive = int(inside.sum())
    negative = inside.size - positive
    if not positive or not negative:
        return float("nan")
    ranks = rankdata(values)
    return float((ranks[inside].sum() - positive * (positive + 1) / 2) / (positive * negative))


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(spearmanr(first, second).statistic)


def _means(rows: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each number over the rows that have it."""
    listed = list(rows)
    names = dict.fromkeys(name for row in listed for name in row)
    values = {name: [row[name] for row in listed if name in row and np.isfinite(row[name])] for name in names}
    return {name: float(np.mean(numbers)) for name, numbers in values.items() if numbers}


def _rounded(content: Any) -> Any:
    """Return JSON content with five significant digits, except for the factors, of which the promise depends."""
    if isinstance(content, Mapping):
        return {str(key): value if key == "factors" else _rounded(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_rounded(value) for value in content]
    return float(f"{content:.5g}") if isinstance(content, float) else content
