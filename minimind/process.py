"""This process among others: one per stage and workspace, gone when its dvc is gone, stopped by signals in good order.

Killing dvc leaves the stage that it started running, and the next `dvc repro` would start a second one beside it.
`claim` closes both holes; every stage that runs for more than moments calls it first, most of them by way of
`resume.Resume`.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Self

import psutil
from filelock import FileLock, Timeout

from minimind import storage
from minimind.errors import UserError

STOPPED = 143  # exit status after SIGTERM, by convention 128 + 15
WORKER = "MINIMIND_WORKER"  # set in the environment of processes that distributed.launch has started

_SHELLS = {"sh", "ash", "bash", "dash", "fish", "ksh", "zsh", "cmd.exe"}
_WATCH_SECONDS = 0.5
_locks: dict[Path, FileLock] = {}  # those that this process holds


def run(main: Callable[..., None]) -> None:
    """Call a stage's `main` with the paths on the command line.

    A user's mistake, and what the system refuses for want of room, end in one line, with status 1.
    """
    try:
        main(*map(Path, sys.argv[1:]))
    except Exception as error:
        told = str(error) if isinstance(error, UserError) else storage.explain(error, Path())
        if told is None:
            raise
        sys.exit(f"{Path(sys.argv[0]).stem}: {told}")


def claim(stage: str) -> None:
    """Become the only process of `stage` in this workspace, the current folder, until the process ends.

    Waits, saying for whom, while another holds the stage. Where dvc started this process, SIGTERM arrives soon
    after dvc has died; if it has died already, exits with status 143.
    """
    follow_parent()
    lock(Path(".resume") / stage / "lock")


def lock(path: Path) -> None:
    """Hold an exclusive lock on the file `path` until the process ends; waits, saying for whom, while another does.

    Taking it again is no error. The kernel drops it with the process, however that ends.
    """
    path = path.resolve()
    if path in _locks:
        return
    own, holder = FileLock(path, thread_local=False), path.with_name(f"{path.name}.pid")
    with storage.guard(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            own.acquire(timeout=0)
        except Timeout:
            number = holder.read_text().strip() if holder.exists() else ""
            print(f"waiting for process {number or '?'}, which still holds {path}", file=sys.stderr, flush=True)
            own.acquire()
        holder.write_text(f"{os.getpid()}\n")  # beside the lock, which nobody else can read on Windows
    _locks[path] = own


def locked(path: Path) -> bool:
    """Whether any process, this one included, holds the lock on the file `path`."""
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0, thread_local=False):
            return False
    except Timeout:
        return True


class Signals:
    """Turns SIGINT and SIGTERM into `requested`, for a loop that stops at the end of its step. A context manager."""

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # only there does Python allow handlers
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._previous.clear()

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = True


def follow_parent() -> None:
    """Be sent SIGTERM soon after the dvc, or the process, that started this one has died; at once, if it has already.

    A process that was started by hand follows nobody.
    """
    # Not PR_SET_PDEATHSIG: dvc runs a stage through $SHELL, and dash (Debian's sh) stays between them and lives on.
    if not {"DVC_STAGE", WORKER} & set(os.environ):
        return
    launcher = _launcher()
    # A stage is in dvc's process group; whoever adopts orphans is not. On Windows nobody adopts them.
    adopted = sys.platform != "win32" and launcher is not None and os.getpgid(launcher.pid) != os.getpgrp()
    if launcher is None or adopted:
        print("what started this stage is gone: stopping", file=sys.stderr)
        sys.exit(STOPPED)
    threading.Thread(target=_watch, args=(launcher,), name="dvc watch", daemon=True).start()


def _watch(launcher: psutil.Process) -> None:
    while _launcher() == launcher:
        time.sleep(_WATCH_SECONDS)
    if sys.platform == "win32":  # where os.kill ends a process on the spot
        signal.raise_signal(signal.SIGTERM)
    else:
        os.kill(os.getpid(), signal.SIGTERM)


def _launcher() -> psutil.Process | None:
    """The nearest ancestor that is no shell."""
    try:
        return next((process for process in psutil.Process().parents() if process.name() not in _SHELLS), None)
    except psutil.NoSuchProcess:  # an ancestor died while we looked
        return None
