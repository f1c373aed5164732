"""Batches: targets, order, mixture, extras."""

from pathlib import Path

import numpy as np
import pytest
import torch

from minimind import files
from minimind.batches import Batches, Source, collate, validation
from minimind.losses import IGNORE
from minimind.rows import Rows, RowWriter


def make_rows(folder: Path, count: int, offset: int = 0) -> Rows:
    """Rows of 8 tokens whose first document carries the row's number."""
    folder.mkdir()
    with RowWriter(folder / "train.arrow", 8, 1000) as writer:
        for i in range(count):
            writer.add([([offset + i, 5, 6], [0, 1, 1], 2), ([7, 8, 9], [0, 0, 1], 1)])
    files.write_manifest(folder)
    return Rows.open(folder, "train")


def drawn(batches: Batches, steps: int) -> list[list[int]]:
    return [batches.at(step)["ids"][:, 0].tolist() for step in range(steps)]


def test_a_target_is_the_next_learnt_token_of_the_same_document(tmp_path: Path) -> None:
    batch = collate(Source(make_rows(tmp_path / "a", 1)), np.array([0]))
    assert batch["ids"].tolist() == [[0, 5, 6, 7, 8, 9, 0, 0]]
    assert batch["targets"].tolist() == [[5, 6, IGNORE, IGNORE, 9, IGNORE, IGNORE, IGNORE]]
    assert batch["documents"].tolist() == [[1, 1, 1, 2, 2, 2, 0, 0]]


def test_an_epoch_draws_every_row_once_and_the_next_in_another_order(tmp_path: Path) -> None:
    batches = Batches([Source(make_rows(tmp_path / "a", 12))], 4, seed=3)
    steps = drawn(batches, 6)
    first, second = sum(steps[:3], []), sum(steps[3:], [])
    assert sorted(first) == sorted(second) == list(range(12))
    assert first != second


def test_a_batch_is_a_function_of_seed_and_step_alone(tmp_path: Path) -> None:
    rows = make_rows(tmp_path / "a", 10)
    straight = drawn(Batches([Source(rows)], 4, seed=3), 8)
    backwards = Batches([Source(rows)], 4, seed=3)
    assert [backwards.at(step)["ids"][:, 0].tolist() for step in reversed(range(8))] == straight[::-1]
    assert drawn(Batches([Source(rows)], 4, seed=4), 8) != straight


def test_shares_hold_exactly_and_no_source_repeats_early(tmp_path: Path) -> None:
    main, replay = make_rows(tmp_path / "a", 90), make_rows(tmp_path / "b", 10, offset=500)
    batches = Batches([Source(main, 0.9), Source(replay, 0.1)], 3, seed=0)
    assert batches.steps(epochs=1) == round(90 / 2.7)
    drawn_rows = sum(drawn(batches, 33), [])
    replayed = [row for row in drawn_rows if row >= 500]
    assert len(drawn_rows) == 99
    assert len(replayed) == 10
    assert len(set(drawn_rows)) == 99


def test_extras_follow_their_rows(tmp_path: Path) -> None:
    rows = make_rows(tmp_path / "a", 6)
    source = Source(rows, extras={"reference": np.arange(6, dtype=np.float32)[:, None] * 10})
    batch = Batches([source], 4, seed=1).at(0)
    assert torch.equal(batch["reference"][:, 0], batch["ids"][:, 0] * 10.0)
    assert sum(len(part["ids"]) for part in validation(source, 4)) == 6


def test_impossible_mixtures_are_refused(tmp_path: Path) -> None:
    rows, empty = make_rows(tmp_path / "a", 2), make_rows(tmp_path / "b", 0)
    with pytest.raises(ValueError, match="add up to 0.5"):
        Batches([Source(rows, 0.5)], 2, 0)
    with pytest.raises(ValueError, match="no rows"):
        Batches([Source(empty)], 2, 0)
