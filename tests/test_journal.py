"""Files that grow beside the states of a task: what was cut, changed or lost is noticed and made again."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from minimind import columns, files
from minimind.batches import Batch
from minimind.journal import Journal, holds, mark
from minimind.resume import Resume
from minimind.rows import Rows, RowWriter

DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:10]),
    "changed": lambda path: path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:]),
    "gone": Path.unlink,
}


def test_a_journal_goes_on_behind_its_mark(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    with Journal(path) as journal:
        journal.write(b"one")
        first = journal.mark()
        journal.write(b" half")
    assert holds(path, first) and first["bytes"] == 3
    with Journal(path, first) as journal:
        journal.write(b" two")
        second = journal.mark()
    assert path.read_bytes() == b"one two" and second == mark(path)
    with Journal(path):
        assert path.read_bytes() == b""


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_mark_holds_for_what_was_written_only(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"twelve bytes")
    marked = mark(path)
    assert holds(path, marked)
    DAMAGES[damage](path)
    assert not holds(path, marked)


@pytest.mark.parametrize("damage", DAMAGES)
def test_columns_beside_a_damaged_file_are_worked_out_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(columns, "TOKENS_PER_BATCH", 8)
    monkeypatch.setattr(columns, "SAVE_EVERY", 1)
    Path("dvc.yaml").write_text("stages: {toy: {cmd: toy}}")
    Path("packed").mkdir()
    with RowWriter(Path("packed/train.arrow"), 8, 100) as writer:
        for number in range(6):
            writer.add([([number + 1] * 8, [0] + [1] * 7, 7)])
    files.write_manifest(Path("packed"))
    rows = Rows.open(Path("packed"), "train")
    calls: list[int] = []

    def first(batch: Batch) -> dict[str, Tensor]:
        calls.append(int(batch["ids"][0, 0]))
        if len(calls) == 5:
            raise InterruptedError  # dies with four rows saved
        return {"first": batch["ids"][:, :1].float()}

    def compute() -> np.ndarray:
        with Resume("toy") as resume:
            return columns.compute(first, rows, {"first": ((1,), "float32")}, resume, "train", torch.device("cpu"))[
                "first"
            ].copy()

    with pytest.raises(InterruptedError):
        compute()
    (path,) = Path(".resume/toy").rglob("train.first")
    DAMAGES[damage](path)
    assert compute()[:, 0].tolist() == [1, 2, 3, 4, 5, 6]
    assert calls[5:] == [1, 2, 3, 4, 5, 6]
    assert "train.first is missing, cut or changed since" in capsys.readouterr().err
