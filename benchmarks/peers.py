"""The other side of a race: MiniMind's training recipe, on its own model class or on transformers' Qwen3.

The recipe (its trainer/train_pretrain.py): AdamW over all parameters, weight decay on everything, the loss averaged
in each micro-batch, gradients clipped at 1, no warm-up, the rate falling along a cosine to a tenth.
"""

import importlib
import math
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.workload import Workload
from minimind.batches import Batch, Batches, Source, validation
from minimind.errors import UserError
from minimind.losses import IGNORE
from minimind.model import ModelConfig
from minimind.rows import Rows

ROPE_THETA = 1e6  # MiniMind's
Point = tuple[int, float]


@dataclass(frozen=True)
class Recipe:
    """How a peer trains."""

    learning_rate: float
    batch_size: int  # rows in a micro-batch
    accumulation: int  # micro-batches per optimizer step
    bfloat16: bool  # under autocast; else fp32
    packed: bool  # several documents a row, attention across them; else one document a row, padded
    fused: bool  # AdamW in one kernel; the trainer asks for none


SHIPPED = Recipe(learning_rate=5e-4, batch_size=32, accumulation=8, bfloat16=False, packed=False, fused=False)
"""MiniMind as it is on a CPU: its trainer grants autocast on CUDA only."""


def source(reference: Path) -> Path:
    """The file of MiniMind's model in the checkout `reference`. Raises UserError if it isn't there."""
    path = reference / "model" / "model_minimind.py"
    if not path.is_file():
        raise UserError(f"{path} is missing: --reference wants the root of a checkout of MiniMind")
    return path


def build(config: ModelConfig, seed: int, reference: Path | None) -> nn.Module:
    """A fresh peer of the architecture `config`: MiniMind's class from the checkout `reference`, or else Qwen3."""
    torch.manual_seed(seed)
    shape: dict[str, Any] = {
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_width,
        "intermediate_size": config.intermediate_size,
        "vocab_size": config.vocab_size,
        "rms_norm_eps": config.rms_norm_eps,
        "max_position_embeddings": 1024,
        "tie_word_embeddings": True,
    }
    model: nn.Module
    if reference is None:
        from transformers import Qwen3Config, Qwen3ForCausalLM

        rope = {"rope_type": "default", "rope_theta": ROPE_THETA}
        model = Qwen3ForCausalLM(Qwen3Config(**shape, rope_parameters=rope, use_cache=False))
    else:
        if str(reference) not in sys.path:
            sys.path.insert(0, str(reference))
        module = importlib.import_module("model.model_minimind")
        model = module.MiniMindForCausalLM(module.MiniMindConfig(**shape, rope_theta=ROPE_THETA))
    return model.train()


def share(step: int, steps: int) -> float:
    """Of the peak rate, at `step` (from 0) of `steps`: MiniMind's get_lr at the step's last micro-batch."""
    return 0.1 + 0.45 * (1 + math.cos(math.pi * (step + 1) / steps))


class Peer:
    """A model in training by `recipe`; `seed` decides its start and the order of the rows."""

    def __init__(self, workload: Workload, config: ModelConfig, recipe: Recipe, seed: int, reference: Path | None):
        self.workload, self.recipe = workload, recipe
        self.model = build(config, seed, reference)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=recipe.learning_rate, fused=recipe.fused)
        self.rows = training_rows(workload, recipe)
        self.batches = Batches([Source(self.rows)], recipe.batch_size * recipe.accumulation, seed)

    def autocast(self) -> AbstractContextManager[object]:
        """bf16 where the recipe has it."""
        return torch.autocast("cpu", torch.bfloat16) if self.recipe.bfloat16 else nullcontext()

    def accumulate(self, batch: Batch) -> None:
        """Add the gradient of one micro-batch."""
        # The model shifts its labels by one itself.
        labels = F.pad(batch["targets"], (1, 0), value=IGNORE)[:, :-1]
        with self.autocast():
            loss = self.model(input_ids=batch["ids"], labels=labels).loss / self.recipe.accumulation
        loss.backward()

    def update(self, factor: float) -> None:
        """One step of the optimizer at `factor` times the peak rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate * factor
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def micro_batches(self, step: int) -> Iterator[Batch]:
        """Those of one optimizer step."""
        batch = self.batches.at(step)
        size = self.recipe.batch_size
        for start in range(0, size * self.recipe.accumulation, size):
            yield {name: value[start : start + size] for name, value in batch.items()}

    def train(self, steps: int, validations: int) -> tuple[list[Point], float]:
        """The whole schedule; returns its curve, of about so many points, and its seconds without validation."""
        curve, seconds = [], 0.0
        every = max(1, steps // validations)
        for step in range(steps):
            begin = time.perf_counter()
            for batch in self.micro_batches(step):
                self.accumulate(batch)
            self.update(share(step, steps))
            seconds += time.perf_counter() - begin
            if (step + 1) % every == 0 or step + 1 == steps:
                curve.append((step + 1, self.bits_per_byte()))
        return curve, seconds

    @torch.no_grad()
    def bits_per_byte(self) -> float:
        """Of the validation documents, one a row, so that none is seen from another."""
        self.model.eval()
        nats = 0.0
        for batch in validation(Source(self.workload.padded_validation), 8):
            length = int((batch["documents"] > 0).sum(1).max())  # no attention reaches what is cut off
            with self.autocast():
                logits: Tensor = self.model(input_ids=batch["ids"][:, :length]).logits
            targets = batch["targets"][:, :length].flatten()
            nats += F.cross_entropy(logits.float().flatten(0, 1), targets, ignore_index=IGNORE, reduction="sum").item()
        self.model.train()
        return nats / math.log(2) / self.workload.padded_validation.target_bytes

    def turn(self) -> tuple[float, float]:
        """Seconds of one micro-batch and of one update, for timing alone; a step is several of the first and one of
        the second."""
        batch = next(self.micro_batches(0))
        begin = time.perf_counter()
        self.accumulate(batch)
        middle = time.perf_counter()
        self.update(0.01)
        return middle - begin, time.perf_counter() - middle


def training_rows(workload: Workload, recipe: Recipe) -> Rows:
    """The rows that a recipe learns from."""
    return workload.packed if recipe.packed else workload.padded


def steps(workload: Workload, recipe: Recipe, num_tokens: int) -> int:
    """Optimizer steps that learn from about `num_tokens` targets."""
    rows = training_rows(workload, recipe)
    return max(1, round(num_tokens / (recipe.batch_size * recipe.accumulation * workload.tokens_per_row(rows))))
