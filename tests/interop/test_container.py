"""
The containers that `make test-container` has built, started as their images say, without a network but the loopback.

What is found is written to the file that CONTAINER_RESULTS names.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import nibabel as nib
import numpy as np
import pytest

import common
from tests.helpers.dicom_series import write_source_series
from tests.helpers.pacs import archive, echo, send, wait_for
from tests.helpers.translations import CT_AFFINE, trunk

from .label_server import Client

pytestmark = pytest.mark.container

STORE = Path(os.environ.get("CONTAINER_STORE", "build/container")).absolute()
USER = 10001
PORT, LABEL_PORT = 11112, 8000
RULES = """
folder: /data/state
port: 11112
senders: [SCANNER]
quiet_seconds: 1
free_mb: 0
destination: {ae_title: ARCHIVE, address: 127.0.0.1, port: PORT}
rules:
  - {name: smooth, bundle: /bundles/ggcl, target: B30f, match: {kernel: ^B70f$}, options: {device: cpu}}
"""
found: dict[str, Any] = {}


def buildah(*words: object) -> str:
    done = subprocess.run(command(*words), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def command(*words: object) -> list[str]:
    places = ["--root", STORE / "store", "--runroot", STORE / "run", "--storage-driver", "overlay"]
    return [str(word) for word in ("buildah", *places, *words)]


@cache
def image(name: str) -> dict[str, Any]:
    return json.loads(buildah("inspect", "--type", "image", name))["OCIv1"]["config"]


@pytest.fixture(scope="module", autouse=True)
def alone() -> Iterator[None]:
    """Without a network nothing can be downloaded; at the end the results are written."""
    assert [name for _, name in socket.if_nameindex()] == ["lo"], "there is a network: run `make test-container`"
    found["debian"] = (STORE / "debian_version").read_text().strip()
    found["buildah"] = buildah("--version").split()[2]
    found["network"] = "loopback only"
    yield
    if file := os.environ.get("CONTAINER_RESULTS"):
        Path(file).write_text(json.dumps(found, indent=2) + "\n")


@contextmanager
def running(name: str, data: Path) -> Iterator[tuple[subprocess.Popen, Path]]:
    """A container of an image, with its own user, entry point and command, and a folder as its /data."""
    for path in (data, *data.rglob("*")):
        os.chown(path, USER, USER)
    container, log = buildah("from", name), data.parent / f"{name}.log"
    config, process = image(name), None
    try:
        asked = (
            "import importlib.metadata as m, os, sys;"
            " print(os.getuid(), sys.version.split()[0], len(list(m.distributions())))"
        )
        words = ["run", "--isolation", "chroot", container, "--", "python3", "-c", asked]
        uid, version, packages = buildah(*words).split()
        assert int(uid) == USER
        (size,) = {each["size"] for each in json.loads(buildah("images", "--json")) if names(each, name)}
        found[name] = {"python": version, "user": int(uid), "packages": int(packages), "size": size}
        words = [*config["Entrypoint"], *config["Cmd"]]
        with log.open("w") as file:
            process = subprocess.Popen(
                command("run", "--isolation", "chroot", "--volume", f"{data}:/data", container, "--", *words),
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        yield process, log
    finally:
        if process is not None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)
        buildah("rm", container)


def names(each: dict[str, Any], name: str) -> bool:
    return any(full.split("/")[-1].split(":")[0] == name for full in each["names"] or [])


def test_the_service_answers_an_echo_and_translates_a_series(tmp_path: Path) -> None:
    said = {"ConvolutionKernel": "B70f", "ContrastBolusAgent": ""}
    sharp = sorted(write_source_series(tmp_path / "sharp", trunk(), CT_AFFINE, **said).iterdir())
    data = tmp_path / "data"
    data.mkdir()
    with archive() as kept:
        (data / "rules.yaml").write_text(RULES.replace("PORT", str(kept.port)))
        started = time.monotonic()
        with running("translation-service", data) as (process, log):
            wait_for(lambda: ended(process, log) or "listens at" in log.read_text(), seconds=600, what="listening")
            found["translation-service"]["seconds to start"] = round(time.monotonic() - started)
            assert echo(PORT)
            assert send(sharp, PORT) == [0x0000] * len(sharp)
            wait_for(lambda: ended(process, log) or "Sent " in log.read_text(), seconds=600, what="sending")
    assert len(set(kept.uids)) == len(kept.uids) == len(sharp)
    expected = common.translate(tmp_path / "sharp", bundle="ggcl", target="B30f").image.numpy()
    values = sorted(float(image.pixel_array.mean()) for image in kept.images)
    np.testing.assert_allclose(values, sorted(expected.mean(axis=(0, 1))), atol=0.01)
    assert all("research use only" in image.SeriesDescription for image in kept.images)
    found["translation-service"] |= {"C-ECHO": "answered", "images sent": len(sharp), "images received": len(kept.uids)}


def test_the_label_server_answers_and_translates_a_volume(tmp_path: Path) -> None:
    studies = tmp_path / "data" / "studies"
    studies.mkdir(parents=True)
    nib.Nifti1Image(trunk().astype(np.int16), CT_AFFINE).to_filename(studies / "scan.nii.gz")
    started = time.monotonic()
    client = Client(f"http://127.0.0.1:{LABEL_PORT}")
    with running("translation-label", tmp_path / "data") as (process, log):
        wait_for(lambda: ended(process, log) or answers(client), seconds=900, what="the server")
        found["translation-label"]["seconds to start"] = round(time.monotonic() - started)
        models = client.call("/info/").json["models"]
        answer = client.infer("ggcl", image="scan", params={"target": "B30f", "source": "B70f"})
        assert answer.status == 200, answer.body
    (tmp_path / "answer.nii.gz").write_bytes(answer.body)
    expected = common.translate(studies / "scan.nii.gz", bundle="ggcl", target="B30f", source="B70f")
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "answer.nii.gz").dataobj), expected.image.numpy())
    found["translation-label"] |= {"models": sorted(models), "voxels as the command line's": "all"}


def ended(process: subprocess.Popen, log: Path) -> bool:
    assert process.poll() is None, log.read_text()[-4000:]
    return False


def answers(client: Any) -> bool:
    try:
        with urlopen(f"{client.address}/info/", timeout=60) as answer:
            return answer.status == 200
    except OSError:
        return False
