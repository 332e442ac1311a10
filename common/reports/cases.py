"""The pictures of one patient in one direction, as HTML and as one file for documents; which patients are shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from . import html, pictures, spectra
from .ct_pictures import ct_note
from .drawing import inset_png
from .enhancement_section import ABDOMEN_WINDOW, is_contrast, is_removal, removal_panel
from .figures import THEMES
from .inputs import Case, Inputs
from .methods import NETWORK, direction_of
from .super_resolution_pictures import super_resolution_figure
from .super_resolution_section import is_super_resolution
from .volumes import AxialSlice, CaseVolumes, axial_slice, load_case

SCORES = {"psnr": "PSNR {:.2f} dB", "ssim": "SSIM {:.3f}"}
CURVES_TEXT = "Noise power spectra and edge curves of source, output and target up to Nyquist"
# Four pictures in a row of the page; noise is not compressible.
CT_WIDTH_PX = 360
Save = Callable[[str, bytes], Any]


def case_figure(case: Case, name: str, *, inputs: Inputs, window: tuple[float, float] | None, save: Save) -> str:
    """The panels of one patient as HTML; their composed picture goes to the pictures folder."""
    scores = inputs.summary.get(case.direction, {})
    if is_super_resolution(scores):
        return super_resolution_figure(case, name, inputs=inputs, window=window, save=save)
    volumes = load_case(case)
    contrast = is_contrast(scores)
    axial = axial_slice(volumes, inputs.label_names, chest=not contrast)
    window = window or (ABDOMEN_WINDOW if contrast else None)
    panels = pictures.case_panels(axial, direction=case.direction, label_names=inputs.label_names, window=window)
    panels += [removal_panel(axial)] if is_removal(scores) and axial.target is not None else []
    title = _title(case, axial, inputs)
    stem = f"{name}_{case.direction}_{case.patient}"
    save(stem, pictures.case_png(panels, pixel_mm=axial.pixel_mm, title=title))
    keys = html.legend(pictures.outline_legend(panels, inputs.label_names))
    shown = "".join(_panel(panel, axial) for panel in panels)
    if not axial.hu:
        return f'<h3>{escape(title)}</h3><div class="panels">{shown}</div><p class="soft">{keys}</p>'
    note = f'<p class="soft">{escape(ct_note(axial, window))} {keys}</p>'
    curves = "" if contrast else _curves(volumes, axial, case.direction, stem, save)
    return f'<h3>{escape(title)}</h3><div class="panels four">{shown}</div>{note}{curves}'


def spread(cases: Sequence[Case], psnr: Mapping[str, float], number: int) -> list[Case]:
    """Worst to best by PSNR, evenly spaced; the first ones where nothing was scored."""
    scored = sorted((case for case in cases if case.patient in psnr), key=lambda case: psnr[case.patient])
    if len(scored) < len(cases) or number >= len(scored) or number < 2:
        return list(scored or cases)[:number] if len(scored) == len(cases) else list(cases)[:number]
    return [scored[round(index * (len(scored) - 1) / (number - 1))] for index in range(number)]


def _title(case: Case, axial: AxialSlice, inputs: Inputs) -> str:
    key = (case.patient, case.direction, NETWORK)
    scores = next((row for row in inputs.rows if (row["patient"], row["direction"], row["method"]) == key), {})
    title = f"{case.patient}, {direction_of(case.direction)}, slice {axial.index + 1} of {axial.slices}"
    return title + "".join(f", {form.format(scores[key])}" for key, form in SCORES.items() if key in scores)


def _panel(panel: pictures.Panel, axial: AxialSlice) -> str:
    if not axial.hu:
        return html.panel(pictures.panel_png(panel, pixel_mm=axial.pixel_mm), panel.title, panel.note)
    options: dict[str, Any] = {"pixel_mm": axial.pixel_mm, "width_px": CT_WIDTH_PX}
    inset = inset_png(panel, **options) if panel.inset is not None else None
    return html.panel(pictures.panel_png(panel, few_colours=True, **options), panel.title, panel.note, inset=inset)


def _curves(volumes: CaseVolumes, axial: AxialSlice, direction: str, stem: str, save: Save) -> str:
    curves = spectra.case_curves(volumes, axial.index)
    if not curves:
        return ""
    light, dark = (
        spectra.curves_png(curves, theme=theme, direction=direction, pixel_mm=axial.pixel_mm) for theme in THEMES
    )
    save(f"curves_{stem}", light)
    picture = html.themed_image(light, dark, f"{CURVES_TEXT}, {direction_of(direction)}")
    return f'<div class="plots wide">{picture}</div>'
