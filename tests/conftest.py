"""What several tests share: a small tokenizer, and transformers 4 in a process of its own."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import workload
from minimind import tokenizer
from minimind.tokenizer import TokenizerConfig

os.environ["HF_HUB_OFFLINE"] = "1"  # whatever a test loads is on this disk

TEXTS = [
    "The capital of France is Paris. Paris lies on the Seine, and the Seine runs to the sea.",
    "法国的首都是巴黎。巴黎在塞纳河边，塞纳河流向大海。",
    "What is 12 + 7? It is 19, and 19 + 23 is 42.\n\n\tAdd the digits one by one: 9 + 3 = 12, carry 1.",
    '{"name": "calculator", "arguments": {"expression": "12 + 7", "unit": null}}',
    *(f"{role}\n" for role in ("system", "user", "assistant", "# Tools")),
]


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as of the stage tokenizer, with a vocabulary learned from TEXTS."""
    folder = tmp_path_factory.mktemp("tokenizer")
    config = TokenizerConfig(vocab_size=512, isolate=True, max_bytes=1 << 20, held_out_share=0.1)
    tokenizer.save(tokenizer.train(TEXTS * 4, config), folder)
    return folder


@pytest.fixture(scope="session")
def small_workload(tmp_path_factory: pytest.TempPathFactory) -> workload.Workload:
    """The text of the benchmarks, but little of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workload, "VOCAB_SIZE", 600)
        patch.setattr(workload, "TOKENIZER_DOCUMENTS", 100)
        patch.setattr(workload, "VALIDATION_DOCUMENTS", 8)
        return workload.build(tmp_path_factory.mktemp("workload"), 15_000, 512)


@pytest.fixture(scope="session")
def transformers4() -> Callable[..., str]:
    """Runs a Python program, given as text with its arguments, under transformers 4.57; returns what it prints."""
    root = Path(__file__).resolve().parents[1]
    pins = root / "tests" / "transformers4.txt"
    folder = root / ".oracles" / "transformers4"
    installed = folder / "pins.txt"
    if not installed.exists() or installed.read_text() != pins.read_text():
        fresh = folder.with_name(f"transformers4.{os.getpid()}.partial")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", fresh, "--requirement", pins]
        subprocess.run(pip, check=True, env=os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"})
        shutil.copyfile(pins, fresh / "pins.txt")
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)

    def run(program: str, *arguments: object) -> str:
        environment = os.environ | {"PYTHONPATH": str(folder)}
        command = [sys.executable, "-c", program, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
