import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minimind import process

ROOT = Path(__file__).parent.parent

# Stands for dvc: starts the stage through a shell that stays between them, and dies when told to.
LAUNCHER = """
import subprocess, sys
subprocess.Popen(["/bin/sh", "-c", f'"{sys.executable}" stage.py; echo $? > status'])
sys.stdin.read()
"""


def launch(folder: Path, stage: str) -> "subprocess.Popen[bytes]":
    (folder / "stage.py").write_text(stage)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "DVC_STAGE": "toy"}
    command = [sys.executable, "-c", LAUNCHER]
    return subprocess.Popen(command, cwd=folder, env=environment, stdin=subprocess.PIPE, start_new_session=True)


def wait_for(path: Path) -> str:
    while not (path.exists() and path.read_text().endswith("\n")):
        time.sleep(0.01)
    return path.read_text().strip()


def test_a_stage_is_told_that_dvc_has_died(tmp_path: Path) -> None:
    launcher = launch(
        tmp_path,
        """
import time
from pathlib import Path
from minimind import process
process.claim("toy")
with process.Signals() as signals:
    Path("ready").write_text("yes\\n")
    while not signals.requested:
        time.sleep(0.01)
raise SystemExit(process.STOPPED)
""",
    )
    wait_for(tmp_path / "ready")
    assert not (tmp_path / "status").exists()
    launcher.send_signal(signal.SIGKILL)
    assert wait_for(tmp_path / "status") == str(process.STOPPED)
    launcher.wait()


def test_a_stage_that_starts_after_dvc_has_died_stops(tmp_path: Path) -> None:
    launcher = launch(
        tmp_path,
        """
import os, time
from pathlib import Path
from minimind import process
Path("ready").write_text("yes\\n")
while not Path("go").exists():
    time.sleep(0.01)
process.claim("toy")
""",
    )
    wait_for(tmp_path / "ready")
    launcher.kill()
    launcher.wait()
    (tmp_path / "go").touch()
    assert wait_for(tmp_path / "status") == str(process.STOPPED)


def test_the_second_process_of_a_stage_waits_for_the_first(tmp_path: Path) -> None:
    code = "import sys; from minimind import process; process.claim('toy'); print('in', flush=True); sys.stdin.read()"

    def start() -> "subprocess.Popen[str]":
        environment = {name: value for name, value in os.environ.items() if name != "DVC_STAGE"}
        return subprocess.Popen(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment | {"PYTHONPATH": str(ROOT)}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    first = start()
    assert first.stdout is not None and first.stdout.readline() == "in\n"
    second = start()
    assert second.stderr is not None and f"waiting for process {first.pid}," in second.stderr.readline()
    first.kill()
    first.communicate()
    output, _ = second.communicate()
    assert output == "in\n" and second.returncode == 0


def test_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_locks", {})
    path = tmp_path / "new" / "lock"
    assert not process.locked(path)
    process.lock(path)
    process.lock(path)
    assert process.locked(path)
    for held in process._locks.values():
        held.release()
    assert not process.locked(path)


def test_a_users_mistake_ends_a_stage_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("data:\n  pretrain: []\n  stf: []\n")
    command = [sys.executable, "-m", "stages.fetch", "data/own", "data/raw"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("fetch: params.yaml: `data.stf` is not a known key; did you mean `sft`?")
    assert len(result.stderr.splitlines()) == 1


def test_a_defect_ends_a_stage_with_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def main() -> None:
        raise ValueError("a defect")

    monkeypatch.setattr(sys, "argv", ["stage"])
    with pytest.raises(ValueError, match="a defect"):
        process.run(main)
