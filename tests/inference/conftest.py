"""Small random decoders that differ in everything decode.c must heed."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from toy.models import random_model

from minimind.model import Decoder, ModelConfig

QWEN3 = ModelConfig(
    hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=48,
    max_position_embeddings=160, vocab_size=97, head_dim=24,
)  # fmt: skip
CONFIGS = {
    "qwen3": QWEN3,
    "llama": replace(QWEN3, qk_norm=False, tie_word_embeddings=False, rope_theta=1e6, num_key_value_heads=1),
    "wide": replace(QWEN3, hidden_size=72, head_dim=32, num_attention_heads=8, intermediate_size=200),
    "tiles": replace(QWEN3, hidden_size=64, head_dim=32, num_key_value_heads=4, intermediate_size=96),  # whole tiles
    "quantised": replace(QWEN3, head_dim=32, intermediate_size=64, tie_word_embeddings=False),
    "moe": replace(QWEN3, use_moe=True, num_experts_per_tok=2, moe_intermediate_size=24),
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def decoder() -> Callable[..., Decoder]:
    """Makes a decoder by the name of its config, with weights large enough that continuations vary."""

    def make(name: str = "qwen3", dtype: torch.dtype = torch.float32, seed: int = 3) -> Decoder:
        return random_model(CONFIGS[name], dtype, seed=seed, scale=0.3).requires_grad_(False)

    return make


@pytest.fixture
def prompts() -> Callable[..., list[list[int]]]:
    """Makes prompts of given lengths."""

    def make(*lengths: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(0)
        return [torch.randint(3, QWEN3.vocab_size, (length,), generator=generator).tolist() for length in lengths]

    return make
