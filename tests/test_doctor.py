"""The doctor on this machine: with a real probe of a small model, and with one that never ends."""

import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from minimind import cli, config, doctor
from minimind.config import ConfigError
from minimind.machine import STAGES, Abilities, Begun, Event, Shape, Step
from minimind.speed import Rate

ROOT = Path(__file__).parents[1]
PATIENCE = 600.0  # seconds that the probe may take to begin, on however busy a machine


@pytest.fixture
def smoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The profile `smoke`, in place, beside the presets that it names."""
    for name in ("presets", "profiles"):
        shutil.copytree(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return shutil.copyfile("profiles/smoke.yaml", tmp_path / "params.yaml")


def stuck(path: Path, seconds: float, num_steps: int, peak_seconds: float) -> Iterator[Event]:
    """A probe whose second step never ends; it leaves its process id beside the params."""
    path.with_name("pid").write_text(str(os.getpid()))
    yield Abilities("cpu", "float32", False, "avx2", 2, True, "auto")
    yield from (Shape("model", 1000, 1000, 0, 512, "muon"), Shape("student", 500, 500, 0, 512, "muon"))
    yield from (Begun("model", 256), Step("model", 256, 2.0, 1.0), Begun("model", 512))
    time.sleep(PATIENCE)


def test_it_says_what_there_is_which_way_is_taken_and_how_long_it_will_take(smoke: Path) -> None:
    lines = list(doctor.report(smoke, seconds=0.1, more=PATIENCE))
    text = "\n".join(lines)
    assert lines[0].startswith("machine: ")
    assert "device cpu" in text
    assert ("C kernels between" in text) != ("no C kernels: " in text), "one way, and a reason where it is the slower"
    assert "tokens/s in training with muon, eager, " in text and "GFLOP/s" in text
    params = config.read(smoke)
    for stage, model in STAGES.items():
        assert f"  {stage}: {params[stage]['steps']:,} steps" in text
        assert f"{model}: " in text
    # The profile asks for one thread.
    assert any(line.startswith("slow: one ") for line in lines)
    assert "probe" not in text, "it came to its end"


def test_a_probe_that_never_ends_is_stopped_and_what_it_said_counts(smoke: Path) -> None:
    lines = []
    report = doctor.report(smoke, seconds=0.0, more=PATIENCE, examine=stuck)
    for line in report:
        lines.append(line)
        if line.startswith("processes: "):  # it has begun, and is out of time
            break
    pid = int(smoke.with_name("pid").read_text())
    report.close()
    assert not psutil.pid_exists(pid) and not multiprocessing.active_children()
    # The same, by the clock.
    lines = list(doctor.report(smoke, seconds=0.0, more=1.0, examine=stuck))
    assert not multiprocessing.active_children()
    assert sum(line.startswith("slow: the probe was stopped ") and "PROFILE=smoke" in line for line in lines) == 1


def test_the_command_begins_without_torch_whose_import_may_take_long() -> None:
    program = "import sys, minimind.cli, minimind.doctor, minimind.estimate; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_broken_section_is_named(smoke: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = smoke.read_text(encoding="utf-8")
    smoke.write_text(text.replace("  hidden_size:", "  hiden_size: 64", 1), encoding="utf-8")
    with pytest.raises(ConfigError, match="did you mean `hidden_size`"):
        list(doctor.report(smoke, seconds=0.1, more=PATIENCE))
    smoke.unlink()
    assert cli.main(["doctor"]) == 1
    assert "params.yaml is missing: run from the root of the repository" in capsys.readouterr().err


def test_durations_follow_the_rate() -> None:
    section = {"steps": 10, "epochs": 0, "batch_size": 4}
    assert doctor.duration(section, 100, Rate(0.02, 2.0)) == "10 steps, 4,000 positions, about 100 s"
    assert "more than 80 s" in doctor.duration(section, 100, Rate(0.02, 0.0, at_least=True))
    assert "2 epochs" in doctor.duration({"steps": 0, "epochs": 2}, 100, Rate(0.02, 2.0))
