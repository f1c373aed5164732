"""The training loop; there is no other. `train` fits a model, `fit` does so as a stage: resumable, tracked, written."""

import contextlib
import gc
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import torch
from torch import Tensor

from minimind import checkpoint, determinism, distributed, files, limits, loads, memory, optim, schedule, tracking
from minimind.batches import Batch, Batches
from minimind.config import Runtime
from minimind.distributed import World
from minimind.engines.engine import Engine, Objective
from minimind.engines.replicas import Replicas, forward_function
from minimind.engines.zero import Zero
from minimind.errors import UserError
from minimind.limits import Limits, Share
from minimind.losses import IGNORE
from minimind.model import Decoder
from minimind.process import STOPPED
from minimind.progress import Progress
from minimind.resume import Resume
from minimind.schedule import Schedule, factor
from minimind.tracking import Run

NUM_NORMS = 50  # recent gradient norms that say what is usual
ALONE = World()
NO_CURVE = "step\n"
SPIKE = 5.0  # times their median: above, a norm is a spike


class TrainingError(UserError):
    """Training can't go on; the message names the step and what to do."""


Decay = Annotated[float, Limits(0, 1, below=True)]  # of a running mean


@dataclass(frozen=True)
class TrainConfig:
    """How to train. Rates are peaks of the schedule. Raises ValueError naming the field."""

    batch_size: Annotated[int, Limits(1, 10**6)]  # rows per optimizer step, over all micro-batches
    steps: Annotated[int, Limits(0, 10**9)] = 0  # optimizer steps; or 0, and `epochs`; or both 0: no training
    epochs: Annotated[float, Limits(0, 10**4)] = 0.0  # passes over the first source of rows
    optimizer: optim.OptimizerName = "muon"
    learning_rate: Annotated[float, Limits(0, 10, above=True)] = 4e-3  # AdamW's
    matrix_learning_rate: Annotated[float, Limits(0, 10, above=True)] = 0.02  # Muon's, for hidden matrices
    betas: tuple[Decay, Decay] = (0.9, 0.95)
    momentum: Decay = 0.95
    weight_decay: Annotated[float, Limits(0, 10)] = 0.0
    grad_clip: Annotated[float, Limits(0, 10**6, above=True)] = 1.0
    warmup_steps: Annotated[int | float, Limits(0, 10**9)] = 20  # a float below 1 is a share of the steps
    schedule: Schedule = "wsd"
    decay_share: Share = 0.4
    final_learning_rate_share: Share = 0.0
    validate_every: Annotated[int, Limits(1, 10**9)] = 200
    log_every: Annotated[int, Limits(1, 10**9)] = 20
    save_every: Annotated[int, Limits(1, 10**9)] = 100
    skip_spikes: bool = False

    def __post_init__(self) -> None:
        limits.check(self)
        if self.steps > 0 and self.epochs > 0:
            raise ValueError(f"set either steps or epochs above 0, not both: steps {self.steps}, epochs {self.epochs}")
        if isinstance(self.warmup_steps, float) and self.warmup_steps >= 1:
            raise ValueError(
                f"warmup_steps is {self.warmup_steps}: it is a whole number of steps, or a share of them below 1"
            )
        if self.validate_every % self.log_every:
            raise ValueError(f"validate_every {self.validate_every} is not a multiple of log_every {self.log_every}")


def check(config: TrainConfig, runtime: Runtime, world: World, complete: bool) -> None:
    """Raise UserError where `runtime` can't do what a recipe asks for; `complete` says that all weights are trained."""
    distributed.check(runtime, config.batch_size, world)
    if runtime.strategy != "deepspeed" or runtime.zero_stage == 0:
        return
    if config.optimizer == "muon":
        raise UserError(
            "runtime.strategy is deepspeed, which splits matrices among processes, and Muon needs them whole: set "
            "the stage's `optimizer` to adamw, or runtime.strategy to ddp"
        )
    if runtime.compile == "on":
        raise UserError("runtime.compile is on, which runtime.strategy deepspeed can't: set it to auto or off")
    if config.skip_spikes:
        raise UserError(
            "skip_spikes is true, which runtime.strategy deepspeed can't: it measures a gradient as it applies it. "
            "Set skip_spikes to false, or runtime.strategy to ddp"
        )
    if not complete:
        raise UserError("lora.rank is above 0, which runtime.strategy deepspeed can't: set the latter to ddp")


def train(
    model: Decoder,
    objective: Objective,
    batches: Batches,
    config: TrainConfig,
    *,
    validate: Callable[[Decoder], dict[str, float]] | None,
    resume: Resume,
    run: Run | None,
    runtime: Runtime,
    curve: Path,
    world: World = ALONE,
) -> dict[str, float]:
    """Train `model` in place; return the final metrics and write the curve, a TSV with a line per `log_every` steps.

    Continues from the newest state in `resume`, bit for bit: nothing in the loop draws random numbers, and the
    batch is a function of the step. On SIGTERM or SIGINT it saves and exits with status 143. Only the main process of
    `world` writes, and only it has a `run` to tell of metrics.
    Raises TrainingError at a loss or gradient that is not finite, where rows are longer than the model takes, and
    where memory won't suffice.
    """
    row_length = batches.sources[0].rows.row_length
    if row_length > model.config.max_position_embeddings:
        raise TrainingError(
            f"rows of {row_length} tokens (pack.max_seq_len) don't fit a model of "
            f"{model.config.max_position_embeddings} positions (max_position_embeddings): change one of them"
        )
    complete = all(parameter.requires_grad for parameter in model.parameters())
    check(config, runtime, world, complete)
    own_rows = world.rows(config.batch_size)
    most_rows = -(-config.batch_size // world.size)
    micro_batch_size = runtime.rows_at_once(most_rows)
    zero_stage = runtime.zero_stage if runtime.strategy == "deepspeed" else 0
    memory.check(model, micro_batch_size * row_length, runtime, zero_stage, world.size)
    model.checkpoint_activations = runtime.checkpoint_activations
    max_documents = max(source.rows.max_documents for source in batches.sources)
    steps = num_steps(config, batches)
    optimizers = optim.build(
        model, config.optimizer, config.learning_rate, config.matrix_learning_rate, config.betas, config.momentum,
        config.weight_decay,
    )  # fmt: skip
    determinism.repeat(model.cos.device, runtime.deterministic)
    engine: Engine
    if zero_stage > 0:
        engine = Zero(model, objective, optimizers, runtime, world)
    else:
        forward = forward_function(model, objective, runtime, steps * config.batch_size * row_length)
        engine = Replicas(model, forward, optimizers, world)
    state: dict[str, Any] = {"step": 0, "tokens": 0, "window": {}, "norms": [], "curve": []}
    if (saved := world.share(resume.load() if world.main else None)) is not None:
        engine.load(saved)
        state = saved["state"]
        if world.main:
            print(f"{curve.stem}: continuing from step {state['step']} of {steps}", file=sys.stderr)

    bar = Progress(curve.stem, steps, "step", state["step"], show=world.main)
    counted, since = state["tokens"], time.monotonic()

    def judge() -> dict[str, float]:
        """What held-out data, if there is any, says of the model as it is."""
        if validate is None:
            return {}
        model.max_documents = None  # held-out rows may hold more
        return {f"validation_{name}": value for name, value in validate(engine.whole()).items()}

    def launch(step: int) -> Launched:
        """Compute a step, without waiting for its numbers."""
        model.max_documents = max_documents
        batch = batches.at(step)
        share = factor(
            step, steps, config.schedule, config.warmup_steps, config.decay_share, config.final_learning_rate_share
        )
        weight = max(1, objective.weight(batch))
        sums: dict[str, Tensor] = {}
        parts = split({name: value[own_rows] for name, value in batch.items()}, -(-most_rows // micro_batch_size))
        for part in parts:
            loss, metrics = engine.forward(move(part, model.cos.device))
            engine.backward(loss / weight)
            for name, value in {"loss": loss.detach(), **metrics}.items():
                sums[name] = sums[name] + value if name in sums else value
        asked = torch.full((), float(resume.stop_requested), device=model.cos.device)
        numbers = torch.stack([*sums.values(), asked])
        world.add(numbers)
        if model.config.use_moe and model.config.router_bias_rate and complete:
            model.rebalance(dict(zip(sums, numbers[:-1] / weight, strict=True)))
        # Whether the step before is settled depends on when a run was interrupted; what is a spike must not.
        norms = (state["norms"] if state["step"] < step else state["norms"][:-1])[-NUM_NORMS:]
        limit = SPIKE * median(norms) if len(norms) == NUM_NORMS else math.inf
        norm = engine.step(share, config.grad_clip, limit if config.skip_spikes else None)
        tokens = int((batch["documents"] > 0).sum())
        return Launched(step, share, weight, tokens, limit, [*sums], on_its_way(torch.cat((numbers, norm[None]))))

    def settle(launched: Launched) -> bool:
        """Take in the numbers of a step; returns whether a process was asked to stop."""
        nonlocal counted, since
        *totals, stop, norm = launched.numbers()
        sums = dict(zip(launched.names, totals, strict=True))
        if not (math.isfinite(norm) and all(map(math.isfinite, totals))):
            raise TrainingError(
                f"step {launched.step}: loss {sums['loss'] / launched.weight}, gradient norm {norm}. Lower the "
                f"learning rate or look at the batch of step {launched.step} (seed {batches.seed}); the last good "
                f"state is {resume.newest() or 'the start'}"
            )
        if norm > launched.limit and world.main:
            done = "skipped" if config.skip_spikes else "taken, shortened to grad_clip"
            print(f"step {launched.step}: the gradient's norm {norm:.3g} is a spike; the step was {done}",
                  file=sys.stderr)  # fmt: skip
        state["norms"] = [*state["norms"], norm][-NUM_NORMS - 1 :]
        state["step"] = launched.step + 1
        state["tokens"] += launched.tokens
        for name, total in {"units": float(launched.weight), **sums}.items():
            state["window"][name] = state["window"].get(name, 0.0) + total
        speed = (state["tokens"] - counted) / max(time.monotonic() - since, 1e-9)
        bar.update(1, f"loss {state['window']['loss'] / state['window']['units']:.3f}, {speed:,.0f} tokens/s")
        if state["step"] % config.log_every == 0 or state["step"] == steps:
            units = state["window"].pop("units")
            line = {"step": state["step"], "tokens": state["tokens"]}
            line |= {name: total / units for name, total in state["window"].items()}
            line |= {"learning_rate": config.learning_rate * launched.share, "gradient_norm": norm}
            if state["step"] % config.validate_every == 0 or state["step"] == steps:
                line |= judge()
                for expert in loads.dead(line) if world.main else ():
                    print(f"{curve.stem}: {expert} is dead, hardly any token visits it", file=sys.stderr)
            state["window"] = {}
            state["curve"].append(line)
            # Speed goes to the terminal and to MLflow, never into the curve: equal runs write equal files.
            counted, since = state["tokens"], time.monotonic()
            if run is not None:
                values = {name: float(value) for name, value in line.items() if name != "step"}
                run.log(state["step"], {**values, "tokens_per_second": speed})
        return stop > 0

    def save() -> None:
        values = {**engine.state(), "state": state}
        if world.main:
            resume.save(state["step"], values)

    if steps == 0:
        state["curve"] = [{"step": 0, "tokens": 0, **judge()}]
    # The numbers of a step are read while the next one computes, so that a GPU never waits for the host; but before
    # anything is written or measured, so that what is not finite stays out of it.
    unsettled: Launched | None = None
    first = state["step"]
    for step in range(first, steps):
        launched = launch(step)
        stop = settle(unsettled) if unsettled is not None else False
        unsettled = launched
        done = step + 1
        if stop or done % config.log_every == 0 or done % config.save_every == 0 or done == steps:
            stop |= settle(launched)
            unsettled = None
        if done == state["step"] and (stop or done % config.save_every == 0 or done == steps):
            save()
        if step == first:
            gc.freeze()  # what lives as long as the run needs no more looking through
        if stop:
            resume.wait()
            bar.close()
            if world.main:
                print(f"stopped at step {done} of {steps}; the same command continues from here", file=sys.stderr)
            sys.exit(STOPPED)
    bar.close()
    engine.finish()
    if world.main:
        files.write_text(curve, curve_text(state["curve"]))
    return {"steps": steps, "tokens": state["tokens"], **final_metrics(state["curve"][-1])}


def num_steps(config: TrainConfig, batches: Batches) -> int:
    """Optimizer steps of a run."""
    return config.steps or (batches.steps(config.epochs) if config.epochs else 0)


@dataclass(frozen=True)
class Launched:
    """A step that is on its way."""

    step: int
    share: float  # of the peak learning rate
    weight: int  # loss units of the whole batch
    tokens: int
    limit: float  # a gradient's norm above it is a spike
    names: list[str]  # of the sums
    numbers: Callable[[], list[float]]  # waits for the sums over the batch, processes asked to stop, gradient norm


def split(batch: Batch, parts: int) -> list[Batch]:
    """The rows in `parts` micro-batches of nearly equal size; without enough rows, some are a row of padding."""
    pieces: list[Batch] = []
    for indices in torch.arange(len(batch["ids"])).tensor_split(parts):
        piece = {name: value[indices] for name, value in batch.items()}
        if len(indices) == 0:
            piece = {name: value.new_zeros(1, *value.shape[1:]) for name, value in batch.items()}
            piece["targets"] = piece["targets"] + IGNORE
        pieces.append(piece)
    return pieces


def on_its_way(numbers: Tensor) -> Callable[[], list[float]]:
    """What waits for numbers (N,). From a GPU they are sent at once, and nothing that is queued later delays them."""
    if numbers.device.type != "cuda":
        return numbers.tolist
    copy = torch.empty_like(numbers, device="cpu", pin_memory=True).copy_(numbers, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record()

    def wait() -> list[float]:
        arrived.synchronize()
        return copy.tolist()

    return wait


def move(batch: Batch, device: torch.device) -> Batch:
    """The batch on the device; to a GPU through pinned memory, without waiting."""
    if device.type != "cuda":
        return {name: value.to(device) for name, value in batch.items()}
    return {name: value.pin_memory().to(device, non_blocking=True) for name, value in batch.items()}


def fit(
    stage: str,
    params: object,
    model: Decoder,
    objective: Objective,
    batches: Batches,
    config: TrainConfig,
    runtime: Runtime,
    *,
    validate: Callable[[Decoder], dict[str, float]] | None,
    inputs: dict[str, Path],
    tokenizer: Path,
    out: Path,
    metrics: Path,
    curve: Path,
    part: str = "",
    teacher: str = "",
    finish: Callable[[Decoder], Callable[[Path], None] | None] = lambda _: None,
) -> None:
    """Train as (a `part` of) `stage` and write its outputs: checkpoint folder, metrics and curve.

    With no step the tokenizer's files are those of the parent, whose chat template may be one of its own.

    `params` are the stage's sections and `inputs` its folders by role; both enter the checkpoint's lineage, and so
    does `teacher`, the digest of a parent whose folder the stage doesn't read. `finish` makes a plain model of what was
    trained, in place, and returns what writes further files into the checkpoint's folder, if anything.
    """
    lineage = checkpoint.lineage(stage, inputs, params) | {"part": part or stage}
    if teacher:
        lineage["inputs"]["parent"] = teacher
    if config.steps == config.epochs == 0:
        tokenizer = inputs.get("parent", tokenizer)
    if config.steps == config.epochs == 0 and "parent" not in inputs:
        raise TrainingError(f"{stage}.steps and {stage}.epochs are 0, which leaves random weights: set one of them")
    world = distributed.join(model.cos.device)
    if world.main:
        schedule.check(
            stage, num_steps(config, batches), config.schedule, config.warmup_steps, config.decay_share,
            config.final_learning_rate_share,
        )  # fmt: skip
    with Resume(stage, part, reader=not world.main) as resume, contextlib.ExitStack() as stack:
        run = None
        if world.main:
            run = stack.enter_context(tracking.start(part or stage, params, inputs=lineage["inputs"]))
        final = train(
            model, objective, batches, config, validate=validate, resume=resume, run=run, runtime=runtime, curve=curve,
            world=world,
        )  # fmt: skip
        if run is not None:
            checkpoint.save(out, model, tokenizer, lineage, more=finish(model))
            files.write_json(metrics, final)
            run.replay(curve)
            run.checkpoint(out, final)
        world.wait()


def pass_on(
    stage: str, params: object, parent: Path, device: torch.device, inputs: dict[str, Path], out: Path, metrics: Path,
    curve: Path,
) -> None:  # fmt: skip
    """In place of `fit`, where params.yaml has no data set for `stage`: its outputs, with the checkpoint `parent`."""
    if distributed.join(device).main:
        reason = f"params.yaml has no data.{stage}"
        print(f"{stage}: {reason}, so the model stays as it is")
        lineage = checkpoint.lineage(stage, inputs, params) | {"part": stage}
        checkpoint.pass_on(parent, out, lineage, reason)
        files.write_json(metrics, {})
        files.write_text(curve, NO_CURVE)


def leave_out(reason: str, device: torch.device, *outs: Path) -> None:
    """In place of `fit`, without a model to hand on: of each training a folder with the reason, metrics and curve."""
    if distributed.join(device).main:
        for out, metrics, curve in zip(outs[::3], outs[1::3], outs[2::3], strict=True):
            files.write_json(out / checkpoint.DISABLED, {"reason": reason})
            files.write_json(metrics, {})
            files.write_text(curve, NO_CURVE)


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
