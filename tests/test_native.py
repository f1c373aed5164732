"""Compiling C at first use, and doing without."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from minimind import native

TEXT = "int twice(int x) { return 2 * x; }\n"


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "twice.c"
    path.write_text(TEXT)
    return path


def compiler(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    path = folder / "compiler"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("CC", str(path))


def test_a_file_is_compiled_once_for_each_text(source: Path, tmp_path: Path) -> None:
    library = native.library(source)
    assert library is not None and library.twice(21) == 42
    assert native.library(source) is not None
    assert len(list((tmp_path / "cache/minimind").iterdir())) == 1
    source.write_text(TEXT.replace("2", "3"))
    changed = native.library(source)
    assert changed is not None and changed.twice(21) == 63
    assert len(list((tmp_path / "cache/minimind").iterdir())) == 2


def test_without_a_compiler_there_is_none(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    assert native.library(source) is None


def test_a_compiler_that_fails_is_named_and_leaves_nothing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    compiler(tmp_path, monkeypatch, "echo this compiler is broken >&2; exit 1")
    assert native.library(source) is None
    assert "this compiler is broken" in capsys.readouterr().err
    assert not list((tmp_path / "cache/minimind").iterdir())


def test_a_cache_that_can_t_be_written_is_said(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cache").write_text("a file, no folder")
    compiler(tmp_path, monkeypatch, "exit 0")
    assert native.library(source) is None
    assert "XDG_CACHE_HOME" in capsys.readouterr().err


def test_training_goes_on_without_kernels(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import torch; from minimind.kernels import cpu; print(cpu.enable(torch.float32))"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "CC": "no-such-compiler"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("False\n", "")
