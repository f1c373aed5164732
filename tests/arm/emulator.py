"""Our C files on ARM processors, by Debian's cross compiler and qemu: what stands there in place of the libraries.

Every call runs a program of its own, which takes the arguments in a file, and leaves the results there.
"""

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from minimind.inference.kernel import BLOCK, GROUP, LANES, Kind

COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
INSTALL = "apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"
FLAGS = ("-O3", "-fopenmp", "-static", "-Wall", "-Wextra", "-Werror")
PROCESSORS = {"armv8-a": "cortex-a57", "armv9-a": "max"}
"""What is compiled for, and what that is run on: the least that is in use, and one with vectors of other lengths."""


def missing() -> bool:
    """Whether the compiler or the emulator is not installed here."""
    return shutil.which(COMPILER) is None or shutil.which(EMULATOR) is None


@cache
def _folder() -> "tempfile.TemporaryDirectory[str]":
    """Removed when Python ends."""
    return tempfile.TemporaryDirectory(prefix="minimind-arm-")


@cache
def program(name: str, march: str, *flags: str) -> Path:
    """The program `name`.c beside this file, compiled; warnings are errors."""
    source = Path(__file__).with_name(f"{name}.c")
    built = Path(_folder().name) / f"{name}-{march}"
    command = [COMPILER, *FLAGS, f"-march={march}", *flags, str(source), "-o", str(built), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return built


def call(program: Path, march: str, arrays: Sequence[bytes]) -> list[bytes]:
    """What the program makes of the arrays."""
    sizes = [len(array) for array in arrays]
    parts = [np.array([len(arrays), *sizes], dtype=np.int64).tobytes(), *arrays]
    with tempfile.NamedTemporaryFile(dir=_folder().name) as file:
        file.write(b"".join(part + bytes(-len(part) % 64) for part in parts))
        file.flush()
        command = [EMULATOR, "-cpu", PROCESSORS[march], str(program), file.name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"status {done.returncode}: {done.stderr}"
        content = Path(file.name).read_bytes()
    results, place = [], len(parts[0]) + -len(parts[0]) % 64
    for size in sizes:
        results.append(content[place : place + size])
        place += size + -size % 64
    return results


class Decode:
    """Stands where decode.c's library does."""

    def __init__(self, march: str):
        self.march, self.program = march, program("decode", march)

    def forward(
        self, model: Any, tokens: ctypes.c_long, x: ctypes.c_void_p, slots: ctypes.c_void_p,
        positions: ctypes.c_void_p, wanted: ctypes.c_long, which: ctypes.c_void_p, logits: ctypes.c_void_p,
        scratch: Any, scores: ctypes.c_void_p, threads: ctypes.c_long,
    ) -> None:  # fmt: skip
        """See decode.c."""
        m, N, results = model._obj, tokens.value, wanted.value
        D, H, G, K, inner, V, S = (getattr(m, name) for name in "DHGKIVS")
        cells = 2 if m.half else 4
        last_slot, last_position = (max((ctypes.c_int64 * N).from_address(at.value or 0)) for at in (slots, positions))

        def matrix(outputs: int, inputs: int) -> int:
            rows = outputs + -outputs % BLOCK
            if m.kind == Kind.Q8_0:
                return rows * (inputs + inputs // GROUP * 2)
            return rows * inputs * (2 if m.kind == Kind.BF16 else 4)

        turns, wide, high = (last_position + 1) * (K // 2) * 4, D + -D % BLOCK, V + -V % BLOCK
        caches = (last_slot + 1) * G * S
        of_layer = {
            "input_norm": D * 4, "q_norm": K * 4, "k_norm": K * 4, "post_norm": D * 4,
            "qkv": matrix((H + 2 * G) * K, D), "out": matrix(D, H * K), "gate_up": matrix(2 * inner, D),
            "down": matrix(D, inner), "keys": caches * K * cells, "values": caches * (K + -K % LANES) * cells,
        }  # fmt: skip
        places = [
            (m.cosine, turns), (m.sine, turns), (m.norm, D * 4), (m.output, matrix(V, D)), (x.value, N * wide * 4),
            (slots.value, N * 8), (positions.value, N * 8), (which.value, results * 8),
            (logits.value, results * high * 4),
            *((getattr(layer, name), size) for layer in m.layers[: m.num_layers] for name, size in of_layer.items()),
        ]  # fmt: skip
        numbers = [*(getattr(m, name) for name, kind in m._fields_[:10]), N, results, 2]
        given = [np.array(numbers, dtype=np.int64).tobytes(), np.float32(m.eps).tobytes()]
        given += [ctypes.string_at(at, size) if at else b"" for at, size in places]
        for (at, _), result in zip(places, call(self.program, self.march, given)[2:], strict=True):
            if at:
                ctypes.memmove(at, result, len(result))
