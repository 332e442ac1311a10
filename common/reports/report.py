"""The report of a run as one HTML page: verdict, alarms, tables, pictures, curves, facts."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from markupsafe import Markup

from ..files import safe_name, write_text
from . import html, tables
from .drawing import require
from .features import feature_section
from .finetuning import finetuning_section
from .inputs import Case, direction_of, read_inputs
from .scores import FEW_DIRECTIONS, grouped_directions
from .sections import (
    alarm_section,
    blend_section,
    case_figure,
    conversion_sections,
    coverage_section,
    direction_sections,
    overall_verdict,
    training_section,
    verdict_sections,
)
from .viewer import viewer_section


def write_report(
    output_dir: str | os.PathLike[str],
    *,
    window: tuple[float, float] | None = None,
    cases: int | None = None,
    viewer: bool = True,
) -> Path:
    """Write `report.html` and `pictures/*.png` into a run's output folder.

    More than two directions share one verdict, the papers' tables and the shown patients; the details of each direction
    are folded away. Volumes in HU are shown in a lung window, with noise power spectra and edge curves.

    Args:
        output_dir: Folder that an evaluation or an inference wrote (`read_inputs` names the files). Missing content is
            omitted from the page: after inference without targets it shows only pictures and facts.
        window: Lowest and highest shown value of outputs and targets, in their unit; by default from each target, in HU
            1500/-700 (width/level).
        cases: Number of patients to show per direction: the worst, the best and evenly spaced ones between by PSNR, or
            the first ones if nothing was scored; by default 3, or only the median patient with more than two
            directions.
        viewer: Whether the volumes of the shown patients can be looked through, in 1 MB more and the volumes' size;
            volumes beyond 24 MB lie in `report_volumes` beside the page. The package ipyniivue is needed; the page
            says so where it is missing.

    Returns:
        Path of the page.

    Raises:
        FileNotFoundError: If the folder holds nothing to report.
        ModuleNotFoundError: If matplotlib is missing.
        ValueError: If the window is not rising, `cases` is negative, or a file has the wrong content.
    """
    if cases is not None and cases < 0:
        raise ValueError(f"`cases` must be >= 0 patients, got {cases}.")
    require("matplotlib")
    folder = Path(output_dir)
    inputs = read_inputs(folder)
    save = partial(_save_picture, folder / "pictures")
    shown: list[Case] = []

    def show(case: Case, name: str) -> Markup:
        shown.extend([case] if case not in shown else [])
        return case_figure(case, name, inputs=inputs, window=window, save=save)

    given = list(dict.fromkeys([*inputs.summary, *(case.direction for case in inputs.cases)]))
    groups = grouped_directions(inputs.summary, given, task=inputs.task)
    directions = [direction for members in groups.values() for direction in members]
    if len(directions) > FEW_DIRECTIONS:
        first = [overall_verdict(inputs, directions), alarm_section(inputs)]
        body = conversion_sections(groups, inputs, save, show, 1 if cases is None else cases)
    else:
        first, body = [verdict_sections(inputs), alarm_section(inputs)], []
        for direction in directions:
            body += direction_sections(direction, inputs, save, show, 3 if cases is None else cases)
    look = viewer_section(shown, inputs, folder, window=window) if viewer else Markup()
    body = [finetuning_section(inputs.rows), *first, look, *body]
    body.append(coverage_section(folder))
    body.append(blend_section(inputs))
    body.append(feature_section(folder))
    body.append(training_section(inputs, save))
    body.append(html.section("Facts of this run", tables.facts_table(inputs.facts)))
    title = f"{inputs.facts.get('bundle', 'Translation')}: report"
    facts = [str(inputs.facts[key]) for key in ("data", "device", "commit") if inputs.facts.get(key)]
    subtitle = " · ".join([*map(direction_of, directions), *facts])
    return write_text(folder / "report.html", html.page(title, subtitle, body))


def _save_picture(folder: Path, name: str, png: bytes) -> Path:
    """Save a picture under a name that is safe on every file system, whatever a patient is called."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{safe_name(name.replace('->', '_to_'), fill='_', longest=120)}.png"
    path.write_bytes(png)
    return path
