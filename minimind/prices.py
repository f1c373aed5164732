"""What the family of MiniMind would take on a rented GPU: parameters, data, hours and dollars, by one formula.

It is 6 floating-point operations per parameter that a token passes and per token (2 forward, 4 backward; attention
left out), divided by the rate that training reaches.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from minimind import config
from minimind.amounts import TOKENS, TOKENS_PER_BYTE
from minimind.errors import UserError
from minimind.model import Decoder, ModelConfig


@dataclass(frozen=True)
class Device:
    """What an estimate assumes of a rented GPU. Nothing of it was measured."""

    name: str = "RTX 3090, 24 GB"
    peak_flops: float = 71e12  # dense products of bf16, sums in fp32, by the maker
    share: float = 0.4  # of the peak that training reaches
    dollars_per_hour: float = 0.25

    def __post_init__(self) -> None:
        for name in ("peak_flops", "share", "dollars_per_hour"):
            if getattr(self, name) <= 0:
                raise UserError(f"{name} is {getattr(self, name)}, expected more than 0")


@dataclass(frozen=True)
class Params:
    """What a profile says of its model."""

    model: ModelConfig


def hours(parameters: int, tokens: float, flops_per_second: float) -> float:
    """By the formula: hours that a device of this rate in training takes for so many tokens. Raises ValueError."""
    if flops_per_second <= 0:
        raise ValueError(f"a rate of {flops_per_second} FLOP/s trains nothing")
    return 6 * parameters * tokens / flops_per_second / 3600


def family(device: Device, profiles: Path = Path("profiles")) -> Iterator[str]:
    """A table in Markdown of the profiles that train a preset of MiniMind's: parameters, data, hours and cost.

    Raises UserError where there are none, ConfigError for one that can't be read.
    """
    paths = sorted(profiles.glob("minimind*.yaml"))
    if not paths:
        raise UserError(f"{profiles} holds no minimind*.yaml: run from the root of the repository")
    yield "| profile | parameters | active | pretraining and SFT data | tokens, about | hours, about | cost, about |"
    yield "| :-- | --: | --: | :-- | --: | --: | --: |"
    for path in paths:
        shape = config.load(Params, path, config.preset("model", path)).model
        with torch.device("meta"):
            model = Decoder(shape.with_vocabulary(config.read(path)["tokenizer"]["vocab_size"]))
        names = data_files(config.read(path)["data"])
        active = model.num_parameters(active=True)
        tokens = sum(TOKENS[name] for name in names)
        needed = hours(active, tokens, device.peak_flops * device.share)
        yield (
            f"| `{path.stem}` | {model.num_parameters():,} | {active:,} | {', '.join(names)} | {tokens / 1e9:.2f}G | "
            f"{needed:.1f} | ${needed * device.dollars_per_hour:.2f} |"
        )
    yield ""
    yield (
        f"Estimates, not measurements: 6 · active parameters · tokens, one pass over each file, at {device.share:.0%} "
        f"of the {device.peak_flops / 1e12:g} TFLOP/s of one {device.name}, for ${device.dollars_per_hour:.2f} an hour."
        f" Tokens are bytes times {TOKENS_PER_BYTE:g}; V1's are those of the collections that its files were taken "
        "from, and so an upper bound. Attention, DPO, distillation, answers of the teacher and evaluation come on top."
    )


def data_files(data: dict[str, list[dict[str, Any]]]) -> list[str]:
    """MiniMind's files that a profile's section `data` names for pretraining and SFT, without folder and ending."""
    found = {
        name: None
        for entry in (*(data.get("pretrain") or []), *(data.get("sft") or []))
        for name in re.findall(r"[\w-]+", entry["uri"])
        if name in TOKENS
    }
    return list(found)
