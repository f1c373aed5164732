"""This machine as the one who waits for it should know it: what it has, what is slow about it, and the mend.

What only torch can tell comes from a process that may be killed (`probe`), as values of the classes below. So this
module doesn't import torch, which takes seconds, or longer on a slow disk.
"""

import os
import platform
import shutil
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import psutil

GIB = 2**30
LOOK_SECONDS = 0.3  # at what other programs do
BUSY_SHARE = 0.25  # of the processors: from there on others are in the way
SWAPPED_SHARE = 0.05  # of the memory's size: likewise for what was moved to the disk
FULL_SHARE = 0.9  # of the memory in use: what was moved to the disk is missed

MEND = (
    "`make repro PROFILE=smoke` shows the whole pipeline in minutes; fewer steps (pretrain.steps, sft.steps, "
    "distill.steps) take less; so does a GPU (runtime.device)"
)
"""Where training takes long."""

STAGES = {"pretrain": "model", "sft": "model", "dpo": "model", "distill": "student"}
"""Sections of params.yaml that train, and the section of the model that each trains."""


@dataclass(frozen=True)
class Abilities:
    """How training computes here, as torch and the section `runtime` have it."""

    device: str  # as torch calls it
    dtype: str  # of matrix products: bfloat16 or float32
    native: bool  # whether the device multiplies bfloat16 in hardware
    isa: str  # the instructions of the CPU that make a difference
    threads: int  # of the CPU
    kernels: bool  # whether those of C are in use
    compiles: str  # runtime.compile
    why: str = ""  # they are not
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True)
class Shape:
    """A model that is about to be probed; `section` of params.yaml describes it."""

    section: str
    parameters: int
    active: int  # parameters that a token passes
    needed_bytes: int  # of memory, to train on `tokens` at once
    tokens: int  # of a step, as far as it is probed
    optimizer: Literal["muon", "adamw"]


@dataclass(frozen=True)
class Begun:
    """A step of training on so many tokens has begun."""

    section: str
    tokens: int


@dataclass(frozen=True)
class Step:
    """It has ended: seconds of the forward and backward pass, and of the optimizer."""

    section: str
    tokens: int
    passes: float
    update: float


@dataclass(frozen=True)
class Peak:
    """FLOP/s of large matrix products."""

    flops_per_second: float


Event = Abilities | Shape | Begun | Step | Peak
"""What a probe tells, as it happens."""


@dataclass(frozen=True)
class Load:
    """What the operating system says, before anything is probed."""

    cores: int  # that this process may use
    busy: float  # share of all processors that other programs take
    memory: int  # bytes
    used: float  # share of it
    swapped: int  # bytes that were moved to the disk
    compiler: str  # of C, as it is called; "" where there is none


def look(seconds: float = LOOK_SECONDS) -> Load:
    """The load now, over so many seconds."""
    busy = psutil.cpu_percent(seconds) / 100
    memory, swapped = psutil.virtual_memory(), psutil.swap_memory().used
    compiler = os.environ.get("CC", "cc")
    return Load(
        num_cores(), busy, memory.total, memory.percent / 100, swapped, compiler if shutil.which(compiler) else ""
    )


def age() -> float:
    """Seconds since this process began."""
    return max(0.0, time.time() - psutil.Process().create_time())


def num_cores() -> int:
    """Of the processors, how many this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor() -> str:
    """The processor's name."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return name or platform.processor() or platform.machine()


def description(load: Load) -> str:
    """Processor, memory, versions, in one line."""
    return (
        f"machine: {processor()}, {load.cores} cores, {load.memory / GIB:.0f} GiB; {platform.system()}, "
        f"Python {platform.python_version()}, torch {version('torch')}"
    )


def slow(load: Load, abilities: Abilities | None) -> list[str]:
    """What makes this machine slower than it need be, or than others, each with the mend; the worst first.

    Without `abilities`, since torch didn't come so far, only what the operating system knows.
    """
    found = []
    if load.swapped > SWAPPED_SHARE * load.memory and load.used > FULL_SHARE:
        found.append(
            f"swap in use: {load.swapped / GIB:.1f} GiB lie on the disk, and memory is full: end other programs, or "
            "lower runtime.micro_batch_size"
        )
    if load.busy > BUSY_SHARE:
        found.append(f"a busy machine: other programs take {load.busy:.0%} of the processors: let them end first")
    if abilities is None or not abilities.device.startswith("cpu"):
        return found
    if abilities.dtype == "bfloat16" and not abilities.native:
        found.append(
            f"emulated bf16: runtime.dtype is bfloat16, which this processor ({abilities.isa}) multiplies in "
            "software, up to a hundred times as slowly as float32: set it to auto"
        )
    if load.cores == 1:
        found.append("one core: training takes as long as the products of one core do: a machine with more, or a GPU")
    elif abilities.threads == 1:
        found.append(
            f"one thread: training uses 1 of {load.cores} cores: set runtime.threads to 0, and unset OMP_NUM_THREADS"
        )
    if not load.compiler:
        found.append(
            "no C compiler: plain PyTorch computes between the matrix products, which takes up to twice as long: "
            "install gcc or clang, or name yours in CC"
        )
    if abilities.dtype == "float32" and not abilities.native:
        found.append(
            f"no bf16: this processor ({abilities.isa}) has no bfloat16 instructions, so products run in float32, at "
            "half the rate or less: a CPU with AVX512-BF16 or AMX, or a GPU"
        )
    elif abilities.dtype == "float32":
        found.append("no bf16: runtime.dtype is float32, at half the rate or less: set it to auto")
    return found
