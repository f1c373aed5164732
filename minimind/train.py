"""The training loop; there is no other. `train` fits a model, `fit` does so as a stage: resumable, tracked, written."""

import math
import os
import shutil
import sys
import sysconfig
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from minimind import checkpoint, files, loads, optim, tracking
from minimind.batches import Batch, Batches
from minimind.config import Runtime
from minimind.errors import UserError
from minimind.model import Decoder
from minimind.process import STOPPED
from minimind.resume import Resume
from minimind.schedule import Schedule, factor
from minimind.tracking import Run


class TrainingError(UserError):
    """Training can't go on; the message names the step and what to do."""


@dataclass(frozen=True)
class TrainConfig:
    """How to train. Rates are peaks of the schedule. Raises ValueError naming the field."""

    batch_size: int  # rows per optimizer step, over all micro-batches
    steps: int = 0  # optimizer steps; or 0, and `epochs`
    epochs: float = 0.0  # passes over the first source of rows
    optimizer: optim.OptimizerName = "muon"
    learning_rate: float = 4e-3  # AdamW's
    matrix_learning_rate: float = 0.02  # Muon's, for hidden matrices
    betas: tuple[float, float] = (0.9, 0.95)
    momentum: float = 0.95
    weight_decay: float = 0.0
    grad_clip: float = 1.0
    warmup_steps: int = 20
    schedule: Schedule = "wsd"
    decay_share: float = 0.4
    final_learning_rate_share: float = 0.0
    validate_every: int = 200
    log_every: int = 20
    save_every: int = 100

    def __post_init__(self) -> None:
        if (self.steps > 0) == (self.epochs > 0):
            raise ValueError(f"set either steps or epochs above 0, not both: steps {self.steps}, epochs {self.epochs}")
        for name in ("batch_size", "validate_every", "log_every", "save_every"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}: it counts from 1")
        for name in ("learning_rate", "matrix_learning_rate", "grad_clip"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be above 0")
        for name in ("weight_decay", "warmup_steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}: it can't be negative")
        for name in ("decay_share", "final_learning_rate_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}: a share lies between 0 and 1")
        if self.validate_every % self.log_every:
            raise ValueError(f"validate_every {self.validate_every} is not a multiple of log_every {self.log_every}")


class Objective(Protocol):
    """What is minimised. Sums, not means: the loop divides once, by the weight of the whole batch."""

    def weight(self, batch: Batch) -> int:
        """Number of loss units in the batch."""

    def __call__(self, model: Decoder, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Summed loss and summed metrics, 0-dim fp32."""


def forward_function(
    model: Decoder, objective: Objective, runtime: Runtime, tokens: int
) -> Callable[[Batch], tuple[Tensor, dict[str, Tensor]]]:
    """The objective on this model, compiled where that pays.

    With `runtime.compile: auto` a run is compiled if a C++ compiler and Python's headers are there and the run is
    long: the eager loop would need minutes.
    The choice depends on the run and the machine, never on a clock, so that equal runs take equal paths.
    """

    def forward(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        return objective(model, batch)

    long = 6.0 * model.num_parameters() * tokens > 1e13
    compiler = shutil.which(os.environ.get("CXX", "g++")) is not None
    headers = Path(sysconfig.get_path("include"), "Python.h").is_file()
    possible = compiler and headers
    if runtime.compile == "on" or (runtime.compile == "auto" and long and possible):
        return torch.compile(forward, fullgraph=True, dynamic=False)
    return forward


def train(
    model: Decoder,
    objective: Objective,
    batches: Batches,
    config: TrainConfig,
    *,
    validate: Callable[[Decoder], dict[str, float]],
    resume: Resume,
    run: Run,
    runtime: Runtime,
    curve: Path,
) -> dict[str, float]:
    """Train `model` in place; return the final metrics and write the curve, a TSV with a line per `log_every` steps.

    Continues from the newest state in `resume`, bit for bit: nothing in the loop draws random numbers, and the
    batch is a function of the step. On SIGTERM or SIGINT it saves and exits with status 143.
    Raises TrainingError at a loss or gradient that is not finite, and where rows are longer than the model takes.
    """
    row_length = batches.sources[0].rows.row_length
    if row_length > model.config.max_position_embeddings:
        raise TrainingError(
            f"rows of {row_length} tokens (pack.max_seq_len) don't fit a model of "
            f"{model.config.max_position_embeddings} positions (max_position_embeddings): change one of them"
        )
    steps = config.steps or batches.steps(config.epochs)
    optimizers = optim.build(
        model, config.optimizer, config.learning_rate, config.matrix_learning_rate, config.betas, config.momentum,
        config.weight_decay,
    )  # fmt: skip
    peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    state: dict[str, Any] = {"step": 0, "tokens": 0, "window": {}, "curve": []}
    if (saved := resume.load()) is not None:
        model.load_state_dict(saved["model"])
        for optimizer, values in zip(optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(values)
        state = saved["state"]
        print(f"{curve.stem}: continuing from step {state['step']} of {steps}", file=sys.stderr)

    def save() -> None:
        weights = {"model": model.state_dict(), "optimizers": [optimizer.state_dict() for optimizer in optimizers]}
        resume.save(state["step"], {**weights, "state": state})

    forward = forward_function(model, objective, runtime, steps * config.batch_size * row_length)
    micro_batch_size = runtime.micro_batch_size or config.batch_size
    bar = tqdm(total=steps, initial=state["step"], unit="step", desc=curve.stem, disable=None, mininterval=1)
    counted, since = state["tokens"], time.monotonic()
    while state["step"] < steps:
        step = state["step"]
        share = factor(
            step, steps, config.schedule, config.warmup_steps, config.decay_share, config.final_learning_rate_share
        )
        for optimizer, rates in zip(optimizers, peaks, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * share
        batch = {name: value.to(model.cos.device) for name, value in batches.at(step).items()}
        weight = max(1, objective.weight(batch))
        sums: dict[str, float] = {"units": float(weight)}
        for start in range(0, config.batch_size, micro_batch_size):
            loss, metrics = forward({name: value[start : start + micro_batch_size] for name, value in batch.items()})
            (loss / weight).backward()
            for name, value in {"loss": loss, **metrics}.items():
                sums[name] = sums.get(name, 0.0) + value.item()
        norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip))
        if not (math.isfinite(norm) and math.isfinite(sums["loss"])):
            raise TrainingError(
                f"step {step}: loss {sums['loss'] / weight}, gradient norm {norm}. Lower the learning rate or "
                f"look at the batch of step {step} (seed {batches.seed}); the last good state is in {resume.folder}"
            )
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if model.config.use_moe and model.config.router_bias_rate:
            model.rebalance({name: total / weight for name, total in sums.items()})

        state["step"] += 1
        state["tokens"] += int((batch["documents"] > 0).sum())
        for name, total in sums.items():
            state["window"][name] = state["window"].get(name, 0.0) + total
        if state["step"] % config.log_every == 0 or state["step"] == steps:
            units = state["window"].pop("units")
            line = {"step": state["step"], "tokens": state["tokens"]}
            line |= {name: total / units for name, total in state["window"].items()}
            line |= {"learning_rate": config.learning_rate * share, "gradient_norm": norm}
            if state["step"] % config.validate_every == 0 or state["step"] == steps:
                line |= {f"validation_{name}": value for name, value in validate(model).items()}
                for expert in loads.dead(line):
                    print(f"{curve.stem}: {expert} is dead, hardly any token visits it", file=sys.stderr)
            state["window"] = {}
            state["curve"].append(line)
            # Speed goes to the terminal and to MLflow, never into the curve: equal runs write equal files.
            speed = (state["tokens"] - counted) / (time.monotonic() - since)
            counted, since = state["tokens"], time.monotonic()
            run.log(state["step"], {**{name: float(value) for name, value in line.items() if name != "step"},
                                    "tokens_per_second": speed})  # fmt: skip
            bar.set_postfix_str(f"loss {line['loss']:.3f}, {speed:,.0f} tokens/s", refresh=False)
        bar.update()
        if resume.stop_requested:
            save()
            bar.close()
            print(f"stopped at step {state['step']} of {steps}; the same command continues from here", file=sys.stderr)
            sys.exit(STOPPED)
        if state["step"] % config.save_every == 0 or state["step"] == steps:
            save()
    bar.close()
    files.write_text(curve, curve_text(state["curve"]))
    return {"steps": steps, "tokens": state["tokens"], **final_metrics(state["curve"][-1])}


def fit(
    stage: str,
    params: object,
    model: Decoder,
    objective: Objective,
    batches: Batches,
    config: TrainConfig,
    runtime: Runtime,
    *,
    validate: Callable[[Decoder], dict[str, float]],
    inputs: dict[str, Path],
    tokenizer: Path,
    out: Path,
    metrics: Path,
    curve: Path,
    part: str = "",
    teacher: str = "",
) -> None:
    """Train as (a `part` of) `stage` and write its outputs: checkpoint folder, metrics and curve.

    `params` are the stage's sections and `inputs` its folders by role; both enter the checkpoint's lineage, and so
    does `teacher`, the digest of a parent whose folder the stage doesn't read.
    """
    lineage = checkpoint.lineage(stage, inputs, params) | {"part": part or stage}
    if teacher:
        lineage["inputs"]["parent"] = teacher
    with Resume(stage, part) as resume, tracking.start(part or stage, params, inputs=lineage["inputs"]) as run:
        final = train(
            model, objective, batches, config, validate=validate, resume=resume, run=run, runtime=runtime, curve=curve
        )
        checkpoint.save(out, model, tokenizer, lineage)
        files.write_json(metrics, final)
        run.replay(curve)
        run.checkpoint(out, final)


def final_metrics(line: dict[str, float]) -> dict[str, float]:
    """What the last line of a curve says about quality, without step, rate, norm or the loads of experts."""
    others = ("step", "tokens", "learning_rate", "gradient_norm")
    return {k: v for k, v in line.items() if k not in others and "load_" not in k}


def curve_text(lines: list[dict[str, float]]) -> str:
    """A curve as tab-separated text: counts whole, the rest to six digits; what a line lacks is left empty."""
    names = list(dict.fromkeys(name for line in lines for name in line))

    def cell(value: float | None) -> str:
        if value is None:
            return ""
        return str(value) if isinstance(value, int) else f"{value:.6g}"

    rows = ["\t".join(cell(line.get(name)) for name in names) for line in lines]
    return "\n".join(["\t".join(names), *rows]) + "\n"
