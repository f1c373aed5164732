"""What the hardware has, what a restriction leaves of it, and that everything which computes follows."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from toy.training import assert_close, ended

from minimind import capability, native
from minimind.capability import X86, Isa

ROOT = Path(__file__).parents[1]
VARIABLES = ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS")
NATIVE = ("avx512_bf16", "amx")  # the two that multiply bfloat16


@pytest.fixture(autouse=True)
def _unrestricted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def pretend(monkeypatch: pytest.MonkeyPatch, has: Isa, environment: dict[str, str]) -> None:
    monkeypatch.setattr(capability, "detected", lambda: has)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("to", X86)
@pytest.mark.parametrize("has", X86)
def test_a_restriction_leaves_what_both_have(has: Isa, to: Isa, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, has, capability.restriction(to))
    left = X86[min(X86.index(has), X86.index(to))]
    assert capability.isa() == left
    assert capability.native_bfloat16("cpu") == (left in NATIVE)
    assert capability.native_dtype("cpu") == (torch.bfloat16 if left in NATIVE else torch.float32)
    assert (capability.march() == "-march=native") == (left == has)


# As the documentation of oneDNN and torch spells the values.
@pytest.mark.parametrize(
    ("environment", "left"),
    [
        ({}, "amx"),
        ({"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}, "avx2"),
        ({"ONEDNN_MAX_CPU_ISA": "avx2"}, "avx2"),
        ({"ATEN_CPU_CAPABILITY": "avx2"}, "avx2"),
        ({"ATEN_CPU_CAPABILITY": "default"}, "generic"),
        ({"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "avx2"}, "generic"),
        ({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}, "avx512"),
        ({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"}, "avx512"),
        ({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16", "ATEN_CPU_CAPABILITY": "avx512"}, "avx512_bf16"),
        ({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_AMX"}, "amx"),
        ({"ONEDNN_MAX_CPU_ISA": "DEFAULT"}, "amx"),
        ({"ONEDNN_MAX_CPU_ISA": "no such thing"}, "amx"),
    ],
)
def test_the_variables_of_onednn_and_torch_are_heeded(
    environment: dict[str, str], left: Isa, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, "amx", environment)
    assert capability.isa() == left


def test_nothing_restricts_an_arm_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "neon", capability.restriction("avx2"))
    assert capability.isa() == "neon"
    assert capability.native_dtype("cpu") == torch.float32
    assert capability.march() == "-march=native"


def test_apple_s_gpus_compute_in_fp32() -> None:
    assert capability.native_dtype("mps") == torch.float32


# What the compiler says it builds for: macros that must be there, and macros that must not.
FEATURES: dict[Isa, tuple[set[str], set[str]]] = {
    "generic": ({"__SSE2__"}, {"__AVX__", "__AVX2__", "__FMA__"}),
    "avx2": ({"__AVX2__", "__FMA__"}, {"__AVX512F__", "__AVX512BF16__", "__AMX_BF16__"}),
    "avx512": ({"__AVX512F__", "__AVX512BW__", "__AVX512VL__"}, {"__AVX512BF16__", "__AMX_BF16__"}),
    "avx512_bf16": ({"__AVX512F__", "__AVX512BF16__"}, {"__AMX_BF16__"}),
}


@pytest.mark.parametrize("to", FEATURES if platform.machine() == "x86_64" else [])
def test_the_compiler_builds_for_what_is_left(to: Isa, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "amx", capability.restriction(to))
    command = ["cc", capability.march(), "-dM", "-E", "-x", "c", os.devnull]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    macros = {line.split()[1] for line in done.stdout.splitlines()}
    present, absent = FEATURES[to]
    assert present <= macros
    assert not absent & macros


def test_c_files_are_built_for_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "small.c").write_text("int wide(void) {\n#ifdef __AVX2__\nreturn 1;\n#endif\nreturn 0; }\n")
    has = capability.detected()
    for to in ("generic", "avx2"):
        pretend(monkeypatch, has, capability.restriction(to))
        library = native.library(tmp_path / "small.c")
        assert library is not None
        assert library.wide() == (capability.isa() == "avx2")


# Takes any machine for one with AMX, so that the restriction alone decides.
CHOICES = """
import json, sys
import torch
from minimind import capability
capability.detected = lambda: "amx"
from minimind import hardware, optim
from minimind.config import Runtime

_, dtype = hardware.setup(Runtime(device="cpu", threads=1, kernels="off"))
muon = optim.orthogonalise(torch.eye(8)[None]).dtype
found = {"torch": torch.backends.cpu.get_cpu_capability(), "dtype": dtype, "muon": muon}
print(json.dumps({name: str(value) for name, value in found.items()}))
"""

# The same training twice: by kernels, whose calls are noted, and by plain PyTorch.
TRAINING = """
import json
from pathlib import Path
from minimind import capability
capability.detected = lambda: "amx"
from minimind import optim
from minimind.kernels import cpu
from toy.training import Case, run_here

called, products = set(), set()
def call(name, activations, *arguments, _call=cpu._call):
    called.add(f"{name} {activations.dtype}")
    _call(name, activations, *arguments)
def orthogonalise(matrices, _orthogonalise=optim.orthogonalise):
    products.add(str((update := _orthogonalise(matrices)).dtype))
    return update
cpu._call, optim.orthogonalise = call, orthogonalise
for name, kernels in (("kernels", "auto"), ("plain", "off")):
    before = set(called)
    ended = run_here(Case(name, config={"optimizer": "muon"}, runtime={"dtype": "auto", "kernels": kernels}), Path())
assert called == before, "plain is plain"
print(json.dumps({"called": sorted(called), "products": sorted(products)}))
"""


def run_restricted(program: str, to: Isa, folder: Path) -> dict[str, Any]:
    """What a program prints that takes this machine for one with `to` and no more."""
    path = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    environment = os.environ | capability.restriction(to) | {"PYTHONPATH": path}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed


@pytest.mark.parametrize(("to", "dtype"), [("avx2", "torch.float32"), ("avx512_bf16", "torch.bfloat16")])
def test_training_computes_in_what_is_left(to: Isa, dtype: str, tmp_path: Path) -> None:
    chosen = run_restricted(CHOICES, to, tmp_path)
    if to == "avx2" and torch.cpu._is_avx2_supported():
        assert chosen["torch"] == "AVX2", "torch heeds the same variables"
    assert chosen["dtype"] == chosen["muon"] == dtype


def test_a_training_on_a_restricted_machine_takes_fp32_kernels_and_ends_as_plain_pytorch(tmp_path: Path) -> None:
    chosen = run_restricted(TRAINING, "avx2", tmp_path)
    functions = ("norm_forward", "norm_backward", "swiglu_forward", "swiglu_backward", "cross_entropy")
    functions += ("attention_forward", "attention_backward")
    assert chosen["called"] == sorted(f"{name} torch.float32" for name in functions)
    assert chosen["products"] == ["torch.float32"]
    assert_close(ended(tmp_path, "kernels"), ended(tmp_path, "plain"))
