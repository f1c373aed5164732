"""Devices and number formats, chosen or refused."""

import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from minimind import capability, hardware
from minimind.config import Runtime

RUNTIME = Runtime(device="cpu", dtype="float32")


def test_what_is_asked_for_is_taken() -> None:
    assert hardware.setup(RUNTIME) == (torch.device("cpu"), torch.float32)
    assert hardware.setup(replace(RUNTIME, dtype="bfloat16")) == (torch.device("cpu"), torch.bfloat16)


@pytest.mark.parametrize(("isa", "native"), [("avx2", False), ("avx512", False), ("avx512_bf16", True), ("amx", True)])
def test_emulated_bfloat16_is_never_taken_unasked_and_its_price_is_said(
    isa: str, native: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(capability, "detected", lambda: isa)
    assert hardware.setup(replace(RUNTIME, dtype="auto"))[1] == (torch.bfloat16 if native else torch.float32)
    assert capsys.readouterr().err == ""
    assert hardware.setup(replace(RUNTIME, dtype="bfloat16"))[1] == torch.bfloat16
    said = capsys.readouterr().err
    assert bool(re.search(r"only emulates: a matrix product takes \d+ times as long as in float32", said)) != native


def test_auto_takes_what_there_is() -> None:
    device, dtype = hardware.setup(replace(RUNTIME, device="auto", dtype="auto"))
    assert torch.ones(2, device=device, dtype=dtype).sum() == 2


def test_a_device_that_is_missing_is_refused_by_name() -> None:
    missing = [
        name for name, there in (("cuda", torch.cuda.is_available()), ("mps", torch.mps.is_available())) if not there
    ]
    assert missing, "a machine with both needs another test"
    with pytest.raises(ValueError, match=f"runtime.device is {missing[0]}.*it has .*cpu"):
        hardware.setup(replace(RUNTIME, device=missing[0]))  # type: ignore[arg-type]


def test_denormals_are_flushed_in_every_thread() -> None:
    code = """
import torch
from minimind import config, hardware
hardware.setup(config.Runtime(device="cpu", dtype="float32", threads=2))
tiny = torch.full((1 << 20,), 1e-30)
assert (tiny * 1e-10 == 0).all() and torch.get_num_threads() == 2
"""
    subprocess.run([sys.executable, "-c", code], check=True)
