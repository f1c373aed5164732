"""How much data a profile stands for."""

import math
from pathlib import Path

import orjson
import pytest

from minimind import amounts
from minimind.amounts import Amount
from minimind.atlas import world


def test_generated_records_are_counted_and_files_known_by_their_size() -> None:
    entries = [{"uri": "atlas:sft", "count": 1000, "seed": 1}]
    assert amounts.amount(entries, "sft") == Amount(280_000, 1000, 1000, 0)
    # 1.2 GB, as its authors say.
    known = amounts.amount([{"uri": "hf://jingyaogong/minimind_dataset/sft_mini_512.jsonl"}], "sft")
    assert known.num_bytes == pytest.approx(1.2e9) and known.downloaded == known.num_bytes and known.generated == 0


def test_what_is_not_known_stays_so_in_sums() -> None:
    strange = {"uri": "https://example.com/strange.jsonl"}
    total = amounts.amount([{"uri": "atlas:sft", "count": 10, "seed": 1}, strange], "sft")
    assert math.isnan(total.num_bytes) and math.isnan(total.records) and math.isnan(total.downloaded)
    assert total.generated == 10
    assert amounts.amount([{"uri": "file:data/own/mine.jsonl"}], "sft").downloaded == 0


def test_what_was_fetched_is_weighed(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_bytes(b"x" * 2800)
    (tmp_path / "manifest.json").write_bytes(b"{}")
    own = [{"uri": "file:data/own/mine.jsonl"}]
    assert amounts.amount(own, "sft", tmp_path) == Amount(2800, 10, 0, 0)
    assert math.isnan(amounts.amount(own, "sft", tmp_path / "absent").num_bytes)


def test_the_default_s_records_are_as_long_as_is_thought() -> None:
    """By their own generator, within a third."""
    for data_set, kind in (*((name, name) for name in ("pretrain", "sft", "dpo", "prompts")), ("benchmark", "dev")):
        lines = [orjson.dumps(record) for record in world.generate(kind, 240, 1)]
        size = sum(map(len, lines)) / len(lines)
        assert 2 / 3 < size / amounts.RECORD_BYTES[data_set] < 3 / 2, data_set
