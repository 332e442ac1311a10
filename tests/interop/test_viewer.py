"""The viewer of a report in a real browser: Chromium without a screen, WebGL by software, pages from the disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.transform import resize

from common.reports import viewer, write_report
from tests.helpers.browser import ALLOWED, Browser, browser, find_chromium
from tests.helpers.commands import python_m

from .conftest import BUNDLES, ROOT

pytestmark = pytest.mark.interop

DATA = {"nec_t1t2": "brain", "nect2cect": "abdomen", "sr_cyclegan": "lung"}  # all others convert kernels of a chest
READY = "document.querySelector('#viewer-panels').dataset.ready === '{}'"


@pytest.fixture(scope="module")
def pages(phantoms: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """From a bundle to the report on its own evaluation of a small phantom, made once."""
    made: dict[str, Path] = {}

    def page(bundle: str) -> Path:
        if bundle not in made:
            out, root = tmp_path_factory.mktemp(bundle), ROOT / "bundles" / bundle
            files = [str(root / "configs" / f"{name}.yaml") for name in ("inference", "evaluate")]
            words = ["run", "evaluating", "--config_file", files, "--bundle_root", root, "--output_dir", out]
            data = phantoms[DATA.get(bundle, "chest")]
            done = python_m("monai.bundle", [*words, "--dataset_dir", data, "--guards", "warn"], cwd=out)
            assert done.returncode == 0, done.stderr[-3000:]
            made[bundle] = write_report(out, cases=1)
        return made[bundle]

    return page


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if find_chromium() is None:
        pytest.fail("Chromium is not there: run `make .venvs/browser/ready`")
    viewer.find_library()  # whose error says what is missing
    with browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


def opened(chromium: Browser, page: Path, **options: object) -> None:
    """Open a page, wait for its first case, and let no earlier page's messages count."""
    chromium.problems.clear()
    chromium.requests.clear()
    chromium.open(page, **options)  # type: ignore[arg-type]
    chromium.value("document.querySelector('#viewer').scrollIntoView()")
    chromium.until(READY.format(0))


def voxel(chromium: Browser) -> tuple[int, int, int]:
    x, y, z = chromium.value("document.querySelector('#viewer-panels').dataset.voxel").split(",")
    return int(x), int(y), int(z)


def values(chromium: Browser) -> dict[str, float]:
    """The number below each picture."""
    found = chromium.value(
        "JSON.stringify([...document.querySelectorAll('#viewer-panels small')].map("
        "e => [e.dataset.volume, Number(e.dataset.value)]))"
    )
    return dict(json.loads(found))


def choose(chromium: Browser, control: str, value: object, event: str) -> None:
    chromium.value(
        f"(() => {{ const e = document.querySelector('#viewer-{control}'); e.value = {json.dumps(value)};"
        f" e.dispatchEvent(new Event('{event}')); }})()"
    )


def shown_case(page: Path) -> dict[str, str]:
    """The case that the page shows first: its only one, or that of the first direction."""
    listed = json.loads((page.parent / "cases.json").read_text())["cases"]
    text = page.read_text(encoding="utf-8").split('id="viewer-cases">')[1].split("</script>")[0]
    title = json.loads(text)[0]["title"]
    return next(c for c in listed if title == f"{c['patient']}, {c['direction'].replace('->', ' → ')}")


def volumes(page: Path) -> dict[str, nib.Nifti1Image]:
    case = shown_case(page)
    names = {"source": "source", "output": "prediction", "target": "target"}
    return {
        key: nib.as_closest_canonical(nib.load(page.parent / case[name])) for key, name in names.items() if name in case
    }


def axial(image: nib.Nifti1Image, z: int, limits: tuple[float, float]) -> np.ndarray:
    """A slice as radiologists see it, in 0 to 255: front on top, the patient's right on the left."""
    plane = np.asarray(image.dataobj, dtype=float)[:, :, z].T[::-1, ::-1]
    return 255 * np.clip((plane - limits[0]) / (limits[1] - limits[0]), 0, 1)


def picture(chromium: Browser, key: str, image: nib.Nifti1Image) -> np.ndarray:
    """The axial part of a picture in grey: it is the uppermost one."""
    found = chromium.picture(f"#viewer-panels canvas.{key}").mean(axis=2)
    x, y, _ = np.multiply(image.shape, image.header.get_zooms())
    scale = found.shape[1] / max(x, y)
    return found[: round(y * scale), : round(x * scale)]


def likeness(shown: np.ndarray, expected: np.ndarray, sigma: float = 1.0) -> float:
    """Correlation of a picture and a slice, smoothed, as the browser interpolates noise in its own way.

    The lines of the cross are few pixels.
    """
    fitted = resize(expected, shown.shape, order=1, anti_aliasing=True)
    images = (gaussian_filter(image, sigma) if sigma else image for image in (shown, fitted))
    return float(np.corrcoef(*(image.ravel() for image in images))[0, 1])


def windows(page: Path) -> list[dict[str, dict[str, list[float]]]]:
    text = page.read_text(encoding="utf-8").split('id="viewer-cases">')[1].split("</script>")[0]
    return json.loads(text)[0]["presets"]


@pytest.mark.parametrize("bundle", BUNDLES)
def test_volumes_are_shown_scrolled_and_windowed(bundle: str, pages, chromium: Browser) -> None:
    page = pages(bundle)
    opened(chromium, page)
    images = volumes(page)
    presets = windows(page)
    assert {"source", "output", "target", "difference"} <= set(values(chromium))
    assert chromium.value("document.documentElement.scrollWidth") <= 1280
    assert "Research use only" in chromium.value("document.body.innerText")

    # Opened: the slices of the files, at one place.
    x, y, z = voxel(chromium)
    limits = presets[0]["windows"]
    for key in ("output", "target"):
        assert likeness(picture(chromium, key, images[key]), axial(images[key], z, limits[key])) > 0.9, key
        low, high = np.asarray(images[key].dataobj).min(), np.asarray(images[key].dataobj).max()
        step = max(1.0, (high - low) / 4095) if high > 100 else (high - low) / 4095
        assert values(chromium)[key] == pytest.approx(float(images[key].dataobj[x, y, z]), abs=step), key
    shown = values(chromium)
    assert shown["difference"] == pytest.approx(shown["output"] - shown["target"], abs=2.0)

    # Scrolled by the keyboard: another slice, in all pictures.
    depth = images["output"].shape[2]
    before = {key: picture(chromium, key, images[key]) for key in ("output", "target")}
    chromium.value("document.querySelector('#viewer-panels').focus()")
    key = "PageDown" if z == depth - 1 else "PageUp"
    chromium.key(key)
    moved = z + (1 if key == "PageUp" else -1)
    assert voxel(chromium) == ((x, y, moved) if depth > 1 else (x, y, z))
    if depth > 1:
        for name, old in before.items():
            now = picture(chromium, name, images[name])
            assert np.abs(now - old).mean() > 0.1
            assert likeness(now, axial(images[name], moved, limits[name])) > 0.9
    chromium.key("ArrowLeft")
    chromium.key("ArrowUp")
    assert voxel(chromium) == (x + 1, y + 1, moved if depth > 1 else z)
    choose(chromium, "axial", z, "input")
    choose(chromium, "sagittal", x, "input")
    choose(chromium, "coronal", y, "input")
    assert voxel(chromium) == (x, y, z)

    # Another window: the pixels that it asks for.
    for index in (1, len(presets) - 1):
        choose(chromium, "window", index, "change")
        for name in ("output", "target"):
            expected = axial(images[name], z, presets[index]["windows"][name])
            now = picture(chromium, name, images[name])
            assert now.mean() == pytest.approx(expected.mean(), abs=8), (presets[index]["name"], name)

    # The slider: the output over the source.
    if images["source"].shape == images["output"].shape:
        shape, ends = images["output"], presets[-1]["windows"]["output"]
        over = picture(chromium, "source", shape)
        choose(chromium, "blend", 100, "input")
        full = picture(chromium, "source", shape)
        expected = axial(images["output"], z, ends)
        assert likeness(full, expected) > 0.9
        assert likeness(full, expected, 0) > likeness(over, expected, 0)
        choose(chromium, "blend", 50, "input")
        half = picture(chromium, "source", shape)
        assert np.abs(half - (over + full) / 2).mean() < 1

    assert chromium.problems == []
    assert all(address.startswith(ALLOWED) for address in chromium.requests)
    assert [address for address in chromium.requests if address.startswith("file:")] == [page.resolve().as_uri()]


def test_a_click_and_the_wheel_move_all_pictures(pages, chromium: Browser) -> None:
    opened(chromium, pages("nec_t1t2"))
    place, shown = voxel(chromium), values(chromium)
    left, top, width = chromium.value(
        "(() => { const b = document.querySelector('#viewer-panels canvas.target').getBoundingClientRect();"
        " return [b.x, b.y, b.width]; })()"
    )
    for kind in ("mousePressed", "mouseReleased"):
        chromium.mouse(kind, left + 0.4 * width, top + 0.45 * width, button="left", clickCount=1)
    clicked = voxel(chromium)
    assert clicked[:2] != place[:2]
    assert clicked[2] == place[2]
    assert values(chromium).keys() == shown.keys()
    assert all(values(chromium)[key] != shown[key] for key in ("source", "output", "target"))
    chromium.mouse("mouseWheel", left + 0.4 * width, top + 0.45 * width, deltaX=0, deltaY=-120)
    chromium.until(f"document.querySelector('#viewer-axial').value !== '{clicked[2]}'", 20)
    assert voxel(chromium)[:2] == clicked[:2]
    assert chromium.problems == []


def test_every_control_is_reached_by_the_keyboard(pages, chromium: Browser) -> None:
    opened(chromium, pages("nec_t1t2"))
    chromium.value("document.querySelector('#viewer-case').focus()")
    reached = []
    for _ in range(7):
        reached.append(chromium.value("document.activeElement.id"))
        chromium.key("Tab")
    names = ("case", "window", "axial", "coronal", "sagittal", "blend", "panels")
    assert reached == [f"viewer-{name}" for name in names]
    chromium.value("document.querySelector('#viewer-panels').focus()")
    first = chromium.value("document.querySelector('#viewer-window').value")
    chromium.key("w")
    assert chromium.value("document.querySelector('#viewer-window').value") != first
    assert chromium.problems == []


def test_dark_print_and_a_narrow_window(pages, chromium: Browser) -> None:
    page = pages("nec_t1t2")
    opened(chromium, page)
    light = chromium.picture("#viewer h2").mean()
    opened(chromium, page, dark=True)
    assert chromium.picture("#viewer h2").mean() < 0.4 * light
    opened(chromium, page, width=400, height=800)
    assert chromium.value("document.documentElement.scrollWidth") <= 400
    chromium.call("Emulation.setEmulatedMedia", media="print")
    assert chromium.value("getComputedStyle(document.querySelector('#viewer')).display") == "none"
    assert chromium.value("document.querySelector('.panels img').getBoundingClientRect().height") > 50
    chromium.call("Emulation.setEmulatedMedia", media="")
    assert chromium.problems == []


def test_large_volumes_are_read_from_beside_the_page(pages, chromium: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    source = pages("nec_t1t2").parent
    run = source.parent / "linked"  # beside it, as a run names its data by relative paths
    shutil.copytree(source, run)
    monkeypatch.setattr(viewer, "EMBEDDED_BYTES", 0)
    page = write_report(run, cases=1)
    opened(chromium, page)
    assert len(values(chromium)) == 4
    assert chromium.problems == []
    files = [address for address in chromium.requests if address.startswith("file:")]
    assert len(files) == 5
    assert all(address.startswith(run.resolve().as_uri()) for address in files)
    for path in (run / "report_volumes").iterdir():
        path.unlink()
    chromium.open(page)
    chromium.value("document.querySelector('#viewer').scrollIntoView()")
    chromium.until("document.querySelector('#viewer-status').textContent.includes('must lie beside this page')")
