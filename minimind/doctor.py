"""What this machine has, which way training takes on it, how long the training of params.yaml will need, what is slow.

The answer comes in bounded time: what may take long happens in a process that is stopped then (`probe`).
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from minimind import config, machine, speed
from minimind.config import Runtime
from minimind.deadline import Child
from minimind.machine import GIB, MEND, STAGES, Abilities, Event, Shape
from minimind.progress import words
from minimind.speed import Examine, Findings, Rate

SECONDS = 10.0  # of the probe's steps
MORE_SECONDS = 7.5  # after which it is stopped; what is left of 10 is for ending it and for Python's own end
PEAK_SECONDS = 1.0  # of matrix products
MOST_STEPS = 1000  # of the probe, for each model

COMPILE = {"on": "always", "off": "never", "auto": "where a run is long enough to pay for it"}


def report(
    path: Path = config.PARAMS, seconds: float = SECONDS, more: float = MORE_SECONDS, examine: Examine = speed.examine
) -> Iterator[str]:
    """The doctor's findings, line by line, as they come; `examine` is stopped `seconds` + `more` after the start.

    Raises ConfigError.
    """
    moment = time.monotonic() + seconds + more
    params, runtime = config.read(path), config.runtime(path)
    load, findings = machine.look(), Findings()
    yield machine.description(load)
    with Child[Event](examine, path, seconds, MOST_STEPS, PEAK_SECONDS) as child:
        for event in findings.watch(child, moment):
            if isinstance(event, Abilities):
                yield from way(runtime, event)
    for section, rate in findings.rates().items():
        yield model(findings.shapes[section], rate, findings)
        for stage, of in STAGES.items():
            if of == section and stage in params:
                yield f"  {stage}: {duration(params[stage], params['pack']['max_seq_len'], rate)}"
    stopped = findings.trouble.startswith("slow")
    if stopped and not findings.complete:
        yield f"{findings.trouble}. {MEND}"
    elif findings.trouble and not stopped:
        yield findings.trouble
    slow = machine.slow(load, findings.abilities)
    yield from (f"slow: {reason}" for reason in slow)
    if not slow and findings.abilities is not None and not findings.trouble:
        yield "nothing is slow about this machine that could be mended here"


def way(runtime: Runtime, abilities: Abilities) -> Iterator[str]:
    """Which path of the code training takes here, and why."""
    if not abilities.gpus:
        yield "no CUDA GPU is used"
    for number, name in enumerate(abilities.gpus):
        yield f"GPU {number}: {name}"
    yield f"device {abilities.device}, matrix products in {abilities.dtype}, {abilities.threads} threads"
    if abilities.gpus:
        attention = "variable-length flash attention" if abilities.dtype == "bfloat16" else "masked attention"
        yield f"{attention}; torch.compile: {COMPILE[runtime.compile]}"
    elif abilities.kernels:
        yield "C kernels between the matrix products; attention per document"
    else:
        yield f"plain PyTorch, no C kernels: {abilities.why}; torch.compile: {COMPILE[runtime.compile]}"
    yield f"processes: {runtime.processes}, strategy {runtime.strategy}"


def model(shape: Shape, rate: Rate, findings: Findings) -> str:
    """What the probe has shown of a model, in one line."""
    per_second = shape.tokens / rate.seconds(shape.tokens, 1)
    reached = f"{'fewer than ' * rate.at_least}{per_second:,.0f} tokens/s in training with {shape.optimizer}, eager"
    if findings.peak is not None:
        peak = findings.peak.flops_per_second
        reached += (
            f", {6 * shape.active * per_second / peak:.0%} of what matrix products reach ({peak / 1e9:,.0f} GFLOP/s)"
        )
    return (
        f"{shape.section}: {shape.parameters:,} parameters; {reached}; about {shape.needed_bytes / GIB:.2f} GiB for "
        f"{shape.tokens:,} tokens at once"
    )


def duration(section: dict[str, Any], row_length: int, rate: Rate) -> str:
    """How long a section's training takes at this rate, in words."""
    steps, epochs = section.get("steps", 0), section.get("epochs", 0)
    if not steps:
        return f"{epochs} epochs of rows whose number is known once they are packed"
    tokens = steps * section["batch_size"] * row_length
    about = "more than" if rate.at_least else "about"
    return f"{steps:,} steps, {tokens:,} positions, {about} {words(rate.seconds(tokens, steps))}"
