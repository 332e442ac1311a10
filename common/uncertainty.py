"""How far an output may be from the truth: half-widths calibrated on patients with truth, and novelty of the source.

Patient-wise split conformal prediction. Some patients give the scale of the errors as a function of local features,
others one factor: a new patient, exchangeable with these, has at least `coverage` of its foreground voxels within
`factor x scale` of the truth with probability `confidence`. Papadopoulos et al., ECML 2002 (split conformal prediction
with normalised scores); Angelopoulos et al., ICLR 2024 (conformal risk control, for the mean over patients); Bates et
al., Annals of Statistics 2023 (conformal p-values of outliers, for the novelty).

`models/uncertainty.json` holds all of it and the checksum of the weights for which it was measured.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree
from scipy.stats import beta

from .files import checksum, read_json
from .metrics.score import foreground_mask

logger = logging.getLogger(__name__)
FILE = "uncertainty.json"
SENTENCE = (
    "The coverage was measured on {data}. It holds for patients like those and ends where they end: on other scanners,"
    " protocols and diseases nothing is promised."
)
COARSE_MM = 4.0  # width of the neighbourhood whose mean is a feature
WINDOW = 5  # pixels along each side of the neighbourhood whose SD is a feature
LIMIT = 6.0  # standardised features are clipped here for the scale, not for the novelty
NOVELTY_FEATURES = (0, 1, 2, 3, 4)  # those of the source alone
STEP_MM = 3.0  # distance of the pixels whose novelty is measured
QUANTILES = (0.5, 0.99, 0.999)  # of a patient's distances, beside its mean features
SMALLEST = 1e-3  # of a scale, in the output's units

FloatArray = NDArray[np.floating[Any]]


def conformal_quantile(scores: Sequence[float] | FloatArray, confidence: float) -> float:
    """Return the ceil((n + 1) confidence)-th smallest of n scores.

    The score of one more exchangeable patient is at most that with probability `confidence` or more.

    Args:
        scores: One score per patient.
        confidence: Probability in (0, 1).

    Raises:
        ValueError: If there are too few scores for that probability.

    Example:
        >>> conformal_quantile([5.0, 1.0, 4.0, 2.0, 3.0, 6.0, 9.0, 8.0, 7.0], 0.8)
        8.0
    """
    n = len(scores)
    rank = math.ceil((n + 1) * confidence - 1e-9)
    if rank > n:
        least = math.ceil(confidence / (1 - confidence) - 1e-9)
        raise ValueError(
            f"{n} patients are too few to calibrate for a confidence of {confidence:g}: at least {least} are needed,"
            " beside those that give the scale of the errors."
        )
    return float(np.sort(np.asarray(scores, dtype=float))[rank - 1])


def patient_score(error: FloatArray, scale: FloatArray, coverage: float) -> float:
    """Return the smallest factor with which a share `coverage` of the voxels has |error| <= factor x scale.

    Example:
        >>> patient_score(np.array([1.0, 2.0, 3.0, 40.0]), np.array([1.0, 1.0, 2.0, 4.0]), 0.75)
        2.0
    """
    ratios = np.abs(error) / np.maximum(scale, SMALLEST)
    rank = max(1, math.ceil(ratios.size * coverage - 1e-9))
    return float(np.partition(ratios, rank - 1)[rank - 1])


def risk_factor(ratios: Sequence[FloatArray], coverage: float) -> float:
    """Return the smallest factor for which the mean coverage of one more patient is at least `coverage`.

    Conformal risk control: with m_i the share of voxels of patient i beyond the factor, (sum m_i + 1) / (n + 1) must be
    at most 1 - coverage.

    Args:
        ratios: |error| / scale of the voxels of each patient.
        coverage: Expected share of covered voxels, in (0, 1).

    Returns:
        The factor; infinity if there are too few patients for any promise.

    Example:
        >>> risk_factor([np.arange(1.0, 11.0)] * 9, 0.5)  # (9 x 0.4 + 1) / 10 is 0.46, one step lower is too much
        6.0
    """
    n, missed = len(ratios), 1 - coverage
    if 1 / (n + 1) > missed + 1e-12:
        return math.inf
    candidates = np.unique(np.concatenate(ratios))
    ordered = [np.sort(each) for each in ratios]
    low, high = 0, len(candidates) - 1
    while low < high:
        middle = (low + high) // 2
        beyond = sum(1 - np.searchsorted(each, candidates[middle], side="right") / each.size for each in ordered)
        low, high = (low, middle) if (beyond + 1) / (n + 1) <= missed + 1e-12 else (middle + 1, high)
    return float(candidates[low])


def binomial_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of a probability (Clopper and Pearson, Biometrika 1934).

    Example:
        >>> [round(end, 4) for end in binomial_interval(9, 10)]
        [0.555, 0.9975]
    """
    tail = (1 - confidence) / 2
    low = float(beta.ppf(tail, successes, trials - successes + 1)) if successes else 0.0
    high = float(beta.ppf(1 - tail, successes + 1, trials - successes)) if successes < trials else 1.0
    return low, high


class Pair(NamedTuple):
    """A source and an output as axial slices on the output's grid, along the patient's axes R, A and S.

    Attributes:
        source: Source (X, Y, Z): HU, or MR intensities divided by the 95th percentile of their foreground.
        output: Output (X, Y, Z) in its units.
        mask: Foreground (X, Y, Z), for which the calibration holds.
        spacing_mm: Pixel size along X and Y.
        finer: Pixels of the output along one of the source.
    """

    source: FloatArray
    output: FloatArray
    mask: NDArray[np.bool_]
    spacing_mm: tuple[float, float]
    finer: int = 1


def paired(
    source: np.ndarray, source_affine: np.ndarray, output: np.ndarray, output_affine: np.ndarray, *, hu: bool
) -> Pair:
    """Bring a source and its output to one grid of axial slices; a coarser source is interpolated linearly.

    The foreground is that of the source (`common.metrics.foreground_mask`); all voxels of an output with finer pixels.

    Args:
        source: Source (X, Y, Z) in its own units.
        source_affine: Affine (4, 4) of the source.
        output: Output (X', Y', Z').
        output_affine: Affine (4, 4) of the output.
        hu: Whether the source is in HU; other intensities have no unit and are made comparable.
    """
    first, second = (
        nib.as_closest_canonical(nib.Nifti1Image(np.asarray(array, dtype=np.float32), np.asarray(affine, dtype=float)))
        for array, affine in ((source, source_affine), (output, output_affine))
    )
    spacing = tuple(float(size) for size in second.header.get_zooms()[:2])
    values, made = (np.asarray(image.dataobj, dtype=np.float32) for image in (first, second))
    finer = round(float(first.header.get_zooms()[0]) / spacing[0])
    if first.shape == second.shape:
        mask = foreground_mask(values)
    else:
        to_source = np.linalg.inv(first.affine) @ second.affine
        values = ndimage.affine_transform(
            values, to_source[:3, :3], to_source[:3, 3], output_shape=made.shape, order=1, mode="nearest"
        )
        mask = np.ones(made.shape, dtype=bool)
    if not hu and mask.any():
        values = values / max(float(np.percentile(values[mask], 95)), 1e-6)
    return Pair(values, made, mask, (spacing[0], spacing[1]), finer)


def in_unit_of(pair: Pair, truth: FloatArray) -> FloatArray:
    """Return a truth of intensities without a unit with the output's median: they are known up to a factor.

    Args:
        pair: Source and output.
        truth: Truth (X, Y, Z) on the output's grid.
    """
    if not pair.mask.any():
        return truth
    return truth * (np.median(pair.output[pair.mask]) / max(float(np.median(truth[pair.mask])), 1e-6))


def local_features(source: FloatArray, output: FloatArray, spacing_mm: Sequence[float]) -> FloatArray:
    """Compute what may predict the error of each pixel of an axial slice.

    Args:
        source: Slice (X, Y) of the source.
        output: Slice (X, Y) of the output.
        spacing_mm: Pixel size.

    Returns:
        Features (9, X, Y): of the source its smoothed value, gradient, local SD, and value and gradient in a wide
        neighbourhood; of the output value, gradient, local SD; and the difference of the two values.
    """
    wide = [COARSE_MM / size for size in spacing_mm]
    values = ndimage.gaussian_filter(source, 1.0)
    coarse = ndimage.gaussian_filter(source, wide)
    made = ndimage.gaussian_filter(output, 1.0)
    return np.stack(
        [
            *(values, _steepness(values), _local_sd(source), coarse, _steepness(coarse)),
            *(made, _steepness(made), _local_sd(output), made - values),
        ]
    ).astype(np.float32)


def _steepness(image: FloatArray) -> FloatArray:
    return np.hypot(*np.gradient(image)) if min(image.shape) > 1 else np.zeros_like(image)


def _local_sd(image: FloatArray) -> FloatArray:
    centred = image - image.mean()  # float32 loses the variance of large values
    mean = ndimage.uniform_filter(centred, WINDOW)
    return np.sqrt(np.maximum(ndimage.uniform_filter(centred**2, WINDOW) - mean**2, 0.0))


def slices_of(pair: Pair) -> Iterator[tuple[int, FloatArray]]:
    """Yield the number of each axial slice and its local features (9, X, Y)."""
    for level in range(pair.output.shape[2]):
        yield level, local_features(pair.source[..., level], pair.output[..., level], pair.spacing_mm)


class Scale:
    """The expected size of the error as a function of local features, in the output's units.

    Args:
        kind: `constant`, `strata` or `network`.
        content: Numbers of that kind, as JSON holds them: `value`; `features`, rising inner `edges` of each and
            `values` of their bins; or `mean` and `sd` of the features and the `layers` (weights, biases) of a network
            that gives the logarithm of the scale.
    """

    def __init__(self, kind: str, content: Mapping[str, Any]) -> None:
        self.kind, self.content = kind, dict(content)
        self._arrays = {key: np.asarray(content[key], dtype=np.float32) for key in ("mean", "sd") if key in content}
        self._layers = [
            (np.asarray(weights, dtype=np.float32), np.asarray(biases, dtype=np.float32))
            for weights, biases in content.get("layers", [])
        ]

    def __call__(self, features: FloatArray) -> FloatArray:
        """Return the scale (...) at places with features (9, ...)."""
        if self.kind == "constant":
            return np.full(features.shape[1:], self.content["value"], dtype=np.float32)
        if self.kind == "strata":
            bins = [
                np.searchsorted(edges, features[index])
                for index, edges in zip(self.content["features"], self.content["edges"], strict=True)
            ]
            return np.asarray(self.content["values"], dtype=np.float32)[tuple(bins)]
        values = standardised(features.reshape(len(features), -1).T, self._arrays["mean"], self._arrays["sd"])
        for number, (weights, biases) in enumerate(self._layers):
            values = values @ weights.T + biases
            if number < len(self._layers) - 1:
                values = np.maximum(values, 0.0)
        return np.exp(np.clip(values[:, 0], -7.0, 12.0)).reshape(features.shape[1:])


def standardised(samples: FloatArray, mean: FloatArray, sd: FloatArray) -> FloatArray:
    """Return features (N, F) in SDs from the mean, clipped, as the network of a `Scale` takes them."""
    return np.clip((samples - mean) / sd, -LIMIT, LIMIT).astype(np.float32)


class Novelty:
    """Distance of a source's local features from those of the patients who gave the scale.

    A pixel's distance is that to the nearest of a bank of samples, in SDs of the features. A patient's score is the
    largest of several deviations from these patients: of quantiles of its distances and of its mean features, each in
    robust SDs (1.4826 x MAD).

    Args:
        content: `mean` and `sd` of the features, the `bank` (standardised), `middle` and `spread` of the patients'
            statistics, sorted `scores` of the calibration patients, and the distance `limit` that 99.9 % of their
            pixels keep.
    """

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.content = dict(content)
        self.mean, self.sd, self.middle, self.spread = (
            np.asarray(content[key], dtype=float) for key in ("mean", "sd", "middle", "spread")
        )
        self.scores = np.asarray(content.get("scores", []), dtype=float)
        self.limit = float(content.get("limit", math.inf))
        self._tree = cKDTree(np.asarray(content["bank"], dtype=float))

    def distances(self, features: FloatArray) -> FloatArray:
        """Return the distance (N,) of features (9, N)."""
        samples = (features[list(NOVELTY_FEATURES)].T - self.mean) / self.sd
        return np.asarray(self._tree.query(samples)[0])

    def statistics(self, distances: FloatArray, features: FloatArray) -> FloatArray:
        """Return the statistics of a patient from the distances (N,) and features (9, N) of its pixels."""
        means = (features[list(NOVELTY_FEATURES)].mean(axis=1) - self.mean) / self.sd
        return np.concatenate([np.quantile(distances, QUANTILES), means])

    def score(self, statistics: FloatArray) -> float:
        """Return the score of a patient: its largest deviation."""
        deviations = (statistics - self.middle) / self.spread
        deviations[: len(QUANTILES)] = np.maximum(deviations[: len(QUANTILES)], 0.0)  # nearer than usual is not novel
        return float(np.abs(deviations).max())

    def p_value(self, score: float) -> float:
        """Return the conformal p-value: below p with probability p at most, for a patient like those calibrated on."""
        return float((1 + (self.scores >= score).sum()) / (1 + self.scores.size))


def coarse_pixels(pair: Pair) -> tuple[slice, slice]:
    """Return the places along X and Y of the pixels whose novelty is measured."""
    first, second = (slice(None, None, max(1, round(STEP_MM / size))) for size in pair.spacing_mm)
    return first, second


class Calibrated(NamedTuple):
    """The calibration of one direction.

    Attributes:
        scale: Expected size of the error.
        factor: Factor of the scale that gives the half-width.
        novelty: Distance of the source from the patients calibrated on.
    """

    scale: Scale
    factor: float
    novelty: Novelty


class Uncertainty:
    """The content of a bundle's `uncertainty.json`.

    Args:
        models_dir: Folder of the weights.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it was measured with other weights, or its content is damaged.
    """

    def __init__(self, models_dir: str | Path) -> None:
        self.path = Path(models_dir) / FILE
        cure = f"`python -m common calibrate BUNDLE --dataset_dir PAIRS --models_dir {models_dir}` measures it"
        if not self.path.is_file():
            raise FileNotFoundError(f"{self.path} does not exist, so the uncertainty of the output is unknown: {cure}.")
        self.content = read_json(self.path, cure=cure)
        weights = self.path.with_name("model.pt")
        if not weights.is_file() or self.content.get("weights_sha256") != checksum(weights):
            raise ValueError(
                f"{self.path} was measured with other weights than {weights}, so it says nothing of their errors:"
                f" {cure} anew."
            )
        try:
            self.hu = bool(self.content["hu"])
            self.unit = str(self.content["unit"])
            self.sentence = SENTENCE.format(data=self.content["data"]["description"])
            self.directions = {name: _calibrated(part) for name, part in self.content["directions"].items()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{self.path} is damaged ({error!r}): {cure}.") from error

    def of(self, source: str | None, target: str) -> Calibrated:
        """Return the calibration of a direction.

        Args:
            source: Source domain; None if the bundle has one direction.
            target: Target domain.

        Raises:
            ValueError: If that direction was not calibrated.
        """
        found = [part for name, part in self.directions.items() if name == f"{source}->{target}"]
        if source is None:
            found = [part for name, part in self.directions.items() if name.endswith(f"->{target}")]
        if len(found) != 1:
            raise ValueError(
                f"The uncertainty of {source or 'the source'} to {target} was not calibrated, or its promise was"
                f" refuted by a test; {self.path} has {', '.join(self.directions) or 'no direction'}."
            )
        return found[0]

    def measure(self, pair: Pair, calibrated: Calibrated) -> tuple[FloatArray, dict[str, Any]]:
        """Return the half-widths of a pair (X, Y, Z), NaN outside the foreground, and a summary for the sidecar.

        Raises:
            ValueError: If the source has no foreground.
        """
        half_widths = np.full(pair.output.shape, np.nan, dtype=np.float32)
        sampled, distances = [], []
        every_x, every_y = coarse_pixels(pair)
        for level, features in slices_of(pair):
            mask = pair.mask[..., level]
            if mask.any():
                half_widths[mask, level] = calibrated.factor * calibrated.scale(features[:, mask])
                coarse = features[:, every_x, every_y][:, mask[every_x, every_y]]
                sampled.append(coarse)
                distances.append(calibrated.novelty.distances(coarse))
        if not sampled or not sum(map(len, distances)):
            raise ValueError("The source has no foreground, so nothing is known of its output: check the image.")
        novelty, together = calibrated.novelty, np.concatenate(distances)
        score = novelty.score(novelty.statistics(together, np.concatenate(sampled, axis=1)))
        p_value = novelty.p_value(score)
        promised = self.content["promise"]
        summary = {
            "promise": {**promised, "sentence": self.sentence},
            "unit": self.unit,
            "mean_half_width": round(float(np.nanmean(half_widths)), 3),
            "above_range": round(float((together > novelty.limit).mean()), 5),
            "novelty": {
                "score": round(score, 3),
                "p_value": round(p_value, 4),
                "flagged": p_value <= promised["novelty"],
            },
            "locates_errors": bool(self.content["gate"]["passed"]),
        }
        return half_widths, summary


def shipped(models_dir: str | Path) -> Uncertainty | None:
    """Return what is known of the uncertainty of a folder's weights; None if nothing is, which the log says.

    Args:
        models_dir: Folder of the weights.
    """
    try:
        return Uncertainty(models_dir)
    except (FileNotFoundError, ValueError) as error:
        logger.info(f"The coverage of the half-widths is not evaluated: {error}")
        return None


def _calibrated(part: Mapping[str, Any]) -> Calibrated:
    scale = Scale(part["scale"]["kind"], part["scale"])
    return Calibrated(scale, float(part["factors"]["patients"]), Novelty(part["novelty"]))
