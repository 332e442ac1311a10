"""A volume file to a translated one, by a MONAI Label server or by the command line; standard library only."""

from __future__ import annotations

import contextlib
import email.message
import email.parser
import json
import subprocess
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

NOTICE = "SYNTHETIC, RESEARCH USE ONLY, not for diagnosis"
ANSWER_SECONDS = 3600
SUFFIXES = (".nii.gz", ".nii")


class TranslationError(RuntimeError):
    """The image or a parameter was refused, or there is no server; the message says why."""


class Translated(NamedTuple):
    """A translated volume.

    Attributes:
        path: NIfTI file.
        name: Name for a node: that of the source, `SYNTHETIC` and the target.
        warnings: What the checks doubted.
    """

    path: Path
    name: str
    warnings: list[str]


def models(address: str) -> dict[str, dict[str, Any]]:
    """Return the parameters of each model of a server, by its name; choices are lists, with the default first.

    Args:
        address: Address of the server, such as `http://127.0.0.1:8000`.

    Raises:
        TranslationError: If it does not answer.
    """
    info = json.loads(_asked(urllib.request.Request(f"{address.rstrip('/')}/info/"))[0])
    return {name: facts.get("config") or {} for name, facts in info["models"].items()}


def by_server(address: str, model: str, volume: Path, parameters: Mapping[str, Any], folder: Path) -> Translated:
    """Send a volume to a MONAI Label server.

    Args:
        address: Address of the server.
        model: Name of the bundle.
        volume: NIfTI file.
        parameters: Such as `{"target": "B70f", "source": "B30f"}`.
        folder: Folder of the result.

    Raises:
        TranslationError: If the server refuses, with its reason, or does not answer.
    """
    boundary = uuid.uuid4().hex
    head = "Content-Disposition: form-data; name="
    file = f'{head}"file"; filename="scan{_suffix(volume)}"\r\nContent-Type: application/octet-stream\r\n\r\n'
    params = f'{head}"params"\r\n\r\n{json.dumps(dict(parameters))}'
    parts = [params.encode(), file.encode() + volume.read_bytes()]
    body = b"".join(f"--{boundary}\r\n".encode() + part + b"\r\n" for part in parts) + f"--{boundary}--\r\n".encode()
    request = urllib.request.Request(
        f"{address.rstrip('/')}/infer/{model}?output=all",
        data=body,
        headers={"Content-Type": f"multipart/form-data; boundary={boundary}"},
    )
    fields = _fields(*_asked(request))
    facts = json.loads(fields["params"][1]) if "params" in fields else {}
    name, content = fields.get("image", ("", b""))
    if not content:
        raise TranslationError(f"The server's answer has no image, but {sorted(fields)}.")
    path = folder / f"translated{_suffix(Path(name))}"
    path.write_bytes(content)
    return Translated(path, _name(volume, facts.get("target")), [str(each) for each in facts.get("warnings", [])])


def by_command_line(python: str, bundle: str, volume: Path, parameters: Mapping[str, Any], folder: Path) -> Translated:
    """Run `python -m common translate` on a volume.

    Args:
        python: Python in whose environment this project is installed; not that of Slicer.
        bundle: Name or folder of the bundle, or the zip of a release.
        volume: NIfTI file.
        parameters: Ids of the bundle's `inference.yaml`, such as `{"target": "B70f"}`.
        folder: An empty folder for the result.

    Raises:
        TranslationError: If it fails, with the last line that it printed.
    """
    command = [python, "-m", "common", "translate", str(volume), "--bundle", bundle, "--output_dir", str(folder)]
    for name, value in parameters.items():
        command += [f"--{name}", value if isinstance(value, str) else json.dumps(value)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise TranslationError(f"{python!r} cannot be run: {error}.") from error
    if done.returncode != 0:
        raise TranslationError((done.stderr.strip().splitlines() or ["It failed, and said nothing."])[-1])
    (path,) = (each for each in folder.iterdir() if each.name.endswith(SUFFIXES))
    facts = json.loads(path.with_name(path.name[: -len(_suffix(path))] + ".json").read_text(encoding="utf-8"))
    checks = [*facts["guards"]["checks"], *facts["output_checks"]]
    doubts = [
        f"{each['check']}: {each.get('evidence') or each['verdict']}" for each in checks if each["verdict"] != "passed"
    ]
    return Translated(path, _name(volume, facts.get("target")), doubts)


def parameters_of(text: str) -> dict[str, Any]:
    """Read parameters that a user typed as JSON.

    Raises:
        TranslationError: If the text is not a JSON object.

    Example:
        >>> parameters_of('{"target": "B70f"}'), parameters_of(" ")
        ({'target': 'B70f'}, {})
    """
    try:
        given = json.loads(text) if text.strip() else {}
    except json.JSONDecodeError as error:
        raise TranslationError(f'The parameters must be JSON, such as {{"target": "B70f"}}: {error}.') from error
    if not isinstance(given, dict):
        raise TranslationError(f"The parameters must be a JSON object, got {text!r}.")
    return given


def _asked(request: urllib.request.Request) -> tuple[bytes, str]:
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
            return answer.read(), answer.headers.get("Content-Type", "")
    except urllib.error.HTTPError as error:
        said = error.read().decode("utf-8", "replace")
        with contextlib.suppress(ValueError, KeyError, TypeError):
            said = str(json.loads(said)["detail"])
        raise TranslationError(f"The server answered with status {error.code}: {said}") from error
    except OSError as error:
        raise TranslationError(f"The server at {request.host} does not answer: {error}.") from error


def _fields(body: bytes, kind: str) -> dict[str, tuple[str, bytes]]:
    """Return file name and content of each field of a form (RFC 7578)."""
    boundary = _header(f"Content-Type: {kind}").get_param("boundary")
    if not boundary:
        raise TranslationError(f"The server's answer must be a form, got {kind!r}.")
    fields = {}
    for part in (b"\r\n" + body).split(f"\r\n--{boundary}".encode())[1:-1]:
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        header = _header(head.decode("utf-8", "replace"))
        name = header.get_param("name", header="content-disposition")
        fields[str(name)] = (header.get_filename() or "", content)
    return fields


def _header(text: str) -> email.message.Message:
    return email.parser.Parser().parsestr(f"{text}\r\n\r\n", headersonly=True)


def _suffix(path: Path) -> str:
    return next((suffix for suffix in SUFFIXES if path.name.endswith(suffix)), ".nii.gz")


def _name(volume: Path, target: Any) -> str:
    words = target if isinstance(target, str) else json.dumps(target) if target else ""
    return f"{volume.name.split('.nii')[0]} SYNTHETIC {words}".strip()
