"""Checks of each request before MONAI Label sees it: names that become paths, endpoints that are closed, and sizes.

MONAI Label joins what a client sends, such as a label's tag, to the paths of files. Every such name is checked here by
one rule, `safe_component`, whatever the endpoint. `Gate` wraps the server (ASGI) and sees the address and the size of
a request; the content of forms and of JSON bodies is checked by `check_fields`, `check_file_name` and
`check_parameters`, which the app calls when the server has parsed them.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, MutableMapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from ...files import safe_component, shown
from .limits import DEFAULT, Limits, read_mapping

NAMES = ("tag", "label_tag", "session_id", "model", "strategy", "method")  # each becomes a path or selects a task
IMAGES = ("image", "id", "label")  # ids of images; a label has its image's id
TEXTS = ("params", "info", "wsi")  # fields of forms that hold JSON
OPEN_PATHS = ("static", "ohif", "proxy")  # their addresses are paths: of web pages, and of the DICOMweb server
GPUS = re.compile(r"all|\d{1,3}(,\d{1,3}){0,63}")
UPLOAD = re.compile(r"tmp\w{8}(\.|$)")  # `tempfile`'s names
WRITING = ("POST", "PUT", "PATCH", "DELETE")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_logger = logging.getLogger(__name__)
_left: ContextVar[list[Path] | None] = ContextVar("left", default=None)


class RefusedError(ValueError):
    """A request that is not passed on; `status` is that of the answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Gate:
    """ASGI middleware that refuses requests by their address and size, and removes what they leave behind.

    Args:
        app: The server.
        limits: What a request may cost.
        known: Returns the ids of the datastore's images, which are names already, of files that exist.
        remote: Whether the studies are on a DICOMweb server, to which the server passes requests on.
    """

    def __init__(
        self,
        app: Callable[[Scope, Receive, Send], Awaitable[None]],
        limits: Limits = DEFAULT,
        known: Callable[[], Collection[str]] = list,
        remote: bool = False,
    ) -> None:
        self.app, self.limits, self.known, self.remote = app, limits, known, remote

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            self._check_address(scope)
            most = self._largest_body(scope)
        except ValueError as error:
            await _answer(send, error)
            return
        body = _Body(receive, send, most)
        token = _left.set([])
        try:
            await self.app(scope, body.receive, body.send)
        except Exception:
            if not body.exceeded:
                raise
        finally:
            _remove(_left.get() or [])
            _left.reset(token)
        if body.exceeded and not body.started:
            await _answer(send, _too_large(most))

    def _check_address(self, scope: Scope) -> None:
        check_endpoint(scope["method"], scope["path"], remote=self.remote)
        query = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
        opens = scope["path"].strip("/").split("/")[0] in OPEN_PATHS
        check_fields([] if opens else query, self.known, self.limits)

    def _largest_body(self, scope: Scope) -> int:
        headers = {name.lower(): value for name, value in scope.get("headers", ())}
        kind = headers.get(b"content-type", b"").lower()
        most = self.limits.upload_bytes if kind.startswith(b"multipart/") else self.limits.params_bytes
        declared = headers.get(b"content-length", b"0")
        if not declared.isdigit() or len(declared) > 20:
            raise RefusedError(400, "`Content-Length` must be a number of bytes.")
        if int(declared) > most:
            raise _too_large(most)
        return most


class _Body:
    """The body of a request on its way to the server, which ends at the limit."""

    def __init__(self, receive: Receive, send: Send, most: int) -> None:
        self._receive, self._send, self.left = receive, send, most
        self.exceeded = self.started = False

    async def receive(self) -> MutableMapping[str, Any]:
        message = await self._receive()
        self.left -= len(message.get("body", b""))
        if self.left < 0:
            self.exceeded = True
            raise RefusedError(413, "The request is too large.")
        return message

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if not self.exceeded or self.started:  # otherwise the server's answer to the error above; ours says more
            self.started = True
            await self._send(message)


def check_endpoint(method: str, path: str, *, remote: bool = False) -> None:
    """Check the path of a request: each part by the rule of names, and that the endpoint is open.

    Closed are those that replace or delete a bundle's weights, run whole-slide inference, which opens any file of the
    server, reload the app, or pass requests on to an address.

    Args:
        method: HTTP method.
        path: Path of the address, decoded.
        remote: Whether the studies are on a DICOMweb server.

    Raises:
        ValueError: If a part of the path is not a plain name.
        RefusedError: If the endpoint is closed (status 403).

    Example:
        >>> check_endpoint("POST", "/infer/ggcl")
        >>> check_endpoint("PUT", "/model/ggcl")
        Traceback (most recent call last):
        common.deploy.monailabel.gate.RefusedError: PUT /model is closed: ...
    """
    parts = [part for part in path.split("/") if part]
    for part in parts:
        if parts[0] not in OPEN_PATHS:
            safe_component(part, "path")
        elif part in (".", "..") or not part.isprintable() or "\\" in part:
            raise ValueError(f"`path` must have plain parts, got {shown(part)}.")
    first = parts[0] if parts else ""
    why = {
        ("model", "PUT"): "weights are trained on the server or copied by its administrator",
        ("model", "DELETE"): "weights are removed by the server's administrator",
        ("reload", "POST"): "restart the server instead",
    }.get((first, method))
    if first == "infer" and parts[1:2] in (["wsi"], ["wsi_v2"]):
        why = "there are no whole-slide images here"
    if first == "proxy" and not remote:
        why = "the studies are a folder, not a DICOMweb server"
    if why:
        raise RefusedError(403, f"{method} /{first} is closed: {why}.")


def check_fields(
    fields: Iterable[tuple[str, Any]], known: Callable[[], Collection[str]] = list, limits: Limits = DEFAULT
) -> None:
    """Check the fields of a query or a form.

    Args:
        fields: Names and values.
        known: Returns the ids of the datastore's images.
        limits: Limits on fields that hold JSON.

    Raises:
        ValueError: If a field that becomes a path is not a plain name, or JSON is beyond a limit.

    Example:
        >>> check_fields([("image", "p001_T1"), ("tag", "final"), ("output", "image")])
        >>> check_fields([("image", "p001_T1"), ("tag", "../../bundles/ggcl/configs")])
        Traceback (most recent call last):
        ValueError: `tag` must be one name of 1 to 128 letters, digits, ...
    """
    for name, value in fields:
        if name in TEXTS:
            content = read_mapping(name, value, limits)
            check_parameters({} if name == "info" else content, known)  # an info is kept, and nothing else
        elif value:
            _check_name(name, value, known)


def check_parameters(parameters: Mapping[str, Any], known: Callable[[], Collection[str]] = list) -> None:
    """Check the parameters of a request, which MONAI Label lets replace those of the address.

    `bundle_path` would become a folder from which the process of a training imports Python modules.

    Raises:
        ValueError: If a name among them is not plain, or one of them is not for clients.

    Example:
        >>> check_parameters({"target": "B70f", "save_label": True, "label_tag": "original"})
        >>> check_parameters({"bundle_path": "/tmp/mine"})
        Traceback (most recent call last):
        ValueError: `bundle_path` is not a parameter of requests: leave it out.
    """
    for name, value in parameters.items():
        if name == "bundle_path":
            raise ValueError("`bundle_path` is not a parameter of requests: leave it out.")
        if name == "gpus" and value and not (isinstance(value, str) and GPUS.fullmatch(value)):
            raise ValueError(f"`gpus` must be 'all' or numbers separated by commas, got {shown(value)}.")
        if name == "images" and isinstance(value, list):
            for image in value:
                check_image(image, known)
        elif value:
            _check_name(name, value, known)
        if isinstance(value, dict):  # the parameters of one model
            check_parameters(value, known)


def check_file_name(name: str) -> str:
    """Return the name of an uploaded file if it is a plain one.

    Raises:
        ValueError: If it is not.
    """
    try:
        return safe_component(name, "filename")
    except ValueError as error:
        raise ValueError(f"{error} Rename the file, or give another name with it: `;filename=scan.nii.gz`.") from None


def check_image(image: Any, known: Callable[[], Collection[str]] = list, what: str = "image") -> str:
    """Return the id of an image: one of the datastore, or plain names separated by slashes.

    An id of the datastore is the path of an existing file below the studies, which may have any characters.

    Args:
        image: The id.
        known: Returns the ids of the datastore's images.
        what: Name of the parameter, for the error.

    Raises:
        ValueError: If it is neither.

    Example:
        >>> check_image("p001/ct")
        'p001/ct'
        >>> check_image("M\u00fcller 1", lambda: ["M\u00fcller 1"])
        'M\u00fcller 1'
    """
    if isinstance(image, str) and len(image) <= 1024:
        try:
            for part in image.split("/"):
                safe_component(part, what)
        except ValueError:
            if image in known():
                return image
            raise
        return image
    raise ValueError(f"`{what}` must be the id of an image, of at most 1024 characters, got {shown(image)}.")


def leave(path: str | Path | None) -> None:
    """Have a temporary file or folder of this request removed when the request has been answered.

    MONAI Label removes most of them itself, but not after an error. Anything that is not directly in the folder for
    temporary files stays.
    """
    left = _left.get()
    if left is not None and path is not None:
        left.append(Path(path))


def is_upload(path: Path) -> bool:
    """Return whether a path is one that MONAI Label chooses for an upload."""
    return path.parent == Path(tempfile.gettempdir()) and UPLOAD.match(path.name) is not None


def require_apart(code: Iterable[str | Path], written: Iterable[str | Path]) -> None:
    """Check that no code lies in a folder into which clients write, nor such a folder in one of code.

    Args:
        code: Files and folders of code: the app's `main.py` and the bundles.
        written: Folders of the studies and of the sessions.

    Raises:
        ValueError: If two of them overlap.
    """
    for folder in (Path(path).resolve() for path in written):
        for other in (Path(path).resolve() for path in code):
            if folder == other or folder in other.parents or other in folder.parents:
                raise ValueError(
                    f"The server writes uploads below {str(folder)!r}, which must be apart from its code in"
                    f" {str(other)!r}: move one of them."
                )


def _check_name(name: str, value: Any, known: Callable[[], Collection[str]]) -> None:
    if name in NAMES:
        safe_component(value, name)
    elif name in IMAGES:
        check_image(value, known, name)


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.parent != Path(tempfile.gettempdir()):
            continue
        try:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
        except OSError as error:
            _logger.warning("A temporary file is left, %s: %s", path, error)


def _too_large(most: int) -> RefusedError:
    return RefusedError(413, f"The request must have at most {most / 1e9:.3g} GB ({most} bytes); send less.")


async def _answer(send: Send, error: ValueError) -> None:
    """Answer as FastAPI does."""
    body = json.dumps({"detail": str(error)}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": getattr(error, "status", 400), "headers": headers})
    await send({"type": "http.response.body", "body": body})
