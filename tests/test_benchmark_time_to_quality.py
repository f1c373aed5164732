"""The race from the command line on toy models, and the arithmetic that decides it."""

from pathlib import Path

import pytest

from benchmarks import time_to_quality, workload
from benchmarks.time_to_quality import boundary, result_table, search


def test_a_search_widens_until_the_best_has_worse_neighbours() -> None:
    best, tried = search([1, 2, 4], lambda value: abs(value - 16))
    assert best == 16 and list(tried) == [1, 2, 4, 8, 16, 32]
    best, tried = search([1, 2, 4], lambda value: value)
    assert best == 0.125 and list(tried) == [0.125, 0.25, 0.5, 1, 2, 4], "it gives up after three times"
    best, _ = search([1, 2, 4], lambda value: float("nan") if value > 1 else 3.0 - value)
    assert best == 1, "a run that diverged is none to choose"


@pytest.mark.parametrize("start", [0, 1, 4, 9, 16, 99])
def test_the_boundary_is_found_from_below_and_from_above(start: int) -> None:
    values = [1, 2, 4, 8, 16]
    asked: list[int] = []

    def at_least(bound: int, value: int) -> bool:
        asked.append(value)
        return value >= bound

    for bound, wanted in ((0, 1), (2, 2), (5, 8), (16, 16), (17, None)):
        asked.clear()
        assert boundary(values, start, lambda value, bound=bound: at_least(bound, value)) == wanted
        assert len(asked) == len(set(asked))


def test_wall_clock_is_steps_times_seconds_per_step() -> None:
    theirs = {"bits": 2.5, "steps": 10, "seconds": 90.0}
    ours = {"tokens": 5000, "steps": 4, "seconds": 9.0}
    seconds = {"fair": 8.0, "ours": {"4": 2.0}}
    table = result_table("fair", {1: (theirs, ours), 2: (theirs, {**ours, "seconds": 18.0})}, seconds)
    assert "| 1 | 2.5000 | 10 × 8.000 | 80 | 5,000 | 4 × 2.000 | 8.0 | 10.0 | 90 s / 9 s = 10.0 |" in table
    assert "median 10.0, least 10.0; wanted 2" in table
    assert "missed" in result_table("fair", {1: (theirs, None), 2: (theirs, ours)}, seconds)


def test_a_race_is_run_and_an_interrupted_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(workload.SHAPES, "5m", (32, 1, 2, 2, 48))
    monkeypatch.setattr(workload, "VOCAB_SIZE", 600)
    monkeypatch.setattr(workload, "TOKENIZER_DOCUMENTS", 40)
    monkeypatch.setattr(workload, "VALIDATION_DOCUMENTS", 8)
    monkeypatch.setattr(time_to_quality, "SHIPPED", time_to_quality.Recipe(5e-4, 4, 2, False, False, False))
    monkeypatch.setattr(time_to_quality, "TIMED_STEPS", 2)
    monkeypatch.setattr(time_to_quality, "POINTS", 2)
    monkeypatch.setattr(time_to_quality, "FAIR_RATES", (2e-3,))
    monkeypatch.setattr(time_to_quality, "MATRIX_RATES", (0.01,))
    out, plot = tmp_path / "race.jsonl", tmp_path / "race.png"
    command = ["--size", "5m", "--tokens", "12000", "--seeds", "1", "--compile", "off", "--out", str(out)]
    time_to_quality.main([*command, "--plot", str(plot)])
    printed = capsys.readouterr().out
    assert "ours against shipped: " in printed and "ours against fair: " in printed
    assert plot.read_bytes().startswith(b"\x89PNG")
    # The same call has all runs at hand; only the timing is made again.
    lines = out.read_text().splitlines()
    time_to_quality.main([*command, "--plot", str(plot)])
    assert out.read_text().splitlines()[:-1] == lines
    assert "bits per byte after" not in capsys.readouterr().out
    with pytest.raises(SystemExit, match="another tokens"):
        time_to_quality.main([*command, "--tokens", "13000"])
