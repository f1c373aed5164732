"""The benchmarks' text: one and the same in both shapes, spread as it says, equal whenever it is made."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from benchmarks import workload
from benchmarks.workload import Workload
from minimind.model import Decoder
from minimind.rows import Rows


def documents(rows: Rows) -> list[list[int]]:
    """The tokens of every document, in an order of their own."""
    tokens, numbers = rows.column("tokens"), rows.column("documents")
    found = []
    for row in range(len(rows)):
        for number in range(1, int(numbers[row].max()) + 1):
            found.append(tokens[row][numbers[row] == number].tolist())
    return sorted(found)


def test_padded_and_packed_rows_hold_the_same_documents(small_workload: Workload) -> None:
    assert documents(small_workload.padded) == documents(small_workload.packed)
    assert documents(small_workload.padded_validation) == documents(small_workload.packed_validation)
    assert small_workload.padded.target_bytes == small_workload.packed.target_bytes
    assert small_workload.packed.target_tokens >= 15_000
    shared = {tuple(d) for d in documents(small_workload.padded)} & {
        tuple(d) for d in documents(small_workload.padded_validation)
    }
    assert not shared, "what is validated on was learned from"


def test_lengths_are_spread_and_padding_costs_what_it_costs_minimind(tmp_path: Path) -> None:
    """With the whole vocabulary, on which lengths depend."""
    real = workload.build(tmp_path, 15_000, 512)
    lengths = (real.padded.column("documents") > 0).sum(1)
    assert real.padded.row_length == lengths.max() == workload.PADDED_LENGTH
    assert workload.fill(real.padded) == pytest.approx(lengths.mean() / 340)
    assert 0.5 < workload.fill(real.padded) < 0.7
    assert workload.fill(real.packed) > 0.9
    assert np.std(lengths) > 60


def test_texts_are_the_same_each_time_and_others_for_another_seed(tmp_path: Path) -> None:
    first = list(islice(workload.texts(20, 1), 20))
    assert first == list(workload.texts(20, 1))
    assert not set(first) & set(workload.texts(20, 2))


def test_sizes_are_what_they_are_called() -> None:
    millions = {size: Decoder(workload.model(size)).num_parameters() / 1e6 for size in workload.SHAPES}
    assert 1 < millions["1m"] < 2 and 4 < millions["5m"] < 6 and 26 < millions["26m"] < 31 and 63 < millions["64m"] < 65
