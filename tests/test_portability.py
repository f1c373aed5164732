"""What macOS and Windows lack is asked for where it is used, not where a module is imported, and its use says so."""

import os
import subprocess
import sys
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from toy.training import RUNTIME

from minimind import distributed, pool, process
from minimind.distributed import World
from minimind.errors import UserError
from minimind.sources import records

ROOT = Path(__file__).parents[1]

# Imports all our modules, then all again as on another system: without its modules and functions, under its name.
# What is not ours stays as it is, which would want the other system's libraries.
IMPORT = """
import mmap, os, pkgutil, signal, sys
from importlib import import_module

import minimind, stages

names = [module.name for package in (minimind, stages)
         for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
for name in names:
    import_module(name)
for name in [name for name in sys.modules if name.split(".")[0] in ("minimind", "stages")]:
    del sys.modules[name]

system, modules, attributes = sys.argv[1:]
sys.platform = system
for name in modules.split():
    sys.modules[name] = None
for name in attributes.split():
    module, _, attribute = name.partition(".")
    delattr(sys.modules[module], attribute)
for name in names:
    import_module(name)
print(len(names))
"""

# By the pages of Python's documentation that say "Availability: Unix", or "Linux".
LACKING = {
    "win32": (
        "fcntl grp posix pty pwd readline resource syslog termios tty",
        "os.fork os.getpgid os.getpgrp os.killpg os.setsid os.nice os.getuid os.geteuid os.pread os.pwrite "
        "os.sched_getaffinity os.sysconf os.uname os.mkfifo os.wait signal.SIGKILL signal.SIGHUP signal.SIGCHLD "
        "signal.SIGUSR1 signal.SIGALRM signal.alarm signal.pthread_kill mmap.MAP_PRIVATE mmap.MAP_ANONYMOUS "
        "mmap.MADV_HUGEPAGE",
    ),
    "darwin": ("spwd", "os.sched_getaffinity os.posix_fadvise mmap.MADV_HUGEPAGE"),
}


@pytest.mark.parametrize("system", LACKING)
def test_every_module_can_be_imported(system: str) -> None:
    command = [sys.executable, "-c", IMPORT, system, *LACKING[system]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    files = [path for folder in ("minimind", "stages") for path in ROOT.glob(f"{folder}/**/*.py")]
    assert int(done.stdout) == len(files) - 2  # all but the two that are the packages themselves


def test_windows_trains_in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    distributed.check(RUNTIME, 8, World())
    with pytest.raises(UserError, match=r"set runtime\.processes to 1"):
        distributed.check(replace(RUNTIME, processes=2), 8, World(0, 2))


def test_workers_are_started_where_nothing_can_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def context(method: str) -> Any:
        asked.append(method)
        return get_context("spawn")

    monkeypatch.setattr(pool, "get_all_start_methods", lambda: ["spawn"])
    monkeypatch.setattr(pool, "get_context", context)
    with pool.Local(2) as local:
        assert list(local.run(abs, range(-3, 0))) == [3, 2, 1]
    assert asked == ["spawn"]


def test_a_copy_shares_blocks_only_where_linux_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setitem(sys.modules, "fcntl", None)
    (tmp_path / "one").write_bytes(b"bytes")
    records.copy(tmp_path / "one", tmp_path / "two")
    assert (tmp_path / "two").read_bytes() == b"bytes"


def test_a_stage_follows_its_dvc_where_there_are_no_process_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_STAGE", "toy")
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.delattr(os, "getpgid")
    monkeypatch.setattr(process, "_launcher", lambda: None)
    with pytest.raises(SystemExit, match=str(process.STOPPED)):
        process.follow_parent()
