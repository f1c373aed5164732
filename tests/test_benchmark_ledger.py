"""What a benchmark has found survives a kill, and isn't taken for what other settings would give."""

from pathlib import Path

import pytest

from benchmarks.ledger import Ledger
from minimind.errors import UserError


def test_records_are_found_again_by_a_part_of_them(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.jsonl"
    Ledger(path, {"size": "5m"}).add({"side": "ours", "seed": 1, "pair": (1, 2), "bits": 2.5})
    again = Ledger(path, {"size": "5m"})
    found = again.find({"side": "ours", "pair": (1, 2)})
    assert found is not None and found["bits"] == 2.5
    assert again.find({"side": "ours", "seed": 2}) is None


def test_a_torn_line_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    ledger = Ledger(path, {"size": "5m"})
    ledger.add({"seed": 1})
    ledger.add({"seed": 2})
    path.write_bytes(path.read_bytes()[:-3])
    torn = Ledger(path, {"size": "5m"})
    assert torn.records == [{"seed": 1}]
    torn.add({"seed": 3})
    assert Ledger(path, {"size": "5m"}).records == [{"seed": 1}, {"seed": 3}]


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    Ledger(tmp_path / "results.jsonl", {"size": "5m", "tokens": 1, "code": "a"})
    with pytest.raises(UserError, match="another tokens, code:"):
        Ledger(tmp_path / "results.jsonl", {"size": "5m", "tokens": 2, "code": "b"})
