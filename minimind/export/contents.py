"""What an exporter reads of a checkpoint: its files, checked against the manifest.

The description is config.json, not our own ModelConfig: whatever a class of Hugging Face needs to compute the same
function is in it, and an exporter that meets something it does not know there refuses it by name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from minimind import card, checkpoint, files, tokenizer
from minimind.errors import UserError

KINDS = ("llama", "qwen3", "qwen3_moe")  # what more than transformers has a network for


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
    lineage: dict[str, Any]  # of the manifest

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

    @property
    def num_parameters(self) -> int:
        """A tied head counts once: it is stored once."""
        return sum(tensor.numel() for tensor in self.tensors.values())

    def card(self, form: str) -> str:
        """README.md beside an export in this form."""
        return card.write(self.name, self.num_parameters, self.lineage, form)

    def check_kind(self, form: str) -> None:
        """Raise ExportError, naming the format `form`, for a kind of model or of positions that only hf can hold."""
        for key, value, known in (
            ("model_type", self.config["model_type"], KINDS),
            ("rope_type", self.rope["rope_type"], ("default", "yarn")),
        ):
            if value not in known:
                raise ExportError(
                    f"{self.folder / 'config.json'}: {key} is {value!r}, and what can be written to {form} is "
                    f"{', '.join(known)}: use --to hf"
                )


def read(folder: Path) -> Contents:
    """The checkpoint in `folder`. Raises files.CorruptError if a file differs from the manifest."""
    model = checkpoint.load(folder)  # so that its weights are those of its description
    tokenizer.read(folder)
    return Contents(
        folder,
        _Described(folder / "config.json"),
        _Described(folder / "generation_config.json"),
        {name: tensor.detach() for name, tensor in model.state_dict().items()},
        _Described(folder / "tokenizer.json"),
        _Described(folder / "tokenizer_config.json"),
        checkpoint.lineage_of(folder),
    )


class _Described(dict[str, Any]):
    """The JSON object in a file; a key that it lacks is an error that names both."""

    def __init__(self, path: Path):
        super().__init__(files.read_object(path))
        self.path = path

    def __missing__(self, key: str) -> Any:
        raise ExportError(f"{self.path} has no {key}: make the checkpoint anew, with `minimind import` or `dvc repro`")
