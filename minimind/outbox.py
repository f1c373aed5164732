"""What MLflow has not been told yet, on disk: the next stage sends what a stage could not.

A record belongs to one run of a stage, and to the process that holds its lock. Whoever finds a record that nobody
holds may send it: its stage has ended or was killed. Nothing here raises because a disk is full or read-only.
"""

import contextlib
import json
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

MAX_TRIES = 20  # after so many a record is dropped: the run may have been deleted in MLflow

Point = tuple[int, int, Mapping[str, float]]
"""Step, milliseconds since the epoch, metrics by name."""
Job = tuple[str, dict[str, Any]]
"""The name of a method of the store, and what it is given."""


@dataclass
class Record:
    """One run, with what is still to be sent of it."""

    uri: str  # of the store; empty: our own file
    name: str
    tags: dict[str, str]
    params: dict[str, str]
    start: int  # milliseconds since the epoch, as `end`
    run_id: str | None = None
    points: list[Point] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    status: str = "KILLED"  # unless the stage says otherwise at its end
    end: int | None = None
    tries: int = 0


class Slot:
    """The place on disk of one record, held by this process."""

    def __init__(self, path: Path, lock: FileLock):
        self.path, self._lock = path, lock

    @classmethod
    def new(cls, folder: Path) -> Self | None:
        """A place in the folder that this process holds until it ends; None where there is no writing."""
        path = folder / f"{uuid.uuid4().hex}.json"
        lock = FileLock(path.with_suffix(".lock"))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except (OSError, Timeout):
            return None
        return cls(path, lock)

    def write(self, record: Record) -> None:
        """Put the record there, whole or not at all."""
        partial = self.path.with_suffix(".partial")
        with contextlib.suppress(OSError):
            partial.write_text(json.dumps(asdict(record)), encoding="utf-8")
            partial.replace(self.path)

    def clear(self) -> None:
        """Remove the record: all of it was sent. The lock goes too."""
        for path in (self.path, self.path.with_suffix(".partial"), Path(self._lock.lock_file)):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        self._lock.release()


def left_behind(folder: Path) -> Iterator[tuple[Slot, Record]]:
    """The records in the folder that no process holds, the oldest first, each held while the caller works on it."""
    found = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime) if folder.is_dir() else []
    for path in found:
        lock = FileLock(path.with_suffix(".lock"))
        try:
            lock.acquire(timeout=0)
        except (OSError, Timeout):
            continue
        slot = Slot(path, lock)
        try:
            record = _read(path)
            if record is None or record.tries >= MAX_TRIES:
                slot.clear()
            else:
                yield slot, record
        finally:
            lock.release()
    for path in folder.glob("*.lock"):  # of stages that were killed before there was anything to send
        if not path.with_suffix(".json").exists():
            with contextlib.suppress(OSError, Timeout), FileLock(path, timeout=0):
                path.unlink()


def _read(path: Path) -> Record | None:
    try:
        values = json.loads(path.read_bytes())
        record = Record(**values)
        record.points = [(step, at, metrics) for step, at, metrics in record.points]
        record.jobs = [(name, given) for name, given in record.jobs]
    except (OSError, ValueError, TypeError):
        return None
    return record


def now() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000
