"""A training of moments for the tests, alone or in several processes: what `train.fit` does, without a pipeline.

As a program it trains the cases of `cases.json` in the current folder, one after the other, in as many processes as
`params.yaml` says or torchrun has started. `Ended` is what a case leaves behind, written by the main process.
"""

import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from minimind import distributed, files, hardware, lora
from minimind.batches import Batch, Batches, Source
from minimind.config import Runtime
from minimind.distributed import World
from minimind.engines.engine import Objective
from minimind.lora import LoraConfig
from minimind.model import Decoder, ModelConfig
from minimind.objectives.distillation import Distillation
from minimind.objectives.language import Language, bits_per_byte
from minimind.objectives.preference import Preference
from minimind.resume import Resume
from minimind.rows import Rows, RowWriter
from minimind.train import TrainConfig, train

ROOT = Path(__file__).parents[2]
NUM_ROWS, ROW_LENGTH, DOCUMENTS, TOP = 45, 24, 4, 3
SEED = 1
MODEL = ModelConfig(32, 2, 4, 2, 48, qk_norm_init=1.6, vocab_size=64)
EXPERTS = replace(MODEL, use_moe=True, num_experts=3, num_experts_per_tok=2, router_aux_loss_coef=0.1)
CONFIG = TrainConfig(
    batch_size=8, steps=6, optimizer="adamw", weight_decay=0.1, warmup_steps=2, log_every=2, validate_every=2,
    save_every=3,
)  # fmt: skip
RUNTIME = Runtime("cpu", "float32", 1, 1, "ddp", 1, False, 0, False, "off", "off", 1, "local", 8)
OBJECTIVES: dict[str, Objective] = {
    "language": Language(), "preference": Preference(0.3, nll=0.5), "distillation": Distillation(0.7, 2.0),
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One training. `config` and `runtime` change fields of those above."""

    name: str
    objective: str = "language"
    experts: bool = False
    double: bool = False  # parameters and products in fp64
    config: dict[str, Any] = field(default_factory=dict)
    runtime: dict[str, Any] = field(default_factory=dict)
    stage: str = ""  # of dvc.yaml, under whose name states are kept on disk; without one, in memory
    start: str = ""  # name of the case from whose last state to continue
    stop_at: int | None = None  # steps after which to stop as if asked to
    dies_at: int | None = None  # step in which the last process dies
    signal_at: int | None = None  # step in which the main process asks for SIGTERM to who started it
    broken_at: int | None = None  # step in which the loss is not a number
    router_bias_rate: float = 0.0  # of the experts
    lora_rank: int = 0


@dataclass
class Ended:
    """What a training leaves behind."""

    weights: dict[str, Tensor]
    state: dict[str, Any]  # the last one saved
    steps: list[int]  # after which states were saved
    seen: list[list[list[int]]]  # tokens of the rows that this process was given, by step
    curve: str

    @property
    def digest(self) -> str:
        """Of all weights and optimizer states, and the curve."""
        total = hashlib.sha256(self.curve.encode())

        def add(value: Any) -> None:
            if isinstance(value, Tensor):
                total.update(value.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
            elif isinstance(value, dict):
                for name in value:
                    total.update(str(name).encode())
                    add(value[name])
            elif isinstance(value, list | tuple):
                for item in value:
                    add(item)
            else:
                total.update(repr(value).encode())

        add([self.weights, self.state])
        return total.hexdigest()


class States:
    """Stands where `resume.Resume` does, and keeps the newest state in memory."""

    folder = Path("memory")

    def __init__(self, start: str = "", stop_at: int | None = None):
        self.saved = torch.load(f"{start}.0.pt", weights_only=True)["state"] if start else None
        self.stop_at, self.asked, self.steps = stop_at, 0, list[int]()

    @property
    def stop_requested(self) -> bool:
        self.asked += 1
        return self.asked == self.stop_at

    def load(self) -> dict[str, Any] | None:
        return self.saved

    def save(self, step: int, state: dict[str, Any]) -> None:
        self.steps.append(step)
        torch.save(state, "memory.pt")
        self.saved = torch.load("memory.pt", weights_only=True)

    def wait(self) -> None:
        """Nothing is written beside the loop."""

    def newest(self) -> Path | None:
        return Path("memory.pt") if self.saved else None


class Observed:
    """An objective that notes the rows that it is given, and lets happen what a case asks for."""

    def __init__(self, case: Case, world: World, resume: Any):
        self.case, self.world, self.resume = case, world, resume
        self.objective, self.seen = OBJECTIVES[case.objective], list[list[list[int]]]()

    def weight(self, batch: Batch) -> int:
        """The loop asks once a step."""
        self.seen.append([])
        return self.objective.weight(batch)

    def __call__(self, model: Decoder, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        self.seen[-1] += [row for row in batch["ids"].tolist() if any(row)]
        step = len(self.seen) - 1
        if step == self.case.dies_at and self.world.rank == self.world.size - 1:
            os._exit(7)
        if step == self.case.signal_at and self.world.main:
            os.kill(os.getppid(), signal.SIGTERM)
            while not self.resume.stop_requested:
                time.sleep(0.01)
        loss, metrics = self.objective(model, batch)
        return (loss * torch.nan if step == self.case.broken_at else loss), metrics


def write_rows(folder: Path) -> None:
    """Rows of four short documents, one row with two, that count upwards; uneven lengths and masks."""
    generator = np.random.default_rng(0)
    folder.mkdir()
    with RowWriter(folder / "train.arrow", ROW_LENGTH, MODEL.vocab_size) as writer:
        for number in range(NUM_ROWS):
            documents = []
            for _ in range(2 if number == 7 else DOCUMENTS):
                start, length = int(generator.integers(1, 50)), int(generator.integers(2, ROW_LENGTH // DOCUMENTS + 1))
                learn = [0, *generator.integers(0, 2, length - 1).tolist()]
                documents.append((list(range(start, start + length)), learn, length))
            writer.add(documents)
    files.write_manifest(folder)


def source(rows: Rows) -> Source:
    """The rows with what every objective wants beside them."""
    generator = np.random.default_rng(1)
    logits = generator.normal(size=(NUM_ROWS, ROW_LENGTH, TOP + 1))
    extras = {
        "reference": generator.normal(-5, 1, (NUM_ROWS, DOCUMENTS)).astype(np.float32),
        "teacher_ids": generator.permuted(np.tile(np.arange(64), (NUM_ROWS, ROW_LENGTH, 1)), axis=-1)[..., :TOP],
        "teacher_logprobs": np.log(np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)).astype(np.float32),
    }
    return Source(rows, extras=extras)


def run(case: Case, world: World, data: Path, resume: Any) -> Ended:
    """Train a case in the current folder, to its end or until it is to stop."""
    runtime, config = replace(RUNTIME, **case.runtime), replace(CONFIG, **case.config)
    _, dtype = hardware.setup(runtime)
    rows = Rows.open(data, "train")
    shape = replace(EXPERTS, router_bias_rate=case.router_bias_rate) if case.experts else MODEL
    model = Decoder(shape, torch.float64 if case.double else dtype).initialise(0)
    if case.double:
        model.double()
    lora.attach(model, LoraConfig(case.lora_rank), SEED)
    observed, curve = Observed(case, world, resume), Path(f"{case.name}.{world.rank}.tsv")
    objective = observed.objective if runtime.compile == "on" else observed  # which could not be compiled
    batches = Batches([source(rows)], config.batch_size, SEED)

    def validate(model: Decoder) -> dict[str, float]:
        return {"bits_per_byte": bits_per_byte(model, [batches.at(0)], rows.target_bytes)}

    try:
        train(
            model, objective, batches, config, validate=validate, resume=resume, run=None, runtime=runtime,
            curve=curve, world=world,
        )  # fmt: skip
    except SystemExit:
        if case.stop_at is None:
            raise
    weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
    steps = getattr(resume, "steps", [])
    saved = resume.load() if world.main else {}
    result = Ended(weights, saved, steps, observed.seen, curve.read_text() if curve.exists() else "")
    torch.save(vars(result), f"{case.name}.{world.rank}.pt")
    return result


def run_here(case: Case, folder: Path) -> Ended:
    """Train a case in this process, with its rows and files in `folder`."""
    if not (folder / "data").exists():
        write_rows(folder / "data")
    before = Path.cwd()
    os.chdir(folder)
    try:
        return run(case, World(), Path("data"), States(case.start, case.stop_at))
    finally:
        os.chdir(before)


def start(folder: Path, cases: Sequence[Case], processes: int, launcher: Sequence[str] = ()) -> "subprocess.Popen[str]":
    """Begin to train cases in a program of its own, which by default starts its processes itself."""
    if not (folder / "data").exists():
        write_rows(folder / "data")
    (folder / "cases.json").write_text(json.dumps([dataclasses.asdict(case) for case in cases]))
    (folder / "params.yaml").write_text(
        yaml.safe_dump({"runtime": dataclasses.asdict(replace(RUNTIME, processes=processes))})
    )
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"toy": {"cmd": "toy", "deps": ["data"]}}}))
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DVC_")}
    environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, *launcher, __file__], cwd=folder, env=inherited | environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def ended(folder: Path, name: str, rank: int = 0) -> Ended:
    """What the process of that rank was left with."""
    return Ended(**torch.load(folder / f"{name}.{rank}.pt", weights_only=True))


def assert_close(actual: Ended, expected: Ended) -> None:
    """The same within rounding: weights, moments, number of steps, and the curve to the digits that it keeps."""
    assert actual.weights.keys() == expected.weights.keys()
    for name, weight in expected.weights.items():
        torch.testing.assert_close(actual.weights[name], weight, rtol=1e-4, atol=1e-5, msg=name)
    for ours, theirs in zip(actual.state["optimizers"], expected.state["optimizers"], strict=True):
        assert ours["state"].keys() == theirs["state"].keys()
        for number, moments in theirs["state"].items():
            torch.testing.assert_close(ours["state"][number], moments, rtol=1e-3, atol=1e-6)
    names, *lines = (line.split("\t") for line in expected.curve.splitlines())
    other_names, *other_lines = (line.split("\t") for line in actual.curve.splitlines())
    assert names == other_names
    numbers, others = (np.array(table, dtype=float) for table in (lines, other_lines))
    np.testing.assert_allclose(others, numbers, rtol=1e-4)


def run_there(folder: Path, cases: Sequence[Case], processes: int = 2, launcher: Sequence[str] = ()) -> str:
    """Train cases in a program of its own, to its end; returns what it says."""
    program = start(folder, cases, processes, launcher)
    output, errors = program.communicate()
    assert program.returncode == 0, output + errors
    return output + errors


def main() -> None:
    """Train the cases of the current folder."""
    for case in (Case(**fields) for fields in json.loads(Path("cases.json").read_text())):
        world = distributed.join(torch.device("cpu"))
        if case.stage:
            with Resume(case.stage, case.name, reader=not world.main) as resume:
                run(case, world, Path("data"), resume)
        else:
            run(case, world, Path("data"), States(case.start, case.stop_at))


if __name__ == "__main__":
    distributed.run(main)
