import dataclasses
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pandas
import pytest
from filelock import FileLock
from mlflow import MlflowClient, environment_variables
from mlflow.entities import Run as MlflowRun

from minimind import Model, tracking
from minimind.errors import UserError
from minimind.outbox import MAX_TRIES, Record, Slot, now

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Shape:
    hidden_size: int = 8
    betas: tuple[float, float] = (0.9, 0.95)


@dataclass(frozen=True)
class Params:
    seed: int = 1
    model: Shape = Shape()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the store of all these tests lies: making one takes seconds."""
    return tmp_path_factory.mktemp("root")


@pytest.fixture
def workspace(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(root))
    for name in ("MLFLOW_TRACKING_URI", "DVC_STAGE", "DVC_EXP_NAME", *tracking.ENVIRONMENT):
        monkeypatch.setenv(name, "")  # so that it is put back, whatever happens to it
        monkeypatch.delenv(name)
    monkeypatch.setattr(tracking, "FLUSH_SECONDS", 0.05)
    monkeypatch.setattr(tracking, "RETRY_SECONDS", 0.2)
    return tmp_path


def client(root: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{root / 'mlflow.db'}")


def find(root: Path, stage: str) -> MlflowRun:
    experiment = client(root).get_experiment_by_name("minimind")
    assert experiment is not None
    (run,) = client(root).search_runs([experiment.experiment_id], f"tags.stage = '{stage}'")
    return client(root).get_run(run.info.run_id)


def history(root: Path, stage: str, metric: str) -> list[tuple[int, float]]:
    return sorted(
        (point.step, point.value) for point in client(root).get_metric_history(find(root, stage).info.run_id, metric)
    )


def write_curve(path: Path, steps: int) -> None:
    lines = [f"{step}\t{10 * step}\t{1 / step:.6g}\t{step if step % 2 == 0 else ''}" for step in range(1, steps + 1)]
    path.write_text("\n".join(["step\ttokens\tloss\tvalidation", *lines]) + "\n")


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "it hangs"
        time.sleep(0.02)


def test_a_stage_in_the_store(root: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_STAGE", "pretrain")
    monkeypatch.setenv("DVC_EXP_NAME", "bold-lynx")
    Path("params.yaml").write_text("seed: 1")
    for command in ("init -q", "add .", "-c user.name=x -c user.email=x@x commit -q -m x"):
        subprocess.run(["git", *command.split()], check=True)
    Path("report.md").write_text("# good")
    with tracking.start("pretrain", Params(), inputs={"parent": "abc", "data": "def"}) as run:
        for step in range(1, 2501):
            run.log(step, {"loss": 1 / step})
        run.artifact(Path("report.md"))

    found = find(root, "pretrain")
    assert found.info.status == "FINISHED" and found.info.run_name == "pretrain bold-lynx"
    assert found.data.params == {"seed": "1", "model.hidden_size": "8", "model.betas": "[0.9, 0.95]"}
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    expected = {
        "stage": "pretrain", "dvc.stage": "pretrain", "dvc.experiment": "bold-lynx", "input.parent": "abc",
        "input.data": "def", "mlflow.source.git.commit": head, "git.dirty": "false",
    }  # fmt: skip
    assert expected.items() <= found.data.tags.items() and len(found.data.tags["pipeline"]) == 12
    assert history(root, "pretrain", "loss") == [(step, 1 / step) for step in range(1, 2501)]
    assert found.info.artifact_uri.startswith((root / "mlartifacts").as_uri())
    assert (root / "mlartifacts" / found.info.run_id / "artifacts" / "report.md").read_text() == "# good"


def test_checkpoints_are_logged_models(root: Path, workspace: Path) -> None:
    folder = Path("models/sft")
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"files": {}, "test": str(workspace)}))
    with tracking.start("sft", Params()) as run:
        run.log(7, {"loss": 0.5})
        run.checkpoint(folder, {"loss": 0.5})
    with tracking.start("evaluate@sft", {}) as run:
        run.checkpoint(folder, {"know": 0.75})

    experiment = client(root).get_experiment_by_name("minimind")
    assert experiment is not None
    (model,) = client(root).search_logged_models([experiment.experiment_id], "name = 'sft'")
    assert model.model_type == "checkpoint" and model.params["model.hidden_size"] == "8"
    assert {metric.key: metric.value for metric in model.metrics or []} == {"loss": 0.5, "know": 0.75}
    trained, evaluated = find(root, "sft"), find(root, "evaluate@sft")
    assert model.source_run_id == trained.info.run_id
    assert [output.model_id for output in trained.outputs.model_outputs] == [model.model_id]
    assert [input.model_id for input in evaluated.inputs.model_inputs] == [model.model_id]
    assert evaluated.data.metrics == {"know": 0.75}
    assert {step for step, _ in history(root, "sft", "loss")} == {7}


def test_a_restarted_stage_shows_its_whole_curve(root: Path, workspace: Path) -> None:
    write_curve(Path("curve.tsv"), 10)
    with tracking.start("restarted", {}) as run:
        for step in range(6, 11):
            run.log(step, {"tokens": 10 * step, "loss": 1 / step})
        run.replay(Path("curve.tsv"))
    assert history(root, "restarted", "tokens") == [(step, 10 * step) for step in range(1, 11)]
    assert history(root, "restarted", "validation") == [(2, 2), (4, 4)], "the rest came from the stage itself"


def test_what_does_not_fit_the_buffer_is_replayed(root: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "MAX_POINTS", 3)
    write_curve(Path("curve.tsv"), 50)
    with tracking.start("dropped", {}) as run:
        for step in range(1, 51):
            run.log(step, {"tokens": 10 * step})
        assert len(run._points) <= 3
        run.replay(Path("curve.tsv"))
    assert history(root, "dropped", "tokens") == [(step, 10 * step) for step in range(1, 51)]


@pytest.mark.parametrize(
    ("name", "error", "status"),
    [("error", ValueError(), "FAILED"), ("stopped", SystemExit(143), "KILLED"), ("key", KeyboardInterrupt(), "KILLED")],
)
def test_a_stage_that_fails(name: str, error: BaseException, status: str, root: Path, workspace: Path) -> None:
    with suppress(type(error)), tracking.start(name, {}) as run:
        run.log(1, {"loss": 1.0})
        raise error
    assert find(root, name).info.status == status
    assert history(root, name, "loss") == [(1, 1.0)]


STAGE = """
import sys
from pathlib import Path
from minimind import Model, tracking
from minimind.errors import UserError
from minimind.outbox import MAX_TRIES, Record, Slot, now

tracking.CLOSE_SECONDS = tracking.CLOSE_SECONDS_FAILED = float(sys.argv[2])
with tracking.start(sys.argv[1], {"seed": 1}, inputs={"data": "abc"}) as run:
    for step in range(1, 11):
        run.log(step, {"tokens": 10.0 * step})
    run.artifact(Path("curve.tsv"))
    run.checkpoint(Path("v1.5"), {"know": 1.0})
    run.replay(Path("curve.tsv"))
"""


def start_stage(name: str, patience: float, environment: dict[str, str]) -> "subprocess.Popen[str]":
    """A stage in a process of its own, where nothing catches what libraries print."""
    write_curve(Path("curve.tsv"), 10)
    Path("v1.5").mkdir(exist_ok=True)
    Path("v1.5/manifest.json").write_text("{}")
    return subprocess.Popen(
        [sys.executable, "-c", STAGE, name, str(patience)],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_stages_at_once_in_a_new_store(workspace: Path, tmp_path: Path) -> None:
    names = ("a", "b", "c")
    stages = [start_stage(name, 60, {"DVC_ROOT": str(tmp_path)}) for name in names]
    assert [stage.communicate()[0] for stage in stages] == [""] * 3
    for name in names:
        assert history(tmp_path, name, "tokens") == [(step, 10 * step) for step in range(1, 11)]


@pytest.mark.parametrize("listening", [False, True], ids=["closed port", "server that never answers"])
def test_a_dead_server_costs_one_warning(listening: bool, workspace: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if listening:
            listener.listen()
        uri = f"http://127.0.0.1:{listener.getsockname()[1]}"
        # Patience enough to see the closed port refuse, and too little for five seconds of silence.
        stage = start_stage("dead", 1 if listening else 120, {"MLFLOW_TRACKING_URI": uri})
        output, _ = stage.communicate()
    assert stage.returncode == 0
    (warning,) = output.splitlines()
    assert "MLflow doesn't take what dead logs" in warning


def hold(path: Path) -> sqlite3.Connection:
    """Whoever wants to write to the database, or even to read it, has to wait."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    return connection


def test_a_store_that_does_not_answer_costs_one_line_and_gets_the_rest_later(
    root: Path, workspace: Path, tmp_path: Path
) -> None:
    """It may be locked, broken or held by somebody else: stages end with status 0 and say so in one line."""
    places = {name: tmp_path / name for name in ("locked", "broken", "held")}
    for place in places.values():
        (place / "mlartifacts").mkdir(parents=True)
    with tracking.start("exists", {}):  # so that there is a store to copy
        pass
    shutil.copyfile(root / "mlflow.db", places["locked"] / "mlflow.db")
    (places["broken"] / "mlflow.db").write_bytes(b"no database" * 1000)
    held = hold(places["locked"] / "mlflow.db")
    with FileLock(places["held"] / "mlartifacts" / ".lock"):
        stages = {name: start_stage(name, 1, {"DVC_ROOT": str(place)}) for name, place in places.items()}
        outputs = {name: stage.communicate()[0] for name, stage in stages.items()}
    held.close()
    for name, output in outputs.items():
        assert stages[name].returncode == 0
        (line,) = output.splitlines()
        assert f"MLflow doesn't take what {name} logs, which goes on without it: " in line
    # The next stage sends what these could not, where there is a store by then.
    after = start_stage("after", 120, {"DVC_ROOT": str(places["locked"])})
    assert after.communicate()[0] == ""
    for name in ("locked", "after"):
        found = find(places["locked"], name)
        assert found.info.status == "FINISHED" and found.data.params == {"seed": "1"}
        assert history(places["locked"], name, "tokens") == [(step, 10 * step) for step in range(1, 11)]
        assert found.data.metrics["know"] == 1.0 and found.data.tags["input.data"] == "abc"
    assert find(places["locked"], "locked").info.end_time < find(places["locked"], "after").info.start_time
    assert list((places["locked"] / tracking.OUTBOX).iterdir()) == []


def test_the_run_of_a_killed_stage_is_ended_by_the_next(root: Path, workspace: Path) -> None:
    record = Record(
        uri="", name="killed", tags={"stage": "killed"}, params={}, start=now(), points=[(1, now(), {"a": 2})]
    )
    slot = Slot.new(root / tracking.OUTBOX)
    assert slot is not None
    slot.write(record)
    (root / tracking.OUTBOX / "torn.json").write_text("{")
    with tracking.start("while it is held", {}):
        pass
    assert slot.path.exists(), "its stage still runs"
    slot._lock.release()
    with tracking.start("when it is not", {}):
        pass
    assert find(root, "killed").info.status == "KILLED" and history(root, "killed", "a") == [(1, 2)]
    assert not slot.path.exists() and not (root / tracking.OUTBOX / "torn.json").exists()


def test_what_can_never_be_sent_is_dropped_in_the_end(root: Path, workspace: Path) -> None:
    record = Record(uri="", name="gone", tags={"stage": "gone"}, params={}, start=now(), run_id="0" * 32)
    slot = Slot.new(root / tracking.OUTBOX)
    assert slot is not None
    slot.write(dataclasses.replace(record, tries=MAX_TRIES - 1))
    slot._lock.release()
    for _ in range(2):
        with tracking.start("tries", {}):
            pass
    assert not slot.path.exists()


def test_a_logged_model_answers_from_its_folder(
    root: Path, workspace: Path, checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(checkpoints["llama"], root / "models" / "chatty")
    monkeypatch.chdir(root)
    with tracking.start("logs", {}) as run:
        run.checkpoint(Path("models/chatty"), {"loss": 0.5})
    (output,) = find(root, "logs").outputs.model_outputs
    mlflow.set_tracking_uri(f"sqlite:///{root / 'mlflow.db'}")
    monkeypatch.chdir(workspace)
    loaded = mlflow.pyfunc.load_model(f"models:/{output.model_id}")
    messages = [{"role": "user", "content": "法国的首都"}]
    expected = Model(root / "models" / "chatty").predict(["What is 12 + 7?", "法国的首都"])
    assert loaded.predict(["What is 12 + 7?", "法国的首都"]) == expected
    assert loaded.predict(pandas.DataFrame({"id": [7], "prompt": ["法国的首都"]})) == expected[1:]
    assert loaded.predict({"messages": messages}) == loaded.predict(messages) == expected[1:]
    with pytest.raises(UserError, match="the table has the columns id, name, expected one of messages, prompt"):
        loaded.predict(pandas.DataFrame({"id": [7], "name": ["x"]}))
    stored = [path for path in (root / "mlartifacts").rglob("*") if output.model_id in str(path) and path.is_file()]
    assert {"MLmodel", "checkpoint.json"} <= {path.name for path in stored}
    assert sum(path.stat().st_size for path in stored) < 10_000, "no copy of the weights"

    manifest = root / "models" / "chatty" / "manifest.json"
    manifest.write_text(manifest.read_text() + "\n")
    with pytest.raises(UserError, match="holds another checkpoint now than the one that was logged"):
        mlflow.pyfunc.load_model(f"models:/{output.model_id}")
    manifest.unlink()
    with pytest.raises(UserError, match="chatty is gone: bring the checkpoint back with `dvc checkout models/chatty`"):
        mlflow.pyfunc.load_model(f"models:/{output.model_id}")


def test_mlflow_knows_the_environment_variables(workspace: Path) -> None:
    for name, value in tracking.ENVIRONMENT.items():
        assert str(getattr(environment_variables, name).get()).lower() != value
        os.environ[name] = value
        assert str(getattr(environment_variables, name).get()).lower() == value


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Server:
    """`mlflow server` on the store in `root`."""

    def __init__(self, root: Path, port: int):
        self.uri = f"http://127.0.0.1:{port}"
        command = ["server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        store = [f"--backend-store-uri=sqlite:///{root / 'mlflow.db'}"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *command, *store], start_new_session=True,
            env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wait_for(self.answers)

    def answers(self) -> bool:
        assert self.process.poll() is None, "the server has ended"
        with suppress(OSError), socket.create_connection(("127.0.0.1", int(self.uri.rsplit(":", 1)[1])), 1):
            return True
        return False

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def server(root: Path, workspace: Path) -> Iterator[Server]:
    server = Server(root, free_port())
    yield server
    server.kill()


def test_a_server_that_dies_and_comes_back(
    server: Server, root: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setattr(tracking, "MAX_POINTS", 5)
    Path("report.md").write_text("# good")
    write_curve(Path("curve.tsv"), 30)
    with tracking.start("served", Params()) as run:
        for step in range(1, 5):
            run.log(step, {"tokens": 10 * step})
        wait_for(lambda: not run._points)
        server.kill()
        for step in range(5, 31):
            run.log(step, {"tokens": 10 * step})
        wait_for(lambda: run._warned)
        revived = Server(root, int(server.uri.rsplit(":", 1)[1]))
        try:
            wait_for(lambda: not run._failing)
            run.artifact(Path("report.md"))
            run.replay(Path("curve.tsv"))
            run.__exit__(None, None, None)
        finally:
            revived.kill()
    assert history(root, "served", "tokens") == [(step, 10 * step) for step in range(1, 31)]
    found = find(root, "served")
    assert found.info.status == "FINISHED" and found.data.params["seed"] == "1"
    assert (root / "mlartifacts" / found.info.run_id / "artifacts" / "report.md").read_text() == "# good"
    assert len(capsys.readouterr().err.splitlines()) == 1
