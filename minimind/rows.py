"""Packed rows on disk: columns of fixed width in an Arrow file, read in place through a memory map.

One file is one record batch, so every column is one array (N, …) without a copy, whatever its size. A row of
tokens holds whole documents, one after the other, then padding:

| column    | type             | what it says                                                          |
|-----------|------------------|-----------------------------------------------------------------------|
| tokens    | uint16 or uint32 | token ids, 0 on padding                                               |
| learn     | uint8            | 1 where this token is to be predicted from its predecessor            |
| documents | uint16           | number of the document within the row, from 1 up; 0 on padding        |

In rows of preferences, documents 2i-1 (chosen) and 2i (rejected) form pair i.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from minimind import files

METADATA_KEY = b"minimind"
MAX_ROW_LENGTH = 65535  # document numbers are uint16, and a document has at least one token


def write_columns(path: Path, columns: dict[str, np.ndarray], metadata: dict[str, Any] | None = None) -> None:
    """Write arrays (N, …) of numbers, all with the same N, as one Arrow IPC file; equal input gives equal bytes.

    `metadata` must be writable as JSON; `read_columns` returns it. Arrays may be memory maps of whole files, and then
    take no memory.
    """
    arrays, shapes = [], {}
    spilled: dict[int, Path] = {}  # memory maps of whole files, by address
    for name, values in columns.items():
        shapes[name] = list(values.shape[1:])
        buffer = pa.py_buffer(np.ascontiguousarray(values))
        if isinstance(values, np.memmap) and values.nbytes == Path(str(values.filename)).stat().st_size:
            spilled[buffer.address] = Path(str(values.filename))
        # Not pa.array, which would import pandas.
        flat = pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), values.size, [None, buffer])
        width = int(np.prod(values.shape[1:], dtype=np.int64))
        arrays.append(flat if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, width))
    text = json.dumps({"shapes": shapes, "values": metadata or {}}, ensure_ascii=False, sort_keys=True)
    batch = pa.record_batch(arrays, names=list(columns)).replace_schema_metadata({METADATA_KEY: text.encode()})
    options = pa.ipc.IpcWriteOptions(allow_64bit=True)  # more than 2^31 numbers in a column
    with (
        path.open("wb") as stream,
        pa.PythonFile(_Sink(stream, spilled), "w") as sink,
        pa.ipc.new_file(sink, batch.schema, options=options) as writer,
    ):
        writer.write_batch(batch)


class _Sink:
    """Writes to `stream`; what is mapped from a file is copied from that file.

    Pages that are read through a map count as resident memory, and a column may be larger than that.
    """

    closed = False

    def __init__(self, stream: BinaryIO, spilled: dict[int, Path]):
        self.stream, self.spilled = stream, spilled

    def write(self, data: Any) -> None:
        path = self.spilled.get(data.address) if isinstance(data, pa.Buffer) else None
        if path is None:
            self.stream.write(data)
        else:
            with path.open("rb") as spill:
                shutil.copyfileobj(spill, self.stream, 1 << 20)

    def tell(self) -> int:
        return self.stream.tell()

    def flush(self) -> None:
        self.stream.flush()

    def close(self) -> None:
        self.closed = True


def read_columns(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Map a file of `write_columns`. Returns its arrays (N, …), read-only and not yet read, and its metadata."""
    with pa.memory_map(str(path)) as source:
        batch = pa.ipc.open_file(source).get_batch(0)
    described = json.loads(batch.schema.metadata[METADATA_KEY])
    columns = {}
    for name, shape in described["shapes"].items():
        values = batch.column(name)
        flat = values.flatten() if shape else values
        columns[name] = flat.to_numpy(zero_copy_only=True).reshape(batch.num_rows, *shape)
    return columns, described["values"]


def dtypes(vocab_size: int) -> dict[str, str]:
    """The types of the columns."""
    return {"tokens": "<u2" if vocab_size <= 65536 else "<u4", "learn": "<u1", "documents": "<u2"}


class RowWriter:
    """Writes rows of documents one by one, in bounded memory; the file appears at `close`.

    Rows are spilled beside `path` as they come, since an Arrow file begins with what is known only at the end.
    Use as a context manager: the file is written on success only, and the spill is removed in any case.
    """

    def __init__(self, path: Path, row_length: int, vocab_size: int):
        assert 0 < row_length <= MAX_ROW_LENGTH, f"rows of {row_length} tokens: must be 1 to {MAX_ROW_LENGTH}"
        self.path, self.row_length, self.vocab_size = path, row_length, vocab_size
        self.num_rows = self.max_documents = self.target_tokens = self.target_bytes = 0
        self.dtypes = dtypes(vocab_size)
        self.spills = {name: path.with_name(f"{path.name}.{name}") for name in self.dtypes}
        self.streams = {name: spill.open("wb") for name, spill in self.spills.items()}

    def add(self, documents: Sequence[tuple[ArrayLike, ArrayLike, int]]) -> None:
        """Append one row.

        Each document is (tokens, learn, num_bytes): ids, 1 where the token is to be predicted, and the number of
        UTF-8 bytes that those learned tokens stand for. Together they fit the row.
        """
        row = {name: np.zeros(self.row_length, dtype) for name, dtype in self.dtypes.items()}
        start = 0
        for number, (ids, mask, num_bytes) in enumerate(documents, 1):
            tokens, learn = np.asarray(ids), np.asarray(mask)
            end = start + len(tokens)
            assert 0 < len(tokens) == len(learn) and end <= self.row_length, "documents overflow their row"
            assert not learn[0], "the first token of a document has no predecessor to be predicted from"
            assert tokens.max() < self.vocab_size, "a token id lies outside the vocabulary"
            row["tokens"][start:end], row["learn"][start:end], row["documents"][start:end] = tokens, learn, number
            self.target_tokens += int(learn.sum())
            self.target_bytes += num_bytes
            start = end
        for name, stream in self.streams.items():
            stream.write(row[name].data)
        self.num_rows += 1
        self.max_documents = max(self.max_documents, len(documents))

    def extend(
        self, columns: Mapping[str, np.ndarray], max_documents: int, target_tokens: int, target_bytes: int
    ) -> None:
        """Append finished rows: columns (N, row_length), the most documents in one of them, and their totals."""
        for name, stream in self.streams.items():
            values = columns[name]
            assert values.shape[1:] == (self.row_length,) and values.dtype == self.dtypes[name], f"not rows: {name}"
            stream.write(np.ascontiguousarray(values).data)
        self.num_rows += len(columns["tokens"])
        self.max_documents = max(self.max_documents, max_documents)
        self.target_tokens += target_tokens
        self.target_bytes += target_bytes

    def close(self) -> None:
        """Turn the spilled rows into the Arrow file."""
        shape = (self.num_rows, self.row_length)
        columns: dict[str, np.ndarray] = {}
        for name, dtype in self.dtypes.items():
            self.streams[name].close()
            # An empty file can't be mapped.
            spilled = np.memmap(self.spills[name], dtype, "r", shape=shape) if self.num_rows else np.zeros(shape, dtype)
            columns[name] = spilled
        metadata = {
            "row_length": self.row_length,
            "vocab_size": self.vocab_size,
            "max_documents": self.max_documents,
            "target_tokens": self.target_tokens,
            "target_bytes": self.target_bytes,
        }
        write_columns(self.path, columns, metadata)
        self.discard()

    def discard(self) -> None:
        """Remove the spilled rows."""
        for name, spill in self.spills.items():
            self.streams[name].close()
            spill.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close() if kind is None else self.discard()


@dataclass(frozen=True)
class Rows:
    """The rows of one split, mapped from disk. N rows of `row_length` L tokens."""

    columns: dict[str, np.ndarray]
    row_length: int
    vocab_size: int
    max_documents: int  # the most documents in any row
    target_tokens: int  # tokens to be predicted, over all rows
    target_bytes: int  # UTF-8 bytes those tokens stand for: bits per byte = nats / ln 2 / target_bytes

    @classmethod
    def open(cls, folder: Path, split: str) -> "Rows":
        """Map `split` ("train" or "validation") of a packed data set.

        Raises files.CorruptError if the file differs from what the folder's manifest says.
        """
        files.verify_manifest(folder, only=[f"{split}.arrow"])
        columns, metadata = read_columns(folder / f"{split}.arrow")
        return cls(columns, **metadata)

    def __len__(self) -> int:
        return len(self.columns["tokens"])

    def column(self, name: str) -> np.ndarray:
        """One column, (N, L), read-only: "tokens", "learn" or "documents"."""
        return self.columns[name]
