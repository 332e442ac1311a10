"""
Put on `PYTHONPATH`: this process and those that it spawns are as on a system without `resource`, `fcntl` and `/proc`.

`common` cannot import the modules, and nobody can read /proc but psutil, which asks other systems in their own ways.
Processes are spawned, as they are on Windows and macOS.
"""

from __future__ import annotations

import builtins
import multiprocessing
import sys
from typing import Any

UNIX = ("fcntl", "grp", "posix", "pwd", "resource", "termios")
READING = ("open", "os.listdir", "os.scandir")
found = builtins.__import__


def absent(name: str, globals: Any = None, *rest: Any, **named: Any) -> Any:
    """Import what other systems have as well."""
    asking = str((globals or {}).get("__name__"))
    if name.partition(".")[0] in UNIX and asking.partition(".")[0] == "common":
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return found(name, globals, *rest, **named)


def refuse(event: str, arguments: tuple[Any, ...]) -> None:
    """Be an audit hook by which there is no /proc."""
    if event in READING and str(arguments[0]).startswith("/proc") and not asked_by_psutil():
        raise FileNotFoundError(2, "No such file or directory", arguments[0])


def asked_by_psutil() -> bool:
    """Whether psutil is among the callers."""
    frame: Any = sys._getframe(2)
    while frame is not None and not str(frame.f_globals.get("__name__")).startswith("psutil"):
        frame = frame.f_back
    return frame is not None


builtins.__import__ = absent
sys.addaudithook(refuse)
multiprocessing.set_start_method("spawn")
