"""Pictures: the right way round, in true proportions, of the right slice, with the right window.

CT in a report: recognised by its values, shown in a lung window, an airway enlarged, noise and edges as curves.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from common.reports.curves import distribution_png, line_png, scatter_png, values_by_method
from common.reports.drawing import DARK, LIGHT, Panel, case_png, enlarged, inset_png, panel_png, require
from common.reports.inputs import Case
from common.reports.kernels import case_curves, curves_png
from common.reports.panels import case_panels, ct_note, edge_agreement
from common.reports.volumes import AxialSlice, CaseVolumes, axial_slice, choose_slice, find_focus, is_hu, load_case
from tests.helpers.thorax import BRONCHUS, BRONCHUS_SLICE, NAMES, PIXEL_MM, SHAPE, labels, save, thorax

BRAIN_NAMES = {1: "oedema", 2: "tumour", 5: "ventricles"}


def brain() -> np.ndarray:
    """RAS, 40 x 60 x 9: a block of 100, with a spot of 300 at the patient's right front in slice 4."""
    volume = np.zeros((40, 60, 9), dtype=np.float32)
    volume[5:35, 5:55, 1:8] = 100.0
    volume[28:32, 46:50, 4] = 300.0
    return volume


def save_brain(path: Path, volume: np.ndarray, axes: str = "RAS", zooms: tuple[float, ...] = (2.0, 1.0, 3.0)) -> Path:
    image = nibabel.Nifti1Image(volume, np.diag([*zooms, 1.0]))
    wanted = nibabel.orientations.axcodes2ornt(axes)
    nibabel.save(image.as_reoriented(nibabel.orientations.ornt_transform(
        nibabel.io_orientation(image.affine), wanted)), path)  # fmt: skip
    return path


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), dtype=int)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "SAR", "PIR"])
def test_radiological_convention_from_any_orientation(tmp_path: Path, axes: str) -> None:
    path = save_brain(tmp_path / "x.nii.gz", brain(), axes)
    axial = axial_slice(load_case(Case("p", "T1->T2", path, path)), {})
    assert (axial.index, axial.slices) == (4, 9)
    assert axial.pixel_mm == (1.0, 2.0)
    row, column = np.argwhere(axial.source == 300).mean(axis=0) / axial.source.shape
    assert row < 0.3  # the front is on top
    assert column < 0.3  # the patient's right is on the left


def test_proportions_are_those_of_the_patient(tmp_path: Path) -> None:
    path = save_brain(tmp_path / "x.nii.gz", brain(), zooms=(2.0, 1.0, 3.0))
    axial = axial_slice(load_case(Case("p", "T1->T2", path, path)), {})
    panel = case_panels(axial)[0]
    height, width = pixels(panel_png(panel, pixel_mm=axial.pixel_mm)).shape[:2]
    rows, columns = axial.source.shape
    assert height / width == pytest.approx(rows * 1.0 / (columns * 2.0), abs=0.01)


def test_the_slice_with_most_disease_is_chosen() -> None:
    body = np.ones((8, 8, 9), dtype=bool)
    label = np.zeros((8, 8, 9))
    label[2:4, 2:4, 6], label[2:7, 2:7, 3] = 2, 5  # ventricles are larger, but no disease
    assert choose_slice(body, label, BRAIN_NAMES) == 6
    assert choose_slice(body, np.where(label == 2, 0, label), BRAIN_NAMES) == 4
    body[:, :, :5] = False
    assert choose_slice(body, None, BRAIN_NAMES) == 7


def test_panels_with_and_without_a_target() -> None:
    image = np.random.default_rng(0).uniform(0, 100, (30, 24)).astype(np.float32)
    axial = AxialSlice(image, image + 5, image, None, (1.0, 1.0), 0, 1)
    panels = case_panels(axial, direction="T1->T2", window=(0.0, 80.0))
    assert [p.title for p in panels] == ["Source (T1)", "Output (T2)", "Target (T2)", "Difference", "Edges"]
    np.testing.assert_allclose(panels[3].image, 5.0, atol=1e-4)
    assert panels[1].limits == panels[2].limits == (0.0, 80.0)
    assert panels[3].limits == (-40.0, 40.0)
    alone = case_panels(AxialSlice(image, image, None, None, (1.0, 1.0), 0, 1))
    assert [p.title for p in alone] == ["Source (source)", "Output (target)", "Edges"]


def test_the_sign_of_the_difference_has_its_colour() -> None:
    truth = np.zeros((40, 40), dtype=np.float32)
    output = truth.copy()
    output[:, :20], output[:, 20:] = 50.0, -50.0
    axial = AxialSlice(truth, output, truth, None, (1.0, 1.0), 0, 1)
    picture = pixels(panel_png(case_panels(axial, window=(0.0, 200.0))[3], pixel_mm=(1.0, 1.0)))
    bright, dark = picture[100, 100], picture[100, 380]
    assert bright[0] > bright[2] + 40  # too bright is red
    assert dark[2] > dark[0] + 40  # too dark is blue


def test_edges_tell_kept_lost_and_invented_apart() -> None:
    source, output = np.zeros((40, 60)), np.zeros((40, 60))
    source[:, 10:] += 1.0
    output[:, 10:] -= 1.0  # kept, inverted
    source[:, 30:] += 1.0  # lost
    output[:, 50:] -= 1.0  # invented
    picture = edge_agreement(source, output)
    kept, lost, invented = picture[20, 10], picture[20, 30], picture[20, 50]
    assert np.ptp(kept) < 0.05
    assert kept.mean() > 0.2
    assert lost[2] > lost[0] + 0.2
    assert invented[0] > invented[2] + 0.2
    assert picture[20, 20].max() == 0.0


def test_volumes_on_different_grids_are_refused(tmp_path: Path) -> None:
    source, other = save_brain(tmp_path / "a.nii.gz", brain()), save_brain(tmp_path / "b.nii.gz", brain()[:, :, :5])
    with pytest.raises(ValueError, match=r"`prediction` of patient p must lie on the source's grid \(40, 60, 9\)"):
        load_case(Case("p", "T1->T2", source, other))


@pytest.mark.parametrize("window", [(5.0, 5.0), (9.0, 1.0), (1.0, 2.0, 3.0)])
def test_a_window_must_rise(window: tuple[float, ...]) -> None:
    axial = AxialSlice(np.eye(8), np.eye(8), None, None, (1.0, 1.0), 0, 1)
    with pytest.raises(ValueError, match=r"`window` must be \(low, high\) with low < high"):
        case_panels(axial, window=window)  # type: ignore[arg-type]


def test_the_composed_picture_takes_any_name() -> None:
    image = np.random.default_rng(0).uniform(0, 1, (30, 24))
    panels = case_panels(AxialSlice(image, image, None, None, (1.0, 1.0), 0, 1))
    picture = pixels(case_png(panels, pixel_mm=(1.0, 1.0), title=r"p$\frac{$_1^ <b>&"))
    assert picture.shape[1] > 1.5 * picture.shape[0]  # three panels of 30 x 24 and two lines of text


def test_curves_draw_in_both_themes_and_with_few_patients() -> None:
    rows = [
        {"patient": p, "direction": "d", "method": m, "psnr": v + k}
        for m, v in (("network", 20.0), ("identity", 13.0))
        for k, p in enumerate("abcd")
    ]
    values = values_by_method(rows, "d", "psnr")
    assert values["identity"] == {"a": 13.0, "b": 14.0, "c": 15.0, "d": 16.0}
    light, dark = (pixels(distribution_png(values, theme=theme)) for theme in (LIGHT, DARK))
    assert light[0, 0].min() == 255
    assert dark[0, 0].max() < 60
    single = {name: {"a": sample["a"]} for name, sample in values.items()}
    assert pixels(distribution_png(single, theme=LIGHT)).std() > 1  # points, no density
    equal = {"network": dict.fromkeys("abc", 20.0)}
    assert pixels(distribution_png(equal, theme=LIGHT)).std() > 1
    assert scatter_png(equal, theme=LIGHT) is None
    assert scatter_png(values, theme=LIGHT) is not None
    gaps = line_png([1, 2, 3, 4], [1.0, float("nan"), 0.5, 0.2], theme=LIGHT, xlabel="epoch", title="a$b_{")
    assert pixels(gaps).std() > 1


def test_matplotlib_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install monai-translation-bundles\[report\]"):
        require("matplotlib")


def test_an_output_in_another_unit_is_rescaled_and_titled_so() -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 100, (40, 30))
    rescaled, alike = (
        AxialSlice(truth, output, truth, None, (1.0, 1.0), 0, 1) for output in (truth * 30 + 7, truth * 1.5)
    )
    shown = {panel.title: panel for panel in case_panels(rescaled, direction="T1->T2")}
    assert "Output (T2, rescaled)" in shown
    assert np.abs(shown["Difference"].image).max() < 5
    same = {panel.title for panel in case_panels(alike, direction="T1->T2")}
    assert "Output (T2)" in same


ZOOMS = (PIXEL_MM, PIXEL_MM, 5.0)


def volumes(**more: np.ndarray | None) -> CaseVolumes:
    fields = {"source": thorax(), "prediction": thorax(), "target": thorax(), "label": labels()} | more
    return CaseVolumes(**fields, zooms=ZOOMS)


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
    axial = axial_slice(load_case(Case("p", "B30f->B70f", volume, volume, volume, label)), NAMES)
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
