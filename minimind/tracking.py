"""MLflow, at arm's length: whatever happens to it, a stage computes the same, as fast, and writes the same.

A thread of its own imports MLflow (a second or two), opens the store (seconds, the first time) and sends what has
gathered every few seconds, in batches. When that fails there is one warning, of one line, and further tries from time
to time. A stage that ends waits for a few seconds; what is not sent by then, the next stage sends (`outbox`).
The curve that a stage writes is the truth: at the end `Run.replay` sends what the store lacks of it.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from minimind import outbox
from minimind.outbox import Point, Record, Slot, now
from minimind.store import Store

FLUSH_SECONDS = 3.0
RETRY_SECONDS = 30.0  # between tries, once one has failed
CLOSE_SECONDS = 5.0  # patience at the end of a stage with a store that doesn't answer
CLOSE_SECONDS_SLOW = 15.0  # and with one that goes on answering
CLOSE_SECONDS_FAILED = 2.0  # when the last try, or the stage itself, has failed
MAKE_SECONDS = 120.0  # patience with our own work, which takes half a minute if all is busy: import, a new store
MAX_POINTS = 10_000  # that wait to be sent; more are left to `replay`
OUTBOX = Path(".resume/mlflow")

ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def start(stage: str, params: object, *, inputs: Mapping[str, str] = {}) -> "Run":
    """Begin the run of a stage in MLflow and return at once. Never raises because of MLflow.

    `params` is a dataclass, or nested mappings; `inputs` are digests by role, as in a checkpoint's lineage.
    The store is `MLFLOW_TRACKING_URI`, or else mlflow.db in `DVC_ROOT` or the current folder.
    """
    nested = dataclasses.asdict(params) if dataclasses.is_dataclass(params) and not isinstance(params, type) else params
    assert isinstance(nested, Mapping)
    return Run(stage, flatten(nested), {f"input.{role}": str(digest) for role, digest in inputs.items()})


class Run:
    """What one stage tells MLflow. A context manager; nothing in it waits or raises, but for a while at its end."""

    def __init__(self, stage: str, params: Mapping[str, str], tags: Mapping[str, str]):
        self._stage = stage
        self._root = Path(os.environ.get("DVC_ROOT", Path.cwd())).resolve()
        name = " ".join([stage, *filter(None, [os.environ.get("DVC_EXP_NAME")])])
        uri = os.environ.get("MLFLOW_TRACKING_URI", "")
        self._record = Record(uri, name, {**context(stage), **tags}, dict(params), now(), jobs=[("describe", {})])
        self._slot = Slot.new(self._root / OUTBOX)
        self._steps: set[int] = set()  # of all points that were sent or will be
        self._closing, self._making = threading.Event(), True
        self._talking_since = time.monotonic()
        self._failing = self._warned = self._others_sent = False
        for variable, value in ENVIRONMENT.items():
            os.environ.setdefault(variable, value)
        self._thread = threading.Thread(target=self._work, name="MLflow", daemon=True)
        self._thread.start()

    @property
    def _points(self) -> list[Point]:
        return self._record.points

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Metrics after `step` steps."""
        if len(self._points) < MAX_POINTS:
            self._points.append((step, now(), dict(metrics)))
            self._steps.add(step)

    def artifact(self, path: Path) -> None:
        """Attach a small file; it must stay until the run ends."""
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        self._record.jobs.append(("artifact", {"path": str(path.resolve()), "sha256": digest}))

    def checkpoint(self, folder: Path, metrics: Mapping[str, float]) -> None:
        """Register the checkpoint in `folder` as a logged model, or find it again, and link `metrics` to it."""
        digest = hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
        given = {"folder": folder.as_posix(), "digest": digest, "metrics": dict(metrics), "at": now()}
        self._record.jobs.append(("checkpoint", given | {"step": max(self._steps, default=0)}))

    def replay(self, curve: Path) -> None:
        """Log what the curve holds and the run lacks: points that were dropped, or come from before a restart."""
        header, *lines = curve.read_text(encoding="utf-8").splitlines()
        names = header.split("\t")
        at = now()
        for line in lines:
            values = {name: float(text) for name, text in zip(names, line.split("\t"), strict=True) if text}
            step = int(values.pop("step"))
            if step not in self._steps:
                self._points.append((step, at, values))
                self._steps.add(step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        killed = isinstance(error, SystemExit | KeyboardInterrupt)
        self._record.status = "KILLED" if killed else "FAILED" if error is not None else "FINISHED"
        self._record.end = now()
        self._keep()
        self._closing.set()
        hurried = self._failing or error is not None
        begun = ready = time.monotonic()
        while self._thread.is_alive():
            seconds = MAKE_SECONDS if self._making else CLOSE_SECONDS_FAILED if hurried else CLOSE_SECONDS
            since = begun if self._making else max(begun, self._talking_since)
            end = since + seconds if self._making else min(since + seconds, ready + max(seconds, CLOSE_SECONDS_SLOW))
            left = end - time.monotonic()
            if left <= 0:
                self._warn("it takes too long. The next stage tries again")
                break
            self._thread.join(min(left, 0.1))
            if self._making:
                ready = time.monotonic()

    def _made(self, making: bool) -> None:
        self._making, self._talking_since = making, time.monotonic()

    def _keep(self) -> None:
        """Write down what is still to be sent."""
        if self._slot is not None:
            self._slot.write(dataclasses.replace(self._record, points=self._points[:], jobs=self._record.jobs[:]))

    def _work(self) -> None:
        store: Store | None = None
        while True:
            closing = self._closing.is_set()
            begun = self._record.run_id is not None
            try:
                store = store or Store(self._record.uri, self._root, self._made)
                try:
                    store.send(self._record)
                finally:
                    if self._record.run_id is not None and not begun and not closing:
                        self._keep()  # whoever finds it after a kill ends the run
                    if closing and self._record.run_id is not None:
                        store.end(self._record)
                self._failing = False
                if closing and self._slot is not None:
                    self._slot.clear()
                if closing or not self._others_sent:
                    self._send_what_others_left(store)
            except Exception as error:
                self._failing = True
                self._warn(f"{type(error).__name__}: {error}")
            finally:
                self._made(False)
            if closing:
                return
            self._closing.wait(RETRY_SECONDS if self._failing else FLUSH_SECONDS)

    def _send_what_others_left(self, store: Store) -> None:
        """Send the records of stages that have ended. One that fails is tried again later, by whomever."""
        self._others_sent = True
        for slot, record in outbox.left_behind(self._root / OUTBOX):
            if record.uri != self._record.uri:
                continue
            try:
                store.send(record)
                store.end(record)
            except Exception:  # of whatever kind: MLflow may cost nothing but a try
                record.tries += 1
                slot.write(record)
            else:
                slot.clear()

    def _warn(self, reason: str) -> None:
        if not self._warned:
            self._warned = True
            message = f"MLflow doesn't take what {self._stage} logs, which goes on without it: {reason}"
            with contextlib.suppress(OSError, ValueError):  # stderr is gone
                print(" ".join(message.split())[:400], file=sys.stderr)


def context(stage: str) -> dict[str, str]:
    """Tags that say which run of the pipeline this is.

    `pipeline` is a digest of dvc.yaml and params.yaml: equal for the stages of one `dvc repro`.
    """
    pipeline = hashlib.sha256()
    for path in (Path("dvc.yaml"), Path("params.yaml")):
        pipeline.update(path.read_bytes() if path.exists() else b"")
    tags = {"pipeline": pipeline.hexdigest()[:12], "stage": stage, "mlflow.source.name": stage}
    variables = {"DVC_STAGE": "dvc.stage", "DVC_EXP_NAME": "dvc.experiment", "DVC_EXP_BASELINE_REV": "dvc.baseline"}
    tags |= {tag: os.environ[variable] for variable, tag in variables.items() if os.environ.get(variable)}
    describe = ["git", "--no-optional-locks", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    git = subprocess.run(describe, capture_output=True, text=True, check=False)
    if git.returncode == 0:
        commit, _, dirty = git.stdout.strip().partition("-")
        tags |= {"mlflow.source.git.commit": commit, "git.dirty": str(bool(dirty)).lower()}
    return tags


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested values by their dotted names, as text: {"a": {"b": 1}} → {"a.b": "1"}."""
    flat: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value if isinstance(value, str) else json.dumps(value, default=str)
    return flat
