"""Commands as users type them, each in a process of its own that starts with torch and MONAI loaded.

To import them takes seconds, more than most commands of a test. A server imports them once and forks a process for each
command: own memory, own standard streams, own exit status, but no new interpreter. Where what happens at the start of
an interpreter matters, a test starts one with `subprocess` instead.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
ONE_THREAD = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
_server: subprocess.Popen | None = None


def python_m(
    module: str,
    arguments: Sequence[object],
    *,
    cwd: Path = ROOT,
    timeout: float = 400.0,
    environment: dict[str, str] | None = None,
) -> subprocess.CompletedProcess:
    """
    Run `python -m <module> <arguments>`.

    Args:
        module: name of the module that is run as `__main__`.
        arguments: of the command line, turned into text.
        cwd: working directory, first on the module search path.
        timeout: seconds until the process is killed.
        environment: variables laid over those of this process.

    Returns:
        Exit status and what was written to the standard streams.

    Raises:
        subprocess.TimeoutExpired: when it takes longer than `timeout`.
    """
    command = [module, *map(str, arguments)]
    variables = {**os.environ, **ONE_THREAD, **(environment or {})}
    if not hasattr(os, "fork"):
        command = [sys.executable, "-m", *command]
        return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout, env=variables)
    with tempfile.TemporaryDirectory() as folder:
        streams = [str(Path(folder) / name) for name in ("out", "err")]
        server = _running_server()
        request = {"command": command, "cwd": str(cwd), "environment": variables, "streams": streams}
        _write(server, {**request, "timeout": timeout})
        status = _read(server)["status"]
        out, err = (Path(stream).read_text(errors="replace") for stream in streams)
    if status is None:
        raise subprocess.TimeoutExpired(command, timeout, out, err)
    return subprocess.CompletedProcess(command, status, out, err)


def _running_server() -> subprocess.Popen:
    global _server
    if _server is None or _server.poll() is not None:
        command = [sys.executable, str(Path(__file__).with_name("fork_server.py"))]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        _server = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **ONE_THREAD}, **pipes)
        atexit.register(_stop, _server)
    return _server


def _stop(server: subprocess.Popen) -> None:
    assert server.stdin is not None
    server.stdin.close()
    server.wait()


def _write(server: subprocess.Popen, message: dict) -> None:
    assert server.stdin is not None
    server.stdin.write(json.dumps(message) + "\n")
    server.stdin.flush()


def _read(server: subprocess.Popen) -> dict:
    assert server.stdout is not None
    line = server.stdout.readline()
    if not line:
        raise RuntimeError(f"the server of commands ended with {server.wait()}")
    return json.loads(line)
