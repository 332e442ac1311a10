"""Curves of a report: distribution of PSNR, network against baselines, losses, validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from monai.utils.module import optional_import

from .drawing import Theme, add_legend, new_plot, to_png
from .inputs import NETWORK, colour_of, ordered, short_name_of

gaussian_kde, _ = optional_import("scipy.stats", name="gaussian_kde")

MIN_FOR_DENSITY = 3
# Window of the running mean over a loss, as a share of its length.
SMOOTHING_SHARE = 0.05


def values_by_method(rows: Sequence[Mapping[str, Any]], direction: str, metric: str) -> dict[str, dict[str, float]]:
    """Collect `{method: {patient: value}}` of one direction, methods in the order of the tables."""
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        if row["direction"] == direction and metric in row:
            found.setdefault(row["method"], {})[row["patient"]] = float(row[metric])
    return {method: found[method] for method in ordered(found)}


def distribution_png(
    values: Mapping[str, Mapping[str, float]], *, theme: Theme, label: str = "PSNR (dB), per patient"
) -> bytes:
    """Draw a kernel density estimate per method over patients (as Figure 5 of the NEC paper), patients as ticks.

    A method with fewer than three patients, or with equal values, is drawn as points.
    """
    figure, (axes,) = new_plot(5.4, 3.5, theme)
    numbers = [np.array(list(by_patient.values())) for by_patient in values.values()]
    pooled = np.concatenate(numbers)
    margin = max(0.25 * float(np.ptp(pooled)), 0.5)
    grid = np.linspace(pooled.min() - margin, pooled.max() + margin, 400)
    for rank, (method, sample) in enumerate(zip(values, numbers, strict=True)):
        colour, width = colour_of(method, dark=theme.dark), 2.4 if method == NETWORK else 1.5
        name = short_name_of(method)
        axes.plot(sample, np.zeros(len(sample)), "|", color=colour, markersize=11, clip_on=False, zorder=5)
        if len(sample) >= MIN_FOR_DENSITY and np.ptp(sample) > 1e-6:
            density = gaussian_kde(sample)(grid)
            axes.plot(grid, density, color=colour, linewidth=width, label=name)
            axes.fill_between(grid, density, color=colour, alpha=0.12, linewidth=0)
        else:
            heights = np.full(len(sample), 0.02 + 0.01 * rank)
            axes.plot(sample, heights, "o", color=colour, label=name, markersize=6)
    axes.set(xlabel=label, ylabel="density", xlim=(grid[0], grid[-1]))
    axes.set_ylim(bottom=0.0)
    add_legend(axes, theme, columns=2)
    return to_png(figure, few_colours=True)


def scatter_png(values: Mapping[str, Mapping[str, float]], *, theme: Theme, label: str = "PSNR (dB)") -> bytes | None:
    """Draw the network's value against each baseline's, one point per patient; None if there is nothing to compare.

    Above the diagonal the network is better.
    """
    network = values.get(NETWORK, {})
    rivals = {name: sample for name, sample in values.items() if name != NETWORK and set(sample) & set(network)}
    if not rivals:
        return None
    figure, (axes,) = new_plot(5.4, 3.5, theme)
    shown: list[float] = []
    for method, sample in rivals.items():
        patients = [patient for patient in sample if patient in network]
        x, y = [sample[patient] for patient in patients], [network[patient] for patient in patients]
        shown += [*x, *y]
        axes.plot(x, y, "o", color=colour_of(method, dark=theme.dark), label=short_name_of(method), alpha=0.9)
    margin = max(0.08 * float(np.ptp(shown)), 0.3)
    limits = (min(shown) - margin, max(shown) + margin)
    axes.plot(limits, limits, color=theme.text, linewidth=0.9, linestyle="--")
    axes.set(xlabel=f"baseline, {label}", ylabel=f"network, {label}", xlim=limits, ylim=limits)
    add_legend(axes, theme, columns=2)
    return to_png(figure, few_colours=True)


def line_png(x: Sequence[float], y: Sequence[float], *, theme: Theme, xlabel: str, title: str) -> bytes:
    """Draw one quantity over iterations or epochs; long ones faintly, with their running mean on top."""
    figure, (axes,) = new_plot(3.9, 2.7, theme)
    colour = colour_of(NETWORK, dark=theme.dark)
    points = np.array([(a, b) for a, b in zip(x, y, strict=True) if np.isfinite(a) and np.isfinite(b)]).reshape(-1, 2)
    window = int(len(points) * SMOOTHING_SHARE)
    if window >= 3:
        axes.plot(*points.T, color=colour, alpha=0.25, linewidth=0.8)
        mean = np.convolve(points[:, 1], np.full(window, 1.0 / window), mode="valid")
        axes.plot(points[window - 1 :, 0], mean, color=colour, linewidth=1.8)
    else:
        axes.plot(*points.T, "o-", color=colour, linewidth=1.5, markersize=4)
    axes.set(xlabel=xlabel)
    axes.set_title(title.replace("$", r"\$"), color=theme.text, fontsize=12, loc="left")
    return to_png(figure, few_colours=True)


def columns_of(table: Mapping[str, Sequence[float]], *, axis: str) -> list[str]:
    """List columns that can be drawn over `axis`: not an axis themselves, and with at least one number."""
    return [
        name
        for name, column in table.items()
        if name not in ("iteration", "epoch", "seconds", axis) and np.isfinite(np.asarray(column, dtype=float)).any()
    ]


def count_of(values: Mapping[str, Mapping[str, float]]) -> str:
    """Write the number of patients per method, for the text below the picture.

    Example:
        >>> count_of({"network": {"a": 1.0, "b": 2.0}, "identity": {"a": 1.0}})
        '1 to 2 patients'
    """
    counts = sorted({len(by_patient) for by_patient in values.values()})
    number = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(counts[0])
    return f"{number} patient{'s' if counts[-1] != 1 else ''}"
