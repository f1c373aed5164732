"""Packing beside its peers, at a size that is no measurement."""

import pytest

from benchmarks import packing


def test_every_side_is_timed_and_bytes_are_compared(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loader = packing.loader
    monkeypatch.setattr(packing, "loader", lambda rows: loader(rows, seconds=0.1))
    packing.main(["--megabytes", "5", "--rounds", "1"])
    said = capsys.readouterr().out
    rows = [line.strip("| ").split(" | ") for line in said.splitlines() if line.startswith("|")][2:]
    assert [row[0] for row in rows] == ["encode", "ours", "datasets"]
    assert all(float(row[1]) > 0 for row in rows) and rows[1][2] == "1.00"
    assert "bytes equal for 1 and 2 workers: True" in said
