"""Interrupted training continues: states on disk, in a folder that belongs to one exact task.

The folder is `$DVC_ROOT/.resume/<stage>/<key>`, outside of what DVC deletes and restores. The key is a digest of
all that DVC records of the stage before it runs (command, dependencies, parameters), so a state is never taken up
by a task other than its own.

A finished state is kept, since dvc may die before it has committed the stage's outputs. When dvc.lock says that
it has, a further run with the same key is one that was forced, and starts from nothing.
"""

import hashlib
import json
import os
import re
import shutil
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import torch

from minimind import config, files, process, storage
from minimind.journal import Mark, holds

KEPT_STATES = 2  # per task: if the newest is torn, the one before serves
KEPT_TASKS = 2  # unfinished ones of other keys: going back to earlier params continues them


def fingerprint(stage: str, root: Path) -> dict[str, Any]:
    """What DVC records of `stage` before running it, as `root`/dvc.yaml declares it and the files are now.

    Returns {"cmd": str, "deps": {path: md5}, "params": {file: {key: value}}}, equal to what DVC writes in dvc.lock.
    Raises config.ConfigError if the stage is not there, or is a template.
    """
    path = root / "dvc.yaml"
    declaration = config.read(path).get("stages", {}).get(stage)
    if declaration is None:
        raise config.ConfigError(f"{path}: no stage `{stage}`: a stage that resumes has its name there")
    if "cmd" not in declaration:
        raise config.ConfigError(f"{path}: the stage `{stage}` is a template: one that resumes is written out")
    # Entries are names, or names with details: {path: options}, {file: [keys]}.
    names = [name for entry in declaration.get("deps", []) for name in ([entry] if isinstance(entry, str) else entry)]
    deps = [_filled(name, root) for name in names]
    params: dict[str, dict[str, Any]] = {}
    for entry in declaration.get("params", []):
        for name, keys in {config.PARAMS.name: [entry]}.items() if isinstance(entry, str) else entry.items():
            values = config.read(root / name)
            params.setdefault(name, {}).update({key: _value(values, key) for key in keys} if keys else values)
    return {
        "cmd": _filled(declaration["cmd"], root),
        "deps": {name: md5(root / name) for name in deps},
        "params": params,
    }


def key(task: dict[str, Any]) -> str:
    """Digest of a fingerprint."""
    return hashlib.sha256(json.dumps(task, sort_keys=True).encode()).hexdigest()[:32]


def md5(path: Path) -> str:
    """The hash that DVC gives a file or a folder.

    A folder's is the MD5 of a JSON list of its files, followed by ".dir".
    """
    if path.is_dir():
        names = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
        listing = json.dumps([{"md5": md5(path / name), "relpath": name} for name in names])
        return hashlib.md5(listing.encode(), usedforsecurity=False).hexdigest() + ".dir"
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


class Resume:
    """The states of one task. A context manager, best around all that the stage does.

    Entering claims the stage (process.claim) and its states; from then on SIGINT and SIGTERM set `stop_requested`,
    and the loop saves and exits with status 143. Leaving without an exception marks the task as finished.

    `stage` is the stage's name, unless DVC tells it; `part` tells several trainings of one stage apart. A `reader`,
    which trains beside the process that owns the states, claims and writes nothing.
    """

    def __init__(self, stage: str, part: str = "", reader: bool = False):
        self.stage = os.environ.get("DVC_STAGE", stage)
        self.part, self.reader = part, reader
        self._signals = process.Signals()
        self._writer = ThreadPoolExecutor(1, "resume")
        self._writing: Future[None] | None = None

    def __enter__(self) -> Self:
        if self.reader:
            process.follow_parent()
            self.folder = Path(os.devnull)
            self._signals.__enter__()
            return self
        process.claim(self.stage)
        workspace = Path.cwd()  # not $DVC_ROOT, when `dvc exp run --temp` works in a copy
        task = fingerprint(self.stage, workspace)
        base = Path(os.environ.get("DVC_ROOT", workspace)) / ".resume" / self.stage
        process.lock(base / key(task) / "lock")  # against the same task in another workspace
        self.folder = base / key(task) / self.part
        self.folder.mkdir(parents=True, exist_ok=True)
        _prune(base, key(task))
        if self._marker.exists() and _committed(self.stage, task, workspace, self._marker):
            for path in self.folder.iterdir():
                if path.is_file() and path.stem != "lock":
                    path.unlink()
        self._signals.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._signals.__exit__()
        try:
            self.wait()
        finally:
            self._writer.shutdown()
        if kind is None and not self.reader:
            self.finish()

    @property
    def stop_requested(self) -> bool:
        """Whether SIGINT or SIGTERM has arrived."""
        return self._signals.requested

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write the state reached after `step` steps; the newest two are kept.

        `state` holds tensors, numbers, strings and containers of them; under "files" stand the marks of journals in
        `folder`, by name, that it depends on. It is copied at once, and written while the
        caller goes on; an error in writing is raised by the next call, or by `wait`.
        """
        self.wait()
        self._writing = self._writer.submit(self._write, step, _copied(state))

    def wait(self) -> None:
        """Until what was saved is on the disk. Raises what went wrong."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _write(self, step: int, state: dict[str, Any]) -> None:
        partial = self.folder / "partial"
        refused: list[Exception] = []
        with storage.guard(self.folder, wanted=_size(state)):
            try:
                with partial.open("wb") as stream:
                    watched = _Watched(stream, refused)
                    torch.save(state, watched)  # type: ignore[arg-type]
                    stream.flush()
                    os.fsync(stream.fileno())
            except Exception as error:
                partial.unlink(missing_ok=True)
                raise (refused or [error])[0] from None  # torch's own error says nothing of the system's
        partial.rename(self.folder / f"{step:09d}.{files.sha256(partial)}.pt")
        for path in self._states()[KEPT_STATES:]:
            path.unlink()

    def load(self) -> dict[str, Any] | None:
        """The newest intact state, its tensors on the CPU, or None.

        One that is torn, and one with a file under "files" that is not what its mark says, is passed over, with a
        warning.
        """
        self.wait()
        for path in self._states():
            if files.sha256(path) == path.name.split(".")[1]:
                state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
                marks: dict[str, Mark] = state.get("files", {})
                damaged = next((name for name, mark in marks.items() if not holds(self.folder / name, mark)), None)
                if damaged is None:
                    return state
                why = f"{self.folder / damaged} is missing, cut or changed since {path.name}"
            else:
                why = f"{path} is torn"
            print(f"{why}: taking the state before it, or beginning anew", file=sys.stderr)
            path.unlink()  # lest it count as one of those that are kept
        return None

    def newest(self) -> Path | None:
        """The file of the newest state, None if there is none."""
        self.wait()
        return next(iter(self._states()), None)

    def finish(self) -> None:
        """Mark the task as finished; its last state stays."""
        for path in self._states()[1:]:
            path.unlink()
        files.write_text(self._marker, "")

    @property
    def _marker(self) -> Path:
        return self.folder / "finished"

    def _states(self) -> list[Path]:
        """Newest first."""
        return sorted(self.folder.glob("*.*.pt"), key=lambda path: int(path.name.split(".")[0]), reverse=True)


def _copied(state: Any) -> Any:
    """The same with containers and tensors of its own, these on the CPU."""
    if isinstance(state, torch.Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        return {name: _copied(value) for name, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(_copied(value) for value in state)
    return state


class _Watched:
    """A stream to write to that notes what the system refuses."""

    def __init__(self, stream: BinaryIO, refused: list[Exception]):
        self.stream, self.refused = stream, refused

    def write(self, data: Any) -> int:
        try:
            return self.stream.write(data)
        except OSError as error:
            self.refused.append(error)
            raise

    def flush(self) -> None:
        self.stream.flush()


def _size(state: Any) -> int:
    """Bytes of the tensors in a state."""
    if isinstance(state, torch.Tensor):
        return state.nbytes
    if isinstance(state, dict):
        return sum(map(_size, state.values()))
    return sum(map(_size, state)) if isinstance(state, list | tuple) else 0


def _filled(text: str, root: Path) -> str:
    """`text` of dvc.yaml with the values of params.yaml in place of ${their.names}. Raises config.ConfigError."""

    def value(match: re.Match[str]) -> str:
        try:
            return str(_value(config.read(root / config.PARAMS), match[1]))
        except (KeyError, TypeError):
            raise config.ConfigError(
                f"{root / config.PARAMS}: there is no `{match[1]}`, which dvc.yaml names"
            ) from None

    return re.sub(r"\$\{([\w.]+)\}", value, text)


def _value(values: dict[str, Any], dotted: str) -> Any:
    value: Any = values
    for name in dotted.split("."):
        value = value[name]
    return value


def _committed(stage: str, task: dict[str, Any], workspace: Path, marker: Path) -> bool:
    """Whether DVC has recorded this task in dvc.lock since it was marked as finished.

    DVC writes dvc.lock anew at each commit, also if nothing in it changes.
    """
    path = workspace / "dvc.lock"
    if not path.exists() or path.stat().st_mtime_ns < marker.stat().st_mtime_ns:
        return False
    record = config.read(path).get("stages", {}).get(stage, {})
    deps = {dep["path"]: dep.get("md5") for dep in record.get("deps", [])}
    return task == {"cmd": record.get("cmd"), "deps": deps, "params": record.get("params", {})}


def _prune(base: Path, own: str) -> None:
    """Remove the states of other tasks that are finished, and all but the newest few that are not."""
    others = [path for path in base.iterdir() if path.is_dir() and path.name != own]
    kept = 0
    for path in sorted(others, key=_touched, reverse=True):
        if process.locked(path / "lock"):
            continue
        # A task of several parts is finished when each of them is.
        parts = {state.parent for state in path.rglob("*.pt")}
        if all((part / "finished").exists() for part in parts) or kept == KEPT_TASKS:
            shutil.rmtree(path)
        else:
            kept += 1


def _touched(task: Path) -> int:
    """When the newest state of a task was written, in nanoseconds; 0 without one."""
    return max((state.stat().st_mtime_ns for state in task.rglob("*.pt")), default=0)
