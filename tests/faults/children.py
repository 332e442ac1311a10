"""Processes that are killed, or meet a fault, at a chosen moment; forked from a server that has torch loaded."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.faults.tasks"])
FILE_STEPS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate")
KILLED = -signal.SIGKILL


class Outcome(NamedTuple):
    """How a process ended.

    Attributes:
        code: 0, or minus the signal that ended it.
        steps: how often it had opened a file to write, renamed or removed one in the watched folder.
        error: the type's name and the message of what it raised.
    """

    code: int
    steps: int = 0
    error: str | None = None


class Steps:
    """An audit hook that counts changes of the file system below a folder, and kills the process before one of them."""

    def __init__(self, folder: Path, kill_at: int | None) -> None:
        self.folder, self.kill_at, self.count = str(folder), kill_at, 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in FILE_STEPS or not str(arguments[0]).startswith(self.folder):
            return
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return
        self.count += 1
        if self.count == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


def run(
    task: Callable[..., None],
    *arguments: object,
    watched: Path,
    kill_at: int | None = None,
    kill_after: float | None = None,
    timeout: float = 240.0,
) -> Outcome:
    """
    Runs a function of a module in a process of its own.

    Args:
        task: what to run.
        arguments: of it.
        watched: the folder whose changes are counted.
        kill_at: `kill -9` before this change, counted from 1.
        kill_after: `kill -9` after so many seconds.
        timeout: a process that takes longer hangs, which is an error.
    """
    here, there = CONTEXT.Pipe(duplex=False)
    child = CONTEXT.Process(target=_child, args=(there, watched, kill_at, task, arguments))
    child.start()
    there.close()
    child.join(timeout if kill_after is None else kill_after)
    if child.is_alive():
        child.kill()
        child.join()
        if kill_after is None:
            raise TimeoutError(f"{task.__name__}{arguments} did not end within {timeout} s")
    code = child.exitcode
    try:
        steps, error = here.recv()
    except EOFError:
        steps, error = 0, None
    return Outcome(int(code or 0), steps, error)


def _child(
    connection: Connection, watched: Path, kill_at: int | None, task: Callable[..., None], arguments: tuple[object, ...]
) -> None:
    quiet = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(quiet, stream)
    steps = Steps(watched, kill_at)
    sys.addaudithook(steps)
    error = None
    try:
        task(*arguments)
    except Exception as raised:
        root: BaseException = raised
        while root.__cause__ is not None and type(root) is RuntimeError:  # MONAI names the transform around it
            root = root.__cause__
        error = f"{type(root).__name__}: {root}"
    connection.send((steps.count, error))
