"""The sections of a page about one or two directions, and those that every page has."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from . import curves, html, tables
from .cases import Save, spread
from .conversion_tables import KERNEL_NOTE, kernel_table
from .directions import is_kernel_conversion
from .enhancement_section import enhancement_blocks, is_contrast
from .figures import THEMES
from .inputs import Case, Inputs
from .methods import NETWORK, direction_of
from .super_resolution_section import super_resolution_blocks, super_resolution_lines
from .verdict import alarms, is_region, region_lines, verdict
from .volumes import disease_values

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
Show = Callable[[Case, str], str]


def verdict_sections(inputs: Inputs) -> str:
    """A card a direction."""
    cards = []
    for direction, methods in inputs.summary.items():
        result = verdict(direction, methods)
        sentence = f"<p>{escape(result.text)}</p>"
        lines = [*region_lines(methods), *super_resolution_lines(methods)]
        cards.append(html.section("Verdict", sentence, html.bullets(lines), kind=f"verdict {result.kind}"))
    return "\n".join(cards)


def alarm_section(inputs: Inputs) -> str:
    """What should make a reader distrust an output."""
    return html.section("Alarms", html.bullets(alarms(inputs.rows, inputs.facts)), kind="alarms")


def direction_sections(direction: str, inputs: Inputs, save: Save, show: Show, number: int) -> list[str]:
    """Numbers and pictures of a direction."""
    heading = f"{direction_of(direction)}: numbers"
    more = html.block(
        "Noise, sharpness and emphysema index", kernel_table(inputs.summary, [direction]), note=KERNEL_NOTE
    )
    scores = inputs.summary.get(direction, {})
    more += enhancement_blocks(scores) + super_resolution_blocks(scores)
    return [
        html.section(heading, direction_numbers(direction, inputs, save, more)),
        _pictures(direction, inputs, show, number),
    ]


def direction_numbers(direction: str, inputs: Inputs, save: Save, more: str = "") -> str:
    """All tables and plots of a direction."""
    methods = inputs.summary.get(direction, {})
    matched = any("matched" in metric for metrics in methods.values() for metric in metrics)
    plots = _plots(direction, inputs, save)
    blocks = [
        html.block(
            "Image quality", tables.quality_table(methods), note=QUALITY_NOTE + (MATCHED_NOTE if matched else "")
        ),
        more,
        html.block("Inside each region, and alarms", tables.region_table(methods), note=REGION_NOTE),
        html.block("Patients", f'<div class="plots">{plots}</div>' if plots else ""),
        html.details("PSNR of every patient", tables.patient_table(inputs.rows, direction)),
    ]
    return "\n".join(part for part in blocks if part)


def training_section(inputs: Inputs, save: Save) -> str:
    """Curves of the losses and of the validation."""
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


def _plots(direction: str, inputs: Inputs, save: Save) -> str:
    values = curves.values_by_method(inputs.rows, direction, "psnr")
    if not values:
        return ""
    drawn = (
        ("psnr_distribution", curves.distribution_png,
         f"Distribution of PSNR over {curves.count_of(values)}; each tick is one."),
        ("psnr_scatter", curves.scatter_png, "One point a patient: above the dashed line the network is better."),
    )  # fmt: skip
    plots = ""
    for name, draw, described in drawn:
        light, dark = (draw(values, theme=theme) for theme in THEMES)
        if light is not None and dark is not None:
            save(f"{name}_{direction}", light)
            plots += html.themed_image(light, dark, described, caption=True)
    return plots


def _pictures(direction: str, inputs: Inputs, show: Show, number: int) -> str:
    mine = [case for case in inputs.cases if case.direction == direction]
    psnr = curves.values_by_method(inputs.rows, direction, "psnr").get(NETWORK, {})
    figures = "".join(show(case, f"case_{index}") for index, case in enumerate(spread(mine, psnr, number), start=1))
    worst = ""
    metric = _lesion_metric(inputs, direction)
    errors = curves.values_by_method(inputs.rows, direction, metric).get(NETWORK, {}) if metric else {}
    candidates = [case for case in mine if case.patient in errors]
    if candidates and metric and number:
        case = max(candidates, key=lambda case: errors[case.patient])
        region = metric.removeprefix("mae_").replace("_", " ")
        ct = is_kernel_conversion(inputs.summary) or is_contrast(inputs.summary.get(direction, {}))
        reference = "" if ct else " (the paper's Figure 4)"
        worst = html.block(
            f"Where it fails: the patient with the largest error in {region}",
            show(case, f"worst_{region}"),
            note=f"Mean absolute error inside {region}: {errors[case.patient]:.3g}{reference}.",
        )
    return html.section(f"{direction_of(direction)}: pictures", figures, worst)


def _lesion_metric(inputs: Inputs, direction: str) -> str | None:
    """``mae_tumour``, or the first other disease that was scored."""
    scored = [metric for metric in inputs.summary.get(direction, {}).get(NETWORK, {}) if is_region(metric)]
    names = [inputs.label_names[value] for value in disease_values(inputs.label_names)]
    found = [metric for metric in ("mae_tumour", "mae_tumor", *(f"mae_{name}" for name in names)) if metric in scored]
    return found[0] if found else None
