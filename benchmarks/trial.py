"""One finished run of the product's own loop on a benchmark's text, with its states and its curve kept nowhere."""

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.workload import Workload
from minimind.batches import Batches, Source, validation
from minimind.config import Runtime
from minimind.model import Decoder, ModelConfig
from minimind.objectives.language import Language, bits_per_byte
from minimind.process import STOPPED
from minimind.resume import Resume
from minimind.tracking import Run
from minimind.train import TrainConfig, train

WARM_UP_STEPS = 3  # that compile and take memory, and so aren't timed

Point = tuple[int, float]
"""Optimizer steps, validation bits per byte after them."""


@dataclass(frozen=True)
class Trial:
    """What a finished run came to."""

    steps: int
    tokens: int  # targets that were learned from
    seconds: float  # as they passed, without validation; with compilation, if there was any
    bits: float  # per byte of the validation documents, at the end
    curve: list[Point]


class Stateless(Resume):
    """Stands where a stage's states do, and keeps none. Asks the loop to stop once `enough` says so."""

    def __init__(self, enough: Callable[[], bool] = lambda: False):
        self.folder, self._enough = Path(), enough

    @property
    def stop_requested(self) -> bool:
        """Whether `enough` says so."""
        return self._enough()

    def load(self) -> dict[str, Any] | None:
        """Nothing."""
        return None

    def wait(self) -> None:
        """Nothing is being written."""

    def newest(self) -> Path | None:
        """Nothing."""
        return None

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Keep nothing."""


class Listener(Run):
    """Stands where MLflow does, and hands every line of the curve to a function at once."""

    def __init__(self, hear: Callable[[int, Mapping[str, float]], None]):
        self._hear = hear

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Call the function with the step and its metrics."""
        self._hear(step, metrics)


def steps(workload: Workload, batch_size: int, num_tokens: int) -> int:
    """Optimizer steps of `batch_size` packed rows that learn from about `num_tokens` targets."""
    return max(1, round(num_tokens / (batch_size * workload.tokens_per_row(workload.packed))))


def run(
    workload: Workload, model: ModelConfig, dtype: torch.dtype, config: TrainConfig, seed: int, runtime: Runtime
) -> Trial:
    """Train a fresh model to the end of its schedule; `seed` decides its start and the order of the rows."""
    curve: list[Point] = []
    validating = 0.0
    tokens = 0
    decoder = Decoder(model, dtype).initialise(seed)
    source = Source(workload.packed_validation)

    def validate(decoder: Decoder) -> dict[str, float]:
        nonlocal validating
        begin = time.perf_counter()
        bits = bits_per_byte(decoder, validation(source, 8), workload.packed_validation.target_bytes)
        validating += time.perf_counter() - begin
        return {"bits_per_byte": bits}

    def hear(step: int, metrics: Mapping[str, float]) -> None:
        nonlocal tokens
        tokens = int(metrics["tokens"])
        if "validation_bits_per_byte" in metrics:
            curve.append((step, metrics["validation_bits_per_byte"]))

    batches = Batches([Source(workload.packed)], config.batch_size, seed)
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        train(
            decoder, Language(), batches, config, validate=validate, resume=Stateless(), run=Listener(hear),
            runtime=runtime, curve=Path(folder, "curve.tsv"),
        )  # fmt: skip
        seconds = time.perf_counter() - begin - validating
    number, bits = curve[-1]
    return Trial(number, tokens, seconds, bits, curve)


def step_seconds(
    workload: Workload, model: ModelConfig, dtype: torch.dtype, config: TrainConfig, runtime: Runtime,
    num_samples: int, between: Callable[[], None],
) -> list[float]:  # fmt: skip
    """Seconds of single steps of the run that `config` describes, which is left after so many.

    `between` is called after each one, off the clock, so that other sides can take their turns. The first
    WARM_UP_STEPS aren't counted.
    """
    samples: list[float] = []
    since = time.perf_counter()

    def hear(step: int, metrics: Mapping[str, float]) -> None:
        nonlocal since
        if len(samples) == WARM_UP_STEPS + num_samples:  # one more step was on its way
            return
        samples.append(time.perf_counter() - since)
        if step > WARM_UP_STEPS:
            between()
        since = time.perf_counter()

    assert config.log_every == 1, "each step is to be heard of"
    batches = Batches([Source(workload.packed)], config.batch_size, 0)
    resume = Stateless(lambda: len(samples) >= WARM_UP_STEPS + num_samples)
    decoder = Decoder(model, dtype).initialise(0)
    with tempfile.TemporaryDirectory() as folder:
        try:
            train(
                decoder, Language(), batches, config, validate=lambda decoder: {}, resume=resume,
                run=Listener(hear), runtime=runtime, curve=Path(folder, "curve.tsv"),
            )  # fmt: skip
        except SystemExit as stop:
            if stop.code != STOPPED:
                raise
    return samples[WARM_UP_STEPS:]
