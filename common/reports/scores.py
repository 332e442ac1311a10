"""Sentences about the scores: where the network wins, where it loses, and what should alarm a reader.

Directions are also ordered here: for CT kernels sharp to soft, then soft to sharp, as in the papers' tables.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..bundles import KERNEL_CONVERSION
from ..metrics.score import NOT_INVERTED
from .inputs import IDENTITY, INTERPOLATED, NETWORK, PAIRED, UNPAIRED, direction_of, short_name_of, task_of_metrics

# Differences below this are called level, in dB.
LEVEL_DB = 0.05
FEW_PATIENTS = 5
JUMP_ABOVE = 1.5
# Below this no method is in the truth's unit: an empty image scores about as much.
OTHER_UNIT_DB = 5.0
GROUPS: tuple[tuple[str, ...], ...] = ((IDENTITY,), INTERPOLATED, UNPAIRED, PAIRED)
Metrics = Mapping[str, Mapping[str, float]]
# Columns of the tables beside the one that a verdict compares: heading, whether higher is better, and format.
COLUMNS: dict[str, tuple[str, bool, str]] = {
    "psnr": ("PSNR", True, ".2f"),
    "ssim": ("SSIM", True, ".3f"),
    "rmse": ("RMSE", False, ".3g"),
    "mae": ("MAE", False, ".3g"),
    "psnr_matched": ("matched PSNR", True, ".2f"),
    "ssim_matched": ("matched SSIM", True, ".3f"),
    "psnr_mask": ("PSNR inside the mask", True, ".2f"),
    "ssim_mask": ("SSIM inside the mask", True, ".3f"),
    "mae_mask": ("MAE inside the mask", False, ".3g"),
    "mse_window": ("MSE of the window", False, ".4f"),
    "ms_ssim_window": ("MS-SSIM", True, ".3f"),
    "ms_ssim_window_kernel7": ("MS-SSIM (7)", True, ".3f"),
}

# With more directions than this, a report compares them in common tables and folds the details away.
FEW_DIRECTIONS = 2
Scores = Mapping[str, Mapping[str, Metrics]]


@dataclass(frozen=True)
class Verdict:
    """Sentence and its kind: `wins`, `mixed` (loses to a paired baseline, in a column or a region), `loses`, `open`."""

    text: str
    kind: str


def verdict(direction: str, methods: Mapping[str, Metrics], *, brief: bool = False) -> Verdict:
    """Compare the network's PSNR with identity, the best unpaired and the best paired baseline.

    Every other column of the table in which the network loses is named. It is one training, of which no more is said
    than that it is ahead.

    Args:
        direction: Direction, e.g. `"T1->T2"`.
        methods: Scores `{method: {metric: {"mean": ..., "std": ..., "n": patients}}}` of that direction.
        brief: Whether to leave the number of patients to another sentence.

    Example:
        >>> verdict("T1->T2", {"network": {"psnr": {"mean": 20}}, "identity": {"psnr": {"mean": 22}}}).text
        'T1 → T2: the network, at 20.00 dB PSNR, loses to the untranslated source (identity) by 2.00 dB.'
    """
    metric, unit = "psnr", "dB PSNR"
    highest = max((_mean(methods, name) or 0.0 for name in methods), default=0.0)
    if highest < OTHER_UNIT_DB and _mean(methods, NETWORK, "psnr_matched") is not None:
        metric, unit = "psnr_matched", "dB PSNR after histogram matching (the truth is in another unit)"
    network = _mean(methods, NETWORK, metric)
    direction = direction_of(direction)
    patients, count = (0, "") if brief else _patients(methods)
    if network is None:
        return Verdict(f"{direction}{count}: no network was scored here, only baselines.", "open")
    rivals = [rival for rival in (_best(methods, group, metric) for group in GROUPS) if rival]
    if not rivals:
        return Verdict(f"{direction}{count}: the network reaches {network:.2f} {unit}; no baseline was scored.", "open")
    gains = {rival: network - (_mean(methods, rival, metric) or 0.0) for rival in rivals}
    won = [f"{_described(rival)} by {gain:.2f} dB" for rival, gain in gains.items() if gain >= LEVEL_DB]
    lost = [f"{_described(rival)} by {-gain:.2f} dB" for rival, gain in gains.items() if gain <= -LEVEL_DB]
    level = [_described(rival) for rival, gain in gains.items() if abs(gain) < LEVEL_DB]
    outcomes = (("loses to", lost), ("is ahead of", won), ("is level with", level))
    clauses = [f"{verb} {_joined(beaten)}" for verb, beaten in outcomes if beaten]
    text = f"{direction}{count}: the network, at {network:.2f} {unit}, {', and '.join(clauses)}{_caution(patients)}."
    columns = lost_columns(methods, besides=metric)
    if columns:
        text = f"{text} It loses in {_joined(columns)}."
    unpaired_lost = any(gain <= -LEVEL_DB for rival, gain in gains.items() if rival not in PAIRED)
    partly_lost = bool(lost or columns) or any(" loses " in line for line in region_lines(methods))
    return Verdict(text, "loses" if unpaired_lost else "mixed" if partly_lost else "wins")


def lost_columns(methods: Mapping[str, Metrics], *, besides: str = "psnr") -> list[str]:
    """List the columns of the tables in which a baseline is better than the network, as far as they are printed.

    Args:
        methods: Scores, see `verdict`.
        besides: Column that is left out.

    Example:
        >>> scores = {"network": {"ssim": {"mean": 0.59}}, "identity": {"ssim": {"mean": 0.84}}}
        >>> lost_columns(scores)
        ['SSIM (0.590 against 0.840, identity)']
    """
    lost = []
    for metric, (heading, higher, form) in COLUMNS.items():
        rivals = {name: value for name in methods if (value := _mean(methods, name, metric)) is not None}
        own = rivals.pop(NETWORK, None)
        if metric == besides or own is None or not rivals:
            continue
        best = (max if higher else min)(rivals, key=lambda name: rivals[name])
        shown, other = f"{own:{form}}", f"{rivals[best]:{form}}"
        if (rivals[best] > own) == higher and shown != other:
            lost.append(f"{heading} ({shown} against {other}, {short_name_of(best)})")
    return lost


def overall(summary: Mapping[str, Mapping[str, Metrics]]) -> Verdict:
    """Write one sentence over several directions: mean PSNR gain over each kind of baseline, and how often it wins.

    Its kind is `loses` when the mean gain over the identity or the unpaired baselines is negative, `wins` when the
    network wins in every direction, else `mixed`.

    Args:
        summary: `{direction: {method: {metric: {"mean": ..., "std": ..., "n": patients}}}}`.

    Example:
        >>> scored = {"network": {"psnr": {"mean": 20}}, "identity": {"psnr": {"mean": 18}}}
        >>> overall({"a->b": scored, "b->a": scored}).text  # doctest: +NORMALIZE_WHITESPACE
        'Over 2 directions: against the untranslated source (identity) the network gains 2.00 dB PSNR on average and is
        better in 2 of 2 directions.'
    """
    patients, count = _patients({name: metrics for methods in summary.values() for name, metrics in methods.items()})
    start = f"Over {len(summary)} directions{count}"
    clauses: list[str] = []
    means: list[tuple[tuple[str, ...], float]] = []
    for group in GROUPS:
        found = [gain for methods in summary.values() if (gain := _gain(methods, group)) is not None]
        if found:
            means.append((group, sum(gain for _, gain in found) / len(found)))
            clauses.append(_overall_clause(found, first=not clauses))
    kinds = {verdict(direction, methods).kind for direction, methods in summary.items()}
    if not clauses:
        return Verdict(f"{start}: no network was scored beside a baseline.", "open")
    unpaired_lost = any(mean <= -LEVEL_DB for group, mean in means if group != PAIRED)
    kind = "loses" if unpaired_lost else "wins" if kinds == {"wins"} else "mixed"
    return Verdict(f"{start}: {'; '.join(clauses)}{_caution(patients)}.", kind)


def region_lines(methods: Mapping[str, Metrics]) -> list[str]:
    """Describe in which labelled regions the network's error is smaller and larger than the best baseline's.

    Example:
        >>> region_lines({"network": {"mae_tumour": {"mean": 9}}, "intensity_curve": {"mae_tumour": {"mean": 6}}})
        ['By mean absolute error it loses inside tumour (9 against 6, intensity curve).']
    """
    regions: dict[str, list[str]] = {"loses": [], "is ahead": []}
    for metric in methods.get(NETWORK, {}):
        rivals = {name: value for name in methods if (value := _mean(methods, name, metric)) is not None}
        own = rivals.pop(NETWORK, None)
        if not is_region(metric) or own is None or not rivals:
            continue
        best = min(rivals, key=lambda name: rivals[name])
        region = metric.removeprefix("mae_").replace("_", " ")
        text = f"{region} ({own:.3g} against {rivals[best]:.3g}, {short_name_of(best)})"
        regions["is ahead" if own < rivals[best] else "loses"].append(text)
    return [f"By mean absolute error it {verb} inside {_joined(names)}." for verb, names in regions.items() if names]


def is_region(metric: str) -> bool:
    """Return whether a metric is the error inside a labelled region."""
    return metric.startswith("mae_") and metric != "mae_mask"


def alarms(rows: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> list[str]:
    """List the run's own warnings, then each patient whose output should not be trusted.

    What the evaluation warned of is not said twice: `alarms` of the facts says whom it was about, and in which respect.
    Older runs have `warnings` alone, which are texts.

    Contrast is expected to be inverted where source and truth are anticorrelated (`target_correlation` of the row).
    """
    found = [str(warning) for warning in facts.get("warnings") or []]
    told = {(alarm["patient"], alarm["direction"], alarm["about"]) for alarm in facts.get("alarms") or []}
    for row in rows:
        if row.get("method") != NETWORK:
            continue
        who = f"{row.get('patient')}, {direction_of(str(row.get('direction')))}"
        correlation, jump = row.get("source_correlation"), row.get("slice_jump")
        expected = row.get("target_correlation", -1.0)
        known = (row.get("patient"), row.get("direction"), "contrast") in told
        if correlation is not None and expected < NOT_INVERTED < correlation and not known:
            found.append(
                f"{who}: contrast not inverted (correlation of source and output {correlation:+.2f}, "
                f"it should be below {NOT_INVERTED})."
            )
        if jump is not None and jump > JUMP_ABOVE:
            found.append(f"{who}: neighbouring slices differ {jump:.1f} times as much as in the truth.")
    return found


def _mean(methods: Mapping[str, Metrics], method: str, metric: str = "psnr") -> float | None:
    value = methods.get(method, {}).get(metric)
    return None if value is None else float(value["mean"])


def _best(methods: Mapping[str, Metrics], group: Sequence[str], metric: str = "psnr") -> str | None:
    scored = {name: value for name in group if (value := _mean(methods, name, metric)) is not None}
    return max(scored, key=lambda name: scored[name]) if scored else None


def _gain(methods: Mapping[str, Metrics], group: Sequence[str]) -> tuple[str, float] | None:
    """Return the best method of a group and by how many dB the network is better."""
    network, rival = _mean(methods, NETWORK), _best(methods, group)
    if network is None or rival is None:
        return None
    return rival, network - (_mean(methods, rival) or 0.0)


def _overall_clause(found: Sequence[tuple[str, float]], *, first: bool) -> str:
    """Summarise the directions' best rivals of one kind and the gains over them."""
    names = list(dict.fromkeys(_described(rival) for rival, _ in found))
    kind = "unpaired" if found[0][0] in UNPAIRED else "paired"
    rival = names[0] if len(names) == 1 else f"the best {kind} baseline of each direction"
    gains = [gain for _, gain in found]
    mean = sum(gains) / len(gains)
    won = sum(gain >= LEVEL_DB for gain in gains)
    level = sum(abs(gain) < LEVEL_DB for gain in gains)
    who, unit, of = ("the network", " PSNR", " directions") if first else ("it", "", "")
    text = f"against {rival} {who} {'gains' if mean >= 0 else 'loses'} {abs(mean):.2f} dB{unit} on average"
    return f"{text} and is better in {won} of {len(gains)}{of}" + (f", level in {level}" if level else "")


def _patients(methods: Mapping[str, Metrics]) -> tuple[int, str]:
    """Return the number of patients and its text; 0 and nothing if unknown."""
    number = max((int(v.get("n", 0)) for metrics in methods.values() for v in metrics.values()), default=0)
    return number, f" ({number} patient{'s' if number != 1 else ''})" if number else ""


def _caution(patients: int) -> str:
    return "; this is too few patients to conclude from" if 0 < patients < FEW_PATIENTS else ""


def _described(method: str) -> str:
    name = short_name_of(method)
    if method == IDENTITY:
        return "the untranslated source (identity)"
    if method in INTERPOLATED:
        return f"the best interpolation ({name})"
    if method in UNPAIRED and not name.startswith("unpaired"):
        return f"the best unpaired baseline ({name})"
    return f"the {name}" + (" fitted on pairs" if method in PAIRED and not name.startswith("paired") else "")


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def grouped_directions(summary: Scores, directions: Sequence[str], *, task: str | None = None) -> dict[str, list[str]]:
    """Sort directions under headings: those between CT kernels by sharpness, all others unchanged under none.

    Args:
        summary: Scores `{direction: {method: {metric: {"mean": ...}}}}`.
        directions: Directions such as `"B30f->B70f"`, each once.
        task: Task of the run, see `Inputs.task`; by default `task_of_metrics` of the summary.

    Example:
        >>> scores = {"network": {"edge_error": {"mean": 0.1}}}
        >>> grouped_directions({"B30f->B70f": scores}, ["B30f->B70f", "B70f->B50f", "B50f->B30f"])
        {'Sharp to soft': ['B50f->B30f', 'B70f->B50f'], 'Soft to sharp': ['B30f->B70f']}
    """
    kernels = softest_first(summary, directions) if (task or task_of_metrics(summary)) == KERNEL_CONVERSION else []
    if not kernels:
        return {"": list(directions)}
    rank = {domain: place for place, domain in enumerate(kernels)}
    pairs = sorted((domains_of(direction) for direction in directions), key=lambda pair: (rank[pair[0]], rank[pair[1]]))
    names = {domains_of(direction): direction for direction in directions}
    groups = {
        "Sharp to soft": [names[pair] for pair in pairs if rank[pair[0]] > rank[pair[1]]],
        "Soft to sharp": [names[pair] for pair in pairs if rank[pair[0]] < rank[pair[1]]],
    }
    return {heading: members for heading, members in groups.items() if members}


def softest_first(summary: Scores, directions: Sequence[str]) -> list[str]:
    """Sort CT kernels from soft to sharp: by the noise of their images, else by the numbers in their names.

    One scan has more noise the sharper its kernel is, whatever the vendor calls it.

    Args:
        summary: Scores, see `grouped_directions`.
        directions: Directions between kernels.

    Returns:
        The kernels; empty if neither noise nor names order them.
    """
    domains = sorted({domain for direction in directions for domain in domains_of(direction)})
    if any(len(set(domains_of(direction))) < 2 for direction in directions):
        return []
    noise: dict[str, list[float]] = {}
    for direction, methods in summary.items():
        source, target = domains_of(direction)
        for method, metrics in methods.items():
            for domain, metric in ((target, "noise_sd_target"), (source, "noise_sd" if method == IDENTITY else "")):
                if metric in metrics:
                    noise.setdefault(domain, []).append(float(metrics[metric]["mean"]))
    if all(domain in noise for domain in domains):
        return sorted(domains, key=lambda domain: sum(noise[domain]) / len(noise[domain]))
    numbers = {domain: int(found.group()) for domain in domains if (found := re.search(r"\d+", domain))}
    return sorted(domains, key=lambda domain: numbers[domain]) if len(set(numbers.values())) == len(domains) else []


def domains_of(direction: str) -> tuple[str, str]:
    """Split a direction into source and target.

    Example:
        >>> domains_of("B30f->B70f"), domains_of("somewhere")
        (('B30f', 'B70f'), ('source', 'target'))
    """
    source, arrow, target = direction.partition("->")
    return (source.strip(), target.strip()) if arrow else ("source", "target")
