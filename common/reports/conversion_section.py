"""The sections of a page about many directions: one verdict, common tables, the same patients, folded details."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from . import html
from .cases import Save
from .conversion_tables import KERNEL_NOTE, kernel_table, paper_table
from .inputs import Inputs
from .methods import NETWORK, direction_of
from .sections import Show, direction_numbers
from .verdict import overall, region_lines, verdict

PAPER_NOTE = (
    "Mean (SD) over patients, best value of each column bold; measured in 2-D over the whole field and averaged over a "
    "patient's slices."
)


def overall_verdict(inputs: Inputs, directions: Sequence[str]) -> str:
    """One card: all directions in a sentence, each in another, the labelled regions folded away."""
    scored = {direction: inputs.summary[direction] for direction in directions if direction in inputs.summary}
    if not scored:
        return ""
    result = overall(scored)
    each = [verdict(direction, methods, brief=True).text for direction, methods in scored.items()]
    regions = [f"{direction_of(name)}: {line}" for name, methods in scored.items() for line in region_lines(methods)]
    return html.section(
        "Verdict",
        f"<p>{escape(result.text)}</p>",
        html.bullets(each),
        html.details("Inside each region", html.bullets(regions)),
        kind=f"verdict {result.kind}",
    )


def conversion_sections(
    groups: Mapping[str, Sequence[str]], inputs: Inputs, save: Save, show: Show, number: int
) -> list[str]:
    """Numbers, pictures and details of many directions.

    Args:
        groups: directions under their headings, of `grouped_directions`.
        inputs: what the run left.
        save: saves a picture by its name.
        show: pictures of a case.
        number: how many patients are shown.
    """
    directions = [direction for members in groups.values() for direction in members]
    papers = "".join(
        html.block(heading or "Image quality", paper_table(inputs.summary, members), note=PAPER_NOTE)
        for heading, members in groups.items()
    )
    kernels = html.block(
        "Noise, sharpness and emphysema index", kernel_table(inputs.summary, directions), note=KERNEL_NOTE
    )
    sections = [html.section("Numbers", papers, kernels)]
    for index, patient in enumerate(typical_patients(inputs, number), start=1):
        cases = {case.direction: case for case in inputs.cases if case.patient == patient}
        figures = [show(cases[direction], f"case_{index}") for direction in directions if direction in cases]
        sections.append(html.section(f"Patient {patient}", *figures))
    details = [
        html.details(direction_of(direction), direction_numbers(direction, inputs, save)) for direction in directions
    ]
    return [*sections, html.section("Each direction", *details)]


def typical_patients(inputs: Inputs, number: int) -> list[str]:
    """Patients to show in all directions: the median by the network's mean PSNR, or worst to best, evenly spaced.

    Where not all were scored the first ones are taken.
    """
    patients = list(dict.fromkeys(case.patient for case in inputs.cases))
    values: dict[str, list[float]] = {}
    for row in inputs.rows:
        if row["method"] == NETWORK and "psnr" in row:
            values.setdefault(row["patient"], []).append(float(row["psnr"]))
    if number >= len(patients) or any(patient not in values for patient in patients):
        return patients[:number]
    ranked = sorted(patients, key=lambda patient: sum(values[patient]) / len(values[patient]))
    if number == 1:
        return [ranked[len(ranked) // 2]]
    return [ranked[round(index * (len(ranked) - 1) / (number - 1))] for index in range(number)]
