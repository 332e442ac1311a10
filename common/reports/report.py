"""One HTML page a run: verdict, alarms, tables, pictures, curves, facts."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

from ..metrics.summary import write_text
from . import curves, html, pictures, tables
from .figures import THEMES, require
from .inputs import Case, Inputs, read_inputs
from .methods import NETWORK, direction_of
from .verdict import alarms, is_region, region_lines, verdict
from .volumes import disease_values, load_slice

PAPER_NOTE = (
    "Mean ± SD over patients, best value of each column bold; measured in 2-D and averaged over a patient's slices. "
    "Histogram matching to the target uses the true image and is optimistic; the other columns are the images as saved."
)
REGION_NOTE = (
    "MAE and bias (output minus target) in the target's units, over all voxels of the region. Source correlation: "
    "Pearson, inside the mask. Slice jump: difference of neighbouring slices relative to the truth's."
)


def write_report(
    output_dir: str | os.PathLike[str], *, window: tuple[float, float] | None = None, cases: int = 3
) -> Path:
    """Write ``report.html`` and ``pictures/*.png`` into a run's output folder.

    Args:
        output_dir: folder that an evaluation or an inference wrote (`read_inputs` names the files). What is missing is
            left out of the page: after inference without targets it shows pictures and facts alone.
        window: lowest and highest shown value of outputs and targets, in their unit; default from each target.
        cases: how many patients to show a direction: the worst, the best and evenly spaced ones between by PSNR, or the
            first ones where nothing was scored.

    Returns:
        Path of the page.

    Raises:
        FileNotFoundError: when the folder holds nothing to report.
        ModuleNotFoundError: when matplotlib is missing.
        ValueError: when the window is not rising, ``cases`` is negative, or a file is not what its name says.
    """
    if cases < 0:
        raise ValueError(f"`cases` must be >= 0 patients, got {cases}.")
    require("matplotlib")
    folder = Path(output_dir)
    inputs = read_inputs(folder)
    save = partial(_save_picture, folder / "pictures")
    show = partial(_case_figure, inputs=inputs, window=window, save=save)
    directions = list(dict.fromkeys([*inputs.summary, *(case.direction for case in inputs.cases)]))
    body = [_verdicts(inputs), _alarms(inputs)]
    for direction in directions:
        body.append(_numbers(direction, inputs, save))
        body.append(_pictures(direction, inputs, show, cases))
    body.append(_training(inputs, save))
    body.append(html.section("Facts of this run", tables.facts_table(inputs.facts)))
    title = f"{inputs.facts.get('bundle', 'Translation')}: report"
    facts = [str(inputs.facts[key]) for key in ("data", "device", "commit") if inputs.facts.get(key)]
    subtitle = " · ".join([*map(direction_of, directions), *facts])
    return write_text(folder / "report.html", html.page(title, subtitle, body))


def _verdicts(inputs: Inputs) -> str:
    cards = []
    for direction, methods in inputs.summary.items():
        result = verdict(direction, methods)
        sentence = f"<p>{escape(result.text)}</p>"
        cards.append(
            html.section("Verdict", sentence, html.bullets(region_lines(methods)), kind=f"verdict {result.kind}")
        )
    return "\n".join(cards)


def _alarms(inputs: Inputs) -> str:
    return html.section("Alarms", html.bullets(alarms(inputs.rows, inputs.facts)), kind="alarms")


def _numbers(direction: str, inputs: Inputs, save: Any) -> str:
    methods = inputs.summary.get(direction, {})
    values = curves.values_by_method(inputs.rows, direction, "psnr")
    plots = ""
    if values:
        draw = {"psnr_distribution": curves.distribution_png, "psnr_scatter": curves.scatter_png}
        described = {
            "psnr_distribution": f"Distribution of PSNR over {curves.count_of(values)}; each tick is one.",
            "psnr_scatter": "One point a patient: above the dashed line the network is better.",
        }
        for name, function in draw.items():
            light, dark = (function(values, theme=theme) for theme in THEMES)
            if light is not None and dark is not None:
                save(f"{name}_{direction}", light)
                plots += html.themed_image(light, dark, described[name], caption=True)
    return html.section(
        f"{direction_of(direction)}: numbers",
        html.block("Image quality", tables.quality_table(methods), note=PAPER_NOTE),
        html.block(
            "Inside each region, and alarms",
            tables.region_table(methods),
            note=REGION_NOTE,
        ),
        html.block("Patients", f'<div class="plots">{plots}</div>' if plots else ""),
        html.details("PSNR of every patient", tables.patient_table(inputs.rows, direction)),
    )


def _pictures(direction: str, inputs: Inputs, show: Any, number: int) -> str:
    mine = [case for case in inputs.cases if case.direction == direction]
    psnr = curves.values_by_method(inputs.rows, direction, "psnr").get(NETWORK, {})
    figures = "".join(show(case, f"case_{index}") for index, case in enumerate(_spread(mine, psnr, number), start=1))
    worst = ""
    metric = _lesion_metric(inputs, direction)
    errors = curves.values_by_method(inputs.rows, direction, metric).get(NETWORK, {}) if metric else {}
    candidates = [case for case in mine if case.patient in errors]
    if candidates and metric and number:
        case = max(candidates, key=lambda case: errors[case.patient])
        region = metric.removeprefix("mae_").replace("_", " ")
        worst = html.block(
            f"Where it fails: the patient with the largest error in {region}",
            show(case, f"worst_{region}"),
            note=f"Mean absolute error inside {region}: {errors[case.patient]:.3g} (the paper's Figure 4).",
        )
    return html.section(f"{direction_of(direction)}: pictures", figures, worst)


def _training(inputs: Inputs, save: Any) -> str:
    blocks = []
    for heading, table, axis in (
        ("Losses", inputs.losses, "iteration" if "iteration" in inputs.losses else "epoch"),
        ("Validation", inputs.validation, "epoch"),
    ):
        plots = ""
        for name in curves.columns_of(table, axis=axis):
            x = table.get(axis) or [float(index + 1) for index in range(len(table[name]))]
            light, dark = (curves.line_png(x, table[name], theme=theme, xlabel=axis, title=name) for theme in THEMES)
            save(f"{heading.lower()}_{name}", light)
            plots += html.themed_image(light, dark, f"{heading}: {name}")
        blocks.append(html.block(heading, f'<div class="plots small">{plots}</div>' if plots else ""))
    return html.section("Training", *blocks)


def _case_figure(case: Case, name: str, *, inputs: Inputs, window: tuple[float, float] | None, save: Any) -> str:
    """The panels of one patient as HTML; their composed picture goes to the pictures folder."""
    axial = load_slice(case, inputs.label_names)
    panels = pictures.case_panels(axial, direction=case.direction, label_names=inputs.label_names, window=window)
    scores = next(
        (
            row
            for row in inputs.rows
            if (row["patient"], row["direction"], row["method"]) == (case.patient, case.direction, NETWORK)
        ),
        {},
    )
    title = f"{case.patient}, {direction_of(case.direction)}, slice {axial.index + 1} of {axial.slices}"
    title += "".join(f", {form.format(scores[key])}" for key, form in _SHOWN.items() if key in scores)
    save(f"{name}_{case.direction}_{case.patient}", pictures.case_png(panels, pixel_mm=axial.pixel_mm, title=title))
    shown = "".join(
        html.panel(pictures.panel_png(panel, pixel_mm=axial.pixel_mm), panel.title, panel.note) for panel in panels
    )
    keys = html.legend(pictures.outline_legend(panels, inputs.label_names))
    return f'<h3>{escape(title)}</h3><div class="panels">{shown}</div><p class="soft">{keys}</p>'


_SHOWN = {"psnr": "PSNR {:.2f} dB", "ssim": "SSIM {:.3f}"}


def _spread(cases: Sequence[Case], psnr: Mapping[str, float], number: int) -> list[Case]:
    """Worst to best by PSNR, evenly spaced; the first ones where nothing was scored."""
    scored = sorted((case for case in cases if case.patient in psnr), key=lambda case: psnr[case.patient])
    if len(scored) < len(cases) or number >= len(scored) or number < 2:
        return list(scored or cases)[:number] if len(scored) == len(cases) else list(cases)[:number]
    return [scored[round(index * (len(scored) - 1) / (number - 1))] for index in range(number)]


def _lesion_metric(inputs: Inputs, direction: str) -> str | None:
    """``mae_tumour``, or the first other disease that was scored."""
    scored = [metric for metric in inputs.summary.get(direction, {}).get(NETWORK, {}) if is_region(metric)]
    names = [inputs.label_names[value] for value in disease_values(inputs.label_names)]
    found = [metric for metric in ("mae_tumour", "mae_tumor", *(f"mae_{name}" for name in names)) if metric in scored]
    return found[0] if found else None


def _save_picture(folder: Path, name: str, png: bytes) -> Path:
    """Save a picture under a name that is safe on every file system, whatever a patient is called."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (re.sub(r"[^A-Za-z0-9_-]+", "_", name.replace("->", "_to_")).strip("_")[:120] + ".png")
    path.write_bytes(png)
    return path
