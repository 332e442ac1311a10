"""The server of `commands.py`: imports what every command imports, then forks one process for each command it reads.

A line of JSON on the standard input is a request, a line on the standard output is the answer. The forked process
leaves the loop and runs the module at the top level of this file, so that it ends as a command does: `sys.excepthook`,
exit status, functions registered with `atexit`.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import sys
import time
import warnings

LIBRARIES = ("torch", "monai.bundle", "monai.apps", "monai.engines", "monai.handlers", "ignite.engine")
WAIT_S = 0.02  # between two looks at a running process


def load() -> None:
    """Import MONAI, ignite and all of `common` that loads here."""
    for name in LIBRARIES:
        importlib.import_module(name)
    import common

    for module in pkgutil.walk_packages(common.__path__, "common."):
        if "deploy" not in module.name and not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def serve() -> list[str]:
    """Answer requests; returns only in a forked process, with the command that it has to run."""
    for line in iter(sys.stdin.readline, ""):
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            return become(request)
        print(json.dumps({"status": status_of(pid, request["timeout"])}), flush=True)
    sys.exit()


def status_of(pid: int, timeout: float) -> int | None:
    """Exit status of a process, minus the signal that ended it; None when it was killed for taking too long."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(WAIT_S)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def become(request: dict) -> list[str]:
    """Take over the streams, the place and the environment of a command."""
    null = os.open(os.devnull, os.O_RDONLY)
    files = [os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) for path in request["streams"]]
    for number, file in enumerate([null, *files]):
        os.dup2(file, number)
        os.close(file)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[0] = request["cwd"]
    warnings.resetwarnings()
    return request["command"]


if __name__ == "__main__":
    sys.path[0] = os.getcwd()  # the repository's root; a script's own folder stands here
    load()
    gc.freeze()  # what is loaded stays shared with the forked processes
    command = serve()
    sys.argv = command
    runpy.run_module(command[0], run_name="__main__", alter_sys=True)
