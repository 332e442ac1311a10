"""A real MONAI Label server on 127.0.0.1, and a client of its HTTP interface."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen


@dataclass(frozen=True)
class Answer:
    """Of the server: HTTP status, body, and content type."""

    status: int
    body: bytes
    kind: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Client:
    """Sends requests as browsers and `curl -F` do."""

    address: str

    def call(
        self,
        path: str,
        *,
        method: str = "GET",
        query: Mapping[str, Any] | None = None,
        fields: Mapping[str, str] | None = None,
        files: Mapping[str, Path] | None = None,
        body: Any = None,
    ) -> Answer:
        """A multipart form of fields and files, or a JSON body."""
        url = f"{self.address}{path}" + (f"?{urlencode(query)}" if query else "")
        data, kind = (json.dumps(body).encode(), "application/json") if body is not None else _form(fields, files)
        request = Request(url, data=data, method=method, headers={"Content-Type": kind})
        try:
            with urlopen(request, timeout=300) as answer:
                return Answer(answer.status, answer.read(), answer.headers.get("Content-Type", ""))
        except HTTPError as error:
            return Answer(error.code, error.read(), error.headers.get("Content-Type", ""))

    def infer(self, model: str, *, file: Path | None = None, params: Any = None, **query: Any) -> Answer:
        """`/infer/<model>`, for the image alone."""
        text = params if isinstance(params, str) else json.dumps(params or {})
        files = {"file": file} if file else None
        query = {"output": "image", **query}
        return self.call(f"/infer/{model}", method="POST", query=query, fields={"params": text}, files=files)


@contextmanager
def serving(python: Path, app: Path, studies: Path, folder: Path, **conf: str) -> Iterator[Client]:
    """`monailabel start_server --conf ...`, with the environment's own `monailabel`, until the block ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "tmp").mkdir()
    environment = {
        **os.environ,
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "TMPDIR": str(folder / "tmp"),
        "MONAI_LABEL_SESSION_PATH": str(folder / "sessions"),
    }
    command = ["monailabel", "start_server", "--app", app, "--studies", studies, "--host", "127.0.0.1", "--port", port]
    command += [part for name, value in conf.items() for part in ("--conf", name, value)]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            client = Client(f"http://127.0.0.1:{port}")
            _wait(client, process, folder / "server.log")
            yield client
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=30)


def _wait(client: Client, process: subprocess.Popen, log: Path, seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the server ended at its start:\n{log.read_text()[-4000:]}"
        try:
            if client.call("/info/").status == 200:
                return
        except URLError:
            time.sleep(0.5)
    raise TimeoutError(f"the server did not start within {seconds} s:\n{log.read_text()[-4000:]}")


def _form(fields: Mapping[str, str] | None, files: Mapping[str, Path] | None) -> tuple[bytes | None, str]:
    """RFC 7578."""
    if not fields and not files:
        return None, "application/octet-stream"
    boundary = uuid.uuid4().hex
    parts = []
    for name, text in (fields or {}).items():
        parts.append(f'Content-Disposition: form-data; name="{name}"\r\n\r\n{text}'.encode())
    for name, file in (files or {}).items():
        head = f'Content-Disposition: form-data; name="{name}"; filename="{file.name}"\r\n'
        parts.append(f"{head}Content-Type: application/octet-stream\r\n\r\n".encode() + file.read_bytes())
    framed = b"".join(f"--{boundary}\r\n".encode() + part + b"\r\n" for part in parts)
    return framed + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"
