"""A child process ends with its parent, however the parent ends, in every place that starts one."""

from __future__ import annotations

import ast
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from common import processes
from common.processes import end_tree, run_child

ROOT = Path(__file__).parents[1]
SLEEP = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
LINUX = sys.platform.startswith("linux")
POSIX = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="signals between processes are POSIX's")
SECONDS = 60  # after which a test gives up

# A child with a child of its own, which say who they are in the file that is the first argument.
FAMILY = f"""
import os, subprocess, sys, time
child = subprocess.Popen({SLEEP!r})
with open(sys.argv[1] + ".new", "w") as file:
    file.write(f"{{os.getpid()}} {{child.pid}}")
os.replace(sys.argv[1] + ".new", sys.argv[1])
time.sleep(600)
"""
# A shell that puts a command into the background, or nohup, lets it ignore signals: undone here.
PARENT = """
import signal, sys
for name in ("SIGTERM", "SIGHUP"):
    if hasattr(signal, name):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
from common.processes import run_child
run_child([sys.executable, "-S", "-c", *sys.argv[1:]])
"""
POOL = """
import os, sys, time
from common.processes import worker_pool
with worker_pool(2) as pool:
    pids = {pool.submit(os.getpid).result() for _ in range(4)}
    with open(sys.argv[1] + ".new", "w") as file:
        file.write(" ".join(map(str, pids)))
    os.replace(sys.argv[1] + ".new", sys.argv[1])
    time.sleep(600)
"""


def waited(found: Callable[[], object]) -> object:
    """What comes in time."""
    end = time.monotonic() + SECONDS
    while not (result := found()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)
    return result


def family(file: Path) -> list[psutil.Process]:
    """The processes that a file names, once it is there."""
    waited(file.is_file)
    return [psutil.Process(int(pid)) for pid in file.read_text().split()]


def assert_gone(members: list[psutil.Process]) -> None:
    """Ended within the time; a zombie that nobody waits for is no running process."""
    waited(lambda: not [each for each in members if each.is_running() and each.status() != psutil.STATUS_ZOMBIE])


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen]]:
    """Programs that end with the test."""
    programs: list[subprocess.Popen] = []
    yield programs
    for program in programs:
        for each in [*psutil.Process(program.pid).children(recursive=True)] if program.poll() is None else []:
            each.kill()
        program.kill()
        program.wait()


def test_the_exit_code_comes_back_and_what_is_printed_goes_into_the_log(tmp_path):
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    assert run_child([sys.executable, "-u", "-c", code], log=tmp_path / "log") == 3
    assert (tmp_path / "log").read_text().split() == ["out", "err"]


def test_a_child_works_in_its_folder_and_is_ended_after_its_limit(tmp_path):
    code = "import pathlib, time; pathlib.Path('here').touch(); time.sleep(600)"
    with pytest.raises(TimeoutError, match="2 s"):
        run_child([sys.executable, "-c", code], folder=tmp_path, limit_s=2)
    assert (tmp_path / "here").is_file()


@POSIX
def test_a_child_that_a_signal_ended_says_so():
    assert run_child([sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]) == -9


@POSIX
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_to_the_parent_ends_child_and_grandchild_and_then_the_parent(tmp_path, started, name):
    parent = subprocess.Popen([sys.executable, "-c", PARENT, FAMILY, str(tmp_path / "family")], cwd=ROOT, stderr=-3)
    started.append(parent)
    members = family(tmp_path / "family")
    assert len(members) == 2
    parent.send_signal(getattr(signal, name))
    assert parent.wait(SECONDS) == -getattr(signal, name)
    assert_gone(members)


@pytest.mark.skipif(not LINUX, reason="only Linux tells a process that its parent was killed")
def test_a_parent_that_is_killed_outright_takes_its_child_along(tmp_path, started):
    parent = subprocess.Popen([sys.executable, "-c", PARENT, FAMILY, str(tmp_path / "family")], cwd=ROOT)
    started.append(parent)
    child, grandchild = family(tmp_path / "family")
    parent.kill()
    parent.wait(SECONDS)
    assert_gone([child])
    grandchild.kill()


def test_workers_of_a_pool_end_with_a_parent_that_is_killed(tmp_path, started):
    parent = subprocess.Popen([sys.executable, "-c", POOL, str(tmp_path / "workers")], cwd=ROOT, stderr=-3)
    started.append(parent)
    members = family(tmp_path / "workers")
    parent.kill()
    parent.wait(SECONDS)
    assert_gone(members)


@POSIX
def test_a_child_that_ignores_the_signal_is_killed_after_a_while():
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-S", "-c", code], stdout=subprocess.PIPE, start_new_session=True)
    assert child.stdout is not None
    child.stdout.readline()
    child.stdout.close()
    end_tree(child, grace=0.1)
    assert child.returncode == -signal.SIGKILL


def test_an_exception_in_the_parent_ends_the_child(monkeypatch, tmp_path):
    """As a handler of the caller's own would raise it."""
    seen: list[subprocess.Popen] = []

    class Interrupted(subprocess.Popen):
        def wait(self, timeout=None):
            if not seen:
                seen.append(self)
                raise KeyboardInterrupt
            return super().wait(timeout)

    monkeypatch.setattr(processes.subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_child(SLEEP)
    assert seen[0].returncode is not None


def test_in_a_thread_the_child_ends_when_the_main_thread_has_ended(monkeypatch):
    """Python runs signal handlers in the main thread alone; a server's worker threads outlive it."""
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(run_child(SLEEP)))
    thread.start()
    monkeypatch.setattr(threading, "main_thread", lambda: ended)
    ended = threading.Thread()
    thread.join(SECONDS)
    assert codes
    assert codes != [0]


@POSIX
def test_a_demonstration_that_is_terminated_leaves_no_process(tmp_path, started):
    command = [sys.executable, "-m", "common", "demo", "--output_dir", str(tmp_path)]
    demo = subprocess.Popen(command, cwd=ROOT, stdout=-3, stderr=-3)
    started.append(demo)
    family = psutil.Process(demo.pid)
    waited(lambda: any("monai.bundle" in child.cmdline() for child in family.children()))
    members = family.children(recursive=True)
    demo.terminate()
    assert demo.wait(SECONDS) == -signal.SIGTERM
    assert_gone(members)


STARTING = {"multiprocessing", "subprocess"}  # modules whose every call may start a process
STARTERS = {"ProcessPoolExecutor", "fork", "forkpty", "posix_spawn", "spawnv", "spawnl", "popen", "system", "execv"}
SOURCES = sorted(
    path for folder in ("common", "benchmarks") for path in (ROOT / folder).rglob("*.py") if path.name != "processes.py"
)


def test_processes_are_started_by_the_one_module_that_ends_them():
    found = {str(path.relative_to(ROOT)): list(started_in(path.read_text(encoding="utf-8"))) for path in SOURCES}
    assert len(found) > 100
    assert {path: calls for path, calls in found.items() if calls} == {}


@pytest.mark.parametrize(
    "code",
    [
        "import subprocess\nsubprocess.Popen(command)",
        "import subprocess\nsubprocess.run(command)",
        "import subprocess as s\ns.run(command, timeout=3600)",
        "from subprocess import run\nrun(command)",
        "import multiprocessing\nmultiprocessing.Process(target=work).start()",
        "from multiprocessing import get_context",
        "from concurrent.futures import ProcessPoolExecutor",
        "import concurrent.futures\nconcurrent.futures.ProcessPoolExecutor()",
        "import os\nos.fork()",
        "from os import system",
        "import torch\ntorch.multiprocessing.spawn(work)",
    ],
)
def test_the_search_finds_a_process_that_is_started_elsewhere(code):
    assert list(started_in(code))


def test_a_short_look_up_may_be_a_process_of_its_own():
    assert list(started_in("import subprocess\nsubprocess.run(['git', 'describe'], timeout=10)")) == []


def started_in(code: str) -> Iterator[str]:
    """What starts a process, but for a `subprocess.run` that ends within half a minute."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = {alias.name for alias in node.names}
            if node.module in STARTING or names & STARTERS or "multiprocessing" in str(node.module):
                yield f"line {node.lineno}: from {node.module} import {', '.join(names)}"
        elif isinstance(node, ast.Import):
            renamed = [alias for alias in node.names if alias.name.split(".")[0] in STARTING and alias.asname]
            if renamed or any(alias.name.startswith("multiprocessing") for alias in node.names):
                yield f"line {node.lineno}: {ast.unparse(node)}"
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name.startswith("subprocess.") and not (name == "subprocess.run" and _is_short(node)):
                yield f"line {node.lineno}: {name}"
            if name.rpartition(".")[2] in STARTERS or "multiprocessing." in name:
                yield f"line {node.lineno}: {name}"


def _is_short(call: ast.Call) -> bool:
    limits = [word.value for word in call.keywords if word.arg == "timeout"]
    return any(isinstance(limit, ast.Constant) and limit.value <= 30 for limit in limits)
