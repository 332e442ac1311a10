"""
MONAI Label's stock app for bundles, `monaibundle`, serves each release over HTTP and gives the command line's volume.

The app is MONAI Label's, untouched; a release's folder lies in its `model` folder. It has one target a bundle, that of
the config, and calls the result a segmentation: docs/monai_label.md.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from .conftest import BUNDLES
from .label_server import Client, serving
from .test_label import CASES, command_line, volume

pytestmark = pytest.mark.interop

GIVEN: dict[str, dict[str, str]] = {  # written into the config: the app has no way to override it
    "ggcl": {"target": "B70f", "source": "B30f"},
    "kcgan_kernel_conversion": {"target": "B50f", "source": "B30f"},
    "sr_cyclegan": {"region": "all"},
}


@pytest.fixture(scope="module")
def app(environment, unpacked, tmp_path_factory) -> Path:
    """A copy of MONAI Label's sample app, with the releases in its `model` folder."""
    sample = environment("label").parents[1] / "monailabel" / "sample-apps" / "monaibundle"
    folder = tmp_path_factory.mktemp("stock") / "monaibundle"
    shutil.copytree(sample, folder)
    for bundle, release in unpacked.items():
        shutil.copytree(release, folder / "model" / bundle)
        for config in (folder / "model" / bundle / "configs").glob("inference.*"):
            given = GIVEN.get(bundle, {})
            if config.suffix == ".json":
                config.write_text(json.dumps({**json.loads(config.read_text()), **given}))
            else:
                text = config.read_text()
                for name, value in given.items():
                    text = re.sub(rf"^{name}: .*$", f"{name}: {value}", text, flags=re.MULTILINE)
                config.write_text(text)
    return folder


@pytest.fixture(scope="module")
def studies(phantoms, tmp_path_factory) -> Path:
    """The images of the cases, called <patient>_<domain>."""
    folder = tmp_path_factory.mktemp("studies")
    for data in phantoms.values():
        for image in (data / "images").glob("*.nii.gz"):
            if any(image.name == f"{name}.nii.gz" for name, _ in CASES.values()):
                shutil.copy(image, folder)
    return folder


@pytest.fixture(scope="module")
def server(environment, app, studies, tmp_path_factory) -> Iterator[Callable[[str], Client]]:
    """From a bundle to the server that has it: those with the same `common` share one, as a process has one."""
    releases = {bundle: (app / "model" / bundle / "common" / "release.json").read_text() for bundle in BUNDLES}
    started: dict[str, Client] = {}
    with ExitStack() as stack:

        def client(bundle: str) -> Client:
            release = releases[bundle]
            if release not in started:
                models = ",".join(name for name, other in releases.items() if other == release)
                conf = {"models": models, "zoo_source": "ngc", "sam2": "false", "skip_trainers": "true"}
                folder = tmp_path_factory.mktemp("server")
                started[release] = stack.enter_context(serving(environment("label"), app, studies, folder, **conf))
            return started[release]

        yield client


@pytest.mark.parametrize("bundle", BUNDLES)
def test_the_stock_app_gives_the_command_lines_voxels(server, app, studies, bundle, tmp_path):
    name, _ = CASES[bundle]
    answer = server(bundle).infer(bundle, image=name, params={"device": "cpu"})
    image = volume(answer, tmp_path)
    expected = command_line(app / "model" / bundle, studies / f"{name}.nii.gz", tmp_path / "out")
    np.testing.assert_array_equal(np.asarray(image.dataobj), np.asarray(expected.dataobj, dtype=np.float32))
    np.testing.assert_allclose(image.affine, expected.affine, atol=2e-3)  # ITK's direction is a rotation in float32
    assert image.get_data_dtype() == np.float32  # as it was computed: HU are whole, but the file is twice as large


def test_a_target_that_the_stock_app_ignores_is_refused(server):
    """The app hands the parameters to the transforms and no further: without an error, B70f would come as B30f."""
    name, _ = CASES["ggcl"]
    answer = server("ggcl").infer("ggcl", image=name, params={"device": "cpu", "target": "B30f"})
    assert answer.status >= 400


def test_the_stock_app_calls_every_model_a_segmentation(server):
    """Hence its clients load the answer as a label map: 3D Slicer shows the translation with our app only."""
    for bundle in BUNDLES:
        assert server(bundle).call("/info/").json["models"][bundle]["type"] == "segmentation"


def test_nothing_of_the_volume_is_cut(server, studies, tmp_path):
    """No nearest-neighbour resampling, no cast to 8 bit: values beyond 255 and below 0 arrive."""
    name, _ = CASES["nect2cect"]
    image = volume(server("nect2cect").infer("nect2cect", image=name, params={"device": "cpu"}), tmp_path)
    assert image.shape == nib.load(studies / f"{name}.nii.gz").shape
    assert np.asarray(image.dataobj).min() < -900
    assert np.asarray(image.dataobj).max() > 255
