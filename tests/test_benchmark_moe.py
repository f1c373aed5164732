"""The table of a mixture beside its dense sibling, from the command line, on toy models."""

from pathlib import Path

import pytest

from benchmarks import moe

TINY = """
hidden_size: 32
num_hidden_layers: 2
num_attention_heads: 2
num_key_value_heads: 1
intermediate_size: 48
"""


def test_a_table_says_what_a_mixture_costs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        moe.main([])
    assert "run from the root of the repository" in capsys.readouterr().err
    Path("presets").mkdir()
    Path("presets/tiny.yaml").write_text(TINY)
    Path("presets/tiny-moe.yaml").write_text(TINY + "use_moe: true\nnum_experts: 4\n")
    monkeypatch.setattr(moe, "VOCABULARY", 64)
    size = ["--rows", "2", "--row-length", "16", "--step-tokens", "64", "--rounds", "2", "--threads", "1"]
    moe.main(["--preset", "tiny-moe", "--dense", "tiny", *size])
    said = capsys.readouterr().out
    assert "passes of 2 × 16 tokens, steps of 64 with adamw" in said
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in said.splitlines() if "|" in line][2:]
    assert [row[0] for row in rows] == ["dense", "mixture", "mixture, looped"]
    assert rows[0][1] == rows[0][2] and rows[1][1] == rows[2][1] != rows[1][2]
    assert rows[0][4] == rows[0][7] == "1.00"
