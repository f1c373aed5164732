"""Columns computed for packed rows: the same whether or not the work was interrupted, and tied to their rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from minimind import columns, files
from minimind.batches import Batch
from minimind.process import STOPPED
from minimind.rows import Rows, RowWriter, write_columns

SHAPES = {"sums": ((2,), "float32"), "first": ((), "uint16")}


class States:
    """Stands where `resume.Resume` does; asks for a stop at the given batches, counted over all runs."""

    def __init__(self, folder: Path, stops: tuple[int, ...] = ()):
        self.folder, self.stops, self.asked = folder, stops, 0
        self.saved: dict[str, Any] | None = None
        self.steps: list[int] = []

    @property
    def stop_requested(self) -> bool:
        self.asked += 1
        return self.asked in self.stops

    def save(self, step: int, state: dict[str, Any]) -> None:
        self.steps.append(step)
        self.saved = dict(state)

    def load(self) -> dict[str, Any] | None:
        return self.saved


def function(batch: Batch) -> dict[str, Tensor]:
    ids = batch["ids"].float()
    return {"sums": torch.stack((ids.sum(1), (ids**2).sum(1)), 1), "first": batch["ids"][:, 0]}


@pytest.fixture
def rows(tmp_path: Path) -> Rows:
    folder = tmp_path / "packed"
    folder.mkdir()
    generator = np.random.default_rng(0)
    with RowWriter(folder / "train.arrow", 8, 100) as writer:
        for _ in range(23):
            writer.add([(generator.integers(3, 100, 8), [0] + [1] * 7, 7)])
    files.write_manifest(folder)
    return Rows.open(folder, "train")


def compute(rows: Rows, states: States) -> dict[str, np.ndarray]:
    return columns.compute(function, rows, SHAPES, states, "train", torch.device("cpu"))  # type: ignore[arg-type]


def test_every_row_gets_its_values(rows: Rows, tmp_path: Path) -> None:
    computed = compute(rows, States(tmp_path))
    tokens = rows.column("tokens").astype(np.float32)
    np.testing.assert_allclose(computed["sums"], np.stack((tokens.sum(1), (tokens**2).sum(1)), 1))
    np.testing.assert_array_equal(computed["first"], rows.column("tokens")[:, 0])
    assert {name: values.dtype.name for name, values in computed.items()} == {"sums": "float32", "first": "uint16"}


def test_an_interrupted_computation_goes_on_and_ends_alike(
    rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns, "TOKENS_PER_BATCH", 4 * 8)
    expected = {name: values.copy() for name, values in compute(rows, States(tmp_path)).items()}
    for path in tmp_path.glob("train.*"):
        path.unlink()
    states = States(tmp_path, stops=(1, 3))
    for _ in states.stops:
        with pytest.raises(SystemExit) as stopped:
            compute(rows, states)
        assert stopped.value.code == STOPPED
    computed = compute(rows, states)
    assert states.steps == [4, 12, 23] and states.asked == 6  # no batch was computed twice
    for name, values in expected.items():
        assert computed[name].tobytes() == values.tobytes()


def test_a_source_carries_them_along_and_notices_damage(rows: Rows, tmp_path: Path) -> None:
    folder = tmp_path / "computed"
    folder.mkdir()
    write_columns(folder / "train.arrow", compute(rows, States(tmp_path)))
    files.write_manifest(folder)
    source = columns.source(rows, folder, "train")
    np.testing.assert_array_equal(source.extras["first"], rows.column("tokens")[:, 0])
    content = bytearray((folder / "train.arrow").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "train.arrow").write_bytes(content)
    with pytest.raises(files.CorruptError, match="train.arrow"):
        columns.source(rows, folder, "train")


def test_no_rows_give_empty_columns(tmp_path: Path) -> None:
    folder = tmp_path / "packed"
    folder.mkdir()
    with RowWriter(folder / "train.arrow", 8, 100):
        pass
    files.write_manifest(folder)
    assert compute(Rows.open(folder, "train"), States(tmp_path))["sums"].shape == (0, 2)
