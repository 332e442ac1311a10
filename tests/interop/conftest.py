"""What every consumer's test starts from: environments, the five releases, small phantoms, a local web server."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from pydicom import dcmread

from common.phantoms import generate_phantom
from common.release import build_release, write_index
from tests.helpers.dicom_series import write_nifti_as_series

ROOT = Path(__file__).parents[2]
BUNDLES = ("ggcl", "kcgan_kernel_conversion", "nec_t1t2", "nect2cect", "sr_cyclegan")
PHANTOMS = {  # small ones; the lung's factor is that of the demonstration weights
    "brain": {"patients": 6, "slices": 4, "size": 64},
    "chest": {"patients": 6, "slices": 1, "size": 128},
    "abdomen": {"patients": 5, "slices": 4, "size": 64},
    "lung": {"patients": 4, "slices": 16, "size": 192},
}


@pytest.fixture(scope="session")
def environment() -> Callable[[str], Path]:
    """From the name of an environment to its python."""

    def python(name: str) -> Path:
        folder = ROOT / ".venvs" / name
        if not (folder / "ready").is_file():
            pytest.fail(
                f"the environment .venvs/{name} is not there: run `make test-interop`, or `make .venvs/{name}/ready`"
            )
        return folder / "bin" / "python"

    return python


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The five zips and model_info.json."""
    folder = tmp_path_factory.mktemp("dist")
    for name in BUNDLES:
        build_release(ROOT / "bundles" / name, folder)
    write_index(folder)
    return folder


@pytest.fixture(scope="session")
def unpacked(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The bundles' folders by name, unpacked from their zips."""
    folder = tmp_path_factory.mktemp("unpacked")
    for path in dist.glob("*.zip"):
        zipfile.ZipFile(path).extractall(folder)
    return {name: folder / name for name in BUNDLES}


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Data sets by kind."""
    folder = tmp_path_factory.mktemp("phantoms")
    for kind, options in PHANTOMS.items():
        generate_phantom(kind, folder / kind, workers=1, **options)
    return {kind: folder / kind for kind in PHANTOMS}


@pytest.fixture(scope="session")
def dicom_studies(phantoms, tmp_path_factory):
    """A DICOM folder for each phantom; the chest's has two series, of two kernels."""
    folder = tmp_path_factory.mktemp("dicom")
    for kind, domain in [
        ("brain", "T1"),
        ("chest", "B30f"),
        ("chest", "B50f"),
        ("abdomen", "NECT"),
        ("lung", "clinical"),
    ]:
        path = sorted((phantoms[kind] / "images").glob(f"*_{domain}.nii.gz"))[0]
        said = {"SeriesDescription": f"Thorax 1.0 {domain}", "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.1"}
        said |= {"ConvolutionKernel": domain} if kind == "chest" else {}
        write = partial(write_nifti_as_series, path, folder / kind / domain, "MR" if kind == "brain" else "CT")
        series = write(copies=2 if kind == "chest" else 1, **said)
        _without(series, ["InversionTime"] if kind == "brain" else ["ContrastBolusAgent", "ContrastBolusRoute"])
    return folder


def _without(series, names):
    """A native scan says nothing of an agent; a spin echo has no inversion time."""
    for path in series.iterdir():
        image = dcmread(path)
        for name in names:
            delattr(image, name)
        image.save_as(path)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="session")
def address(dist: Path) -> Iterator[str]:
    """Of a server on 127.0.0.1 that serves the zips."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(dist)))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
