"""One run of the product's loop for a benchmark: finished, repeatable, and timed step by step."""

from dataclasses import replace

import torch

from benchmarks import trial
from benchmarks.workload import Workload
from minimind.config import Runtime
from minimind.model import ModelConfig
from minimind.train import TrainConfig

MODEL = ModelConfig(32, 1, 2, 2, 48, qk_norm_init=1.6, vocab_size=600)
RUNTIME = Runtime(device="cpu", dtype="float32", compile="off")
CONFIG = TrainConfig(batch_size=2, steps=6, warmup_steps=1, log_every=2, validate_every=2, save_every=6)


def test_a_run_learns_and_equal_seeds_give_equal_runs(small_workload: Workload) -> None:
    runs = [trial.run(small_workload, MODEL, torch.float32, CONFIG, seed, RUNTIME) for seed in (1, 1, 2)]
    assert runs[0].curve == runs[1].curve != runs[2].curve
    assert [step for step, _ in runs[0].curve] == [2, 4, 6] and runs[0].steps == 6
    assert runs[0].bits == runs[0].curve[-1][1] < runs[0].curve[0][1]
    assert runs[0].tokens > 0 and runs[0].seconds > 0


def test_single_steps_are_timed_and_others_take_turns(small_workload: Workload) -> None:
    turns = []
    config = replace(CONFIG, steps=100, log_every=1, validate_every=100)
    samples = trial.step_seconds(
        small_workload, MODEL, torch.float32, config, RUNTIME, 4, lambda: turns.append(torch.randn(500, 500).det())
    )
    assert len(samples) == len(turns) == 4
    assert min(samples) > 0


def test_steps_follow_from_the_budget(small_workload: Workload) -> None:
    tokens_per_step = 2 * small_workload.packed.target_tokens / len(small_workload.packed)
    assert trial.steps(small_workload, 2, round(7 * tokens_per_step)) == 7
    assert trial.steps(small_workload, 2, 1) == 1
