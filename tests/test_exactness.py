"""What must not change a result: the split of a batch, beyond rounding; repeating and interrupting, in any bit."""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from toy.training import CONFIG, OBJECTIVES, SEED, Case, Ended, ended, run_here, run_there, source, write_rows

from minimind import train
from minimind.batches import Batches
from minimind.distributed import World
from minimind.rows import Rows
from minimind.train import TrainingError

TASKS = [*((objective, False) for objective in OBJECTIVES), ("language", True)]
MICRO_BATCHES = {"1x8": 0, "2x4": 4, "8x1": 1}


def gradient(result: Ended) -> torch.Tensor:
    """Of the first step, before clipping: AdamW's first moment is a share of it."""
    (optimizer,) = result.state["optimizers"]
    moments = [optimizer["state"][number]["exp_avg"].flatten() for number in sorted(optimizer["state"])]
    assert moments[0].dtype == torch.float64
    return torch.cat(moments) / (1 - CONFIG.betas[0])


def one_step(name: str, objective: str, experts: bool, micro_batch_size: int) -> Case:
    config = {"steps": 1, "grad_clip": 1e6}
    return Case(name, objective, experts, True, config, {"micro_batch_size": micro_batch_size})


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One step of every task in two processes, whole and in parts."""
    folder = tmp_path_factory.mktemp("split")
    cases = [
        one_step(f"{objective} {experts} {name}", objective, experts, size)
        for objective, experts in TASKS
        for name, size in MICRO_BATCHES.items()
    ]
    run_there(folder, cases)
    return folder


@pytest.mark.parametrize(("objective", "experts"), TASKS)
def test_gradients_do_not_depend_on_micro_batches_or_processes(split: Path, objective: str, experts: bool) -> None:
    whole = gradient(run_here(one_step("whole", objective, experts, 0), split))
    assert whole.norm() > 0.1
    for name, size in MICRO_BATCHES.items():
        parts = gradient(run_here(one_step("parts", objective, experts, size), split))
        apart = gradient(ended(split, f"{objective} {experts} {name}"))
        # Losses are added up in fp32, whatever the model computes in.
        assert (parts - whole).norm() < 1e-6 * whole.norm(), name
        assert (apart - whole).norm() < 1e-6 * whole.norm(), f"{name} in two processes"


def test_what_is_a_spike_does_not_depend_on_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(train, "NUM_NORMS", 3)
    monkeypatch.setattr(train, "SPIKE", 0.9)  # so that many norms are above
    config = {"skip_spikes": True, "steps": 12, "log_every": 4, "validate_every": 4, "save_every": 5}
    whole = run_here(Case("whole", config=config), tmp_path).digest
    said = [line for line in capsys.readouterr().err.splitlines() if "skipped" in line]
    assert 2 < len(said) < 10
    for stop in range(1, 11):
        run_here(Case("stopped", config=config, stop_at=stop), tmp_path)
        assert run_here(Case("continued", config=config, start="stopped"), tmp_path).digest == whole, stop
        assert [line for line in capsys.readouterr().err.splitlines() if "skipped" in line] == said, stop


@pytest.fixture
def busy() -> Iterator[None]:
    """Another process that takes what it can get of the machine."""
    code = "import torch; torch.set_num_threads(2); x = torch.randn(600, 600)\nwhile True: x = (x @ x).tanh()"
    process = subprocess.Popen([sys.executable, "-c", code])
    yield
    process.kill()
    process.wait()


MODES: dict[str, dict[str, Any]] = {
    "fp32": {"threads": 2},
    "bf16": {"threads": 2, "dtype": "bfloat16"},
    "kernels": {"threads": 1, "dtype": "bfloat16", "kernels": "auto"},
    "kernels on 2 threads": {"threads": 2, "dtype": "bfloat16", "kernels": "auto"},
    "compiled": {"threads": 2, "compile": "on"},
}
STOPS = {mode: (2,) if mode == "compiled" else (1, 2, 5) for mode in MODES}  # each run is compiled anew


@pytest.fixture(scope="module")
def repeated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every mode, undisturbed and uninterrupted."""
    folder = tmp_path_factory.mktemp("repeated")
    cases = [Case(f"{mode} whole", config={"optimizer": "muon"}, runtime=runtime) for mode, runtime in MODES.items()]
    run_there(folder, cases, processes=1)
    return folder


@pytest.mark.usefixtures("busy")
def test_runs_repeated_or_interrupted_are_the_same_to_the_bit(repeated: Path) -> None:
    """Master weights, optimizer states and curve, in another process, beside one that loads the machine."""
    cases = []
    for mode, runtime in MODES.items():
        cases.append(Case(f"{mode} again", config={"optimizer": "muon"}, runtime=runtime))
        for stop in STOPS[mode]:
            stopped = Case(f"{mode} stopped {stop}", config={"optimizer": "muon"}, runtime=runtime, stop_at=stop)
            start = f"{mode} stopped {stop}"
            cases += [stopped, Case(f"{mode} continued {stop}", config=stopped.config, runtime=runtime, start=start)]
    run_there(repeated, cases, processes=1)
    for mode in MODES:
        whole = ended(repeated, f"{mode} whole")
        assert ended(repeated, f"{mode} again").digest == whole.digest, mode
        for stop in STOPS[mode]:
            assert ended(repeated, f"{mode} stopped {stop}").state["state"]["step"] in (stop, stop + 1)
            assert ended(repeated, f"{mode} continued {stop}").digest == whole.digest, f"{mode}, stopped at {stop}"


def test_the_hash_notices_one_bit(tmp_path: Path) -> None:
    result = run_here(Case("bit", config={"steps": 1}), tmp_path)
    before = result.digest
    result.state["optimizers"][0]["state"][0]["exp_avg"].view(torch.uint8)[0, 0] ^= 1
    assert result.digest != before


def test_no_row_is_repeated_or_skipped_when_the_number_of_processes_changes(tmp_path: Path) -> None:
    write_rows(tmp_path / "data")
    rows = source(Rows.open(tmp_path / "data", "train"))
    batch_size = 9
    steps = len(rows.rows) // batch_size  # an epoch
    seen = Counter[tuple[int, ...]]()
    for step in range(steps):
        size = (1, 2, 3, 8)[step % 4]
        for rank in range(size):
            batches = Batches([rows], batch_size, SEED)  # of its own, as after a restart
            seen.update(map(tuple, batches.at(step)["ids"][World(rank, size).rows(batch_size)].tolist()))
    assert seen == Counter(map(tuple, rows.rows.column("tokens").tolist()))
    assert seen.total() == len(rows.rows)


def test_a_loss_that_is_not_finite_names_the_batch_and_overwrites_nothing(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"step 4: loss nan.*batch of step 4 \(seed 1\).*state is memory.pt"):
        run_here(Case("broken", broken_at=4), tmp_path)
    assert torch.load(tmp_path / "memory.pt", weights_only=True)["state"]["step"] == 3
    assert not list(tmp_path.glob("broken.*"))
