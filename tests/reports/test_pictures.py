"""Pictures: the right way round, in true proportions, of the right slice, with the right window."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from common.reports.curves import distribution_png, line_png, scatter_png, values_by_method
from common.reports.drawing import DARK, LIGHT, case_png, panel_png, require
from common.reports.inputs import Case
from common.reports.panels import case_panels, edge_agreement
from common.reports.volumes import AxialSlice, choose_slice, load_slice

NAMES = {1: "oedema", 2: "tumour", 5: "ventricles"}


def brain() -> np.ndarray:
    """RAS, 40 x 60 x 9: a block of 100, with a spot of 300 at the patient's right front in slice 4."""
    volume = np.zeros((40, 60, 9), dtype=np.float32)
    volume[5:35, 5:55, 1:8] = 100.0
    volume[28:32, 46:50, 4] = 300.0
    return volume


def save(path: Path, volume: np.ndarray, axes: str = "RAS", zooms: tuple[float, ...] = (2.0, 1.0, 3.0)) -> Path:
    image = nibabel.Nifti1Image(volume, np.diag([*zooms, 1.0]))
    wanted = nibabel.orientations.axcodes2ornt(axes)
    nibabel.save(image.as_reoriented(nibabel.orientations.ornt_transform(
        nibabel.io_orientation(image.affine), wanted)), path)  # fmt: skip
    return path


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), dtype=int)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "SAR", "PIR"])
def test_radiological_convention_from_any_orientation(tmp_path: Path, axes: str) -> None:
    path = save(tmp_path / "x.nii.gz", brain(), axes)
    axial = load_slice(Case("p", "T1->T2", path, path), {})
    assert (axial.index, axial.slices) == (4, 9)
    assert axial.pixel_mm == (1.0, 2.0)
    row, column = np.argwhere(axial.source == 300).mean(axis=0) / axial.source.shape
    assert row < 0.3  # the front is on top
    assert column < 0.3  # the patient's right is on the left


def test_proportions_are_those_of_the_patient(tmp_path: Path) -> None:
    path = save(tmp_path / "x.nii.gz", brain(), zooms=(2.0, 1.0, 3.0))
    axial = load_slice(Case("p", "T1->T2", path, path), {})
    panel = case_panels(axial)[0]
    height, width = pixels(panel_png(panel, pixel_mm=axial.pixel_mm)).shape[:2]
    rows, columns = axial.source.shape
    assert height / width == pytest.approx(rows * 1.0 / (columns * 2.0), abs=0.01)


def test_the_slice_with_most_disease_is_chosen() -> None:
    body = np.ones((8, 8, 9), dtype=bool)
    label = np.zeros((8, 8, 9))
    label[2:4, 2:4, 6], label[2:7, 2:7, 3] = 2, 5  # ventricles are larger, but no disease
    assert choose_slice(body, label, NAMES) == 6
    assert choose_slice(body, np.where(label == 2, 0, label), NAMES) == 4
    body[:, :, :5] = False
    assert choose_slice(body, None, NAMES) == 7


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
    source, other = save(tmp_path / "a.nii.gz", brain()), save(tmp_path / "b.nii.gz", brain()[:, :, :5])
    with pytest.raises(ValueError, match=r"`prediction` of patient p must lie on the source's grid \(40, 60, 9\)"):
        load_slice(Case("p", "T1->T2", source, other), {})


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
