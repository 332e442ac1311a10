"""Tables of a report as HTML (mean and SD per method, best value of each column bold), and as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from markupsafe import Markup

from . import html
from .inputs import LESION, direction_of, name_of, ordered
from .scores import FEW_DIRECTIONS, Metrics, grouped_directions, is_region, overall, verdict

MATCHED = "After histogram matching to the target and 0.5 mm smoothing, the paper's protocol"

SHOWN = {
    "psnr": ("PSNR dB", ".2f"),
    "ssim": ("SSIM", ".3f"),
    "psnr_matched": ("matched* PSNR", ".2f"),
    "ssim_matched": ("matched* SSIM", ".3f"),
    "mae": ("MAE", ".3g"),
    "mae_tumour": ("MAE tumour", ".3g"),
    "mse_window": ("MSE window", ".4f"),
    "ms_ssim_window": ("MS-SSIM", ".3f"),
    "ms_ssim_window_kernel7": ("MS-SSIM (7)", ".3f"),
    "consistency_psnr": ("consistency PSNR", ".2f"),
    "spectrum_distance": ("spectrum", ".3f"),
}
FOOTNOTE = "* after histogram matching to the target and 0.5 mm smoothing, the paper's protocol"


@dataclass(frozen=True)
class Column:
    """Metric of a table. `best` is `high`, `low`, `zero` (bias), `one` (ratio) or `none`."""

    metric: str
    heading: str
    best: str
    digits: str = ".3g"
    group: str = ""


@dataclass(frozen=True)
class Cell:
    """Value of a table, as it is printed."""

    text: str
    best: bool = False
    spread: str = ""


@dataclass(frozen=True)
class Row:
    """Row of a table; a cell without a value is None. `kind` is the row's class in the style sheet."""

    name: str
    cells: Sequence[Cell | None]
    kind: str = ""


QUALITY = (
    Column("psnr", "PSNR (dB)", "high", ".2f", "Whole field"),
    Column("ssim", "SSIM", "high", ".3f", "Whole field"),
    Column("rmse", "RMSE", "low", ".3g", "Whole field"),
    Column("mae", "MAE", "low", ".3g", "Whole field"),
    Column("psnr_matched", "PSNR (dB)", "high", ".2f", MATCHED),
    Column("ssim_matched", "SSIM", "high", ".3f", MATCHED),
    Column("psnr_mask", "PSNR (dB)", "high", ".2f", "Inside the mask"),
    Column("ssim_mask", "SSIM", "high", ".3f", "Inside the mask"),
    Column("mae_mask", "MAE", "low", ".3g", "Inside the mask"),
)
STRUCTURE = (
    Column("source_correlation", "Source correlation", "none", "+.2f", "Alarms"),
    Column("slice_jump", "Slice jump", "one", ".2f", "Alarms"),
)


def quality_table(methods: Mapping[str, Metrics]) -> Markup:
    """Write image quality over the whole field, inside the mask, and by the paper's protocol."""
    return metric_table(methods, QUALITY)


def region_table(methods: Mapping[str, Metrics]) -> Markup:
    """Write error and bias inside each labelled region: diseases with the two alarm measures, then anatomy."""
    regions = dict.fromkeys(m.removeprefix("mae_") for metrics in methods.values() for m in metrics if is_region(m))
    diseases = [region for region in regions if LESION.search(region)]
    anatomy = [region for region in regions if region not in diseases]
    return metric_table(methods, (*_region_columns(diseases), *STRUCTURE)) + metric_table(
        methods, _region_columns(anatomy)
    )


def _region_columns(regions: Sequence[str]) -> list[Column]:
    columns = []
    for region in regions:
        title = region.replace("_", " ")
        columns.append(Column(f"mae_{region}", "MAE", "low", ".3g", title))
        columns.append(Column(f"bias_{region}", "Bias", "zero", "+.3g", title))
    return columns


def metric_table(
    methods: Mapping[str, Metrics], columns: Sequence[Column], *, spread: str = " ± {}", heading: str = "Method"
) -> Markup:
    """Write one row per method and one column per metric that at least one method has; empty if there is none.

    Args:
        methods: Scores `{method: {metric: {"mean": ..., "std": ...}}}`.
        columns: Metrics, in order; neighbours of one group share a heading.
        spread: Format of the SD.
        heading: Heading of the rows.
    """
    columns = [column for column in columns if any(column.metric in metrics for metrics in methods.values())]
    return (
        table(columns, [("", method_rows(methods, columns, spread=spread))], heading=heading) if columns else Markup()
    )


def table(columns: Sequence[Column], bodies: Sequence[tuple[str, Sequence[Row]]], *, heading: str = "Method") -> Markup:
    """Write two rows of headings, the groups above the columns, and bodies: each a heading or "", and its rows."""
    groups = [(title, len(list(members))) for title, members in groupby(column.group for column in columns)]
    return html.part("grouped_table", heading, groups, columns, bodies)


def method_rows(methods: Mapping[str, Metrics], columns: Sequence[Column], *, spread: str = " ± {}") -> list[Row]:
    """Collect one row per method, the best value of each column marked."""
    best = {column.metric: _best_text(methods, column) for column in columns}
    return [
        Row(
            name_of(method),
            [_cell(methods[method].get(column.metric), column, best[column.metric], spread) for column in columns],
            kind=method,
        )
        for method in ordered(methods)
    ]


def patient_table(rows: Sequence[Mapping[str, Any]], direction: str, *, metric: str = "psnr") -> Markup:
    """Write one row per patient and one column per method, of one metric; empty if no row has it."""
    rows = [row for row in rows if row.get("direction") == direction and metric in row]
    if not rows:
        return Markup()
    methods = ordered(row["method"] for row in rows)
    values = {(row["patient"], row["method"]): row[metric] for row in rows}
    body = []
    for patient in dict.fromkeys(row["patient"] for row in rows):
        best = max(values[patient, method] for method in methods if (patient, method) in values)
        found = [values.get((patient, method)) for method in methods]
        body.append(Row(str(patient), [None if v is None else Cell(f"{v:.2f}", v == best) for v in found]))
    return html.part("plain_table", ["Patient", *map(name_of, methods)], body)


def facts_table(facts: Mapping[str, Any]) -> Markup:
    """Write facts about the run in two columns, nested ones by dotted names, without those of other sections."""
    named = [
        (name.removesuffix("_mb").replace("_", " "), _fact(name, value))
        for name, value in _flat(facts)
        if name not in ("warnings", "alarms", "training", "task") and value is not None
    ]
    return html.part("facts", named) if named else Markup()


def _cell(value: Mapping[str, float] | None, column: Column, best: str | None, form: str) -> Cell | None:
    if value is None:
        return None
    mean = format(value["mean"], column.digits)
    return Cell(mean, mean == best, form.format(format(value.get("std", 0.0), column.digits.lstrip("+"))))


def _best_text(methods: Mapping[str, Metrics], column: Column) -> str | None:
    """Return the best mean as it is printed, so that equals are bold together."""
    means = [metrics[column.metric]["mean"] for metrics in methods.values() if column.metric in metrics]
    if column.best == "none" or len(means) < 2:
        return None
    distance = {"high": lambda x: -x, "low": lambda x: x, "zero": abs, "one": lambda x: abs(x - 1.0)}[column.best]
    return format(min(means, key=distance), column.digits)


def _flat(facts: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in facts.items():
        found += _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(f"{prefix}{name}", value)]
    return found


def _fact(name: str, value: Any) -> str:
    if name == "seconds":
        minutes, seconds = divmod(round(float(value)), 60)
        return f"{minutes} min {seconds} s" if minutes else f"{float(value):.1f} s"
    if name == "peak_memory_mb":
        return f"{float(value):,.0f} MB"
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if abs(value) < 100_000 else f"{value:,}"
    if isinstance(value, (list, tuple)):
        return ", ".join(str(item) for item in value)
    return str(value)


def results_table(summary: Mapping[str, Mapping[str, Metrics]], *, task: str | None = None) -> str:
    """Write mean and SD per method, and the verdict, for each direction.

    More than two directions are one table of PSNR with one row per direction and one verdict over all.

    Args:
        summary: Content of a `summary.json`.
        task: Task of the run, see `Inputs.task`; by default `task_of_metrics` of the summary.

    Example:
        >>> print(results_table({"T1->T2": {"identity": {"psnr": {"mean": 13.5, "std": 0.5}}}}))
        T1 → T2                     PSNR dB
        Identity (source as it is)  13.50 ± 0.50
        <BLANKLINE>
        T1 → T2: no network was scored here, only baselines.
    """
    if len(summary) > FEW_DIRECTIONS:
        return _many_directions(summary, task)
    parts = [_direction(direction, methods) for direction, methods in summary.items()]
    matched = any("matched" in metric for methods in summary.values() for row in methods.values() for metric in row)
    return "\n\n".join([*parts, FOOTNOTE] if matched else parts)


def _direction(direction: str, methods: Mapping[str, Metrics]) -> str:
    shown = [metric for metric in SHOWN if any(metric in metrics for metrics in methods.values())]
    table = [[direction_of(direction), *(SHOWN[metric][0] for metric in shown)]]
    for method in ordered(methods):
        table.append(
            [name_of(method), *(_text_cell(methods[method].get(metric), SHOWN[metric][1]) for metric in shown)]
        )
    return _aligned(table) + "\n\n" + verdict(direction, methods).text


def _many_directions(summary: Mapping[str, Mapping[str, Metrics]], task: str | None) -> str:
    metric, (heading, form) = "psnr", SHOWN["psnr"]
    methods = ordered(method for scored in summary.values() for method in scored)
    table = [[heading, *(name_of(method).split(" (")[0] for method in methods)]]
    for group, directions in grouped_directions(summary, list(summary), task=task).items():
        table += [[group]] if group else []
        for direction in directions:
            cells = (_text_cell(summary[direction].get(method, {}).get(metric), form) for method in methods)
            table.append([("  " if group else "") + direction_of(direction), *cells])
    return _aligned(table) + "\n\n" + overall(summary).text


def _aligned(table: Sequence[Sequence[str]]) -> str:
    """Align columns at equal width; a row may end early."""
    widths = [max(len(row[column]) for row in table if column < len(row)) for column in range(len(table[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in table)


def _text_cell(value: Mapping[str, float] | None, form: str) -> str:
    return "-" if value is None else f"{value['mean']:{form}} ± {value.get('std', 0.0):{form}}"
