"""A real archive, Orthanc with DICOMweb, on ports of its own."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import urllib.request
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.pacs import wait_for

PROGRAM = Path("/usr/sbin/Orthanc")
PLUGINS = [Path(f"/usr/share/orthanc/plugins/libOrthanc{name}.so") for name in ("DicomWeb", "WebViewer")]
PAGE = Path(__file__).parents[2] / "docs" / "pacs.md"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Orthanc:
    """An archive that sends each stable series to the service, if there is one, by the script of docs/pacs.md.

    Args:
        folder: of its files.
        service: port of the service.
    """

    def __init__(self, folder: Path, service: int | None = None) -> None:
        if not all(path.is_file() for path in (PROGRAM, *PLUGINS)):
            pytest.fail("Orthanc is not there: run `make test-interop`, or `bash environments/pacs.sh .venvs/pacs`")
        self.folder, self.dicom, self.http = folder, free_port(), free_port()
        folder.mkdir()
        (folder / "route.lua").write_text(PAGE.read_text().split("```lua\n")[1].split("```")[0])
        settings = {
            **json.loads("{" + PAGE.read_text().split("```json\n")[1].split("```")[0] + "}"),
            "StorageDirectory": "db",
            "IndexDirectory": "db",
            "DicomPort": self.dicom,
            "HttpPort": self.http,
            "RemoteAccessAllowed": False,
            "Plugins": [str(path) for path in PLUGINS],
            "StableAge": 1,
            "SaveJobs": True,
        }
        if service is None:
            settings["LuaScripts"] = []
        else:
            settings["DicomModalities"]["translation"][2] = service
        (folder / "orthanc.json").write_text(json.dumps(settings))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "log.txt").open("ab") as log:
            self.process = subprocess.Popen([PROGRAM, "orthanc.json"], cwd=self.folder, stdout=log, stderr=log)
        wait_for(self.answers, what="Orthanc")

    def kill(self) -> None:
        """As by `kill -9`."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def answers(self) -> bool:
        try:
            return bool(self.get("system"))
        except OSError:
            return False

    def bytes(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/{path}", timeout=30) as answer:
            return answer.read()

    def get(self, path: str) -> Any:
        return json.loads(self.bytes(path))

    def series(self) -> dict[str, dict[str, Any]]:
        """What is known of each series, by its SeriesInstanceUID."""
        return {each["MainDicomTags"]["SeriesInstanceUID"]: each for each in self.get("series?expand")}

    def images(self, series: dict[str, Any], folder: Path) -> list[Path]:
        """The files of a series."""
        folder.mkdir(parents=True)
        for number, instance in enumerate(series["Instances"]):
            (folder / f"{number:04d}.dcm").write_bytes(self.bytes(f"instances/{instance}/file"))
        return sorted(folder.iterdir())

    def viewed(self, series: dict[str, Any]) -> list[tuple[str, np.ndarray]]:
        """What Orthanc's web viewer hands to the browser: each slice's instance, in its order, and stored values."""
        slices = self.get(f"web-viewer/series/{series['ID']}")["Slices"]
        shown = []
        for name in slices:
            answer = self.get(f"web-viewer/instances/deflate-{name}")
            values = np.frombuffer(zlib.decompress(base64.b64decode(answer["Orthanc"]["PixelData"])), np.int16)
            shown.append((name.rsplit("_", 1)[0], values.reshape(answer["rows"], answer["columns"])))
        return shown

    def page(self, series: dict[str, Any]) -> str:
        """Address of a series in Orthanc's web viewer."""
        return f"http://127.0.0.1:{self.http}/web-viewer/app/viewer.html?series={series['ID']}"

    @property
    def dicomweb(self) -> str:
        return f"http://127.0.0.1:{self.http}/dicom-web"
