"""A small model hub on 127.0.0.1: the part of the Hugging Face protocol that pushing and downloading a bundle needs.

Commits hold whole snapshots in memory; branches and tags point to them. Files come inside the commit (upload mode
"regular"); large-file storage is not there.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlparse

TOKEN = "local"
Files = dict[str, bytes]


@dataclass
class Repository:
    """Snapshots by commit; the commit of each branch and tag."""

    commits: dict[str, Files] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def commit(self, files: Files) -> str:
        digest = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        self.commits[digest] = files
        self.branches["main"] = digest
        return digest

    def resolve(self, revision: str) -> str | None:
        """The commit that a branch, a tag or a commit's own name means."""
        known = {**self.branches, **self.tags, **{digest: digest for digest in self.commits}}
        return known.get(revision)


@dataclass
class Hub:
    """The running server's address, and what has been pushed to it."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)


@contextmanager
def local_hub() -> Iterator[Hub]:
    """Runs until the block ends."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class Handler(BaseHTTPRequestHandler):
    """One request."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = self.parts()
        api = parts[:2] == ["api", "models"]
        owner_and_name, rest = (parts[2:4], parts[4:]) if api else (parts[:2], parts[2:])
        repository = self.hub.repositories.get("/".join(owner_and_name))
        if repository is None:
            return self.answer(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        if api and rest == ["refs"]:
            return self.answer(200, references(repository))
        revision = rest[1] if len(rest) > 1 else "main"
        digest = repository.resolve(revision)
        if digest is None:
            return self.answer(404, {"error": f"Invalid rev id: {revision}"}, {"X-Error-Code": "RevisionNotFound"})
        files = repository.commits[digest]
        if api and rest[:1] == ["tree"]:
            return self.answer(200, [entry(path, data) for path, data in sorted(files.items())])
        if api:
            return self.answer(200, description("/".join(owner_and_name), digest, files))
        return self.file(files.get("/".join(rest[2:])), digest)

    def do_POST(self) -> None:
        body, parts = self.body(), self.parts()
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer(401, {"error": "Invalid username or password."})
        if parts == ["api", "repos", "create"]:
            asked = json.loads(body)
            name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            self.hub.repositories.setdefault(name, Repository()).branches.setdefault("main", "")
            return self.answer(200, {"url": f"{self.hub.url}/{name}", "id": "1", "name": name})
        if parts == ["api", "validate-yaml"]:
            return self.answer(200, {"errors": [], "warnings": []})
        repository, verb = self.hub.repositories["/".join(parts[2:4])], parts[4]
        if verb == "preupload":
            modes = [{**path, "uploadMode": "regular", "shouldIgnore": False} for path in json.loads(body)["files"]]
            return self.answer(200, {"files": modes})
        if verb == "tag":
            repository.tags[json.loads(body)["tag"]] = repository.branches[parts[5]]
            return self.answer(200, {})
        digest = repository.commit({**repository.commits.get(repository.branches["main"], {}), **pushed(body)})
        address = f"{self.hub.url}/{'/'.join(parts[2:4])}/commit/{digest}"
        return self.answer(200, {"success": True, "commitUrl": address, "commitOid": digest, "hookOutput": ""})

    def parts(self) -> list[str]:
        return [unquote(part) for part in urlparse(self.path).path.strip("/").split("/")]

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def file(self, data: bytes | None, digest: str) -> None:
        if data is None:
            return self.answer(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
        headers = {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": digest}
        return self.send(200, data, "application/octet-stream", headers)

    def answer(self, status: int, document: Any, headers: dict[str, str] | None = None) -> None:
        self.send(status, json.dumps(document).encode(), "application/json", headers or {})

    def send(self, status: int, data: bytes, kind: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Type": kind, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def pushed(body: bytes) -> Files:
    """The files of a commit, whose body is one JSON object a line."""
    lines = [json.loads(line) for line in body.decode().splitlines()]
    files = [line["value"] for line in lines if line["key"] == "file"]
    return {file["path"]: base64.b64decode(file["content"]) for file in files}


def references(repository: Repository) -> dict[str, Any]:
    def listed(kind: str, names: dict[str, str]) -> list[dict[str, str]]:
        return [{"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": digest} for name, digest in names.items()]

    return {"branches": listed("heads", repository.branches), "tags": listed("tags", repository.tags), "converts": []}


def entry(path: str, data: bytes) -> dict[str, Any]:
    return {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}


def description(name: str, digest: str, files: Files) -> dict[str, Any]:
    siblings = [{"rfilename": path} for path in sorted(files)]
    return {"_id": "1", "id": name, "modelId": name, "sha": digest, "siblings": siblings, "tags": [], "private": False}
