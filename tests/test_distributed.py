"""Processes that train together: started here or by torchrun, in good order to the end, or to a bad one."""

import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toy.training import ROOT, RUNTIME, Case, assert_close, ended, run_here, run_there, start

from minimind import config
from minimind.distributed import World, check
from minimind.errors import UserError
from minimind.process import STOPPED

PATIENCE_SECONDS = 300  # of a test, for what would otherwise hang
ODD = {"batch_size": 7}


@pytest.mark.parametrize("size", range(1, 9))
@pytest.mark.parametrize("batch_size", [8, 9, 15, 64])
def test_every_row_belongs_to_one_process(size: int, batch_size: int) -> None:
    shares = [list(range(batch_size))[World(rank, size).rows(batch_size)] for rank in range(size)]
    assert [row for share in shares for row in share] == list(range(batch_size))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_what_processes_cannot_do_is_refused() -> None:
    with pytest.raises(UserError, match="runtime.strategy is single"):
        check(replace(RUNTIME, strategy="single"), 8, World(0, 2))
    with pytest.raises(UserError, match="can't share a batch of 3 rows"):
        check(RUNTIME, 3, World(0, 4))
    with pytest.raises(UserError, match="runtime.offload is true"):
        check(replace(RUNTIME, offload=True), 8, World())
    with pytest.raises(ValueError, match=r"runtime.zero_stage is -1: it must lie from 0 to 3"):
        replace(RUNTIME, zero_stage=-1)


def test_the_guide_shows_the_command_of_the_pipeline() -> None:
    declared = config.read(ROOT / "dvc.yaml")["stages"]["pretrain"]["cmd"].replace("${model.preset}", "atlas")
    guide = (ROOT / "docs" / "distributed.md").read_text(encoding="utf-8")
    assert guide.count(declared.removeprefix("python ")) == 2, "for torchrun, and for Slurm"


def test_processes_that_torchrun_starts_end_where_one_does(tmp_path: Path) -> None:
    cases = [
        Case("language", config=ODD, runtime={"micro_batch_size": 2}),
        Case("experts", experts=True, config=ODD),
        Case("Muon", config={**ODD, "optimizer": "muon"}),
        Case("stopped in two", config=ODD, stop_at=3),
        Case("continued in two", config=ODD, start="stopped in one"),
        Case("without zero", config=ODD, runtime={"strategy": "deepspeed", "zero_stage": 0}),
    ]
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    run_here(Case("stopped in one", config=ODD, stop_at=3), tmp_path)
    run_there(tmp_path, cases, processes=1, launcher=launcher)
    whole = run_here(Case("whole", config=ODD), tmp_path)
    assert_close(run_here(Case("continued in one", config=ODD, start="stopped in two"), tmp_path), whole)
    assert_close(ended(tmp_path, "continued in two"), whole)
    for case in cases:
        if case.start or case.stop_at:
            continue
        one = run_here(replace(case, name="one", runtime={}), tmp_path)
        first, second = (ended(tmp_path, case.name, rank) for rank in (0, 1))
        if case.name == "Muon":  # which iterates in bf16
            for name, weight in one.weights.items():
                torch.testing.assert_close(first.weights[name], weight, rtol=0, atol=2e-3, msg=name)
        else:
            assert_close(first, one)
        assert [a + b for a, b in zip(first.seen, second.seen, strict=True)] == one.seen
        assert second.curve == "" and second.steps == [], "only the main process writes"
        assert all(first.weights[name].equal(second.weights[name]) for name in one.weights)


def test_a_process_that_dies_ends_them_all(tmp_path: Path) -> None:
    program = start(tmp_path, [Case("dies", stage="toy", dies_at=4)], processes=2)
    _, errors = program.communicate(timeout=PATIENCE_SECONDS)
    assert program.returncode == 7, errors
    assert "process 1 of 2 has ended with status 7" in errors
    assert len(list(tmp_path.glob(".resume/toy/*/dies/000000003.*.pt"))) == 1, "the state of step 3 stays"
    assert not list(tmp_path.glob(".resume/toy/*/dies/finished"))


def test_a_signal_stops_them_in_good_order_and_the_run_continues(tmp_path: Path) -> None:
    whole = run_here(Case("whole", config=ODD), tmp_path)
    program = start(tmp_path, [Case("stops", stage="toy", config=ODD, signal_at=3)], processes=2)
    _, errors = program.communicate(timeout=PATIENCE_SECONDS)
    assert program.returncode == STOPPED == 128 + signal.SIGTERM, errors
    assert "the same command continues" in errors and "Traceback" not in errors
    newest = max(path.name for path in tmp_path.glob(".resume/toy/*/stops/*.pt"))
    step = int(newest.split(".")[0])
    assert step in (4, 5), "a step may be on its way when the signal is noticed"
    said = run_there(tmp_path, [Case("stops", stage="toy", config=ODD)])
    assert f"continuing from step {step} of 6" in said
    first, second = (ended(tmp_path, "stops", rank) for rank in (0, 1))
    assert [a + b for a, b in zip(first.seen, second.seen, strict=True)] == whole.seen[step:]
    assert_close(first, whole)
    assert not (tmp_path / "stops.1.tsv").exists(), "only the main process writes"
