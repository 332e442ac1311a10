"""The viewer of a page: what it holds, that it says when NiiVue is missing, and that nothing breaks out of it."""

from __future__ import annotations

import base64
import gzip
import json
import re
import shutil
import sys
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import nibabel
import numpy as np
import pytest

from common.files import write_json
from common.reports import viewer, write_report
from common.reports.viewer import Shown, find_library, shown_volumes, window_presets

MODULE = 'class Nii{say(){return "</script>\'"}};const x=1;export{Nii as Niivue,x as DRAG_MODE};'
AFFINE = np.array([[-1.0, 0, 0, 30], [0, 1.5, 0, -20], [0, 0, 4, 7], [0, 0, 0, 1]])
NASTY = "</script><script>alert(1)</script>"


def install(folder: Path, module: str | None) -> None:
    """A package of the name and form of ipyniivue."""
    (folder / "ipyniivue" / "static").mkdir(parents=True)
    (folder / "ipyniivue" / "__init__.py").write_text("raise RuntimeError('nobody imports it')\n")
    held = "" if module is None else f'var a="b";var c="{quote(module, safe="()*!")}";export{{d as default}};'
    (folder / "ipyniivue" / "static" / "widget.js").write_text(held)
    facts = folder / "ipyniivue-9.8.7.dist-info"
    (facts / "licenses").mkdir(parents=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: ipyniivue\nVersion: 9.8.7\n")
    (facts / "licenses" / "LICENSE").write_text("Permission <is> granted.\n")
    (facts / "RECORD").write_text("ipyniivue/__init__.py,,\nipyniivue-9.8.7.dist-info/licenses/LICENSE,,\n")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "site", MODULE)
    monkeypatch.syspath_prepend(tmp_path / "site")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


def make_run(folder: Path, *, hu: bool = False) -> Path:
    """Two patients, the second with a map of uncertainty; both have one truth."""
    folder.mkdir()
    rng = np.random.default_rng(3)
    low, high = (-1000.0, 800.0) if hu else (0.0, 3.0)

    def save(name: str) -> str:
        volume = rng.uniform(low, high, (9, 8, 4)).astype(np.float32)
        image = nibabel.Nifti1Image(volume, AFFINE)
        image.header["descrip"] = b"Name of a patient"
        nibabel.save(image, folder / f"{name}.nii.gz")
        return f"{name}.nii.gz"

    target = save("truth")
    cases = [
        {
            "patient": patient,
            "direction": "T1->T2",
            "source": save(f"s{index}"),
            "prediction": save(f"o{index}"),
            "target": target,
        }
        for index, patient in enumerate(("p1", NASTY))
    ]
    cases[1]["uncertainty"] = save("u")
    write_json(folder / "cases.json", {"cases": cases, "label_names": {}})
    return folder


def scripts(page: str, kind: str) -> dict[str, str]:
    found = re.findall(rf'<script type="{kind}" id="([\w-]+)">(.*?)</script>', page, flags=re.DOTALL)
    return dict(found)


def unpacked(text: str) -> bytes:
    return gzip.decompress(base64.b64decode(text))


def test_the_library_is_the_module_that_the_package_holds(package: None) -> None:
    library = find_library()
    assert unpacked(library.packed).decode() == MODULE
    assert library.name == "ipyniivue 9.8.7"
    assert library.licence == "Permission <is> granted."
    assert "ipyniivue" not in sys.modules


def test_a_page_holds_library_licence_and_each_volume_once(package: None, run: Path) -> None:
    page = write_report(run).read_text(encoding="utf-8")
    texts = scripts(page, "text/plain")
    cases = json.loads(scripts(page, "application/json")["viewer-cases"])
    assert unpacked(texts["viewer-library"]).decode() == MODULE
    assert "Permission &lt;is&gt; granted." in page
    assert [each["title"] for each in cases] == ["p1, T1 → T2", f"{NASTY}, T1 → T2"]
    keys = [[volume["key"] for volume in each["volumes"]] for each in cases]
    assert keys[0] == ["source", "output", "target", "difference"]
    assert keys[1] == [*keys[0], "uncertainty"]
    used = {volume["id"] for each in cases for volume in each["volumes"]}
    assert {f"volume-{name}" for name in used} == set(texts) - {"viewer-library"}
    assert len(used) == 8  # the truth is one, in both cases
    assert not (run / "report_volumes").exists()
    assert "Research use only" in page


def test_a_stored_volume_is_the_files_but_for_rounding_and_its_header(package: None, run: Path) -> None:
    page = write_report(run).read_text(encoding="utf-8")
    texts = scripts(page, "text/plain")
    case = json.loads(scripts(page, "application/json")["viewer-cases"])[0]
    files = {name: nibabel.load(run / f"{file}.nii.gz") for name, file in (("source", "s0"), ("output", "o0"))}
    for volume in case["volumes"][:2]:
        stored = nibabel.Nifti1Image.from_bytes(unpacked(texts[f"volume-{volume['id']}"]))
        expected = nibabel.as_closest_canonical(files[volume["key"]])
        np.testing.assert_allclose(stored.affine, expected.affine, atol=1e-4)
        np.testing.assert_allclose(stored.get_fdata(), expected.get_fdata(), atol=0.51 * 3.0 / 4095)
        assert stored.get_data_dtype() == np.int16
        assert bytes(stored.header["descrip"]).strip(b"\0") == b""


def test_nothing_breaks_out_of_the_data(package: None, run: Path) -> None:
    page = write_report(run).read_text(encoding="utf-8")
    assert NASTY not in page
    assert NASTY in unescape(page)
    # One script holds code; all others are data, and each is closed once.
    assert page.count("<script") == page.count("</script>")
    assert len(re.findall(r"<script>", page)) == 1
    assert not re.search(r"<(link|img|script|iframe)[^>]*(src|href)=[\"'](?!data:)", page)


@pytest.mark.parametrize(("module", "said"), [(None, "ipyniivue 9.8.7 holds no NiiVue module"), ("", None)])
def test_without_the_library_the_page_is_static_and_says_so(
    tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch, module: str | None, said: str | None
) -> None:
    if said:
        install(tmp_path / "site", module)
        monkeypatch.syspath_prepend(tmp_path / "site")
    else:
        monkeypatch.setattr(viewer, "PACKAGE", "a_package_that_is_not_there")
    page = write_report(run).read_text(encoding="utf-8")
    assert "<script" not in page
    assert (said or "a_package_that_is_not_there is not installed") in page
    assert "pip install monai-translation-bundles[report]" in page
    assert 'class="panels"' in page


def test_nobody_who_does_not_want_it_gets_it(package: None, run: Path) -> None:
    page = write_report(run, viewer=False).read_text(encoding="utf-8")
    assert "<script" not in page
    assert "pip install" not in page


def test_large_volumes_lie_beside_the_page(package: None, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run / "report_volumes"
    folder.mkdir()
    (folder / "0123456789abcdef.js").write_text("of an earlier page")
    monkeypatch.setattr(viewer, "EMBEDDED_BYTES", 2000)
    page = write_report(run).read_text(encoding="utf-8")
    cases = json.loads(scripts(page, "application/json")["viewer-cases"])
    volumes = {volume["id"]: volume for each in cases for volume in each["volumes"]}
    linked = {volume["file"] for volume in volumes.values() if "file" in volume}
    assert 0 < len(linked) < 8
    assert {f"report_volumes/{path.name}" for path in folder.iterdir()} == linked
    assert "report_volumes beside it" in page
    for name, volume in volumes.items():
        if "file" in volume:
            call = re.fullmatch(r'reportVolume\("(\w+)", "([\w+/=]+)"\);\n', (run / volume["file"]).read_text())
            assert call
            assert call[1] == name
            assert nibabel.Nifti1Image.from_bytes(unpacked(call[2])).shape == (9, 8, 4)
            assert f'id="volume-{name}"' not in page
    monkeypatch.setattr(viewer, "EMBEDDED_BYTES", 1e9)
    write_report(run)
    assert list(folder.iterdir()) == []


def grey(low: float, high: float, key: str = "source") -> Shown:
    return Shown(key, key, np.linspace(low, high, 1001).reshape(7, 11, 13), np.eye(4))


def test_ct_has_windows_by_name_and_the_pictures_one_comes_first() -> None:
    volumes = [grey(-1000, 1000), grey(-1000, 1000, "output")]
    presets = window_presets(volumes)
    assert next(iter(presets)) == "Lung (1500/-700 HU)"
    assert presets["Soft tissue (400/40 HU)"] == {"source": (-160.0, 240.0), "output": (-160.0, 240.0)}
    assert presets["Bone (1500/300 HU)"]["output"] == (-450.0, 1050.0)
    assert presets["Brain (80/40 HU)"]["output"] == (0.0, 80.0)
    assert presets["Full range"]["source"] == (-1000.0, 1000.0)
    assert next(iter(window_presets(volumes, task="contrast_enhancement"))) == "Contrast (300/50 HU)"
    assert next(iter(window_presets(volumes, task="super_resolution"))) == "Airways (1200/-450 HU)"
    given = window_presets(volumes, window=(0.0, 50.0))
    assert given["As given"] == {"source": (0.0, 50.0), "output": (0.0, 50.0)}
    assert next(iter(given)) == "As given"


def test_mr_has_windows_of_each_volumes_range() -> None:
    volumes = [grey(0, 100), grey(0, 2, "output"), grey(0, 1.5, "target"), grey(0, 9, "other")]
    presets = window_presets(volumes)
    assert list(presets) == ["Automatic", "Dark half", "Bright half", "Full range"]
    np.testing.assert_allclose(presets["Automatic"]["source"], (0.5, 99.5))
    assert presets["Automatic"]["output"] == presets["Automatic"]["target"]  # one unit, one window
    np.testing.assert_allclose(presets["Automatic"]["target"], (0.0075, 1.4925))
    np.testing.assert_allclose(presets["Dark half"]["source"], (0.5, 50.0))
    np.testing.assert_allclose(presets["Bright half"]["source"], (50.0, 99.5))
    assert window_presets(volumes, window=(0.2, 0.4))["As given"]["source"] == pytest.approx((0.5, 99.5))


def shown_of(folder: Path, index: int = 0) -> dict[str, Shown]:
    from common.reports.inputs import read_inputs

    return {each.key: each for each in shown_volumes(read_inputs(folder).cases[index])}


def test_the_difference_is_output_minus_truth(tmp_path: Path) -> None:
    shown = shown_of(make_run(tmp_path / "ct", hu=True))
    np.testing.assert_array_equal(shown["difference"].volume, shown["output"].volume - shown["target"].volume)
    assert shown["difference"].limits == (-100.0, 100.0)
    shown = shown_of(make_run(tmp_path / "mr"))
    low, high = np.percentile(shown["target"].volume, [0.5, 99.5])
    np.testing.assert_allclose(shown["difference"].limits, ((low - high) / 2, (high - low) / 2))


def test_a_truth_on_another_grid_is_refused(run: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((3, 4, 5), np.float32), AFFINE), run / "truth.nii.gz")
    with pytest.raises(ValueError, match=r"`target` of patient p1 must lie on the output's grid \(9, 8, 4\), got"):
        shown_of(run)


def test_a_map_beside_an_output_is_found_by_its_name(run: Path) -> None:
    assert "uncertainty" not in shown_of(run)
    shutil.copy(run / "u.nii.gz", run / "o0_uncertainty.nii.gz")
    np.testing.assert_array_equal(shown_of(run)["uncertainty"].volume, shown_of(run, 1)["uncertainty"].volume)


def test_a_map_of_uncertainty_has_its_own_colours(run: Path) -> None:
    found: Any = shown_of(run, 1)["uncertainty"]
    assert found.colours == "inferno"
    assert found.limits == (0.0, pytest.approx(float(np.percentile(found.volume, 99.5))))
