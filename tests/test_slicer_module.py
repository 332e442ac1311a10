"""The module of 3D Slicer without Slicer: what it sends, and what it makes of the answer."""

from __future__ import annotations

import ast
import importlib.util
import json
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import ModuleType
from typing import ClassVar

import pytest

from tests.helpers.commands import ROOT
from tests.helpers.translations import save, source

MODULE = ROOT / "deploy" / "slicer" / "ImageTranslation"
ANSWER = bytes(range(256)) + b"\r\n--\r\n\r\n\n\r" * 3  # nothing in it may end the part


@pytest.fixture(scope="module")
def translation() -> ModuleType:
    path = MODULE / "ImageTranslationLib" / "translation.py"
    spec = importlib.util.spec_from_file_location("slicer_translation", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Label(BaseHTTPRequestHandler):
    """Answers as MONAI Label does, and keeps what it was sent."""

    sent: ClassVar[dict] = {}

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer(200, json.dumps({"models": {"ggcl": {"config": {"target": ["B30f"]}}}}).encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        Label.sent.update(path=self.path, kind=self.headers["Content-Type"], body=body)
        if "/infer/ggcl" not in self.path:
            self._answer(404, b'{"detail": "There is no model."}')
            return
        facts = json.dumps({"target": "B70f", "warnings": ["kernel: in doubt."]}).encode()
        parts = [(b'name="params"', facts), (b'name="image"; filename="scan_synthetic.nii.gz"', ANSWER)]
        start, end = b"--xyz\r\nContent-Disposition: form-data; ", b"\r\nContent-Type: text/plain\r\n\r\n"
        form = b"".join(start + head + end + content + b"\r\n" for head, content in parts)
        self._answer(200, form + b"--xyz--\r\n", "multipart/form-data; boundary=xyz")

    def _answer(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Label)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def test_the_server_gets_the_volume_and_gives_a_volume_with_its_warnings(translation, address, tmp_path):
    (tmp_path / "scan.nii.gz").write_bytes(ANSWER)
    assert translation.models(address) == {"ggcl": {"target": ["B30f"]}}
    made = translation.by_server(address, "ggcl", tmp_path / "scan.nii.gz", {"target": "B70f"}, tmp_path)
    assert made == (tmp_path / "translated.nii.gz", "scan SYNTHETIC B70f", ["kernel: in doubt."])
    assert made.path.read_bytes() == ANSWER
    fields = translation._fields(Label.sent["body"], Label.sent["kind"])
    assert fields == {"params": ("", b'{"target": "B70f"}'), "file": ("scan.nii.gz", ANSWER)}


def test_a_refusal_and_a_server_that_is_not_there_say_why(translation, address, tmp_path):
    (tmp_path / "scan.nii").write_bytes(b"x")
    with pytest.raises(translation.TranslationError, match=r"status 404: There is no model\."):
        translation.by_server(address, "none", tmp_path / "scan.nii", {}, tmp_path)
    with pytest.raises(translation.TranslationError, match=r"The server at 127\.0\.0\.1:1 does not answer"):
        translation.models("http://127.0.0.1:1")


@pytest.mark.parametrize("text", ["{", "[1]", "B70f"])
def test_parameters_that_are_no_object_are_refused(translation, text):
    with pytest.raises(translation.TranslationError, match="The parameters must be"):
        translation.parameters_of(text)


@pytest.mark.slow
def test_the_command_line_gives_a_volume_with_its_doubts(translation, tmp_path):
    scan = save(tmp_path / "scan.nii.gz", *source("nec_t1t2"))
    (tmp_path / "out").mkdir()
    made = translation.by_command_line(sys.executable, "nec_t1t2", scan, {"device": "cpu"}, tmp_path / "out")
    assert made.path.parent == tmp_path / "out"
    assert made.name == "scan SYNTHETIC T2"
    with pytest.raises(translation.TranslationError, match="`target` must be one of T2, got 'FLAIR'"):
        translation.by_command_line(sys.executable, "nec_t1t2", scan, {"target": "FLAIR"}, tmp_path / "out2")


def test_the_panel_calls_the_library_with_the_arguments_that_it_has(translation):
    """The panel itself needs Slicer, and was not run."""
    tree = ast.parse((MODULE / "ImageTranslation.py").read_text())
    (names,) = ([each.name for each in node.names] for node in ast.walk(tree) if _is_library(node))
    assert all(hasattr(translation, name) for name in names)
    counts = {"by_server": 5, "by_command_line": 5, "models": 1, "parameters_of": 1}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in counts:
            assert len(node.args) == counts.pop(node.func.id)
    assert counts == {}


def _is_library(node: ast.AST) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "ImageTranslationLib.translation"
