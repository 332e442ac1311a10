"""Sections of a page: of one direction, of many directions, and those that every page has.

The pictures of a patient are written as HTML and as one file for documents. Many directions share one verdict, tables
and patients, with details folded away. Blends of kernels compare the network bound to a blend with the blend of its
outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ..bundles import CONTRAST_ENHANCEMENT, KERNEL_CONVERSION, SUPER_RESOLUTION
from ..files import read_json
from ..metrics.summary import COVERAGE_FILE
from ..metrics.window import WINDOW_HU
from . import curves, html, kernels, tables
from .drawing import THEMES, inset_png
from .enhancement import enhancement_blocks, is_removal, removal_panel
from .inputs import NETWORK, Case, Inputs, direction_of
from .kernels import KERNEL_NOTE, kernel_table, paper_table
from .panels import Panel, case_panels, case_png, ct_note, outline_legend, panel_png
from .scores import alarms, is_region, overall, region_lines, verdict
from .super_resolution import super_resolution_blocks, super_resolution_figure, super_resolution_lines
from .volumes import AxialSlice, CaseVolumes, axial_slice, disease_values, load_case

SCORES = {"psnr": "PSNR {:.2f} dB", "ssim": "SSIM {:.3f}"}
CURVES_TEXT = "Noise power spectra and edge curves of source, output and target up to Nyquist"
# Four pictures in a row of the page; noise is not compressible.
CT_WIDTH_PX = 360
Save = Callable[[str, bytes], Any]

QUALITY_NOTE = (
    "Mean ± SD over patients, best value of each column bold; measured in 2-D and averaged over a patient's slices."
)
MATCHED_NOTE = (
    " Histogram matching to the target uses the true image and is optimistic; the other columns are the images as "
    "saved."
)
REGION_NOTE = (
    "MAE and bias (output minus target) in the target's units, over all voxels of the region. Source correlation: "
    "Pearson, inside the mask. Slice jump: difference of neighbouring slices relative to the truth's."
)
Show = Callable[[Case, str], Markup]

BLEND_NOTE = (
    "Kernels between the trained ones, made by weights instead of a name. Reconstruction is linear in the kernel: the "
    "true image is the same blend of the target images, and who has a conversion to each kernel can blend the outputs; "
    "the network's own blend is worth its place if it is no worse than that. Filters are blended by their outputs. "
    "Mean (SD) over patients, best value of each column bold."
)

PAPER_NOTE = (
    "Mean (SD) over patients, best value of each column bold; measured in 2-D over the whole field and averaged over a "
    "patient's slices."
)


def case_figure(case: Case, name: str, *, inputs: Inputs, window: tuple[float, float] | None, save: Save) -> Markup:
    """Write the panels of one patient as HTML; their composed picture goes to the pictures folder."""
    scores = inputs.summary.get(case.direction, {})
    if inputs.task == SUPER_RESOLUTION:
        return super_resolution_figure(case, name, inputs=inputs, window=window, save=save)
    volumes = load_case(case)
    contrast = inputs.task == CONTRAST_ENHANCEMENT
    axial = axial_slice(volumes, inputs.label_names, chest=not contrast)
    window = window or (WINDOW_HU if contrast and axial.hu else None)
    panels = case_panels(axial, direction=case.direction, label_names=inputs.label_names, window=window)
    panels += [removal_panel(axial)] if is_removal(scores) and axial.target is not None else []
    title = _title(case, axial, inputs)
    stem = f"{name}_{case.direction}_{case.patient}"
    save(stem, case_png(panels, pixel_mm=axial.pixel_mm, title=title))
    keys = outline_legend(panels, inputs.label_names)
    shown = [_panel(panel, axial) for panel in panels]
    if not axial.hu:
        return html.case(title, shown, keys=keys)
    curves = Markup() if contrast else _curves(volumes, axial, case.direction, stem, save)
    return html.case(title, shown, kind="four", note=ct_note(axial, window), keys=keys, more=curves)


def spread(cases: Sequence[Case], psnr: Mapping[str, float], number: int) -> list[Case]:
    """Select cases from worst to best by PSNR, evenly spaced, or the first ones if nothing was scored."""
    scored = sorted((case for case in cases if case.patient in psnr), key=lambda case: psnr[case.patient])
    if len(scored) < len(cases) or number >= len(scored) or number < 2:
        return list(scored or cases)[:number] if len(scored) == len(cases) else list(cases)[:number]
    return [scored[round(index * (len(scored) - 1) / (number - 1))] for index in range(number)]


def _title(case: Case, axial: AxialSlice, inputs: Inputs) -> str:
    key = (case.patient, case.direction, NETWORK)
    scores = next((row for row in inputs.rows if (row["patient"], row["direction"], row["method"]) == key), {})
    title = f"{case.patient}, {direction_of(case.direction)}, slice {axial.index + 1} of {axial.slices}"
    return title + "".join(f", {form.format(scores[key])}" for key, form in SCORES.items() if key in scores)


def _panel(panel: Panel, axial: AxialSlice) -> Markup:
    if not axial.hu:
        return html.panel(panel_png(panel, pixel_mm=axial.pixel_mm), panel.title, panel.note)
    options: dict[str, Any] = {"pixel_mm": axial.pixel_mm, "width_px": CT_WIDTH_PX}
    inset = inset_png(panel, **options) if panel.inset is not None else None
    return html.panel(panel_png(panel, few_colours=True, **options), panel.title, panel.note, inset=inset)


def _curves(volumes: CaseVolumes, axial: AxialSlice, direction: str, stem: str, save: Save) -> Markup:
    curves = kernels.case_curves(volumes, axial.index)
    if not curves:
        return Markup()
    light, dark = (
        kernels.curves_png(curves, theme=theme, direction=direction, pixel_mm=axial.pixel_mm) for theme in THEMES
    )
    save(f"curves_{stem}", light)
    picture = html.themed_image(light, dark, f"{CURVES_TEXT}, {direction_of(direction)}")
    return html.plots([picture], "wide")


def coverage_section(folder: Path) -> Markup:
    """Write what the shipped half-widths covered of the evaluated patients; nothing if that was not measured."""
    path = folder / COVERAGE_FILE
    if not path.is_file():
        return Markup()
    facts = read_json(path)
    promise, unit = facts["promise"], facts["unit"]
    lines = []
    for direction, found in facts["directions"].items():
        low, high = found["interval"]
        lines.append(
            f"{direction_of(direction)}: {found['covered']} of {found['patients']} patients (95 % interval {low:.0%} to"
            f" {high:.0%}) have at least {promise['coverage']:.0%} of their voxels within the half-width, of"
            f" {found['half_width']:.4g} on average ({unit}); {found['voxels']:.1%} of all voxels are. The mean error"
            f" is {found['error']:.4g}."
        )
        if high >= promise["confidence"]:
            continue
        lines.append(f"{direction_of(direction)}: fewer than promised. Do not rely on these half-widths here.")
    lines += [f"{direction_of(direction)} is left out: {why}" for direction, why in facts["left_out"].items()]
    flagged = [row["patient"] for row in facts["patients"] if row["flagged"]]
    if flagged:
        lines.append(f"Unlike the patients calibrated on: {', '.join(dict.fromkeys(flagged))}.")
    note = f"Promised: {promise['confidence']:.0%} of patients like those calibrated on. {promise['sentence']}"
    return html.section("Half-widths: what they covered", html.bullets(lines) + html.part("paragraph", note, "soft"))


def verdict_sections(inputs: Inputs) -> Markup:
    """Write one card per direction."""
    cards = []
    for direction, methods in inputs.summary.items():
        result = verdict(direction, methods)
        sentence = html.part("paragraph", result.text)
        lines = region_lines(methods)
        lines += super_resolution_lines(methods) if inputs.task == SUPER_RESOLUTION else []
        cards.append(html.section("Verdict", sentence, html.bullets(lines), kind=f"verdict {result.kind}"))
    return html.joined(cards, "\n")


def alarm_section(inputs: Inputs) -> Markup:
    """Write what should make a reader distrust an output."""
    return html.section("Alarms", html.bullets(alarms(inputs.rows, inputs.facts)), kind="alarms")


def direction_sections(direction: str, inputs: Inputs, save: Save, show: Show, number: int) -> list[Markup]:
    """Write numbers and pictures of a direction."""
    heading = f"{direction_of(direction)}: numbers"
    return [
        html.section(heading, direction_numbers(direction, inputs, save, _task_blocks(direction, inputs))),
        _pictures(direction, inputs, show, number),
    ]


def _task_blocks(direction: str, inputs: Inputs) -> Markup:
    """Write what is measured only in the task of the run."""
    scores = inputs.summary.get(direction, {})
    if inputs.task == KERNEL_CONVERSION:
        table = kernel_table(inputs.summary, [direction])
        return html.block("Noise, sharpness and emphysema index", table, note=KERNEL_NOTE)
    if inputs.task == CONTRAST_ENHANCEMENT:
        return enhancement_blocks(scores)
    return super_resolution_blocks(scores) if inputs.task == SUPER_RESOLUTION else Markup()


def direction_numbers(direction: str, inputs: Inputs, save: Save, more: str = "") -> Markup:
    """Write all tables and plots of a direction."""
    methods = inputs.summary.get(direction, {})
    matched = any("matched" in metric for metrics in methods.values() for metric in metrics)
    plots = _plots(direction, inputs, save)
    blocks = [
        html.block(
            "Image quality", tables.quality_table(methods), note=QUALITY_NOTE + (MATCHED_NOTE if matched else "")
        ),
        more,
        html.block("Inside each region, and alarms", tables.region_table(methods), note=REGION_NOTE),
        html.block("Patients", html.plots(plots)),
        html.details("PSNR of every patient", tables.patient_table(inputs.rows, direction)),
    ]
    return html.joined(blocks, "\n")


def training_section(inputs: Inputs, save: Save) -> Markup:
    """Write curves of the losses and of the validation."""
    blocks = []
    for heading, table, axis in (
        ("Losses", inputs.losses, "iteration" if "iteration" in inputs.losses else "epoch"),
        ("Validation", inputs.validation, "epoch"),
    ):
        plots = []
        for name in curves.columns_of(table, axis=axis):
            x = table.get(axis) or [float(index + 1) for index in range(len(table[name]))]
            light, dark = (curves.line_png(x, table[name], theme=theme, xlabel=axis, title=name) for theme in THEMES)
            save(f"{heading.lower()}_{name}", light)
            plots.append(html.themed_image(light, dark, f"{heading}: {name}"))
        blocks.append(html.block(heading, html.plots(plots, "small")))
    return html.section("Training", *blocks)


def _plots(direction: str, inputs: Inputs, save: Save) -> list[Markup]:
    values = curves.values_by_method(inputs.rows, direction, "psnr")
    if not values:
        return []
    drawn = (
        ("psnr_distribution", curves.distribution_png,
         f"Distribution of PSNR over {curves.count_of(values)}; each tick is one."),
        ("psnr_scatter", curves.scatter_png, "One point a patient: above the dashed line the network is better."),
    )  # fmt: skip
    plots = []
    for name, draw, described in drawn:
        light, dark = (draw(values, theme=theme) for theme in THEMES)
        if light is not None and dark is not None:
            save(f"{name}_{direction}", light)
            plots.append(html.themed_image(light, dark, described, caption=True))
    return plots


def _pictures(direction: str, inputs: Inputs, show: Show, number: int) -> Markup:
    mine = [case for case in inputs.cases if case.direction == direction]
    psnr = curves.values_by_method(inputs.rows, direction, "psnr").get(NETWORK, {})
    figures = [show(case, f"case_{index}") for index, case in enumerate(spread(mine, psnr, number), start=1)]
    worst = Markup()
    metric = _lesion_metric(inputs, direction)
    errors = curves.values_by_method(inputs.rows, direction, metric).get(NETWORK, {}) if metric else {}
    candidates = [case for case in mine if case.patient in errors]
    if candidates and metric and number:
        case = max(candidates, key=lambda case: errors[case.patient])
        region = metric.removeprefix("mae_").replace("_", " ")
        ct = inputs.task in (KERNEL_CONVERSION, CONTRAST_ENHANCEMENT)
        reference = "" if ct else " (the paper's Figure 4)"
        worst = html.block(
            f"Where it fails: the patient with the largest error in {region}",
            show(case, f"worst_{region}"),
            note=f"Mean absolute error inside {region}: {errors[case.patient]:.3g}{reference}.",
        )
    return html.section(f"{direction_of(direction)}: pictures", html.joined(figures), worst)


def _lesion_metric(inputs: Inputs, direction: str) -> str | None:
    """Return `mae_tumour`, or that of the first other disease that was scored."""
    scored = [metric for metric in inputs.summary.get(direction, {}).get(NETWORK, {}) if is_region(metric)]
    names = [inputs.label_names[value] for value in disease_values(inputs.label_names)]
    found = [metric for metric in ("mae_tumour", "mae_tumor", *(f"mae_{name}" for name in names)) if metric in scored]
    return found[0] if found else None


def blend_section(inputs: Inputs) -> Markup:
    """Write image quality, noise and sharpness of the blends; empty if none was scored."""
    directions = list(inputs.blends)
    return html.section(
        "Blends of kernels",
        html.block("Image quality", paper_table(inputs.blends, directions, task=inputs.task), note=BLEND_NOTE),
        html.block("Noise, sharpness and emphysema index", kernel_table(inputs.blends, directions), note=KERNEL_NOTE),
    )


def overall_verdict(inputs: Inputs, directions: Sequence[str]) -> Markup:
    """Write one card: all directions in one sentence, a sentence for each, and the labelled regions folded away."""
    scored = {direction: inputs.summary[direction] for direction in directions if direction in inputs.summary}
    if not scored:
        return Markup()
    result = overall(scored)
    each = [verdict(direction, methods, brief=True).text for direction, methods in scored.items()]
    regions = [f"{direction_of(name)}: {line}" for name, methods in scored.items() for line in region_lines(methods)]
    return html.section(
        "Verdict",
        html.part("paragraph", result.text),
        html.bullets(each),
        html.details("Inside each region", html.bullets(regions)),
        kind=f"verdict {result.kind}",
    )


def conversion_sections(
    groups: Mapping[str, Sequence[str]], inputs: Inputs, save: Save, show: Show, number: int
) -> list[Markup]:
    """Write numbers, pictures and details of many directions.

    Args:
        groups: Directions under their headings, from `grouped_directions`.
        inputs: Output of the run.
        save: Function that saves a picture under its name.
        show: Function that writes the pictures of a case.
        number: Number of shown patients.
    """
    directions = [direction for members in groups.values() for direction in members]
    papers = html.joined(
        html.block(heading or "Image quality", paper_table(inputs.summary, members, task=inputs.task), note=PAPER_NOTE)
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
    """Select patients to show in all directions: the median by the network's PSNR, or worst to best.

    If not all were scored, the first ones are taken.
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
