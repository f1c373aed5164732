"""The README's table of the family: exact parameters, operations and data of every profile that trains a preset.

    python -m benchmarks.family

Hours and cost are a matter of the machine: `minimind doctor` estimates them.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from minimind import config
from minimind.model import Decoder, ModelConfig


@dataclass(frozen=True)
class Params:
    """What a profile says of its model."""

    model: ModelConfig


def row(profile: Path) -> list[str]:
    """The cells of a profile."""
    document = config.read(profile)
    shape = config.load(Params, profile, config.preset("model", profile)).model
    with torch.device("meta"):
        model = Decoder(shape.with_vocabulary(document["tokenizer"]["vocab_size"]))
    length = document["pack"]["max_seq_len"]
    entries = [entry for name in ("pretrain", "sft") for entry in document["data"][name]]
    data = list(dict.fromkeys(Path(entry["uri"].replace(":", " ")).stem for entry in entries))
    counts = [f"{model.num_parameters():,}", f"{model.num_parameters(active=True):,}"]
    operations = f"{model.flops_per_token(length) / 1e6:,.0f}"
    return [profile.stem, *counts, operations, str(length), ", ".join(data)]


def main() -> None:
    """Print the table in Markdown."""
    names = ["profile", "parameters", "active", "MFLOP a token", "row", "pretraining and SFT data"]
    print(f"| {' | '.join(names)} |\n| :-- | --: | --: | --: | --: | :-- |")
    for profile in sorted(Path("profiles").glob("*.yaml")):
        print(f"| {' | '.join(row(profile))} |")


if __name__ == "__main__":
    main()
