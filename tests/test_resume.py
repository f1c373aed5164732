import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
import yaml

from minimind import config, process
from minimind.resume import Resume, fingerprint, key

ROOT = Path(__file__).parent.parent
STEPS, SAVE_EVERY = 80, 10

# A stage whose result depends on every step, in order. It writes a line per step to a file that DVC doesn't know.
STAGE = """
import os, signal, sys, time
from pathlib import Path
import torch
from minimind import process
from minimind.resume import Resume

factor = int(Path("params.yaml").read_text().split("factor:")[1])
with Resume("toy") as resume:
    state = resume.load() or {"step": 0, "value": torch.ones(1, dtype=torch.int64)}
    while state["step"] < STEPS:
        state["value"] = (state["value"] * factor + state["step"]) % 1_000_003
        state["step"] += 1
        with open("trace", "a") as trace:
            print(os.getpid(), state["step"], file=trace)
        while os.environ.get("HOLD") == str(state["step"]) and not resume.stop_requested:
            time.sleep(0.01)
        if resume.stop_requested:
            resume.save(state["step"], state)
            sys.exit(process.STOPPED)
        if state["step"] % SAVE_EVERY == 0:
            resume.save(state["step"], state)
            resume.wait()  # a step takes no time here, and the tests count them
    Path("out").write_text(f"{state['value'].item()}\\n")
if os.environ.get("LOSE_DVC"):
    os.kill(process._launcher().pid, signal.SIGKILL)
    time.sleep(60)
""".replace("STEPS", str(STEPS)).replace("SAVE_EVERY", str(SAVE_EVERY))


class Pipeline:
    """A DVC repository with one stage."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir()
        self.environment = os.environ | {"PYTHONPATH": str(ROOT), "SHELL": "/bin/sh", "OMP_NUM_THREADS": "1"}
        (folder / "stage.py").write_text(STAGE)
        (folder / "b.txt").write_text("b")
        (folder / "data").mkdir()
        for name in ("b", "a-b", "a b", "é"):
            (folder / "data" / name).write_text(name)
        (folder / "data" / "a").mkdir()
        (folder / "data" / "a" / "c").write_text("c")
        (folder / "params.yaml").write_text(
            "nested: {rate: 1e-3, list: [1, on, null], name: b.txt}\nunused: 1\nfactor: 31\n"
        )
        stage = {
            "cmd": f"{sys.executable} stage.py ${{nested.name}}",  # DVC fills in what it reads from params.yaml
            "deps": ["stage.py", "data", "${nested.name}"],
            "params": ["factor", "nested.rate", {"params.yaml": ["nested.list"]}],
            "outs": ["out"],
        }
        (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"toy": stage}}))
        subprocess.run(["git", "init", "-q", "."], cwd=folder, check=True)
        subprocess.run([*self.dvc, "init", "-q"], cwd=folder, check=True)
        subprocess.run([*self.dvc, "config", "core.analytics", "false"], cwd=folder, check=True)

    dvc = (sys.executable, "-m", "dvc")

    def start(self, *options: str, **environment: str) -> subprocess.Popen[str]:
        """`dvc repro` in a process group of its own."""
        return subprocess.Popen(
            [*self.dvc, "repro", *options], cwd=self.folder, env=self.environment | environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def repro(self, *options: str) -> list[int]:
        """Run to the end; returns the steps that were run."""
        before = len(self.trace())
        dvc = self.start(*options)
        output, _ = dvc.communicate()
        assert dvc.returncode == 0, output
        return [step for _, step in self.trace()[before:]]

    def trace(self) -> list[tuple[int, int]]:
        """(process, step) of every step that was ever run."""
        path = self.folder / "trace"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(int(line.split()[0]), int(line.split()[1])) for line in lines]

    def start_until(self, step: int, *options: str) -> tuple[subprocess.Popen[str], int]:
        """`dvc repro` and the process id of its stage, which has come to `step` and waits to be killed there."""
        before = len(self.trace())
        dvc = self.start(*options, HOLD=str(step))
        while step not in [step for _, step in self.trace()[before:]]:
            assert dvc.poll() is None
            time.sleep(0.01)
        return dvc, self.trace()[-1][0]

    def value(self) -> int:
        return int((self.folder / "out").read_text())


def expected(factor: int) -> int:
    value = 1
    for step in range(STEPS):
        value = (value * factor + step) % 1_000_003
    return value


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    return Pipeline(tmp_path / "repository")


def test_killed_in_every_way_it_goes_on_alone_and_ends_the_same(pipeline: Pipeline) -> None:
    ways = ("stage SIGKILL", "dvc SIGKILL", "group SIGINT", "stage SIGTERM", "dvc SIGTERM", "group SIGKILL")
    for number, way in enumerate(ways, 1):
        dvc, stage = pipeline.start_until(number * SAVE_EVERY + number)
        who, name = way.split()
        target = {"stage": stage, "dvc": dvc.pid, "group": -dvc.pid}[who]
        os.kill(target, getattr(signal, name))
        # Only dvc is waited for: what it leaves behind is for the next run to deal with.
        assert dvc.wait() != 0
    pipeline.repro()
    assert pipeline.value() == expected(31)

    processes = [number for number, _ in pipeline.trace()]
    takeovers = sum(a != b for a, b in zip(processes, processes[1:], strict=False))
    assert takeovers == len(set(processes)) - 1, "two processes of the stage were at work at once"
    steps = [step for _, step in pipeline.trace()]
    for before, after in zip(steps, steps[1:], strict=False):
        assert before - SAVE_EVERY < after <= before + 1, "more than save_every steps were repeated, or some left out"
    assert steps[-1] == STEPS


def test_fresh_forced_and_changed_runs(pipeline: Pipeline) -> None:
    every = list(range(1, STEPS + 1))
    assert pipeline.repro() == every
    task = fingerprint("toy", pipeline.folder)
    record = yaml.safe_load((pipeline.folder / "dvc.lock").read_text())["stages"]["toy"]
    assert task["cmd"] == record["cmd"]
    assert task["deps"] == {dep["path"]: dep["md5"] for dep in record["deps"]}
    assert {k: v for k, v in task["params"]["params.yaml"].items() if k != "nested.list"} == {
        "factor": 31,
        "nested.rate": 1e-3,
    }
    assert record["params"]["params.yaml"].keys() == task["params"]["params.yaml"].keys()

    assert pipeline.repro() == [], "up to date"
    assert pipeline.repro("-f") == every, "a forced run trains again"

    # A forced run that is interrupted need not begin again.
    dvc, _ = pipeline.start_until(SAVE_EVERY + 5, "-f")
    os.killpg(dvc.pid, signal.SIGKILL)
    dvc.wait()
    assert pipeline.repro("-f") == every[SAVE_EVERY:]

    # Another parameter is another task.
    dvc, _ = pipeline.start_until(SAVE_EVERY + 5, "-f")
    os.killpg(dvc.pid, signal.SIGKILL)
    dvc.wait()
    params = pipeline.folder / "params.yaml"
    original = params.read_text()
    params.write_text(original.replace("31", "37"))
    assert pipeline.repro() == every
    assert pipeline.value() == expected(37)
    params.write_text(original)
    pipeline.repro()
    assert pipeline.value() == expected(31)


def test_training_survives_the_death_of_dvc_before_its_commit(pipeline: Pipeline) -> None:
    for option in ((), ("-f",)):  # the second time dvc.lock knows this task already
        dvc = pipeline.start(*option, LOSE_DVC="yes")
        dvc.wait()
        (pipeline.folder / "out").unlink()
        assert pipeline.repro("-f") == []
        assert pipeline.value() == expected(31)


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A workspace, the current folder, that declares the stage `toy`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(process, "_locks", {})
    for name in ("DVC_ROOT", "DVC_STAGE"):
        monkeypatch.delenv(name, raising=False)
    Path("dvc.yaml").write_text("stages: {toy: {cmd: x, params: [a]}}")
    Path("params.yaml").write_text("a: 1")
    yield tmp_path
    release()


def release() -> None:
    """Drop all locks, as the end of the process does."""
    for held in process._locks.values():
        held.release()
    process._locks.clear()


def train(value: int, finish: bool = True) -> Path:
    """Save a state as the task whose parameter is `value`, and leave as if done or as if interrupted."""
    Path("params.yaml").write_text(f"a: {value}")
    with suppress(KeyboardInterrupt), Resume("toy") as resume:
        assert resume.load() is None
        resume.save(1, {"value": value})
        if not finish:
            raise KeyboardInterrupt
    return resume.folder


def test_torn_states_are_passed_over(task: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with suppress(KeyboardInterrupt), Resume("toy") as resume:
        assert resume.load() is None
        for step in (9, 10, 100):
            resume.save(step, {"weights": torch.full((1000,), float(step)), "list": [step], "name": "x"})
        raise KeyboardInterrupt
    previous, newest = sorted(resume.folder.glob("*.pt"))
    newest.write_bytes(newest.read_bytes()[:-1])
    with Resume("toy") as resume:
        state = resume.load()
        assert state is not None and state["list"] == [10] and bool((state["weights"] == 10).all())
        assert f"{newest} is torn" in capsys.readouterr().err
        # The torn one is not among those that are kept.
        resume.save(11, {"list": [11]})
        assert resume.newest() != newest and previous.exists()
        for path in resume.folder.glob("*.pt"):
            path.unlink()
        assert resume.load() is None and resume.newest() is None


def test_a_state_is_taken_as_it_was_when_saved(task: Path) -> None:
    """Though it is written while the caller changes its tensors."""
    weights = torch.zeros(1 << 20)
    with Resume("toy") as resume:
        for step in range(1, 4):
            weights.fill_(step)
            resume.save(step, {"weights": weights, "list": [step]})
            weights.fill_(-1)
        state = resume.load()
        assert state is not None and state["list"] == [3] and bool((state["weights"] == 3).all())


@pytest.mark.parametrize("then", ["wait", "save", "load", "leave"])
def test_a_state_that_cannot_be_written_is_no_secret(task: Path, then: str) -> None:
    with pytest.raises(FileNotFoundError, match="partial"), Resume("toy", "part") as resume:
        shutil.rmtree(resume.folder)
        resume.save(1, {})
        if then == "wait":
            resume.wait()
        elif then == "save":
            resume.save(2, {})
        elif then == "load":
            resume.load()
    assert not (resume.folder / "finished").exists()


def test_a_reader_waits_for_the_same_signals_and_writes_nothing(task: Path) -> None:
    with Resume("toy", reader=True) as resume:
        os.kill(os.getpid(), signal.SIGTERM)
        assert resume.stop_requested
    assert not (task / ".resume").exists()


def test_parts_of_a_stage_keep_apart(task: Path) -> None:
    with Resume("toy", "student") as student, Resume("toy", "control") as control:
        student.save(1, {"name": "student"})
        assert control.load() is None
        control.save(2, {"name": "control"})
        assert (student.load(), control.load()) == ({"name": "student"}, {"name": "control"})


def test_states_of_other_tasks_are_kept_while_of_use(task: Path) -> None:
    abandoned = [train(value, finish=False) for value in (1, 2, 3)]
    running = train(4)
    assert all(folder.exists() for folder in abandoned), "this process, which holds them, may be in another workspace"
    release()
    with (running / "lock").open() as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        own = train(5)
        # The newest two unfinished ones are there to be returned to; one that is in use is nobody's to remove.
        assert [folder.exists() for folder in (*abandoned, running, own)] == [False, True, True, True, True]
    release()
    train(6)
    assert not running.exists() and not own.exists(), "a finished task of other params is of no use"


def test_signals_ask_to_stop(task: Path) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        handler = signal.getsignal(number)
        with Resume("toy") as resume:
            assert not resume.stop_requested
            os.kill(os.getpid(), number)
            assert resume.stop_requested
        assert signal.getsignal(number) is handler


def test_undeclared_and_template_stages_are_refused(task: Path) -> None:
    Path("dvc.yaml").write_text("stages: {b: {foreach: [1], do: {cmd: x}}, c: {cmd: 'x ${absent}'}}")
    for stage, message in {"a": "no stage `a`", "b": "`b` is a template", "c": "there is no `absent`"}.items():
        with pytest.raises(config.ConfigError, match=message):
            fingerprint(stage, Path())


def test_key_changes_with_everything_declared(task: Path) -> None:
    Path("data").mkdir()
    Path("data/x").write_text("x")
    declaration = {"cmd": "x", "deps": ["data"], "params": ["a"]}

    def current() -> str:
        Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"toy": declaration}}))
        return key(fingerprint("toy", Path()))

    keys = [current()]
    assert current() == keys[0]
    Path("params.yaml").write_text("a: 1\nb: 2")
    assert current() == keys[0], "`b` isn't declared"
    Path("params.yaml").write_text("a: 2")
    keys.append(current())
    Path("data/x").rename("data/y")
    keys.append(current())
    Path("data/y").write_text("y")
    keys.append(current())
    declaration["cmd"] = "y"
    keys.append(current())
    assert len(set(keys)) == len(keys)
