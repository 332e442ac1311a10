"""Fit the classical baselines once, at the start of a training, and save them; evaluation only loads them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ..data.datalist import has_list, load_datalist, load_domain
from ..data.many import sampled
from ..files import write_json
from ..networks.residual import IntensityCurveLayer, ResidualGenerator
from ..transforms.standardize import BACKGROUND, DARKEST, LOWEST, foreground_ranks
from .base import Baseline, Identity, read_fitted
from .curve import DEFAULT_BINS, IntensityCurve
from .histogram import DEFAULT_QUANTILES, HistogramMatching, InvertedHistogramMatching, mean_quantiles

FORMAT = 1
FLAT_END = 0.02  # share of the brightest source ranks that share one value of an inverted curve
WITHOUT_FIT: list[type[Baseline]] = [Identity]
OF_QUANTILES: list[type[HistogramMatching]] = [HistogramMatching, InvertedHistogramMatching]
ALL: list[type[Baseline]] = [*WITHOUT_FIT, *OF_QUANTILES, IntensityCurve]
KINDS: dict[str, type[Baseline]] = {kind.name: kind for kind in ALL}
CURE = "`python -m monai.bundle run training --config_file <bundle>/configs/train.yaml` fits and saves them"

FILE_NAME = "baselines.json"
logger = logging.getLogger(__name__)


def fit_baselines(
    target_volumes: Iterable[np.ndarray],
    paired: Iterable[tuple[np.ndarray, np.ndarray]] | None = None,
    *,
    quantiles: int = DEFAULT_QUANTILES,
    bins: int = DEFAULT_BINS,
    names: Sequence[str] | None = None,
    keep_clipped: bool = False,
) -> dict[str, Baseline]:
    """Fit all baselines of one direction; both iterables are read once, one volume at a time, so generators suffice.

    Args:
        target_volumes: Volumes `(X, Y, Z)` of the target domain's *unpaired training* patients, encoded to [-1, 1].
        paired: Aligned (source, target) training volumes, encoded; without them there is no intensity curve.
        quantiles: Number of quantiles of histogram matching.
        bins: Number of bins of the intensity curve.
        names: Names of the baselines; by default all. Without histogram matching no target volume is read.
        keep_clipped: See `IntensityCurve`; for CT in a window.

    Returns:
        `{name: baseline}` in the order identity, histogram matching, inverted histogram matching, intensity curve.

    Raises:
        ValueError: If a name is unknown, there is no target volume with foreground, or a volume is not encoded.

    Example:
        >>> target = np.full((20, 20, 2), -1.0); target[5:15, 5:15] = 0.5
        >>> list(fit_baselines([target]))
        ['identity', 'histogram_matching', 'inverted_histogram_matching']
    """
    wanted = list(KINDS) if names is None else list(names)
    if unknown := sorted(set(wanted) - set(KINDS)):
        raise ValueError(f"`names` must be among {list(KINDS)}, got {unknown}.")
    fitted: list[Baseline] = [kind() for kind in WITHOUT_FIT]
    matching = [kind for kind in OF_QUANTILES if kind.name in wanted]
    if matching:
        reference = mean_quantiles(target_volumes, count=quantiles)
        fitted += [kind(reference) for kind in matching]
    if paired is not None and IntensityCurve.name in wanted:
        fitted.append(IntensityCurve.fit(paired, bins=bins, keep_clipped=keep_clipped))
    return {baseline.name: baseline for baseline in fitted if baseline.name in wanted}


def save_baselines(
    path: str | os.PathLike[str], baselines: Mapping[str, Baseline], facts: Mapping[str, Any] | None = None
) -> Path:
    """Write the coefficients as JSON, atomically, with `facts` about the fit (patients, direction, codec)."""
    content = {name: {"kind": baseline.name} | baseline.to_dict() for name, baseline in baselines.items()}
    return write_json(path, {"format": FORMAT, "facts": dict(facts or {}), "baselines": content})


def load_baselines(path: str | os.PathLike[str]) -> dict[str, Baseline]:
    """Read the file of `save_baselines`.

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If it is not a baseline file of this format, or names an unknown kind.
    """
    content = _read(path)["baselines"]
    unknown = sorted({entry.get("kind", "none") for entry in content.values()} - set(KINDS))
    if unknown:
        raise ValueError(f"`{path}` must hold baselines of the kinds {list(KINDS)}, got {unknown}; update the package.")
    return {name: KINDS[entry["kind"]].from_dict(entry) for name, entry in content.items()}


def _read(path: str | os.PathLike[str]) -> dict[str, Any]:
    return read_fitted(path, "baselines", what="baselines", version=FORMAT, cure=CURE)


def fit_and_save(
    models_dir: str | Path,
    dataset_dir: str | Path,
    source: str,
    target: str,
    prepare: Callable,
    target_volumes: Sequence[torch.Tensor],
    *,
    names: Sequence[str] | None = None,
    keep_clipped: bool = False,
    prepare_target: Callable | None = None,
) -> Path:
    """Fit the classical baselines on the training lists and write `baselines.json`; evaluation only reads it.

    The unpaired ones see the target domain of `training`. The intensity curve sees `training_paired`, and is omitted if
    a datalist has no pairs on one grid. The pairs are read under the domains' names: NECT and CECT are then the two
    scans that a hospital has, not aligned; the phantom's aligned truth has its own key, which is not read. Of a long
    list, some volumes are read, see `common.data.many`.

    Args:
        models_dir: Folder of the file.
        dataset_dir: Folder of the data set, see `common.data.load_datalist`.
        source: Source domain.
        target: Target domain.
        prepare: Function from `{"image": path}` to an encoded volume of shape (1, X, Y, Z) in [-1, 1].
        target_volumes: Encoded target volumes of `training`; empty if no unpaired baseline is wanted.
        names: Names of the baselines, see `fit_baselines`.
        keep_clipped: See `IntensityCurve`; for CT in a window.
        prepare_target: As `prepare`, for the target domain where it is encoded otherwise.
    """
    paired = has_list(dataset_dir, "training_paired")
    pairs = _pairs(dataset_dir, {source: prepare, target: prepare_target or prepare}) if paired else iter(())
    first = next(pairs, None)
    targets = (np.asarray(volume[0]) for volume in sampled(target_volumes, "Unpaired baselines"))
    baselines = fit_baselines(
        targets, None if first is None else chain([first], pairs), names=names, keep_clipped=keep_clipped
    )
    entries = load_domain(dataset_dir, "training", target) if len(target_volumes) else []
    patients = [entry["patient"] for entry in sampled(entries, "Patients of the unpaired baselines")]
    facts = {"direction": f"{source}->{target}", "target_patients": patients, "paired": first is not None}
    return save_baselines(Path(models_dir) / FILE_NAME, baselines, facts)


def match_to_mean(volumes: Sequence[torch.Tensor], models_dir: str | Path) -> list[torch.Tensor]:
    """Give volumes the histogram that histogram matching of `baselines.json` aims at, the mean of the training's.

    One tissue then has one intensity in all of them, whatever scanner they are from.

    Args:
        volumes: Encoded target volumes (1, X, Y, Z), background -1.
        models_dir: Folder of `baselines.json`.

    Returns:
        Volumes of the same shapes; the background stays -1.
    """
    baseline = load_baselines(Path(models_dir) / FILE_NAME)[HistogramMatching.name]
    assert isinstance(baseline, HistogramMatching)
    matched = []
    for volume in volumes:
        plain = torch.as_tensor(volume).as_subclass(torch.Tensor).float()
        inside = plain > BACKGROUND
        ranks = foreground_ranks(plain[inside].numpy())
        values = np.interp(ranks, np.linspace(0, 1, baseline.quantiles.size), baseline.quantiles)
        matched.append(torch.full_like(plain, BACKGROUND))
        matched[-1][inside] = torch.from_numpy(values.clip(DARKEST, 1)).float()
    return matched


def start_from_inverted(network: ResidualGenerator, models_dir: str | Path) -> None:
    """Set a generator's curve to inverted histogram matching of `baselines.json`, which needs no pair.

    The curve is flat at its bright end: a T1's brightest voxels are fat, vessels and noise, and the T2's darkest value
    is none of a tissue.

    Args:
        network: Generator whose source is encoded as foreground ranks, see `common.transforms.StandardizeForegroundd`.
        models_dir: Folder of `baselines.json`.

    Raises:
        ValueError: If the generator's base is no curve.
    """
    baseline = load_baselines(Path(models_dir) / FILE_NAME)[InvertedHistogramMatching.name]
    if not (isinstance(baseline, InvertedHistogramMatching) and isinstance(network.base, IntensityCurveLayer)):
        raise ValueError(
            f"`network` must have a curve as its base, got {type(network.base).__name__}: set `base: curve`."
        )
    points = np.linspace(-1.0, 1.0, len(network.base.values))
    ranks = np.clip((points - LOWEST) / (1 - LOWEST), 0, 1 - FLAT_END)
    network.base.set(np.interp(1 - ranks, np.linspace(0, 1, baseline.quantiles.size), baseline.quantiles))


def _pairs(dataset_dir: str | Path, prepare: Mapping[str, Callable]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    entries = sampled(load_datalist(dataset_dir, "training_paired"), "The intensity curve")
    for entry in tqdm(entries, desc="fitting baselines"):
        first, second = (each({"image": entry[domain]})["image"] for domain, each in prepare.items())
        if first.shape == second.shape:
            yield np.asarray(first[0]), np.asarray(second[0])
        else:
            logger.warning(
                f"{entry.get('patient', '?')}: {' and '.join(prepare)} are not on one grid"
                f" ({tuple(first.shape[1:])} and {tuple(second.shape[1:])} voxels);"
                " the intensity curve is fitted without them."
            )
