"""The race of decoders from the command line, on a toy model, and the arithmetic of its table."""

from pathlib import Path

import pytest
import torch

from benchmarks import generation
from minimind import config
from minimind.model import Decoder, ModelConfig

ROOT = Path(__file__).parents[1]
TINY = """
hidden_size: 64
num_hidden_layers: 1
num_attention_heads: 2
num_key_value_heads: 1
intermediate_size: 96
max_position_embeddings: 128
qk_norm: false
"""


def test_sizes_are_those_of_the_presets() -> None:
    for size, preset in generation.SIZES.items():
        path = ROOT / "presets" / f"{preset}.yaml"
        shape = config.parse(ModelConfig, config.read(path), path).with_vocabulary(generation.VOCABULARY)
        with torch.device("meta"):
            assert size == f"{Decoder(shape).num_parameters() / 1e6:.0f}M"


def test_rates_are_by_medians_and_ratios_within_rounds() -> None:
    seconds = {"ours fp32": [1.0, 2.0, 4.0], "transformers fp32": [3.0, 4.0, 4.0]}
    assert generation.table(8, seconds, 100) == [
        "| 8 | ours fp32 | 50 | 1.00 |",
        "| 8 | transformers fp32 | 25 | 2.00 |",
    ]


def test_everyone_answers_the_same_prompts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("presets").mkdir()
    Path("presets/tiny.yaml").write_text(TINY)
    monkeypatch.setattr(generation, "VOCABULARY", 320)
    monkeypatch.setattr(generation, "SIZES", {"tiny": "tiny"})
    size = ["--prompt-tokens", "6", "--new-tokens", "4", "--rounds", "1", "--threads", "1"]
    generation.main(["--sizes", "tiny", "--batches", "1,3", *size])
    said = capsys.readouterr().out
    assert "1 threads, 6 + 4 tokens, wall clock" in said and "\ntiny:\n" in said
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in said.splitlines() if "|" in line][2:]
    names = ["ours fp32", "transformers fp32", "ours bf16", "transformers bf16", "ours q8_0"]
    names += [f"llama.cpp {kind}" for kind in ("f32", "bf16", "q8_0")]
    assert [row[:2] for row in rows] == [[batch, name] for batch in ("1", "3") for name in names]
    assert all(float(row[2].replace(",", "")) > 0 and len(row) == 6 for row in rows)
