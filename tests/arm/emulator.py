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
    built = Path(_folder().name) / "".join((name, march, *flags))
    command = [COMPILER, *FLAGS, f"-march={march}", *flags, str(source), "-o", str(built), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return built


def call(program: Path, march: str, arrays: Sequence[bytes]) -> list[bytes]:
    """The arrays as the program leaves them."""
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
        _exchange(self.program, self.march, [np.array(numbers, dtype=np.int64).tobytes(), np.float32(m.eps), *places])


class Kernels:
    """Stands where a library of kernels/cpu.c does, compiled with `flags`."""

    def __init__(self, march: str, *flags: str):
        self.march, self.program = march, program("kernels", march, *flags)
        self.cell = 2 if "-DBF16" in flags else 4  # bytes of an activation

    def _call(self, name: str, *arguments: Any) -> None:
        _exchange(self.program, self.march, [name.encode() + b"\0", *arguments])

    def norm_forward(self, x: Any, branch: Any, weight: Any, eps: Any, n: Any, width: Any, *out: Any) -> None:
        """See cpu.c, as for all of these."""
        cells, D = n.value * width.value * self.cell, width.value
        total, y, scales = out
        self._call(
            "norm_forward", (x.value, cells), (branch.value, cells), (weight.value, D * 4), eps, n, width,
            (total.value, cells), (y.value, cells), (scales.value, n.value * 4),
        )  # fmt: skip

    def norm_backward(
        self, dy: Any, dtotal: Any, total: Any, scales: Any, weight: Any, n: Any, width: Any, dx: Any, dweight: Any
    ) -> None:
        cells, D = n.value * width.value * self.cell, width.value
        self._call(
            "norm_backward", (dy.value, cells), (dtotal.value, cells), (total.value, cells),
            (scales.value, n.value * 4), (weight.value, D * 4), n, width, (dx.value, cells), (dweight.value, D * 4),
        )  # fmt: skip

    def swiglu_forward(self, gate_up: Any, n: Any, width: Any, y: Any) -> None:
        cells = n.value * width.value * self.cell
        self._call("swiglu_forward", (gate_up.value, 2 * cells), n, width, (y.value, cells))

    def swiglu_backward(self, dy: Any, gate_up: Any, n: Any, width: Any, dgate_up: Any) -> None:
        cells = n.value * width.value * self.cell
        given = (dy.value, cells), (gate_up.value, 2 * cells), n, width, (dgate_up.value, 2 * cells)
        self._call("swiglu_backward", *given)

    def cross_entropy(self, logits: Any, targets: Any, n: Any, vocabulary: Any, losses: Any) -> None:
        cells = n.value * vocabulary.value * self.cell
        given = (logits.value, cells), (targets.value, n.value * 8), n, vocabulary, (losses.value, n.value * 4)
        self._call("cross_entropy", *given)

    def attention_forward(self, problem: Any, out: Any, logsums: Any) -> None:
        heads = problem._obj.num_tokens * problem._obj.heads
        sizes = heads * problem._obj.width * self.cell, heads * 4
        self._call(
            "attention_forward", *self._attention(problem._obj), (out.value, sizes[0]), (logsums.value, sizes[1])
        )

    def attention_backward(
        self, problem: Any, dout: Any, logsums: Any, dqkv: Any, dq_weight: Any, dk_weight: Any
    ) -> None:
        a = problem._obj
        heads, groups, row = a.num_tokens * a.heads, a.num_tokens * a.groups, a.width * self.cell
        self._call(
            "attention_backward", *self._attention(a), (dout.value, heads * row), (logsums.value, heads * 4),
            (dqkv.value, (heads + 2 * groups) * row), (dq_weight.value, a.width * 4), (dk_weight.value, a.width * 4),
        )  # fmt: skip

    def _attention(self, a: Any) -> list[Any]:
        segments = np.frombuffer(ctypes.string_at(a.segments, a.num_segments * 8), dtype=np.int32).reshape(-1, 2)
        turns = int(segments[:, 1].max(initial=0)) * (a.width // 2) * 4
        numbers = [a.num_segments, a.num_tokens, a.heads, a.groups, a.width]
        return [
            (a.qkv, a.num_tokens * (a.heads + 2 * a.groups) * a.width * self.cell), (a.q_weight, a.width * 4),
            (a.k_weight, a.width * 4), (a.cosine, turns), (a.sine, turns), (a.segments, segments.nbytes),
            np.array(numbers, dtype=np.int64).tobytes(), np.float32(a.eps),
        ]  # fmt: skip


def _exchange(program: Path, march: str, arguments: Sequence[Any]) -> None:
    """Call the program: numbers and bytes go there; what lies at (address, size) goes there, and is replaced."""
    given = [
        (ctypes.string_at(*argument) if argument[0] else b"") if isinstance(argument, tuple) else bytes(argument)
        for argument in arguments
    ]
    for argument, result in zip(arguments, call(program, march, given), strict=True):
        if isinstance(argument, tuple) and result:
            ctypes.memmove(argument[0], result, len(result))
