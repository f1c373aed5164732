"""MLflow's store: runs, their metrics and files, and checkpoints as logged models, whose weights stay where they are.

Everything here may take long, and raises what MLflow raises. It is called by `minimind.tracking`, in a thread.
"""

import hashlib
import json
import logging
import platform
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from filelock import FileLock

from minimind.outbox import Point, Record, now

EXPERIMENT = "minimind"
MAX_METRICS, MAX_PARAMS, MAX_PARAM_CHARACTERS = 1000, 100, 6000  # MLflow's limits, for one batch and one value
LOADER = "minimind.inference.logged_model"
"""The module with which MLflow loads a checkpoint."""
CHECKPOINT = "checkpoint.json"
"""The file of a logged model that says where its checkpoint is."""


class Store:
    """A store with our experiment.

    `making` is told True before our own work that takes a while, such as making a new one, and False after it, as
    after every answer of the store.
    """

    def __init__(self, uri: str, root: Path, making: Callable[[bool], None] = lambda _: None):
        self._answered = partial(making, False)
        # Importing takes a second or two.
        making(True)
        from mlflow import MlflowClient

        for name in ("mlflow", "alembic", "urllib3", "sqlalchemy"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)  # what happens is told in one line, by `tracking`
        making(False)
        artifacts = None if uri else (root / "mlartifacts").as_uri()
        path = root / "mlflow.db"
        if not uri and not path.exists():
            (root / "mlartifacts").mkdir(parents=True, exist_ok=True)
            with FileLock(root / "mlartifacts" / ".lock"):  # two that make one at once break each other
                making(True)
                if not path.exists():
                    _make(path, artifacts)
                making(False)
        self.root = root
        self.client = MlflowClient(uri or f"sqlite:///{path}")
        experiment = self.client.get_experiment_by_name(EXPERIMENT)
        self.experiment_id: str = (
            experiment.experiment_id if experiment else self.client.create_experiment(EXPERIMENT, artifacts)
        )

    def send(self, record: Record) -> None:
        """Everything that waits, oldest first. What could not be sent goes on waiting, in the record."""
        if record.run_id is None:
            run = self.client.create_run(self.experiment_id, record.start, record.tags, record.name)
            record.run_id = run.info.run_id
            self._answered()
        while points := record.points[:MAX_METRICS]:
            self._log(record.run_id, points)
            del record.points[: len(points)]
            self._answered()
        while record.jobs:
            name, given = record.jobs[0]
            try:
                getattr(self, f"_{name}")(record, **given)
            except Exception:  # of whatever kind: the others may still be sent
                record.jobs.append(record.jobs.pop(0))
                raise
            record.jobs.pop(0)
            self._answered()

    def end(self, record: Record) -> None:
        """Mark the run as FINISHED, FAILED or KILLED."""
        self.client.set_terminated(_run_id(record), record.status, record.end)

    def _log(self, run_id: str, points: Sequence[Point]) -> None:
        from mlflow.entities import Metric

        metrics = [Metric(name, value, ms, step) for step, ms, values in points for name, value in values.items()]
        for start in range(0, len(metrics), MAX_METRICS):
            self.client.log_batch(run_id, metrics[start : start + MAX_METRICS])

    def _describe(self, record: Record) -> None:
        """Set the params of the run."""
        from mlflow.entities import Param

        run_id = _run_id(record)
        items = [Param(name, value[:MAX_PARAM_CHARACTERS]) for name, value in record.params.items()]
        for start in range(0, len(items), MAX_PARAMS):
            self.client.log_batch(run_id, params=items[start : start + MAX_PARAMS])

    def _artifact(self, record: Record, path: str, sha256: str) -> None:
        """Copy a file to the run, if it still is what it was."""
        file = Path(path)
        if file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == sha256:
            self.client.log_artifact(_run_id(record), path)

    def _checkpoint(
        self, record: Record, folder: str, digest: str, metrics: Mapping[str, float], step: int, at: int
    ) -> None:
        """Link the run, and `metrics`, with the logged model of the checkpoint that lies in `folder`.

        Equal checkpoints are one model, known by the digest of the manifest.
        """
        from mlflow.entities import LoggedModelInput, LoggedModelOutput, Metric

        run_id = _run_id(record)
        found = self.client.search_logged_models([self.experiment_id], f"tags.checkpoint = '{digest}'", max_results=1)
        if found:
            model = found[0]
            if model.source_run_id != run_id:
                self.client.log_inputs(run_id, models=[LoggedModelInput(model.model_id)])
        else:
            tags = {"checkpoint": digest, "folder": folder}
            name = re.sub(r"""[/:.%"']""", "-", Path(folder).name)  # MLflow refuses these
            model = self.client.create_logged_model(
                self.experiment_id, name, run_id, tags, dict(record.params), "checkpoint"
            )
            with tempfile.TemporaryDirectory() as described:
                self._describe_model(Path(described), model.model_id, folder, digest)
                self.client.log_model_artifacts(model.model_id, described)
            self.client.finalize_logged_model(model.model_id, "READY")
            self.client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step)])
        values = [Metric(name, value, at, step, model_id=model.model_id) for name, value in metrics.items()]
        self.client.log_batch(run_id, values)

    def _describe_model(self, described: Path, model_id: str, folder: str, digest: str) -> None:
        """What `mlflow.pyfunc.load_model` reads: which module loads the model, and where the checkpoint lies."""
        import mlflow

        flavour = {"loader_module": LOADER, "data": CHECKPOINT, "python_version": platform.python_version()}
        document = {
            "model_id": model_id, "mlflow_version": mlflow.__version__, "flavors": {"python_function": flavour},
        }  # fmt: skip
        (described / "MLmodel").write_text(json.dumps(document, indent=2))  # YAML, of which JSON is a part
        place = {"folder": str((self.root / folder).resolve()), "digest": digest}
        (described / CHECKPOINT).write_text(json.dumps(place, indent=2))


def _run_id(record: Record) -> str:
    assert record.run_id is not None, "the run has not begun"
    return record.run_id


def _make(path: Path, artifacts: str | None) -> None:
    """A new store with our experiment, whole or not at all: one that is half made can't be opened."""
    from mlflow import MlflowClient

    partial = path.with_name(f".{path.name}.{now()}.partial")
    MlflowClient(f"sqlite:///{partial}").create_experiment(EXPERIMENT, artifacts)
    partial.replace(path)
