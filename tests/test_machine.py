"""What is called slow, and the mend that goes with it."""

from dataclasses import replace

import psutil
import pytest

from minimind import machine
from minimind.machine import GIB, Abilities, Load

QUIET = Load(cores=8, busy=0.02, memory=16 * GIB, used=0.4, swapped=0, compiler="cc")
FAST = Abilities("cpu", "bfloat16", native=True, isa="amx", threads=8, kernels=True, compiles="auto")
NARROW = replace(FAST, dtype="float32", native=False, isa="avx2")


def test_a_good_machine_has_nothing_slow() -> None:
    assert machine.slow(QUIET, FAST) == []
    # A GPU computes: what the CPU lacks is nobody's business, but that others use it is.
    gpu = replace(NARROW, device="cuda:0", threads=1)
    assert machine.slow(replace(QUIET, compiler=""), gpu) == []
    assert len(machine.slow(replace(QUIET, busy=0.9), gpu)) == 1


@pytest.mark.parametrize(
    ("load", "abilities", "named", "mend"),
    [
        (QUIET, NARROW, "no bf16: this processor (avx2)", "or a GPU"),
        (QUIET, replace(FAST, dtype="float32"), "no bf16: runtime.dtype is float32", "set it to auto"),
        (QUIET, replace(NARROW, dtype="bfloat16"), "emulated bf16", "set it to auto"),
        (QUIET, replace(FAST, threads=1), "one thread: training uses 1 of 8 cores", "runtime.threads to 0"),
        (replace(QUIET, cores=1), replace(FAST, threads=1), "one core", "a machine with more"),
        (replace(QUIET, compiler=""), FAST, "no C compiler", "install gcc or clang"),
        (replace(QUIET, swapped=2 * GIB, used=0.97), FAST, "swap in use: 2.0 GiB", "micro_batch_size"),
        (replace(QUIET, busy=0.63), None, "a busy machine: other programs take 63%", "let them end"),
    ],
)
def test_each_cause_is_named_with_its_mend(load: Load, abilities: Abilities | None, named: str, mend: str) -> None:
    (said,) = machine.slow(load, abilities)
    assert said.startswith(named) and mend in said


def test_what_lies_in_the_swap_and_isn_t_missed_is_no_matter() -> None:
    assert machine.slow(replace(QUIET, swapped=2 * GIB), FAST) == []


def test_all_causes_are_named_the_worst_first() -> None:
    found = machine.slow(replace(QUIET, busy=1.0, compiler=""), replace(NARROW, threads=1))
    assert [said.partition(":")[0] for said in found] == ["a busy machine", "one thread", "no C compiler", "no bf16"]


def test_a_look_at_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    load = machine.look(0.01)
    assert load.compiler == "" and load.memory == psutil.virtual_memory().total
    assert 1 <= load.cores <= (psutil.cpu_count() or 1) and 0 <= load.busy <= 1
    assert f"{load.cores} cores" in machine.description(load) and "torch 2" in machine.description(load)
    assert machine.age() > 0
