"""What this machine has, which way training takes on it, and how long the stages of params.yaml will need.

The estimate is one formula: 6 floating-point operations per parameter that a token passes and per token (2 forward,
4 backward; attention left out), divided by the rate that a probe of the same model reaches here.
"""

import gc
import os
import platform
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import torch

from minimind import config, hardware, memory, optim
from minimind.config import Runtime
from minimind.distributed import World
from minimind.engines.replicas import Replicas, compiles, forward_function
from minimind.errors import UserError
from minimind.kernels import cpu
from minimind.model import Decoder, ModelConfig
from minimind.objectives.language import Language

GIB = 2**30
PROBE_SECONDS = 10.0
PROBE_TOKENS = 4096  # in a step
DOCUMENT = 128  # tokens
STAGES = {"pretrain": "model", "sft": "model", "dpo": "model", "distill": "student"}
"""Sections of params.yaml that train, and the section of the model that each trains."""

MANY_STEPS = 100_000
"""What a stage is taken to have that says epochs, whose steps are known once its rows are packed."""

TOKENS_PER_BYTE = 4e9 / 20e9
"""Of a file of JSON lines, by MiniMind's own count: 20 GB make about 4G tokens."""
TOKENS = {
    **{name: TOKENS_PER_BYTE * 1e9 * size for name, size in {
        "pretrain_hq": 1.6, "sft_mini_512": 1.2, "sft_512": 7.5, "sft_1024": 5.6, "r1_mix_1024": 0.34,
        "pretrain_t2t_mini": 1.2, "pretrain_t2t": 10.0, "sft_t2t_mini": 1.6, "sft_t2t": 14.0,
    }.items()},
    "pretrain_data": 10e9, "sft_data_multi": 3e9,
}  # fmt: skip
"""Of MiniMind's files, by their documented sizes in GB; of V1's, what its README says of the collections they are from,
which is more than the files hold."""


@dataclass(frozen=True)
class Device:
    """What an estimate assumes of a rented GPU. Nothing of it was measured."""

    name: str = "RTX 3090, 24 GB"
    peak_flops: float = 71e12  # dense products of bf16, sums in fp32, by the maker
    share: float = 0.4  # of the peak that training reaches
    dollars_per_hour: float = 0.25

    def __post_init__(self) -> None:
        for name in ("peak_flops", "share", "dollars_per_hour"):
            if getattr(self, name) <= 0:
                raise UserError(f"{name} is {getattr(self, name)}, expected more than 0")


@dataclass(frozen=True)
class Teacher:
    """What `config.load` reads of the model that is trained first."""

    model: ModelConfig


@dataclass(frozen=True)
class Student:
    """What it reads of the one that is distilled."""

    student: ModelConfig


COMPILE = {"on": "always", "off": "never", "auto": "where a run is long enough to pay for it"}
SECTIONS: dict[str, Any] = {"model": Teacher, "student": Student}


@dataclass(frozen=True)
class Probe:
    """What a few steps of training showed."""

    tokens_per_second: float
    flops_per_second: float  # by the formula
    peak_flops: float  # of a large matrix product


def report(path: Path = config.PARAMS, seconds: float = PROBE_SECONDS) -> Iterator[str]:
    """The doctor's findings, line by line, as they come. Raises ConfigError."""
    params, runtime = config.read(path), config.runtime(path)
    device, dtype = hardware.setup(runtime)
    yield from machine(device)
    yield from way(runtime, device, dtype)
    for section in SECTIONS:
        if section not in params:
            continue
        shape = config.load(SECTIONS[section], path, config.preset(section, path))
        architecture = getattr(shape, section).with_vocabulary(params["tokenizer"]["vocab_size"])
        model = Decoder(architecture, dtype).initialise(1).to(device)
        row_length = params["pack"]["max_seq_len"]
        stages = {stage: params[stage] for stage, of in STAGES.items() if of == section and stage in params}
        longest = max(stages.values(), key=lambda values: num_steps(values) * values["batch_size"])
        optimizer = longest.get("optimizer", "muon")
        tokens = num_steps(longest) * longest["batch_size"] * row_length
        compiled = ", compiled" if compiles(model, runtime, tokens) else ""
        found = probe(model, runtime, row_length, seconds, optimizer, tokens)
        needed = memory.training_bytes(model, max(PROBE_TOKENS, row_length), runtime.checkpoint_activations)
        yield (
            f"{section}: {model.num_parameters():,} parameters; {found.tokens_per_second:,.0f} tokens/s in training "
            f"with {optimizer}{compiled}, {found.flops_per_second / found.peak_flops:.0%} of what matrix products "
            f"reach ({found.peak_flops / 1e9:,.0f} GFLOP/s); about {needed / GIB:.2f} GiB for {PROBE_TOKENS:,} tokens "
            "at once"
        )
        for stage, values in stages.items():
            yield f"  {stage}: {duration(values, row_length, found.tokens_per_second)}"


def processor() -> str:
    """The processor's name."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return name or platform.processor() or platform.machine()


def machine(device: torch.device) -> Iterator[str]:
    """Processor, memory, GPUs, versions."""
    yield (
        f"machine: {processor()}, {os.cpu_count()} cores, "
        f"{psutil.virtual_memory().total / GIB:.0f} GiB; {platform.system()}, Python {platform.python_version()}, "
        f"torch {torch.__version__}"
    )
    if device.type == "cuda":
        for number in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(number)
            yield f"GPU {number}: {properties.name}, {properties.total_memory / GIB:.0f} GiB"
    else:
        yield "no CUDA GPU is used"


def way(runtime: Runtime, device: torch.device, dtype: torch.dtype) -> Iterator[str]:
    """Which path of the code training takes here, and why."""
    yield f"device {device}, matrix products in {str(dtype).removeprefix('torch.')}, {torch.get_num_threads()} threads"
    if device.type == "cuda":
        attention = "variable-length flash attention" if dtype == torch.bfloat16 else "masked attention"
        yield f"{attention}; torch.compile: {COMPILE[runtime.compile]}"
    elif cpu.covers(torch.empty(0, dtype=dtype, device=device)):
        yield "C kernels between the matrix products; attention per document"
    else:
        why = {
            "runtime.kernels is off": runtime.kernels == "off",
            "runtime.compile is on": runtime.compile == "on",
            f"computing in {dtype}": dtype != torch.bfloat16,
            "the CPU lacks AVX512-BF16": not torch.cpu._is_avx512_bf16_supported(),
            "there is no C compiler": True,
        }
        reason = next(reason for reason, holds in why.items() if holds)
        yield f"plain PyTorch, no C kernels: {reason}; torch.compile: {COMPILE[runtime.compile]}"
    yield f"processes: {runtime.processes}, strategy {runtime.strategy}"


def probe(
    model: Decoder, runtime: Runtime, row_length: int, seconds: float, optimizer: optim.OptimizerName, tokens: int
) -> Probe:
    """Train on made-up rows for about so many seconds, as a run of so many tokens would. Changes the model."""
    device = model.cos.device
    rows = max(1, PROBE_TOKENS // row_length)
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, model.config.vocab_size, (rows, row_length), generator=generator)
    documents = (torch.arange(row_length) // DOCUMENT + 1).expand(rows, -1)
    batch = {"ids": ids, "targets": ids.roll(-1, 1), "documents": documents.contiguous()}
    batch = {name: value.to(device) for name, value in batch.items()}
    model.checkpoint_activations = runtime.checkpoint_activations
    forward = forward_function(model, Language(), runtime, tokens)
    engine = Replicas(model, forward, optim.build(model, optimizer, 1e-4, 1e-4, (0.9, 0.95), 0.95, 0.0), World())
    times: list[float] = []
    while len(times) < 3 or sum(times[1:]) < seconds:  # the first one compiles, and takes memory
        begin = time.perf_counter()
        loss, _ = engine.forward(batch)
        engine.backward(loss / ids.numel())
        engine.step(1.0, 1.0, None).item()  # waits for the device
        times.append(time.perf_counter() - begin)
        gc.freeze()
    rate = ids.numel() / median(times[1:])
    return Probe(rate, 6 * model.num_parameters(active=True) * rate, peak_flops(device, model.dtype))


def peak_flops(device: torch.device, dtype: torch.dtype, size: int = 2048) -> float:
    """FLOP/s of a large matrix product: the median of seven."""
    matrix = torch.randn(size, size, device=device).to(dtype)
    times = []
    for _ in range(7):
        begin = time.perf_counter()
        (matrix @ matrix)[0, 0].item()
        times.append(time.perf_counter() - begin)
    return 2 * size**3 / median(times)


def num_steps(section: dict[str, Any]) -> int:
    """Of a section that trains; MANY_STEPS where it says epochs."""
    return int(section.get("steps", 0)) or (MANY_STEPS if section.get("epochs", 0) else 0)


def duration(section: dict[str, Any], row_length: int, tokens_per_second: float) -> str:
    """How long a section's training takes at this rate, in words."""
    steps, epochs = section.get("steps", 0), section.get("epochs", 0)
    if not steps:
        return f"{epochs} epochs of rows whose number is known once they are packed"
    tokens = steps * section["batch_size"] * row_length
    return f"{steps:,} steps, {tokens:,} positions, about {words(tokens / tokens_per_second)}"


def words(seconds: float) -> str:
    """A duration in the unit that fits it."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def hours(parameters: int, tokens: float, flops_per_second: float) -> float:
    """By the formula: hours that a device of this rate in training takes for so many tokens. Raises ValueError."""
    if flops_per_second <= 0:
        raise ValueError(f"a rate of {flops_per_second} FLOP/s trains nothing")
    return 6 * parameters * tokens / flops_per_second / 3600


def family(device: Device, profiles: Path = Path("profiles")) -> Iterator[str]:
    """A table in Markdown of the profiles that train a preset of MiniMind's: parameters, data, hours and cost.

    Raises UserError where there are none, ConfigError for one that can't be read.
    """
    paths = sorted(profiles.glob("minimind*.yaml"))
    if not paths:
        raise UserError(f"{profiles} holds no minimind*.yaml: run from the root of the repository")
    yield "| profile | parameters | active | pretraining and SFT data | tokens, about | hours, about | cost, about |"
    yield "| :-- | --: | --: | :-- | --: | --: | --: |"
    for path in paths:
        shape = config.load(Teacher, path, config.preset("model", path)).model
        with torch.device("meta"):
            model = Decoder(shape.with_vocabulary(config.read(path)["tokenizer"]["vocab_size"]))
        names = data_files(config.read(path)["data"])
        active = model.num_parameters(active=True)
        tokens = sum(TOKENS[name] for name in names)
        needed = hours(active, tokens, device.peak_flops * device.share)
        yield (
            f"| `{path.stem}` | {model.num_parameters():,} | {active:,} | {', '.join(names)} | {tokens / 1e9:.2f}G | "
            f"{needed:.1f} | ${needed * device.dollars_per_hour:.2f} |"
        )
    yield ""
    yield (
        f"Estimates, not measurements: 6 · active parameters · tokens, one pass over each file, at {device.share:.0%} "
        f"of the {device.peak_flops / 1e12:g} TFLOP/s of one {device.name}, for ${device.dollars_per_hour:.2f} an hour."
        f" Tokens are bytes times {TOKENS_PER_BYTE:g}; V1's are those of the collections that its files were taken "
        "from, and so an upper bound. Attention, DPO, distillation, answers of the teacher and evaluation come on top."
    )


def data_files(data: dict[str, list[dict[str, Any]]]) -> list[str]:
    """MiniMind's files that a profile's section `data` names for pretraining and SFT, without folder and ending."""
    found = {
        name: None
        for entry in (*data["pretrain"], *data["sft"])
        for name in re.findall(r"[\w-]+", entry["uri"])
        if name in TOKENS
    }
    return list(found)
