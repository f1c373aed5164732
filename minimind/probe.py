"""A few steps of training, as a run would make them here, but eager: nothing is compiled by torch.

A compiled run is faster, and compiling takes longer than all that is asked here. Everything is told as it happens, to
a process that may lose its patience.
"""

import gc
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch

from minimind import architecture, capability, config, hardware, memory, optim
from minimind.config import Runtime
from minimind.distributed import World
from minimind.engines.replicas import Replicas
from minimind.kernels import cpu
from minimind.machine import STAGES, Abilities, Begun, Event, Peak, Shape, Step
from minimind.model import Decoder, ModelConfig
from minimind.objectives.language import Language

FIRST_TOKENS = 256  # of the first step, which shows how many the others may have
MOST_TOKENS = {"cpu": 4096, "mps": 4096, "cuda": 65536}  # of a step
MANY_STEPS = 100_000
"""What a stage is taken to have that says epochs, whose steps are known once its rows are packed."""

DOCUMENT = 128  # tokens
PEAK_SIZES = (256, 512, 1024, 2048)  # of matrices


def examine(path: Path, seconds: float, num_steps: int, peak_seconds: float) -> Iterator[Event]:
    """What training takes with the params of the file `path`: at most `num_steps` steps a model, in about `seconds`.

    Then, for `peak_seconds`, what matrix products reach. Raises ConfigError.
    """
    params, runtime = config.read(path), config.runtime(path)
    models = architecture.read(params, path, [section for section in architecture.SECTIONS if section in params])
    device, dtype = hardware.setup(runtime)
    torch.optim.AdamW([torch.zeros(1)])  # torch imports much of itself when the first optimizer is made
    yield abilities(runtime, device, dtype)
    end = time.monotonic() + seconds
    configs = {name: shape.with_vocabulary(params["tokenizer"]["vocab_size"]) for name, shape in models.items()}
    shapes = [describe(name, shape, params, runtime, device, dtype) for name, shape in configs.items()]
    yield from shapes
    for number, shape in enumerate(shapes):
        model = Decoder(configs[shape.section], dtype).initialise(1).to(device)
        model.checkpoint_activations = runtime.checkpoint_activations
        share = (end - time.monotonic()) / (len(shapes) - number)
        yield from steps(shape, model, row_length(params, model.config), num_steps, share)
    if peak_seconds > 0:
        yield Peak(peak_flops(device, dtype, peak_seconds))


def describe(
    section: str, shape: ModelConfig, params: dict[str, Any], runtime: Runtime, device: torch.device, dtype: torch.dtype
) -> Shape:
    """A model, and the step that its longest stage makes, as far as MOST_TOKENS allows."""
    longest = max(
        (params[stage] for stage, of in STAGES.items() if of == section and stage in params),
        key=lambda values: steps_of(values) * values["batch_size"],
    )
    with torch.device("meta"):
        model = Decoder(shape, dtype)
    tokens = runtime.rows_at_once(longest["batch_size"]) * row_length(params, shape)
    tokens = min(tokens, MOST_TOKENS[device.type])
    needed = memory.training_bytes(model, tokens, runtime.checkpoint_activations)
    return Shape(
        section, model.num_parameters(), model.num_parameters(active=True), needed, tokens,
        longest.get("optimizer", "muon"),
    )  # fmt: skip


def row_length(params: dict[str, Any], shape: ModelConfig) -> int:
    """Tokens in a row, no more than the model has positions: a run would refuse more."""
    return int(min(params["pack"]["max_seq_len"], shape.max_position_embeddings))


def abilities(runtime: Runtime, device: torch.device, dtype: torch.dtype) -> Abilities:
    """How training computes here, after `hardware.setup`."""
    kernels = cpu.covers(torch.empty(0, dtype=dtype, device=device))
    isa = capability.isa()
    kind = str(dtype).removeprefix("torch.")
    reasons = {
        f"they are for the CPU, and this is {device.type}": device.type != "cpu",
        "runtime.kernels is off": runtime.kernels == "off",
        "runtime.compile is on": runtime.compile == "on",
        "there is no C compiler, or it failed": True,
    }
    gpus = tuple(
        f"{properties.name}, {properties.total_memory / memory.GIB:.0f} GiB"
        for properties in map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    ) if device.type == "cuda" else ()  # fmt: skip
    return Abilities(
        str(device), kind, capability.native_bfloat16(device), isa, torch.get_num_threads(), kernels, runtime.compile,
        "" if kernels else next(reason for reason, holds in reasons.items() if holds), gpus,
    )  # fmt: skip


def steps(shape: Shape, model: Decoder, row_length: int, number: int, seconds: float) -> Iterator[Begun | Step]:
    """Train on made-up rows: FIRST_TOKENS, then as many of the shape's as fit into the seconds. Changes the model.

    The first step, cold, is always made; at most `number` are.
    """
    device = model.cos.device
    model.max_documents = -(-row_length // DOCUMENT)  # as a run knows it; a GPU would have to be waited for
    optimizers = optim.build(model, shape.optimizer, 1e-4, 1e-4, (0.9, 0.95), 0.95, 0.0)
    engine = Replicas(model, lambda batch: Language()(model, batch), optimizers, World())
    end, tokens, made = time.monotonic() + seconds, min(FIRST_TOKENS, shape.tokens), 0
    while True:
        batch = {name: value.to(device) for name, value in rows(tokens, row_length, model.config.vocab_size).items()}
        tokens = batch["ids"].numel()
        yield Begun(shape.section, tokens)
        begin = time.perf_counter()
        loss, _ = engine.forward(batch)
        engine.backward(loss / tokens)
        wait(device)
        middle = time.perf_counter()
        engine.step(1.0, 1.0, None).item()
        wait(device)
        passes, update = middle - begin, time.perf_counter() - middle
        yield Step(shape.section, tokens, passes, update)
        made += 1
        if made == 1:
            gc.freeze()
        # Half of what is left, so that there are two, unless one is as long as that already.
        left = end - time.monotonic()
        fits = int(tokens * (left / 2 - update) / passes)
        tokens = min(shape.tokens, max(tokens, fits))
        if made >= number or passes * tokens / batch["ids"].numel() + update > left:
            return


def rows(tokens: int, row_length: int, vocab_size: int) -> dict[str, torch.Tensor]:
    """A batch of about so many tokens: random ones, in documents of DOCUMENT. One row, if it takes no more."""
    length = min(tokens, row_length)
    count = tokens // length
    ids = torch.randint(0, vocab_size, (count, length), generator=torch.Generator().manual_seed(1))
    documents = (torch.arange(length) // DOCUMENT + 1).expand(count, -1).contiguous()
    return {"ids": ids, "targets": ids.roll(-1, 1), "documents": documents}


def wait(device: torch.device) -> None:
    """Until the device has done what it was told to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def peak_flops(device: torch.device, dtype: torch.dtype, seconds: float) -> float:
    """FLOP/s of matrix products, of the largest of PEAK_SIZES that leaves time for some: their median."""
    end, rates = time.monotonic() + seconds, [0.0]
    for size in PEAK_SIZES:
        matrix = torch.randn(size, size, device=device).to(dtype)
        times: list[float] = []
        while len(times) < 7 and (not times or time.monotonic() + times[-1] < end):
            begin = time.perf_counter()
            (matrix @ matrix)[0, 0].item()
            times.append(time.perf_counter() - begin)
        rates.append(2 * size**3 / median(times))
        if time.monotonic() + 2 * 8 * times[-1] > end:  # the next size takes eight times as long
            break
    return max(rates)


def steps_of(section: dict[str, Any]) -> int:
    """Steps of a section that trains; MANY_STEPS where it says epochs."""
    return int(section.get("steps", 0)) or (MANY_STEPS if section.get("epochs", 0) else 0)
