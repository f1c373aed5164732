"""The same documents, tokens and bytes as the validation that training logs, told apart by file and language."""

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from toy.models import random_model

from minimind import heldout
from minimind.atlas import world
from minimind.batches import Source, validation
from minimind.corpus import Text
from minimind.model import ModelConfig
from minimind.objectives.language import bits_per_byte
from minimind.packing import PackConfig, pack
from minimind.pool import Local
from minimind.rows import Rows
from minimind.shards import Recipe

CONFIG = PackConfig(max_seq_len=64, validation_share=0.3, max_quarantine_share=0.9, thinking_off_share=0.5)


def write(path: Path, records: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(orjson.dumps(record) + b"\n" for record in records) + b"no JSON\n")


@pytest.mark.parametrize("name", ["pretrain", "sft"])
def test_together_they_are_what_training_logs(name: str, tmp_path: Path, tokenizer_folder: Path) -> None:
    records = list(world.generate(name, 90, 3))
    if name == "pretrain":
        records[0] = {"text": "The capital of France is Paris. " * 60}  # goes on in further rows
    write(tmp_path / name / "0-old.jsonl", records[:60])
    write(tmp_path / name / "1-new.jsonl", records[60:])
    pack(
        tmp_path / name,
        tokenizer_folder,
        CONFIG,
        tmp_path / "packed",
        Local(1),
        tmp_path / "scratch",
        tmp_path / "kept",
    )
    rows = Rows.open(tmp_path / "packed", "validation")
    model = random_model(
        ModelConfig(
            hidden_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, intermediate_size=32,
            vocab_size=rows.vocab_size, max_position_embeddings=64,
        )
    )  # fmt: skip
    recipe = Recipe(tokenizer_folder, CONFIG.max_seq_len, CONFIG.validation_share, CONFIG.thinking_off_share)
    seen: list[int] = []
    groups = heldout.groups([tmp_path / name], CONFIG.validation_share)
    figures = heldout.measure(model, recipe, groups, 7, seen.append)
    assert [(group.source, group.language) for group in groups] == [
        ("0-old", "en"), ("0-old", "zh"), ("1-new", "en"), ("1-new", "zh"),
    ]  # fmt: skip
    leaves = [leaf for languages in figures[name].values() for leaf in languages.values()]
    assert sum(seen) == sum(len(group.documents) for group in groups) >= sum(leaf["documents"] for leaf in leaves)
    assert sum(leaf["bytes"] for leaf in leaves) == rows.target_bytes
    together = sum(leaf["bits_per_byte"] * leaf["bytes"] for leaf in leaves) / rows.target_bytes
    assert together == pytest.approx(bits_per_byte(model, validation(Source(rows), 8), rows.target_bytes), abs=2e-4)
    assert json.dumps(figures) == json.dumps(heldout.measure(model, recipe, groups, 7, seen.append))


def test_of_a_long_file_the_first_are_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heldout, "MAX_BYTES", 100)
    write(tmp_path / "pretrain" / "0.jsonl", [{"text": f"Document number {number} of many."} for number in range(99)])
    (group,) = heldout.groups([tmp_path / "pretrain"], 1.0)
    assert 1 < len(group.documents) < 5 and group.documents[0] == Text("Document number 0 of many.")
    assert heldout.groups([tmp_path / "pretrain"], 0.0) == []


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The capital of France is Paris, and it lies on the river Seine.", "en"),
        ("法国的首都是巴黎。", "zh"),
        ("我们用 PyTorch 训练 transformer 语言模型。", "zh"),
        ("Die Hauptstadt von Frankreich ist Paris, und die Stadt liegt am Fluss Seine, der ins Meer fließt.", "other"),
        ("これは日本語の文章です。", "other"),
        ("12 + 7 = 19", "other"),
    ],
)
def test_languages(text: str, language: str) -> None:
    assert heldout.spoken(Text(text)) == language
