"""Each endpoint of MONAI Label 0.8.5 with each trick that makes a name into another path, and the size of a request."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, unquote, urlencode

import pytest

from common.deploy.monailabel.gate import (
    Gate,
    RefusedError,
    check_endpoint,
    check_fields,
    check_file_name,
    check_image,
    check_parameters,
    is_upload,
    leave,
    require_apart,
)
from common.deploy.monailabel.limits import Limits

TRICKS = {
    "parent": "..",
    "up": "../../../app/bundles/ggcl/configs",
    "absolute": "/etc/passwd",
    "backslashes": "..\\..\\main.py",
    "drive": "C:/main.py",
    "NUL": "a\0.nii.gz",
    "URL-encoded": "%2e%2e%2f%2e%2e%2fmain.py",
    "URL-encoded twice": "%252e%252e%252fmain.py",
    "long": "a" * 300,
    "hidden": ".ssh",
    "up within": "a/../../main.py",
    "doubled": "a//b",
    "not UTF-8": "\udcff",
}
QUERIES = {  # the parameters that each endpoint makes into paths
    ("PUT", "/datastore/"): ("image",),
    ("DELETE", "/datastore/"): ("id",),
    ("PUT", "/datastore/image"): ("image",),
    ("DELETE", "/datastore/image"): ("id",),
    ("HEAD", "/datastore/image"): ("image",),
    ("GET", "/datastore/image"): ("image",),
    ("GET", "/datastore/image/info"): ("image",),
    ("PUT", "/datastore/image/info"): ("image",),
    ("PUT", "/datastore/label"): ("image", "tag"),
    ("DELETE", "/datastore/label"): ("id", "tag"),
    ("HEAD", "/datastore/label"): ("image", "tag"),
    ("GET", "/datastore/label"): ("label", "tag"),
    ("GET", "/datastore/label/info"): ("label", "tag"),
    ("PUT", "/datastore/label/info"): ("label", "tag"),
    ("PUT", "/datastore/updatelabelinfo"): ("label", "tag"),
    ("POST", "/infer/ggcl"): ("image", "session_id"),
    ("POST", "/batch/infer/ggcl"): (),
    ("POST", "/train/ggcl"): (),
    ("POST", "/train/"): (),
    ("POST", "/scoring/dice"): (),
    ("POST", "/activelearning/random"): (),
    ("GET", "/session/1b4e28ba-2fa1-11d2-883f-0016d3cca427"): (),
    ("PUT", "/session/"): (),
    ("GET", "/model/ggcl"): (),
    ("GET", "/model/info/ggcl"): (),
    ("GET", "/logs/"): (),
    ("GET", "/info/"): (),
    ("GET", "/ohif/index.html"): (),
    ("GET", "/"): (),
    ("GET", "/static/favicon.ico"): (),
}
FOLDERS = ("infer", "batch/infer", "train", "scoring", "activelearning", "session", "model", "model/info")
IN_ADDRESSES = [trick for trick in TRICKS if trick not in ("absolute", "doubled")]  # those are plain parts there


def ask(
    gate: Gate,
    method: str,
    path: str,
    query: str = "",
    *,
    headers: dict[str, str] | None = None,
    body: Sequence[bytes] = (),
) -> tuple[int, Any]:
    """Status and JSON of an answer; the path as a server hands it over, decoded once."""
    sent: list[dict[str, Any]] = []
    blocks = [{"type": "http.request", "body": block, "more_body": True} for block in body]
    messages = iter([*blocks, {"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> dict[str, Any]:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": unquote(path, errors="surrogateescape"),
        "query_string": query.encode("latin-1"),
        "headers": [(name.encode(), value.encode()) for name, value in (headers or {}).items()],
    }
    asyncio.run(gate(scope, receive, send))
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    return sent[0]["status"], json.loads(sent[1]["body"])


class Server:
    """Reads the body and answers 200; counts its requests."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.read = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.requests.append(scope["path"])
        more = True
        while more:
            message = await receive()
            self.read += len(message["body"])
            more = message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"null"})


@pytest.fixture
def server() -> Server:
    return Server()


def address(trick: str) -> str:
    return quote(TRICKS[trick].encode("utf-8", "surrogateescape"), safe="%" if trick.startswith("URL") else "")


@pytest.mark.parametrize("trick", TRICKS)
@pytest.mark.parametrize("endpoint", [found for found in QUERIES if QUERIES[found]], ids=" ".join)
def test_a_trick_in_a_query_does_not_reach_the_server(server, endpoint, trick):
    method, path = endpoint
    for changed in QUERIES[endpoint]:
        names = {name: "a" for name in QUERIES[endpoint] if name != changed}
        status, answer = ask(Gate(server), method, path, f"{urlencode(names)}&{changed}={address(trick)}")
        assert (status, f"`{changed}` must be" in answer["detail"]) == (400, True)
    assert server.requests == []


@pytest.mark.parametrize("trick", IN_ADDRESSES)
@pytest.mark.parametrize("folder", FOLDERS)
def test_a_trick_in_an_address_does_not_reach_the_server(server, folder, trick):
    status, answer = ask(Gate(server), "GET", f"/{folder}/{address(trick)}")
    assert (status, "`path` must be" in answer["detail"]) == (400, True)
    assert server.requests == []


@pytest.mark.parametrize("path", ["/ohif/..", "/ohif/a/../b", "/static/%2e%2e/x", "/ohif/a%5cb", "/ohif/a%00b"])
def test_web_pages_are_not_left(server, path):
    assert ask(Gate(server), "GET", path)[0] == 400
    assert server.requests == []


def test_honest_requests_reach_every_open_endpoint(server):
    for (method, path), names in QUERIES.items():
        assert ask(Gate(server), method, path, urlencode(dict.fromkeys(names, "patients/p001_T1.b")))[0] == (
            400 if set(names) & {"tag", "session_id"} else 200
        )
        assert ask(Gate(server), method, path, urlencode(dict.fromkeys(names, "p001_T1.b-2")))[0] == 200
    assert server.requests[-1] == "/static/favicon.ico"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/model/ggcl"),
        ("DELETE", "/model/ggcl"),
        ("POST", "/reload"),
        ("POST", "/infer/wsi/ggcl"),
        ("POST", "/infer/wsi_v2/ggcl"),
        ("GET", "/proxy/dicom/wado/studies"),
    ],
)
def test_endpoints_that_write_code_or_open_any_file_are_closed(server, method, path):
    status, answer = ask(Gate(server), method, path)
    assert (status, "is closed" in answer["detail"], server.requests) == (403, True, [])


def test_the_dicomweb_server_of_remote_studies_is_reached():
    check_endpoint("GET", "/proxy/dicom/wado/studies/1.2.3", remote=True)
    with pytest.raises(ValueError, match="`path` must have plain parts"):
        check_endpoint("GET", "/proxy/dicom/../admin", remote=True)
    with pytest.raises(RefusedError):
        check_endpoint("GET", "/proxy/dicom/wado/studies/1.2.3")


@pytest.mark.parametrize("trick", TRICKS)
@pytest.mark.parametrize("name", ["tag", "label_tag", "session_id", "model", "image", "label"])
def test_a_trick_in_a_form_or_its_parameters_is_refused(name, trick):
    """MONAI Label lets `params` replace what the address says."""
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        check_fields([(name, TRICKS[trick])])
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        check_fields([("params", json.dumps({name: TRICKS[trick]}))])
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        check_parameters({"ggcl": {name: TRICKS[trick]}})  # of one model, in a training of all


@pytest.mark.parametrize("trick", TRICKS)
def test_a_trick_in_the_name_of_a_file_is_refused_with_the_cure(trick):
    with pytest.raises(ValueError, match=r"`filename` must be one name .* Rename the file"):
        check_file_name(TRICKS[trick])
    assert check_file_name("1.2.840.113619-7.dcm") == "1.2.840.113619-7.dcm"


@pytest.mark.parametrize("value", [["a"], {"a": 1}, 3, True])
def test_what_is_no_text_is_no_name(value):
    for name in ("label_tag", "image", "model"):
        with pytest.raises(ValueError, match=f"`{name}` must be"):
            check_parameters({name: value})


def test_python_modules_and_devices_of_a_clients_choice_are_refused():
    """MONAI Label puts `bundle_path` on the search path of modules, and `gpus` into the environment."""
    with pytest.raises(ValueError, match="`bundle_path` is not a parameter"):
        check_parameters({"bundle_path": "/tmp/mine"})
    with pytest.raises(ValueError, match="`bundle_path` is not a parameter"):
        check_parameters({"ggcl": {"bundle_path": ""}})
    check_parameters({"gpus": "all"})
    check_parameters({"gpus": "0,1"})
    for value in ("a", "0\0", [0], "0;1"):
        with pytest.raises(ValueError, match="`gpus` must be"):
            check_parameters({"gpus": value})


def test_an_image_of_the_datastore_may_have_any_name_and_a_new_one_a_plain_one():
    known = ["Patient M\u00fcller (1)/CT 3", ".hidden"]
    for image in [*known, "p001/ct.2"]:
        assert check_image(image, lambda: known) == image
        check_fields([("image", image)], lambda: known)
        check_parameters({"images": [image]}, lambda: known)
    for image in ["Patient M\u00fcller (2)", "", "a/", "/a", "a/.b", "a" * 2000, None]:
        with pytest.raises(ValueError, match="`image` must be"):
            check_image(image, lambda: known)


def test_what_a_client_keeps_with_an_image_is_its_own():
    check_fields([("info", json.dumps({"strategy": {"random": {"ts": 1}}, "id": "no/../path"}))])


FORM = {"content-type": "multipart/form-data; boundary=x"}


def test_a_body_beyond_the_limit_is_not_read(server):
    """Whether its length is declared or not; a form may be larger than other bodies."""
    gate = Gate(server, Limits(max_upload_gb=5e-6, max_params_kb=1))
    assert ask(gate, "PUT", "/session/", headers=FORM, body=[bytes(5000)])[0] == 200
    assert ask(gate, "POST", "/train/ggcl", body=[bytes(1000)])[0] == 200
    server.requests, server.read = [], 0
    status, answer = ask(gate, "PUT", "/session/", headers={**FORM, "content-length": "5001"})
    assert (status, "at most 5e-06 GB (5000 bytes)" in answer["detail"]) == (413, True)
    assert server.requests == []
    assert ask(gate, "PUT", "/session/", headers=FORM, body=[bytes(1000)] * 1000)[0] == 413
    assert ask(gate, "POST", "/train/ggcl", body=[bytes(500)] * 3)[0] == 413
    assert server.read == 5000 + 1000
    for length in ("-1", "1e3", "9" * 30, ""):
        assert ask(gate, "PUT", "/session/", headers={"content-length": length})[0] == 400


def test_what_a_request_leaves_is_removed_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp" / "tmpabcd1234").mkdir(parents=True)
    kept = [tmp_path / "scan.nii", tmp_path / "tmp" / "other", tmp_path / "tmp" / "tmpabcd1234" / "a"]
    left = [tmp_path / "tmp" / "tmpabcd5678.nii.gz", tmp_path / "tmp" / "scan_synthetic_T2_x.nii"]
    for path in [*kept, *left]:
        path.touch()

    async def fails(scope: Any, receive: Any, send: Any) -> None:
        for path in [*left, tmp_path / "scan.nii", tmp_path / "tmp", tmp_path / "tmp" / "absent"]:
            leave(path)
        raise RuntimeError("of the server")

    with pytest.raises(RuntimeError, match="of the server"):
        ask(Gate(fails), "POST", "/infer/ggcl")
    assert [path.exists() for path in [*kept, *left]] == [True] * 3 + [False] * 2
    leave(kept[1])  # outside of a request
    assert is_upload(left[0])
    assert not is_upload(kept[0])
    assert not is_upload(tmp_path / "tmp" / "tmpabcd1234" / ".." / ".." / "scan.nii")


def test_code_lies_apart_from_what_clients_write(tmp_path):
    code = [tmp_path / "app" / "main.py", tmp_path / "app" / "bundles"]
    require_apart(code, [tmp_path / "studies", tmp_path / "app" / "images"])
    (tmp_path / "link").symlink_to(tmp_path)
    for written in (tmp_path, tmp_path / "app", tmp_path / "app" / "bundles", code[1] / "ggcl", tmp_path / "link"):
        with pytest.raises(ValueError, match="which must be apart from its code"):
            require_apart(code, [written])
