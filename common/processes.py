"""Child processes whose end is the parent's end: programs that are run, and pools of workers."""

from __future__ import annotations

import ctypes
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

POLL = 0.2  # s between two checks of a child and of the signals received
GRACE = 5.0  # s that a child has to end before it is killed
PR_SET_PDEATHSIG = 1  # of Linux's sys/prctl.h
STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name))


def run_child(
    command: Sequence[str],
    *,
    log: str | Path | None = None,
    environment: Mapping[str, str] | None = None,
    folder: str | Path | None = None,
    limit_s: float | None = None,
) -> int:
    """Run a program to its end; it, and whatever it starts, ends when this process ends.

    The child has a process group of its own. A signal that asks this process to stop (SIGINT, SIGTERM, SIGHUP) is
    passed on to the child and its descendants; those that are still there after `GRACE` seconds are killed; then the
    signal takes its course here. The same happens on an exception. When this process is killed outright, Linux kills
    the child; on other systems it runs on.

    In a thread, where Python does not deliver signals, the child ends when the main thread has ended.

    Args:
        command: The program and its arguments.
        log: File for what it prints; None: it prints where this process does.
        environment: Variables of the child; None: those of this process.
        folder: Working directory of the child; None: that of this process.
        limit_s: Seconds after which the child is ended; None: no limit.

    Returns:
        The child's exit code, or minus the signal that ended it.

    Raises:
        TimeoutError: If the child was ended after `limit_s`.

    Example:
        >>> run_child([sys.executable, "-c", "raise SystemExit(3)"])
        3
    """
    if log is None:
        return _run(command, limit_s, env=environment, cwd=folder)
    with Path(log).open("wb") as file:
        return _run(command, limit_s, env=environment, cwd=folder, stdout=file, stderr=subprocess.STDOUT)


def _run(command: Sequence[str], limit_s: float | None, **options: Any) -> int:
    with _received_signals() as received:
        process = subprocess.Popen([*command], **options, **_own_group())
        end = math.inf if limit_s is None else time.monotonic() + limit_s
        try:
            while True:
                with suppress(subprocess.TimeoutExpired):
                    return process.wait(POLL)
                if received or not threading.main_thread().is_alive():
                    end_tree(process, received[0] if received else signal.SIGTERM)
                elif time.monotonic() > end:
                    raise TimeoutError(f"{command[0]!r} was ended after {limit_s:g} s.")
        finally:
            if process.poll() is None:
                end_tree(process)


def end_tree(process: subprocess.Popen[Any], signum: int = signal.SIGTERM, *, grace: float = GRACE) -> None:
    """End a child and its descendants: by a signal, and after some time by force.

    Args:
        process: Child with a process group of its own.
        signum: Sent first; Windows knows no signals between processes and ends them at once.
        grace: Seconds until those that are left are killed.
    """
    tree = _tree(process.pid)
    for each in tree:
        with suppress(psutil.Error):
            each.send_signal(signum) if os.name == "posix" else each.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(grace)
    _, alive = psutil.wait_procs([each for each in tree if each.pid != process.pid], timeout=grace)
    for each in {*alive, *_tree(process.pid)}:  # with what was started meanwhile
        with suppress(psutil.Error):
            each.kill()
    if hasattr(os, "killpg"):  # and what lost its parent before
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    psutil.wait_procs(alive, timeout=grace)


def worker_pool(count: int) -> ProcessPoolExecutor:
    """Start a pool of workers (`spawn`, as the caller may have threads) that end with this process.

    Args:
        count: Number of workers.
    """
    return ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"), initializer=end_with_parent)


def end_with_parent() -> None:
    """Let this process, started by `multiprocessing`, end as soon as its parent does, even if that is killed.

    A worker waits for its next task at a pipe whose other end it holds as well, so that it would wait forever. Give
    this as the `initializer` of a pool.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=(parent.join,), daemon=True).start()


def _exit_after(wait: Callable[[], Any]) -> None:
    wait()
    os._exit(1)


def _tree(pid: int) -> list[psutil.Process]:
    """Return a process and its descendants; none if it has ended."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except (psutil.Error, OSError):  # OSError: a system that shows no processes
        return []


def _own_group() -> dict[str, Any]:
    """Return the arguments of `Popen` for a process group, whose members can be found and signalled together."""
    if os.name != "posix":
        return {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
    if not sys.platform.startswith("linux"):
        return {"start_new_session": True}
    prctl = ctypes.CDLL(None).prctl  # looked up here: after the fork, nothing may be imported
    return {"start_new_session": True, "preexec_fn": partial(_die_with_parent, prctl, os.getpid())}


def _die_with_parent(prctl: Any, parent: int) -> None:
    """Let Linux kill this child when the thread that started it ends; called before its program starts."""
    prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:  # it ended before the call
        os._exit(1)


@contextmanager
def _received_signals() -> Iterator[list[int]]:
    """Collect the signals that ask this process to stop; the first takes its course at the end."""
    received: list[int] = []

    def receive(signum: int, _: FrameType | None) -> None:
        received.append(signum)

    before = {}
    if threading.current_thread() is threading.main_thread():
        for signum in STOPPING:
            if signal.getsignal(signum) not in (signal.SIG_IGN, None):  # `nohup` ignores SIGHUP
                before[signum] = signal.signal(signum, receive)
    try:
        yield received
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
        if received:
            signal.raise_signal(received[0])
