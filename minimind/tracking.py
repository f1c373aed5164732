"""MLflow, at arm's length: whatever happens to it, a stage computes the same, as fast, and writes the same.

A thread of its own imports MLflow (a second or two), opens the store (seconds, the first time) and sends what has
gathered every few seconds, in batches. When that fails there is one warning, and further tries from time to time.
The curve that a stage writes is the truth: at the end `Run.replay` sends what the store lacks of it.
"""

import dataclasses
import hashlib
import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock

EXPERIMENT = "minimind"
FLUSH_SECONDS = 3.0
RETRY_SECONDS = 30.0  # between tries, once one has failed
CLOSE_SECONDS = 10.0  # patience at the end of a stage
CLOSE_SECONDS_LOCAL = 120.0  # with our own file, which never hangs but takes half a minute to make if all is busy
CLOSE_SECONDS_FAILED = 5.0  # when the last try, or the stage itself, has failed
MAX_POINTS = 10_000  # that wait to be sent; more are left to `replay`

MAX_METRICS, MAX_PARAMS, MAX_PARAM_CHARACTERS = 1000, 100, 6000  # MLflow's limits, for one batch and one value
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}

Point = tuple[int, int, Mapping[str, float]]
"""Step, milliseconds since the epoch, metrics by name."""


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
        self._stage, self._tags = stage, tags
        self._lock = threading.Lock()
        self._points: list[Point] = []
        self._steps: set[int] = set()  # of all points that were sent or will be
        self._jobs: list[Callable[[Store], None]] = [lambda store: store.describe(params)]
        self._closing = threading.Event()
        self._status = "FINISHED"
        self._failing = self._warned = False
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        self._thread = threading.Thread(target=self._work, name="MLflow", daemon=True)
        self._thread.start()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Metrics after `step` steps."""
        with self._lock:
            if len(self._points) < MAX_POINTS:
                self._points.append((step, _now(), dict(metrics)))
                self._steps.add(step)

    def artifact(self, path: Path) -> None:
        """Attach a small file; it must stay until the run ends."""
        self._later(lambda store: store.artifact(path))

    def checkpoint(self, folder: Path, metrics: Mapping[str, float]) -> None:
        """Register the checkpoint in `folder` as a logged model, or find it again, and link `metrics` to it."""
        values, step = dict(metrics), max(self._steps, default=0)
        self._later(lambda store: store.checkpoint(folder, values, step))

    def replay(self, curve: Path) -> None:
        """Log what the curve holds and the run lacks: points that were dropped, or come from before a restart."""
        header, *lines = curve.read_text(encoding="utf-8").splitlines()
        names = header.split("\t")
        now = _now()
        with self._lock:
            for line in lines:
                values = {name: float(text) for name, text in zip(names, line.split("\t"), strict=True) if text}
                step = int(values.pop("step"))
                if step not in self._steps:
                    self._points.append((step, now, values))
                    self._steps.add(step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, SystemExit | KeyboardInterrupt):
            self._status = "KILLED"
        elif error is not None:
            self._status = "FAILED"
        self._closing.set()
        patience = CLOSE_SECONDS if "MLFLOW_TRACKING_URI" in os.environ else CLOSE_SECONDS_LOCAL
        self._thread.join(CLOSE_SECONDS_FAILED if self._failing or error is not None else patience)
        if self._thread.is_alive():
            self._warn("it takes too long")

    def _later(self, job: "Callable[[Store], None]") -> None:
        with self._lock:
            self._jobs.append(job)

    def _work(self) -> None:
        store: Store | None = None
        while True:
            closing = self._closing.is_set()
            try:
                store = store or Store(self._stage, self._tags)
                try:
                    self._send(store)
                finally:
                    if closing:
                        store.end(self._status)
                self._failing = False
            except Exception as error:
                self._failing = True
                self._warn(f"{type(error).__name__}: {error}")
            if closing:
                return
            self._closing.wait(RETRY_SECONDS if self._failing else FLUSH_SECONDS)

    def _send(self, store: "Store") -> None:
        """Everything that waits, oldest first. What could not be sent goes on waiting."""
        while points := self._points[:MAX_METRICS]:
            store.log(points)
            with self._lock:
                del self._points[: len(points)]
        while self._jobs:
            with self._lock:
                job = self._jobs.pop(0)
            try:
                job(store)
            except Exception:
                self._later(job)
                raise

    def _warn(self, reason: str) -> None:
        if not self._warned:
            self._warned = True
            message = f"MLflow doesn't take what {self._stage} logs, which goes on without it: {reason}"
            print(message[:500], file=sys.stderr)


class Store:
    """One run in MLflow's store. Everything here may take long, and raises what MLflow raises."""

    def __init__(self, stage: str, tags: Mapping[str, str]):
        # Imported here, by the thread: importing takes a second or two.
        from mlflow import MlflowClient

        for name in ("mlflow", "alembic", "urllib3"):
            logging.getLogger(name).setLevel(logging.ERROR)
        root = Path(os.environ.get("DVC_ROOT", Path.cwd())).resolve()
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        with _alone(root / "mlartifacts" / ".lock", needed=uri is None):
            self.client = MlflowClient(uri or f"sqlite:///{root / 'mlflow.db'}")
            experiment = self.client.get_experiment_by_name(EXPERIMENT)
            self.experiment_id = (
                experiment.experiment_id
                if experiment is not None
                else self.client.create_experiment(EXPERIMENT, None if uri else (root / "mlartifacts").as_uri())
            )
        name = " ".join([stage, *filter(None, [os.environ.get("DVC_EXP_NAME")])])
        run = self.client.create_run(self.experiment_id, tags={**context(stage), **tags}, run_name=name)
        self.run_id: str = run.info.run_id
        self.params: Mapping[str, str] = {}

    def describe(self, params: Mapping[str, str]) -> None:
        """Set the params of the run, and of the models that it makes."""
        from mlflow.entities import Param

        self.params = params
        items = [Param(name, value[:MAX_PARAM_CHARACTERS]) for name, value in params.items()]
        for start in range(0, len(items), MAX_PARAMS):
            self.client.log_batch(self.run_id, params=items[start : start + MAX_PARAMS])

    def log(self, points: list[Point]) -> None:
        """Add points to the run's charts."""
        from mlflow.entities import Metric

        metrics = [Metric(name, value, ms, step) for step, ms, values in points for name, value in values.items()]
        for start in range(0, len(metrics), MAX_METRICS):
            self.client.log_batch(self.run_id, metrics[start : start + MAX_METRICS])

    def artifact(self, path: Path) -> None:
        """Copy a file to the run."""
        self.client.log_artifact(self.run_id, str(path))

    def checkpoint(self, folder: Path, metrics: Mapping[str, float], step: int) -> None:
        """Link the run, and `metrics`, with the logged model of the checkpoint in `folder`.

        Equal checkpoints are one model, known by the digest of the manifest. Its weights stay where they are.
        """
        from mlflow.entities import LoggedModelInput, LoggedModelOutput, Metric

        digest = hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
        found = self.client.search_logged_models([self.experiment_id], f"tags.checkpoint = '{digest}'", max_results=1)
        if found:
            model = found[0]
            self.client.log_inputs(self.run_id, models=[LoggedModelInput(model.model_id)])
        else:
            tags = {"checkpoint": digest, "folder": folder.as_posix(), "mlflow.model.isExternal": "true"}
            name = re.sub(r"""[/:.%"']""", "-", folder.name)  # MLflow refuses these
            model = self.client.create_logged_model(
                self.experiment_id, name, self.run_id, tags, dict(self.params), "checkpoint"
            )
            self.client.finalize_logged_model(model.model_id, "READY")
            self.client.log_outputs(self.run_id, [LoggedModelOutput(model.model_id, step)])
        values = [Metric(name, value, _now(), step, model_id=model.model_id) for name, value in metrics.items()]
        self.client.log_batch(self.run_id, values)

    def end(self, status: str) -> None:
        """Mark the run as FINISHED, FAILED or KILLED."""
        self.client.set_terminated(self.run_id, status)


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


@contextmanager
def _alone(path: Path, needed: bool) -> Iterator[None]:
    """No other process is in such a block: two that make a new SQLite store at once break each other."""
    if not needed:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path):
        yield


def _now() -> int:
    return time.time_ns() // 1_000_000
