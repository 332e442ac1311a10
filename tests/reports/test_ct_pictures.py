"""CT in a report: recognised by its values, shown in a lung window, an airway enlarged, noise and edges as curves."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.reports.drawing import DARK, LIGHT, Panel, case_png, enlarged, inset_png, panel_png
from common.reports.inputs import Case
from common.reports.kernels import case_curves, curves_png
from common.reports.panels import case_panels, ct_note
from common.reports.volumes import AxialSlice, CaseVolumes, axial_slice, find_focus, is_hu, load_slice

from .thorax import BRONCHUS, BRONCHUS_SLICE, NAMES, PIXEL_MM, SHAPE, labels, save, thorax

ZOOMS = (PIXEL_MM, PIXEL_MM, 5.0)


def volumes(**more: np.ndarray | None) -> CaseVolumes:
    fields = {"source": thorax(), "prediction": thorax(), "target": thorax(), "label": labels()} | more
    return CaseVolumes(**fields, zooms=ZOOMS)


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), dtype=int)


def test_ct_is_told_from_mr_by_its_air() -> None:
    assert is_hu(thorax())
    mr = np.abs(np.random.default_rng(0).normal(0, 300, (40, 40, 4)))
    assert not is_hu(mr)
    mr[0, 0, 0] = -400.0  # an undershoot of interpolation
    assert not is_hu(mr)


def test_a_bronchus_is_enlarged_and_not_the_trachea() -> None:
    focus = find_focus(thorax(), thorax() > -2000, labels(), NAMES, ZOOMS)
    assert focus is not None
    assert (focus.name, focus.index, focus.position) == ("airway", BRONCHUS_SLICE, BRONCHUS)


def test_without_a_narrow_airway_the_trachea_is_enlarged() -> None:
    label = labels()
    label[:, :, BRONCHUS_SLICE] = 0
    focus = find_focus(thorax(), thorax() > -2000, label, NAMES, ZOOMS)
    assert focus is not None
    assert (focus.name, focus.position) == ("airway", (85, 80))


@pytest.mark.parametrize(("label", "names"), [(None, NAMES), (labels(), {1: "lung_parenchyma"})])
def test_without_airway_labels_the_middle_of_a_lung_is_enlarged(label: np.ndarray | None, names: dict) -> None:
    axial = axial_slice(volumes(label=label), names)
    assert axial.focus_name == "lung"
    assert axial.inset is not None
    assert np.median(axial.source[axial.inset]) == -850.0
    assert "of the lung are enlarged" in ct_note(axial, None)


def test_a_ct_without_lung_has_nothing_to_enlarge() -> None:
    abdomen = np.where(thorax() > -1000, 40.0, -1000.0)
    axial = axial_slice(volumes(source=abdomen, prediction=abdomen, target=abdomen, label=None), {})
    assert axial.hu
    assert axial.inset is None
    panels = case_panels(axial)
    assert [panel.inset for panel in panels] == [None] * 4
    assert pixels(case_png(panels, pixel_mm=(2.0, 2.0))).std() > 1
    assert ct_note(axial, None) == "Window 1500/-700 HU (width/level)."


@pytest.mark.parametrize("axes", ["RAS", "LPS", "SAR"])
def test_the_enlarged_part_holds_the_bronchus_in_its_middle(tmp_path: Path, axes: str) -> None:
    volume = save(tmp_path / "v.nii.gz", thorax(), axes)
    label = save(tmp_path / "l.nii.gz", labels(), axes)
    axial = load_slice(Case("p", "B30f->B70f", volume, volume, volume, label), NAMES)
    assert axial.inset is not None
    part = axial.source[axial.inset]
    rows, columns = part.shape
    assert (rows, columns) == (25, 25)  # 50 mm of 2 mm pixels
    np.testing.assert_array_equal(part[rows // 2 - 1 : rows // 2 + 2, columns // 2 - 1 : columns // 2 + 2], -1000.0)
    wall = part[rows // 2, columns // 2 + 2]
    assert wall == 0.0


def test_all_ct_panels_share_the_lung_window() -> None:
    panels = case_panels(axial_slice(volumes(prediction=thorax() + 30.0), NAMES), direction="B30f->B70f")
    titles = ["Source (B30f)", "Output (B70f)", "Target (B70f)", "Difference (±100 HU)"]
    assert [panel.title for panel in panels] == titles
    assert {panel.limits for panel in panels[:3]} == {(-700.0 - 750.0, -700.0 + 750.0)}
    assert panels[3].limits == (-100.0, 100.0)
    np.testing.assert_allclose(panels[3].image, 30.0)
    grey = pixels(panel_png(panels[0], pixel_mm=(2.0, 2.0), few_colours=True))
    height, width = grey.shape[:2]
    # The middle of the body between the lungs: 40 HU in a window from -1450 to 50.
    assert abs(int(grey[height // 2, width // 2, 0]) - round(255 * 1490 / 1500)) <= 2


def test_a_window_and_no_target() -> None:
    panels = case_panels(axial_slice(volumes(target=None), NAMES), window=(-160.0, 240.0))
    assert [panel.title for panel in panels] == ["Source (source)", "Output (target)"]
    assert panels[0].limits == panels[1].limits == (-160.0, 240.0)
    axial = axial_slice(volumes(target=None), NAMES)
    assert ct_note(axial, (-160.0, 240.0)).startswith(
        "Window 400/40 HU (width/level). The framed 50 mm around an airway"
    )
    with pytest.raises(ValueError, match=r"`window` must be \(low, high\) with low < high"):
        case_panels(axial, window=(5.0, 5.0))


def test_an_inset_is_drawn_without_smoothing_and_must_exist() -> None:
    image = np.zeros((40, 40))
    image[10:15, 10:15] = np.eye(5)
    panel = Panel("x", image, inset=(slice(10, 15), slice(10, 15)))
    np.testing.assert_array_equal(enlarged(panel).image, np.eye(5))
    picture = pixels(inset_png(panel, pixel_mm=(1.0, 1.0), width_px=200))
    assert set(np.unique(picture)) == {0, 255}
    with pytest.raises(ValueError, match="`panel` must have an `inset` to enlarge, got none for 'x'"):
        enlarged(Panel("x", image))


def test_the_frame_stands_where_the_inset_is() -> None:
    panel = Panel("x", np.zeros((100, 100)), inset=(slice(20, 40), slice(60, 90)))
    picture = pixels(panel_png(panel, pixel_mm=(1.0, 1.0), width_px=400))[:340]  # above the letters
    rows, columns = np.nonzero(picture.max(axis=2) > 100)
    found = [rows.min(), rows.max(), columns.min(), columns.max()]
    np.testing.assert_allclose(found, [80, 160, 240, 360], atol=3)


@pytest.mark.parametrize("few_colours", [False, True])
def test_few_colours_keep_the_picture(few_colours: bool) -> None:
    rng = np.random.default_rng(0)
    panel = Panel("x", rng.normal(0, 20, (120, 120)), (-100.0, 100.0), signed=True)
    full, small = (panel_png(panel, pixel_mm=(1.0, 1.0), few_colours=few) for few in (False, few_colours))
    assert np.abs(pixels(full) - pixels(small)).max() <= 12
    assert not few_colours or len(small) < 0.6 * len(full)


def test_white_noise_has_the_noise_power_that_theory_gives() -> None:
    """The power spectrum of white noise of SD s on pixels of dx mm is s^2 dx^2, at any frequency."""
    case = volumes(source=thorax(10.0, 1), prediction=thorax(5.0, 2), target=thorax(5.0, 3))
    curves = case_curves(case, BRONCHUS_SLICE)
    for name, noise in (("source", 10.0), ("output", 5.0), ("target", 5.0)):
        assert np.mean(curves[name]["nps"]) == pytest.approx((noise * PIXEL_MM) ** 2, rel=0.15)
        np.testing.assert_allclose(curves[name]["edge"][0], 1.0, atol=1e-6)
    assert case_curves(volumes(target=None), 0) == {}


def test_only_slices_around_the_shown_one_are_measured() -> None:
    many = np.concatenate([np.full((*SHAPE[:2], 30), np.nan), np.repeat(thorax(5.0), 6, axis=2)], axis=2)
    case = CaseVolumes(many, many, many, None, ZOOMS)
    assert "nps" in case_curves(case, 47)["target"]  # slices 32 to 47 of 48, none with NaN


def test_curves_draw_in_both_themes_up_to_nyquist() -> None:
    curves = case_curves(volumes(target=thorax(5.0)), BRONCHUS_SLICE)
    options = {"direction": "B30f->B70f", "pixel_mm": (PIXEL_MM, PIXEL_MM)}
    light, dark = (pixels(curves_png(curves, theme=theme, **options)) for theme in (LIGHT, DARK))
    assert light.shape == dark.shape
    assert light[0, 0].min() == 255
    assert dark[0, 0].max() < 60
    assert max(curves["target"]["nps_lp_mm"]) <= 0.5 / PIXEL_MM
    alone = {
        name: {key: values for key, values in found.items() if "edge" not in key} for name, found in curves.items()
    }
    assert pixels(curves_png(alone, theme=LIGHT, **options)).shape[1] < 0.6 * light.shape[1]


def test_mr_keeps_its_own_panels() -> None:
    image = np.random.default_rng(0).uniform(0, 100, (30, 24))
    titles = [panel.title for panel in case_panels(AxialSlice(image, image, image, None, (1.0, 1.0), 0, 1))]
    assert titles[-2:] == ["Difference", "Edges"]
