"""What the hardware multiplies natively: the one place that decides in which format each kind of product runs.

An emulated format is never taken unasked: on a CPU without bfloat16 instructions a product in bfloat16 costs up to a
hundred times as much as in float32. So the forward and backward pass, Muon's iterations, decoding, a teacher's answers
and the experts of a mixture all follow `native_dtype`, and the C files are compiled for `isa`.

The variables by which oneDNN and torch restrict themselves restrict this machine for us too, so that a test or a
benchmark can imitate a smaller one:

    ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2 …
"""

import os
import platform
from typing import Literal

import torch

Isa = Literal["generic", "neon", "avx2", "avx512", "avx512_bf16", "amx"]
"""Instruction sets that make a difference here. `generic` is any other processor."""

X86: tuple[Isa, ...] = ("generic", "avx2", "avx512", "avx512_bf16", "amx")
"""Those of x86-64, each containing the ones before it."""

# What the values of the two variables allow. A value that is not listed restricts nothing.
_ONEDNN: dict[str, Isa] = {
    "SSE41": "generic", "AVX": "generic", "AVX2": "avx2", "AVX2_VNNI": "avx2", "AVX2_VNNI_2": "avx2",
    "AVX512_CORE": "avx512", "AVX512_CORE_VNNI": "avx512", "AVX512_CORE_BF16": "avx512_bf16",
    "AVX10_1_512": "avx512_bf16", "AVX512_CORE_FP16": "avx512_bf16",
}  # fmt: skip
_ATEN: dict[str, Isa] = {"default": "generic", "avx2": "avx2", "avx512": "avx512_bf16"}

_MARCH: dict[Isa, str] = {
    "generic": "x86-64", "avx2": "x86-64-v3", "avx512": "x86-64-v4", "avx512_bf16": "cooperlake",
}  # fmt: skip


def detected() -> Isa:
    """What the processor has, whatever the environment says."""
    if platform.machine().lower() in ("aarch64", "arm64"):
        return "neon"
    if torch.cpu._is_amx_tile_supported():
        return "amx"
    if torch.cpu._is_avx512_bf16_supported():
        return "avx512_bf16"
    if torch.cpu._is_avx512_supported():
        return "avx512"
    return "avx2" if torch.cpu._is_avx2_supported() else "generic"


def isa() -> Isa:
    """What the processor has and the environment allows."""
    has = detected()
    if has not in X86:
        return has
    allowed = (
        _ONEDNN.get(os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper(), "amx"),
        _ATEN.get(os.environ.get("ATEN_CPU_CAPABILITY", "").lower(), "amx"),
    )
    return min(has, *allowed, key=X86.index)


def restriction(to: Isa) -> dict[str, str]:
    """The environment in which a process takes this machine for one that has `to` and no more."""
    onednn = {"generic": "SSE41", "avx2": "AVX2", "avx512": "AVX512_CORE", "avx512_bf16": "AVX512_CORE_BF16"}
    aten = {"generic": "default", "avx2": "avx2", "avx512": "avx512", "avx512_bf16": "avx512"}
    if to not in onednn:
        return {}
    mkl = {"generic": "SSE4_2", "avx2": "AVX2"}.get(to, "AVX512")
    return {"ONEDNN_MAX_CPU_ISA": onednn[to], "ATEN_CPU_CAPABILITY": aten[to], "MKL_ENABLE_INSTRUCTIONS": mkl}


def march() -> str:
    """The compiler's flag for what `isa` allows."""
    allowed = isa()
    return "-march=native" if allowed == detected() else f"-march={_MARCH[allowed]}"


def native_bfloat16(device: torch.device | str) -> bool:
    """Whether the device multiplies bfloat16 in hardware."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return kind == "cpu" and isa() in ("avx512_bf16", "amx")


def native_dtype(device: torch.device | str) -> torch.dtype:
    """The fastest format of matrix products that the device has in hardware and training bears."""
    return torch.bfloat16 if native_bfloat16(device) else torch.float32
