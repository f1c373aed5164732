"""What a run will take: the arithmetic by hand, a probe that never ends, and the real one on a small model."""

import math
import multiprocessing
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from minimind import cli, config, estimate, speed
from minimind.amounts import Amount
from minimind.config import ConfigError
from minimind.estimate import STAGE_SECONDS, Cost, Outlook
from minimind.machine import MEND, Abilities, Begun, Event, Load, Shape, Step
from minimind.speed import Rate

ROOT = Path(__file__).parents[1]
PATIENCE = 600.0  # seconds that the probe may take to begin, on however busy a machine
STAGES = (
    "fetch", "clean", "tokenizer", "pack", "pretrain", "sft", "reference", "dpo", "teacher", "distill", "evaluate",
    "report",
)  # fmt: skip
CHECKPOINTS = ("pretrain", "sft", "dpo", "distill", "control")
ALL = {*STAGES, *(f"evaluate@{name}" for name in CHECKPOINTS)} - {"evaluate"}
CPU = Abilities("cpu", "float32", False, "avx2", 2, True, "auto")


@pytest.fixture
def smoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The profile `smoke`, in place, in a clone that has run nothing."""
    for name in ("presets", "profiles"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copyfile(ROOT / "dvc.yaml", tmp_path / "dvc.yaml")
    monkeypatch.chdir(tmp_path)
    return shutil.copyfile("profiles/smoke.yaml", tmp_path / "params.yaml")


def fast(path: Path, seconds: float, num_steps: int, peak_seconds: float) -> Iterator[Event]:
    """A probe on a machine that takes 1 s for 1,000 tokens and nothing for the optimizer."""
    yield from (CPU, Shape("model", 1000, 1000, 0, 1000, "muon"), Shape("student", 500, 500, 0, 1000, "muon"))
    yield from (Begun("model", 1000), Step("model", 1000, 1.0, 0.0))


def stuck(path: Path, seconds: float, num_steps: int, peak_seconds: float) -> Iterator[Event]:
    """A probe whose first step never ends; it leaves its process id beside the params."""
    path.with_name("pid").write_text(str(os.getpid()))
    yield from (CPU, Shape("model", 1000, 1000, 0, 1000, "muon"), Begun("model", 256))
    time.sleep(PATIENCE)


def never_begins(path: Path, seconds: float, num_steps: int, peak_seconds: float) -> Iterator[Event]:
    time.sleep(PATIENCE)
    yield CPU


def broken(path: Path, seconds: float, num_steps: int, peak_seconds: float) -> Iterator[Event]:
    yield CPU
    raise MemoryError("no room for 9 GiB")


def outlook(**changes: Any) -> Outlook:
    """The profile `smoke` on a machine that takes 1 s for 1,000 tokens, and 0.1 s for the optimizer."""
    params = config.read(ROOT / "profiles" / "smoke.yaml")
    names = ("pretrain", "sft", "dpo", "prompts", "benchmark")
    amounts = {name: Amount(0.0, 0.0, 0.0, 0.0) for name in names}
    rates = {"model": Rate(0.001, 0.1), "student": Rate(0.0005, 0.1)}
    return replace(Outlook(params, amounts, rates, ALL, cores=2), **changes)


def seconds(costs: list[Cost]) -> dict[str, float]:
    return {cost.stage: cost.seconds for cost in costs}


def test_every_stage_has_a_cost_in_order() -> None:
    assert tuple(cost.stage for cost in outlook().costs()) == STAGES
    assert {name for name in outlook().stale if not name.startswith("evaluate@")} | {"evaluate"} == set(STAGES)


def test_training_takes_its_tokens_at_the_rate_and_the_optimizer_s_steps() -> None:
    found = seconds(outlook().costs())
    # 20 steps of 4 rows of 256 tokens.
    assert found["pretrain"] == pytest.approx(STAGE_SECONDS + 20 * 4 * 256 / 1000 + 20 * 0.1)
    # The student, and the control. Each is judged three times, on a fifth of 8 rows of text, which are only read.
    student = 20 * 4 * 256 / 2000 + 20 * 0.1 + 3 * 0.2 * 8 * 256 / 3 / 2000
    assert found["distill"] == pytest.approx(STAGE_SECONDS + 2 * student)
    params = outlook().params
    alone = outlook(params={**params, "distill": {**params["distill"], "control": False}}).costs()
    assert seconds(alone)["distill"] == pytest.approx(STAGE_SECONDS + student)
    shared = seconds(outlook(processes=4).costs())
    assert shared["sft"] == pytest.approx(STAGE_SECONDS + 20 * 4 * 256 / 4000 + 20 * 0.1)


def test_epochs_become_steps_by_the_size_of_the_data() -> None:
    section = {"steps": 0, "epochs": 2.0, "batch_size": 10}
    assert estimate.num_steps(section, 100, 50_000) == 100
    assert math.isnan(estimate.num_steps(section, 100, math.nan))
    assert estimate.num_steps({"steps": 7}, 100, math.nan) == 7 and estimate.num_steps({"epochs": 0.0}, 1, 1) == 0


def test_the_student_s_epochs_are_of_what_the_teacher_hands_on() -> None:
    params = outlook().params
    params["distill"] |= {"steps": 0, "epochs": 3.0, "control": False}
    found = outlook(params=params, amounts={**outlook().amounts, "prompts": Amount(0.0, 100.0, 0.0, 0.0)})
    tokens = 3 * (8 * 256 + 100 * 2 * estimate.ANSWER_TOKENS)
    steps = tokens / (4 * 256)
    judged = (steps // 10 + 1) * found.taught * params["teacher"]["validation_share"] / 3
    assert seconds(found.costs())["distill"] == pytest.approx(
        STAGE_SECONDS + tokens / 2000 + steps * 0.1 + judged / 2000
    )


def test_data_take_their_bytes_and_answers_their_number() -> None:
    amounts = {
        "pretrain": Amount(8e6, 1.0, 10_000, 0.0), "sft": Amount(4e6, 1.0, 0.0, 5e7), "dpo": Amount(2e6, 9.0, 0.0, 0.0),
        "prompts": Amount(2e6, 100.0, 0.0, 0.0), "benchmark": Amount(),
    }  # fmt: skip
    found = seconds(outlook(amounts=amounts).costs())
    assert found["fetch"] == pytest.approx(STAGE_SECONDS + 10_000 * estimate.RECORD_SECONDS + 5.0)
    assert found["clean"] == pytest.approx(STAGE_SECONDS + 16e6 / 2 / estimate.CLEAN_RATE)
    # tokenizer.max_bytes is 200,000.
    assert found["tokenizer"] == pytest.approx(STAGE_SECONDS + 2e5 / estimate.TOKENIZER_RATE)
    # Two million bytes of pairs are 400,000 tokens, which are only read.
    assert found["reference"] == pytest.approx(STAGE_SECONDS + 4e5 / 3 / 1000)
    # 100 answers; 8 rows and, for each, its prompt and answer are read.
    read = 8 * 256 + 100 * 2 * estimate.ANSWER_TOKENS
    assert found["teacher"] == pytest.approx(STAGE_SECONDS + 100 * estimate.ANSWER_TOKENS / 1000 + read / 3 / 1000)
    # 24 questions to three models and two students of half their cost.
    asked = 24 * estimate.REPORTS_PER_ITEM * estimate.ANSWER_TOKENS / 1000
    assert found["evaluate"] == pytest.approx(5 * STAGE_SECONDS + (3 + 2 / 2) * asked)


def test_only_what_is_stale_costs() -> None:
    costs = outlook(stale={"dpo", "evaluate@dpo", "report"}).costs()
    assert [cost.stage for cost in costs] == ["dpo", "evaluate", "report"]
    assert costs[1].work.startswith("dpo: 24 questions")
    assert [cost.stage for cost in outlook(stale={"fetch"}).costs()] == ["fetch"]


def test_a_missing_data_set_costs_nothing(smoke: Path) -> None:
    text = smoke.read_text(encoding="utf-8")
    data = "data: {pretrain: [{uri: 'atlas:pretrain', count: 100, seed: 1}], sft: null}\n\nclean:"
    smoke.write_text(text[: text.index("data:")] + data + text.partition("\nclean:")[2], encoding="utf-8")
    lines = {line.split()[0]: line for line in estimate.report(smoke, examine=fast)}
    assert "20 steps" in lines["pretrain"] and "about" in lines["in"]
    for stage in ("sft", "dpo", "distill"):
        assert lines[stage].endswith("nothing to train on")
    assert "0 questions" in lines["evaluate"]


def test_what_is_not_known_is_said() -> None:
    unknown = {**outlook().amounts, "sft": Amount(math.nan, math.nan, 0.0, math.nan)}
    params = outlook().params
    epochs = {**params, "sft": {**params["sft"], "steps": 0, "epochs": 1.0}}
    lines = {line.split()[0]: line for line in map(str, outlook(amounts=unknown, params=epochs, rates={}).costs())}
    assert "not known" in lines["fetch"] and "download of a size that is not known yet" in lines["fetch"]
    assert "steps of 1,024 tokens, their number not known yet" in lines["sft"]
    assert "not known" in lines["pretrain"] and "20 steps of 1,024 tokens" in lines["pretrain"]
    assert "about" in lines["report"]
    least = outlook(rates={"model": Rate(1.0, 0.0, at_least=True), "student": Rate(1.0, 0.0)}).costs()
    assert [cost.stage for cost in least if "more than" in str(cost)] == [
        "pretrain", "sft", "reference", "dpo", "teacher", "evaluate",
    ]  # fmt: skip


def test_the_report_has_a_line_a_stage_and_a_sum(smoke: Path) -> None:
    head, *lines = estimate.report(smoke, 1.0, PATIENCE, fast)
    assert "if nothing of it is cached (by 1 eager step on cpu in float32 with 2 threads)" in head
    assert [line.split()[0] for line in lines[: len(STAGES)]] == list(STAGES)
    assert all(re.match(r"  \w+ +about \d+ s", line) for line in lines[: len(STAGES)])
    assert re.match(r"  in all +about \d+ (s|min)$", lines[len(STAGES)])
    assert len(lines) == len(STAGES) + 2 and lines[-1].startswith("bottleneck: ")


def test_a_probe_that_never_ends_is_stopped_and_the_mend_is_said(smoke: Path) -> None:
    lines = list(estimate.report(smoke, 0.5, PATIENCE, stuck))
    assert not psutil.pid_exists(int(smoke.with_name("pid").read_text())) and not multiprocessing.active_children()
    (said,) = (line for line in lines if line.startswith("slow: the probe was stopped "))
    assert said.endswith(MEND) and all(mend in MEND for mend in ("PROFILE=smoke", "fewer steps", "a GPU"))
    assert any(re.match(r"  in all +more than", line) for line in lines)


def test_one_that_does_not_even_begin_is_stopped_too(smoke: Path) -> None:
    lines = list(estimate.report(smoke, PATIENCE, 0.5, never_begins))
    assert not multiprocessing.active_children()
    assert sum(line.startswith("slow: the probe was stopped while it imported torch") for line in lines) == 1
    assert any("pretrain   not known" in line for line in lines)


def test_a_probe_that_fails_is_told_and_stops_nothing(smoke: Path) -> None:
    lines = list(estimate.report(smoke, 1.0, PATIENCE, broken))
    assert "the probe failed, and so may training: MemoryError: no room for 9 GiB" in lines
    assert any(line.startswith("  in all") for line in lines)


def test_where_nothing_is_stale_nothing_is_probed(smoke: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate.freshness, "stale", lambda root: set())
    assert list(estimate.report(smoke, PATIENCE, PATIENCE, never_begins)) == [
        "estimate: nothing to do, every stage is as dvc.lock has it"
    ]
    assert not multiprocessing.active_children()


def test_the_real_probe_on_a_small_model(smoke: Path) -> None:
    lines = list(estimate.report(smoke, PATIENCE / 100, PATIENCE, speed.examine))
    assert any(re.match(r"  pretrain +about \d+ s +20 steps of 1,024 tokens, [\d,]+ tokens/s", line) for line in lines)


def test_a_mistake_in_params_is_named(smoke: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = smoke.read_text(encoding="utf-8")
    smoke.write_text(text.replace("preset: atlas", "preset: atlsa", 1), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"model\.preset.*did you mean `atlas`"):
        list(estimate.report(smoke, 1.0, PATIENCE))
    smoke.unlink()
    assert cli.main(["estimate"]) == 1
    assert "params.yaml is missing: run from the root of the repository" in capsys.readouterr().err


def test_a_machine_with_nothing_slow_has_a_bottleneck_still() -> None:
    good = Load(8, 0.0, 2**34, 0.4, 0, "cc")
    amx = replace(CPU, dtype="bfloat16", native=True, isa="amx", threads=8)
    assert "a GPU is faster" in estimate.bottleneck(good, amx)
    assert estimate.bottleneck(good, replace(amx, device="cuda:0")) == "the matrix products of cuda:0"
    assert estimate.bottleneck(replace(good, busy=1.0), CPU).endswith("`minimind doctor` names more")


def test_make_repro_begins_with_it_and_goes_on_without_it() -> None:
    command = ["make", "--dry-run", "--old-file", ".venv/installed", "repro"]
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    recipe = [line for line in lines if "minimind" in line or "dvc" in line]
    assert recipe == [".venv/bin/minimind estimate || true", ".venv/bin/dvc repro"]
