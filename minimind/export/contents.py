"""What an exporter reads of a checkpoint: its files, checked against the manifest.

The description is config.json, not our own ModelConfig: whatever a class of Hugging Face needs to compute the same
function is in it, and an exporter that meets something it does not know there refuses it by name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from minimind import checkpoint, files
from minimind.errors import UserError

KINDS = ("llama", "qwen3", "qwen3_moe")


class ExportError(UserError):
    """A checkpoint that this format can't hold, or a wish that makes no sense; the message says which and why."""


@dataclass(frozen=True)
class Contents:
    """One checkpoint folder, read."""

    folder: Path
    config: dict[str, Any]  # config.json
    generation: dict[str, Any]  # generation_config.json
    tensors: dict[str, Tensor]  # by Hugging Face's names, fp32
    tokenizer: dict[str, Any]  # tokenizer.json
    tokenizer_config: dict[str, Any]

    @property
    def name(self) -> str:
        """The folder's own name, which exported files carry."""
        return self.folder.resolve().name

    @property
    def rope(self) -> Mapping[str, Any]:
        """How positions are turned: at least `rope_type` and `rope_theta`."""
        return self.config["rope_parameters"]

    def token(self, role: str) -> int | None:
        """The id of `bos`, `eos` or `pad`, None where the checkpoint has none."""
        return self.config.get(f"{role}_token_id")


def read(folder: Path) -> Contents:
    """The checkpoint in `folder`.

    Raises files.CorruptError if a file differs from the manifest, ExportError for a kind of model that no exporter
    knows.
    """
    files.verify_manifest(folder)
    config = files.read_json(folder / "config.json")
    if config["model_type"] not in KINDS:
        raise ExportError(
            f"{folder / 'config.json'}: model_type is {config['model_type']!r}; what can be exported is "
            f"{', '.join(KINDS)}"
        )
    if config["rope_parameters"]["rope_type"] not in ("default", "yarn"):
        raise ExportError(
            f"{folder / 'config.json'}: rope_type {config['rope_parameters']['rope_type']!r} is not exported, "
            "only default and yarn are"
        )
    return Contents(
        folder,
        config,
        files.read_json(folder / "generation_config.json"),
        {name: tensor.float() for name, tensor in load_file(folder / checkpoint.WEIGHTS).items()},
        files.read_json(folder / "tokenizer.json"),
        files.read_json(folder / "tokenizer_config.json"),
    )


def dtype(name: str) -> torch.dtype:
    """The torch dtype that a short name (f32, f16, bf16) means. Raises ExportError."""
    kinds = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
    if name not in kinds:
        raise ExportError(f"there is no dtype {name!r}: take one of {', '.join(kinds)}")
    return kinds[name]
