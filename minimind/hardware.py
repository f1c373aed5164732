"""The device and number format that a process computes with."""

import ctypes
import os
import sys
import time

import torch

from minimind import capability
from minimind.config import Runtime
from minimind.errors import UserError
from minimind.kernels import cpu

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}

# glibc's mallopt: parameters of malloc.h, and what they are set to, in bytes.
_MALLOC = (
    (-3, 2**31 - 1),  # M_MMAP_THRESHOLD
    (-1, 2**31 - 1),  # M_TRIM_THRESHOLD
    (-2, 2**28),  # M_TOP_PAD
)


def setup(runtime: Runtime) -> tuple[torch.device, torch.dtype]:
    """Apply the runtime section to this process, before it computes anything; return the device and dtype.

    `auto` takes CUDA, then MPS, then the CPU, and bf16 where the hardware multiplies it natively. Where bf16 is
    asked for and only emulated, a line on stderr says what that costs, as measured. Raises UserError if the device
    asked for is not there.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    name = next(n for n, there in available.items() if there) if runtime.device == "auto" else runtime.device
    if not available[name]:
        there = ", ".join(n for n, present in available.items() if present)
        raise UserError(f"runtime.device is {name}, which this machine or this torch lacks; it has {there}")
    if name == "cpu":
        _keep_memory()
        os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "256")  # of 1,024 shapes, megabytes each
    if runtime.threads:
        torch.set_num_threads(runtime.threads)
    # Vanishing softmax tails become denormal numbers, which cost a CPU up to a hundred times as much. Threads
    # inherit the mode from the one that starts them, so it is set before there are any.
    torch.set_flush_denormal(True)
    device = torch.device(name)
    if name == "cuda":
        device = torch.device(name, int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    dtype = capability.native_dtype(device) if runtime.dtype == "auto" else DTYPES[runtime.dtype]
    if dtype == torch.bfloat16 and not capability.native_bfloat16(device):
        print(
            f"bfloat16 was asked for, which this {name} only emulates: a matrix product takes "
            f"{emulation_price(device):.0f} times as long as in float32. Set dtype (runtime.dtype) to auto",
            file=sys.stderr,
        )
    cpu.enable(dtype if runtime.kernels == "auto" and runtime.compile != "on" and name == "cpu" else None)
    return device, dtype


def emulation_price(device: torch.device, size: int = 192) -> float:
    """How many times as long a product of matrices of this size takes in bfloat16 as in float32; fastest of three."""

    def seconds(dtype: torch.dtype) -> float:
        matrix = torch.ones(size, size, dtype=dtype, device=device)
        times = []
        for _ in range(3):
            begin = time.perf_counter()
            (matrix @ matrix)[0, 0].item()
            times.append(time.perf_counter() - begin)
        return min(times)

    return seconds(torch.bfloat16) / seconds(torch.float32)


def _keep_memory() -> None:
    """Let malloc keep what is freed. By default it hands large blocks back and faults them in anew, every step."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for parameter, value in _MALLOC:
            mallopt(parameter, value)
