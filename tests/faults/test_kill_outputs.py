"""`kill -9` while outputs are written: none is there in part, and the same command completes them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from time import sleep

import nibabel as nib
import numpy as np
import pytest

from common.data import find_images
from common.phantoms import generate_phantom
from common.release import build_release

from . import tasks
from .children import KILLED, run
from .data import models
from .traces import files

pytestmark = pytest.mark.faults
PHANTOMS = {  # as large as the demonstration weights ask for
    "nec_t1t2": ("brain", {"patients": 4, "slices": 4, "size": 64}),
    "ggcl": ("chest", {"patients": 4, "slices": 1, "size": 128}),
    "nect2cect": ("abdomen", {"patients": 4, "slices": 4, "size": 64}),
    "sr_cyclegan": ("lung", {"patients": 4, "slices": 16, "size": 192}),
}
OPTIONS = {"sr_cyclegan": {"region": "all"}}
SAMPLED = 6


def voxels(folder: Path) -> dict[str, np.ndarray]:
    """Of all images that are visible; reading a part of one would fail."""
    names = [name for name in files(folder) if name.endswith((".nii", ".nii.gz"))]
    return {name: np.asarray(nib.load(folder / name).dataobj) for name in names}


def assert_part_of(found: dict[str, np.ndarray], whole: dict[str, np.ndarray]) -> None:
    assert found.keys() <= whole.keys()
    for name, image in found.items():
        np.testing.assert_array_equal(image, whole[name])


def moments(name: str, steps: int, count: int) -> list[int]:
    return sorted(random.Random(name).sample(range(1, steps + 1), min(count, steps)))


@pytest.mark.parametrize("bundle", PHANTOMS)
def test_killed_translation_leaves_whole_images_alone(bundle, tmp_path, survived):
    kind, parameters = PHANTOMS[bundle]
    generate_phantom(kind, tmp_path / "data", workers=1, **parameters)
    arguments = (bundle, tmp_path / "data", models(bundle), OPTIONS.get(bundle, {}))
    translate = partial(run, tasks.translate, *arguments)
    whole = translate(tmp_path / "whole", watched=tmp_path / "whole")
    assert whole.error is None, whole.error
    images = voxels(tmp_path / "whole")
    assert images
    tried = moments(bundle, whole.steps, SAMPLED)
    for moment in tried:
        folder = tmp_path / str(moment)
        assert translate(folder, watched=folder, kill_at=moment).code == KILLED
        assert_part_of(voxels(folder), images)
        for name, text in files(folder).items():
            if name.endswith(".json"):
                json.loads(text)
        if voxels(folder):  # known by their sidecars as outputs, which are there before them
            with pytest.raises(ValueError, match="holds only outputs of a bundle"):
                find_images(folder)
        assert translate(folder, watched=folder).error is None
        again = voxels(folder)
        assert again.keys() == images.keys()
        assert_part_of(again, images)
        assert not files(folder, hidden=True)
    survived("kill -9 during inference, before a change of a file", len(tried))


def test_killed_phantom_is_completed(tmp_path, survived):
    steps = run(tasks.make_phantom, tmp_path / "whole", watched=tmp_path / "whole").steps
    whole = files(tmp_path / "whole")
    assert "datalist.json" in whole
    tried = moments("phantom", steps, 3 * SAMPLED)
    for moment in tried:
        folder = tmp_path / str(moment)
        assert run(tasks.make_phantom, folder, watched=folder, kill_at=moment).code == KILLED
        assert files(folder).items() <= whole.items()
        assert run(tasks.make_phantom, folder, watched=folder).error is None
        assert files(folder) == whole
        assert not files(folder, hidden=True)
    survived("kill -9 while a phantom is made, before a change of a file", len(tried))


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_release(tasks.ROOT / "bundles" / "nec_t1t2", tmp_path_factory.mktemp("dist"))


def test_killed_installation_is_absent_and_completed(release, tmp_path, survived):
    steps = run(tasks.install, str(release), tmp_path / "whole", watched=tmp_path / "whole").steps
    whole = files(tmp_path / "whole")
    assert "nec_t1t2/models/model.pt" in whole
    tried = moments("install", steps, 2 * SAMPLED)
    for moment in tried:
        folder = tmp_path / str(moment)
        assert run(tasks.install, str(release), folder, watched=folder, kill_at=moment).code == KILLED
        if files(folder):  # it is renamed at once, and only what has a temporary name is removed after that
            assert files(folder) == whole
            continue
        assert run(tasks.install, str(release), folder, watched=folder).error is None
        assert files(folder) == whole
        assert not files(folder, hidden=True)
    survived("kill -9 during installation, before a change of a file", len(tried))


class Slow(SimpleHTTPRequestHandler):
    """Sends a file in ten pieces, with pauses."""

    def copyfile(self, source, outputfile) -> None:
        content = source.read()
        size = len(content) // 10 + 1
        for start in range(0, len(content), size):
            outputfile.write(content[start : start + size])
            sleep(0.3)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def address(release: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Slow, directory=str(release.parent)))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/{release.name}"
    server.shutdown()


def test_killed_download_is_absent_and_completed(address: str, tmp_path: Path, survived: Callable):
    times = random.Random(0)
    kills = 0
    for _ in range(SAMPLED):
        wait = 0.2 + times.random() * 0.9
        kills += run(tasks.install, address, tmp_path / "out", watched=tmp_path, kill_after=wait).code == KILLED
        assert not files(tmp_path)
    assert run(tasks.install, address, tmp_path / "out", watched=tmp_path).error is None
    assert "out/nec_t1t2/models/model.pt" in files(tmp_path)
    assert kills == SAMPLED
    survived("kill -9 during a download, at random times", kills)
