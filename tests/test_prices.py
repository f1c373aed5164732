"""What the family of MiniMind would take, by the formula and the profiles."""

from pathlib import Path

import pytest

from minimind import cli, prices
from minimind.errors import UserError

ROOT = Path(__file__).parents[1]


def test_hours_follow_the_formula() -> None:
    # 6 · 26M parameters · 1G tokens at 100 TFLOP/s
    assert prices.hours(26_000_000, 1e9, 1e14) == pytest.approx(0.43, abs=0.01)
    with pytest.raises(ValueError, match="trains nothing"):
        prices.hours(1, 1.0, 0.0)


def test_the_family_is_a_table_of_estimates(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert cli.main(["doctor", "--family", "--price", "0.5", "--share", "0.2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {cells[0].strip("`"): cells[1:] for line in lines[2:-2] if (cells := line.strip("| ").split(" | "))}
    family = {path.stem for path in (ROOT / "profiles").glob("minimind*.yaml")}
    assert family >= {path.stem for path in (ROOT / "presets").glob("minimind*.yaml")}
    assert rows.keys() == family
    # 26M parameters on 1.6 GB and 1.2 GB at a fifth of a token a byte: 6 · 25,829,888 · 0.56G / 14.2 TFLOP/s.
    assert rows["minimind2-small"] == ["25,829,888", "25,829,888", "pretrain_hq, sft_mini_512", "0.56G", "1.7", "$0.85"]
    assert rows["minimind2-moe"][:2] == ["145,029,760", "91,945,600"]
    assert "Estimates, not measurements" in lines[-1] and "20% of the 71 TFLOP/s" in lines[-1] and "$0.50" in lines[-1]
    assert cli.main(["doctor", "--family", "--share", "0"]) == 1
    assert "share is 0" in capsys.readouterr().err


def test_the_family_s_table_in_the_readme_is_what_the_command_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert "\n".join(prices.family(prices.Device())) in (ROOT / "README.md").read_text(encoding="utf-8")


def test_without_profiles_there_is_no_family(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run from the root"):
        list(prices.family(prices.Device(), tmp_path))
