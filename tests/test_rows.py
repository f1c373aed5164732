"""The packed format, read back by pyarrow and guarded by its manifest."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from minimind import files
from minimind.rows import Rows, RowWriter, read_columns, write_columns

FIRST = ([1, 40, 41, 2], [0, 1, 1, 1], 7)
SECOND = ([1, 50, 2], [0, 0, 1], 0)


def write(folder: Path, rows: list, row_length: int = 8, vocab_size: int = 64) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with RowWriter(folder / "train.arrow", row_length, vocab_size) as writer:
        for row in rows:
            writer.add(row)
    files.write_manifest(folder)
    return folder


def test_pyarrow_reads_what_was_written(tmp_path):
    write(tmp_path, [[FIRST, SECOND], [SECOND]])
    with pa.ipc.open_file(tmp_path / "train.arrow") as reader:
        table = reader.read_all().to_pydict()
    assert table == {
        "tokens": [[1, 40, 41, 2, 1, 50, 2, 0], [1, 50, 2, 0, 0, 0, 0, 0]],
        "learn": [[0, 1, 1, 1, 0, 0, 1, 0], [0, 0, 1, 0, 0, 0, 0, 0]],
        "documents": [[1, 1, 1, 1, 2, 2, 2, 0], [1, 1, 1, 0, 0, 0, 0, 0]],
    }


def test_rows_know_their_totals(tmp_path):
    rows = Rows.open(write(tmp_path, [[FIRST, SECOND], [SECOND]]), "train")
    assert (len(rows), rows.row_length, rows.vocab_size, rows.max_documents) == (2, 8, 64, 2)
    assert (rows.target_tokens, rows.target_bytes) == (5, 7)
    assert rows.column("tokens").tolist()[1] == [1, 50, 2, 0, 0, 0, 0, 0]


def test_equal_rows_make_equal_bytes(tmp_path):
    rows = [[FIRST], [SECOND, FIRST]] * 100
    first, second = (write(tmp_path / name, rows) / "train.arrow" for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


def test_large_vocabularies_get_wider_tokens(tmp_path):
    narrow = Rows.open(write(tmp_path / "a", [[([0, 65535], [0, 1], 1)]], vocab_size=65536), "train")
    wide = Rows.open(write(tmp_path / "b", [[([0, 65536], [0, 1], 1)]], vocab_size=65537), "train")
    assert narrow.column("tokens").dtype == np.uint16
    assert wide.column("tokens").dtype == np.uint32
    assert wide.column("tokens")[0, 1] == 65536


def test_no_rows_are_a_file_too(tmp_path):
    rows = Rows.open(write(tmp_path, []), "train")
    assert len(rows) == 0 and rows.column("documents").shape == (0, 8)


@pytest.mark.parametrize(
    "documents",
    [
        [FIRST, FIRST, SECOND],  # longer than the row
        [([1, 64], [0, 1], 1)],  # outside the vocabulary
        [([1, 40], [1, 1], 1)],  # nothing precedes the first token
        [([1, 40], [0], 1)],
        [([], [], 0)],
    ],
)
def test_impossible_rows_are_refused(tmp_path, documents):
    with pytest.raises(AssertionError):
        write(tmp_path, [documents])
    assert list(tmp_path.iterdir()) == []  # neither half a file nor a spill


def test_nothing_but_the_columns_stays_on_disk(tmp_path):
    assert sorted(path.name for path in write(tmp_path, [[FIRST]]).iterdir()) == ["manifest.json", "train.arrow"]


def test_opening_notices_a_changed_byte(tmp_path):
    path = write(tmp_path, [[FIRST]]) / "train.arrow"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(files.CorruptError, match="train.arrow"):
        Rows.open(tmp_path, "train")


def test_columns_of_any_width_come_back(tmp_path):
    random = np.random.default_rng(0)
    columns = {
        "ids": random.integers(0, 6400, (5, 8, 3)).astype(np.uint16),
        "logprobs": random.standard_normal((5, 8, 3)).astype(np.float16),
        "reference": random.standard_normal((5, 2)).astype(np.float32),
        "weights": random.standard_normal(5),
    }
    write_columns(tmp_path / "extra.arrow", columns, {"temperature": 1.5})
    read, metadata = read_columns(tmp_path / "extra.arrow")
    assert metadata == {"temperature": 1.5}
    assert list(read) == list(columns)
    for name, values in columns.items():
        np.testing.assert_array_equal(read[name], values)
        assert read[name].dtype == values.dtype and not read[name].flags.writeable
