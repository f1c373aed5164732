"""What several tests share: a small tokenizer, random checkpoints, and transformers 4 in a process of its own."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from minimind import checkpoint, tokenizer
from minimind.model import Decoder, ModelConfig
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


def random_model(config: ModelConfig) -> Decoder:
    """All weights random, norms too, and large enough that every part of the model shows in the logits."""
    model = Decoder(config)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = 1 + 0.3 * noise if parameter.ndim == 1 else 0.2 * noise
    return model


@pytest.fixture(scope="session")
def checkpoints(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint with random weights of each kind that a class of Hugging Face computes, by name."""
    llama = ModelConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=96,
        rope_theta=1e6, rms_norm_eps=1e-5, qk_norm=False, max_position_embeddings=256,
        vocab_size=512,  # more rows than the tokenizer has tokens, as rounded matrices have
    )  # fmt: skip
    qwen3 = replace(llama, qk_norm=True, tie_word_embeddings=False, head_dim=32, rope_theta=1e4)
    experts = replace(qwen3, use_moe=True, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32)
    configs = {
        "llama": llama,
        "qwen3": qwen3,
        "experts": experts,
        "experts-top1-tied": replace(experts, num_experts_per_tok=1, tie_word_embeddings=True),
    }
    folder = tmp_path_factory.mktemp("checkpoints")
    for name, config in configs.items():
        checkpoint.save(folder / name, random_model(config), tokenizer_folder, {"stage": name})
    return {name: folder / name for name in configs}
