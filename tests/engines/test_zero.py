"""DeepSpeed's stages in two processes against plain PyTorch in one, and states that wander between them."""

from pathlib import Path
from typing import Any

import pytest
from toy.training import MODEL, Case, assert_close, ended, run_here, run_there, start

from minimind.config import Runtime
from minimind.errors import UserError
from minimind.memory import training_bytes
from minimind.model import Decoder

ODD = {"batch_size": 7}  # so that one process has a row more, and some parts of the other are padding
STAGES = (1, 2, 3)
# Each step moves a bias up or down, so that after an odd number none is where it began.
BIASED: dict[str, Any] = {"experts": True, "router_bias_rate": 0.02, "config": {**ODD, "steps": 7}}


def zero(stage: int, **runtime: object) -> dict[str, object]:
    return {"strategy": "deepspeed", "zero_stage": stage, "micro_batch_size": 2, **runtime}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All cases, those of two processes in one start of theirs."""
    folder = tmp_path_factory.mktemp("zero")
    run_here(Case("one", config=ODD), folder)
    run_here(Case("experts", experts=True, config=ODD), folder)
    run_here(Case("biased", **BIASED), folder)
    run_here(Case("biased stopped", **BIASED, stop_at=3), folder)
    run_here(Case("rounded", config=ODD, runtime={"dtype": "bfloat16", "kernels": "auto"}), folder)
    run_here(Case("stopped", config=ODD, stop_at=3), folder)
    cases = [Case(f"zero {stage}", config=ODD, runtime=zero(stage)) for stage in STAGES]
    cases += [Case(f"continued {stage}", config=ODD, runtime=zero(stage), start="stopped") for stage in STAGES]
    cases += [Case(f"stopped {stage}", config=ODD, runtime=zero(stage), stop_at=3) for stage in STAGES]
    cases += [
        Case("offload 2", config=ODD, runtime=zero(2, offload=True)),
        Case("recomputed 3", config=ODD, runtime=zero(3, checkpoint_activations=True)),
        Case("experts 3", experts=True, config=ODD, runtime=zero(3)),
        *(Case(f"biased {stage}", **BIASED, runtime=zero(stage)) for stage in (1, 3)),
        *(Case(f"biased continued {stage}", **BIASED, runtime=zero(stage), start="biased stopped") for stage in (1, 3)),
        Case("biased stopped 3", **BIASED, runtime=zero(3), stop_at=3),
        Case("rounded 3", config=ODD, runtime=zero(3, dtype="bfloat16", kernels="auto")),
    ]
    run_there(folder, cases)
    for stage in STAGES:
        run_here(Case(f"back {stage}", config=ODD, start=f"stopped {stage}"), folder)
    return folder


@pytest.mark.parametrize("name", ["zero 1", "zero 2", "zero 3", "offload 2", "recomputed 3"])
def test_two_processes_end_where_one_does(folder: Path, name: str) -> None:
    assert_close(ended(folder, name), ended(folder, "one"))
    first, second = (ended(folder, name, rank) for rank in (0, 1))
    whole = ended(folder, "one")
    assert [a + b for a, b in zip(first.seen, second.seen, strict=True)] == whole.seen
    assert second.state == {} and second.steps == [] and second.curve == "", "only the main process writes"
    for weight in whole.weights:
        assert first.weights[weight].equal(second.weights[weight]), "every process ends with all weights"


def test_one_process_alone_ends_where_one_does(folder: Path) -> None:
    run_there(folder, [Case("alone", config=ODD, runtime=zero(1, offload=True))], processes=1)
    assert_close(ended(folder, "alone"), ended(folder, "one"))


def test_two_processes_end_where_one_does_with_experts(folder: Path) -> None:
    assert_close(ended(folder, "experts 3"), ended(folder, "experts"))


def test_biases_of_the_choice_of_experts_are_part_of_the_state(folder: Path) -> None:
    whole = ended(folder, "biased")
    bias = "model.layers.1.mlp.gate.e_score_correction_bias"
    assert whole.weights[bias].any() and ended(folder, "biased stopped 3").state["model"][bias].any()
    for name in ("biased 1", "biased 3", "biased continued 1", "biased continued 3"):
        assert_close(ended(folder, name), whole)
    assert_close(run_here(Case("biased back", **BIASED, start="biased stopped 3"), folder), whole)


def test_a_loss_that_is_not_finite_stops_them_all(tmp_path: Path) -> None:
    program = start(tmp_path, [Case("broken", runtime=zero(2), config=ODD, broken_at=4)], processes=2)
    _, errors = program.communicate(timeout=300)
    assert program.returncode != 0 and "step 4: loss nan" in errors and "state is memory.pt" in errors, errors
    assert not list(tmp_path.glob("broken.*"))


def test_the_kernels_read_weights_that_are_there(folder: Path) -> None:
    """In bf16, where rounding differs more than a comparison of weights would bear."""

    def losses(name: str) -> list[float]:
        return [float(line.split("\t")[2]) for line in ended(folder, name).curve.splitlines()[1:]]

    assert losses("rounded 3") == pytest.approx(losses("rounded"), rel=2e-3)


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_in_one_process_continues_in_two(folder: Path, stage: int) -> None:
    assert_close(ended(folder, f"continued {stage}"), ended(folder, "one"))


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_in_two_processes_continues_in_one(folder: Path, stage: int) -> None:
    stopped = ended(folder, f"stopped {stage}")
    assert stopped.state["state"]["step"] in (3, 4)
    assert_close(ended(folder, f"back {stage}"), ended(folder, "one"))


@pytest.mark.parametrize(
    ("config", "runtime", "named"),
    [
        ({"optimizer": "muon"}, {}, "`optimizer` to adamw"),
        ({}, {"compile": "on"}, "runtime.compile"),
        ({"skip_spikes": True}, {}, "skip_spikes"),
    ],
)
def test_what_it_cannot_do_is_refused(
    tmp_path: Path, config: dict[str, object], runtime: dict[str, object], named: str
) -> None:
    with pytest.raises(UserError, match=named):
        run_here(Case("refused", config=config, runtime=zero(1) | runtime), tmp_path)


def test_a_stage_that_there_is_not_is_refused_where_it_is_written() -> None:
    with pytest.raises(ValueError, match="runtime.zero_stage is 4: it must lie from 0 to 3"):
        Runtime(zero_stage=4)


def test_the_estimate_of_memory_knows_what_is_split() -> None:
    """Of fp32 numbers per parameter: weights, gradient, two moments, and from stage 1 on a copy of the weights."""
    model = Decoder(MODEL)
    whole, *split = (training_bytes(model, 0, False, stage, 4) for stage in (0, *STAGES))
    assert whole == model.num_parameters() * 4 * (4 + 1 + 1)  # the copy in the dtype of computation, and the message
    assert split == [model.num_parameters() * 4 * n for n in (2 + 3 / 4 + 1, 1 + 4 / 4 + 1, 5 / 4 + 1)]
    assert training_bytes(model, 0, False, 0, 1) == model.num_parameters() * 4 * (4 + 1)
