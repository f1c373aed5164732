"""A sweep from the command line on toy models, and how its tables are read."""

from pathlib import Path

import pytest

from benchmarks import sweep, workload


def test_a_table_marks_the_best_and_shows_the_spread() -> None:
    cells = {"a": {0.1: [2.0, 2.2], 0.2: [1.0, 1.5]}, "b": {0.1: [1.0], 0.2: [float("nan")]}}
    assert sweep.table("model", cells).splitlines() == [
        "| model | 0.1 | 0.2 |",
        "|---|---|---|",
        "| a | 2.100 ± 0.100 | **1.250 ± 0.250** |",
        "| b | **1.000 ± 0.000** | diverged |",
    ]


def test_widths_differ_in_nothing_else() -> None:
    models = [sweep.of_width(width) for width in (64, 128, 256)]
    assert {(model.head_width, model.num_hidden_layers) for model in models} == {(32, 4)}
    with pytest.raises(sweep.UserError, match="multiple of 64"):
        sweep.of_width(100)


def test_a_sweep_is_run_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(workload, "VOCAB_SIZE", 600)
    monkeypatch.setattr(workload, "TOKENIZER_DOCUMENTS", 100)
    monkeypatch.setattr(workload, "VALIDATION_DOCUMENTS", 4)
    monkeypatch.setattr(sweep, "LAYERS", 1)
    monkeypatch.setattr(sweep, "MATRIX_RATES", (0.01, 0.02))
    monkeypatch.setattr(sweep, "RATES", (4e-3,))
    command = ["--widths", "64,128", "--tokens", "5000", "--batch-size", "2", "--out", str(tmp_path / "sweep.jsonl")]
    sweep.main(command)
    first = capsys.readouterr()
    assert first.out.count("| width 64") == first.out.count("| width 128") == 3
    assert first.err.count("bits per byte") == 2 * 2 * (2 + 1), "a rate that two tables share is run once"
    sweep.main(command)
    again = capsys.readouterr()
    assert again.out == first.out and "bits per byte" not in again.err
