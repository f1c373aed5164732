"""Low-rank adaptation: matrices stay as they are, and of each only a thin product B·A is learnt beside it.

Source: LoRA, arXiv:2106.09685. Trained are rank · (rows + columns) numbers of a matrix instead of rows · columns, so
that gradients' averages and what is handed on are small. After training the products are added to their matrices:
the checkpoint is an ordinary one, and the adapter lies beside its weights in the form of the library peft.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import parametrize

from minimind import files, limits
from minimind.limits import Limits
from minimind.train import TrainConfig

Model = TypeVar("Model", bound=nn.Module)

FOLDER = "adapter"
MATRICES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class LoraConfig:
    """What is adapted, and how much. Raises ValueError naming the field."""

    rank: Annotated[int, Limits(0, 10**4)] = 0  # rows of A; 0: no adaptation, all weights are trained
    alpha: Annotated[float, Limits(0, 10**4, above=True)] = 16.0  # the product counts alpha / rank
    targets: str = " ".join(MATRICES)  # names with spaces between them

    def __post_init__(self) -> None:
        limits.check(self, "lora")
        if unknown := set(self.targets.split()) - set(MATRICES):
            raise ValueError(f"lora.targets names {', '.join(sorted(unknown))}: it takes some of {' '.join(MATRICES)}")
        if not self.targets.split():
            raise ValueError(f"lora.targets is empty: it takes some of {' '.join(MATRICES)}")


OFF = LoraConfig()


@dataclass(frozen=True)
class TuneConfig(TrainConfig):
    """How to train a model further. Raises ValueError naming the field."""

    lora: LoraConfig = OFF

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lora.rank and self.optimizer != "adamw":
            raise ValueError(f"optimizer is {self.optimizer}: thin matrices (lora.rank above 0) take adamw")


class Update(nn.Module):
    """What takes the place of a matrix (N, K): the matrix, which is not trained, and scale · B·A."""

    def __init__(self, matrix: Tensor, rank: int, scale: float, generator: torch.Generator):
        super().__init__()
        rows, columns = matrix.shape
        bound = 1 / math.sqrt(columns)
        self.A = nn.Parameter(torch.empty(rank, columns).uniform_(-bound, bound, generator=generator))
        self.B = nn.Parameter(torch.zeros(rows, rank))  # so that training begins with the model as it is
        self.scale = scale

    def forward(self, matrix: Tensor) -> Tensor:
        """matrix (N, K). Returns (N, K)."""
        return matrix + self.scale * (self.B @ self.A)


def attach(model: Model, config: LoraConfig, seed: int) -> Model:
    """Freeze the model, which is on the CPU, and put an `Update` on each matrix that `config` names, in place."""
    if config.rank == 0:
        return model
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for _, linear in _targets(model, config):
        update = Update(linear.weight, config.rank, config.alpha / config.rank, generator)
        parametrize.register_parametrization(linear, "weight", update)
    return model


@dataclass(frozen=True)
class Adapter:
    """The thin matrices by their module's name: A (rank, K) and B (N, rank), on the CPU."""

    config: LoraConfig
    matrices: dict[str, tuple[Tensor, Tensor]]
    base: str  # the folder of the model that it belongs to, as seen from the repository

    def write(self, folder: Path) -> None:
        """Into the folder `adapter` in a checkpoint's, as peft's `PeftModel.from_pretrained(parent, …)` reads it.

        Where experts were adapted, whose matrices transformers joins, peft would find none: that is said instead.
        """
        if any(".experts." in name for name in self.matrices):
            print(
                "lora: experts were adapted, which peft can't read, so there is no adapter/ beside the merged weights"
            )
            return
        folder = folder / FOLDER
        folder.mkdir()
        tensors = {}
        for name, (a, b) in self.matrices.items():
            tensors[f"base_model.model.{name}.lora_A.weight"] = a
            tensors[f"base_model.model.{name}.lora_B.weight"] = b
        save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
        described: dict[str, Any] = {
            "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": self.base, "inference_mode": True,
            "r": self.config.rank, "lora_alpha": self.config.alpha, "target_modules": self.config.targets.split(),
            "lora_dropout": 0.0, "bias": "none", "fan_in_fan_out": False,
        }  # fmt: skip
        files.write_json(folder / "adapter_config.json", described)


def merge(model: nn.Module, config: LoraConfig, base: Path) -> Callable[[Path], None] | None:
    """Add the products to their matrices, in place, so that the model is a plain one again.

    `base` is the folder of the model as it was. Returns `Adapter.write`, if there are any.
    """
    if config.rank == 0:
        return None
    matrices = {}
    for name, linear in _targets(model, config):
        (update,) = linear.parametrizations["weight"]  # type: ignore[index]
        matrices[name] = update.A.detach().cpu(), update.B.detach().cpu()
        parametrize.remove_parametrizations(linear, "weight", leave_parametrized=True)
    model.requires_grad_(True)
    return Adapter(config, matrices, base.as_posix()).write


def _targets(model: nn.Module, config: LoraConfig) -> list[tuple[str, nn.Linear]]:
    names = config.targets.split()
    return [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.rpartition(".")[2] in names
    ]
