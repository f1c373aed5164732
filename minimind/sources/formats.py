"""Files of records in the usual formats, packed or not, read one record at a time.

Columns that nobody uses do no harm, so every value of a table is brought into a form that JSON has: moments and spans
of time as text, decimals digit by digit, bytes as the text that they encode, and nothing where there is none.
"""

import csv
import gzip
import io
import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import IO, Any, cast

import pyarrow
import pyarrow.parquet
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from minimind import lossless
from minimind.sources import elements, texts

FORMATS: tuple[str, ...] = ("jsonl", "json", "csv", "parquet", "arrow", "yaml")
SUFFIXES = {name: name for name in FORMATS} | {"yml": "yaml"} | texts.SUFFIXES
"""What a file's name ends in → its format."""
PACKED = ("gz", "zst", "zip")
MAX_LINE_BYTES = 1 << 24  # as in corpus

csv.field_size_limit(1 << 30)  # documents are longer than the 128 KiB that it expects


def opened(path: Path, packing: str) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of what is in the file: of each member of a zip, in the order of their names."""
    if packing == "zip":
        with zipfile.ZipFile(path) as zipped:
            for member in members(zipped):
                yield member, zipped.open(member)
    elif packing == "gz":
        yield path.name, cast(IO[bytes], gzip.open(path, "rb"))  # noqa: SIM115
    elif packing == "zst":
        yield path.name, pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), "zstd")
    else:
        yield path.name, path.open("rb")


def members(zipped: zipfile.ZipFile) -> list[str]:
    """The names of the files in a zip, in order."""
    return [name for name in sorted(zipped.namelist()) if not name.endswith("/") and "__MACOSX/" not in name]


def begins_with_string(head: bytes) -> bool:
    """Whether the first line of JSON lines is a string."""
    return head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b'"')


class Joined:
    """A stream whose first bytes were read already."""

    def __init__(self, head: bytes, stream: IO[bytes]):
        self._head, self._stream = head, stream

    def read(self, size: int) -> bytes:
        """At most so many bytes; of the head first."""
        head, self._head = self._head[:size], self._head[size:]
        return head or self._stream.read(size)


def copy_lines(stream: IO[bytes], writer: IO[bytes]) -> None:
    """Copy; what follows will stand on a line of its own."""
    last = b"\n"
    while block := stream.read(1 << 20):
        writer.write(block)
        last = block[-1:]
    if last != b"\n":
        writer.write(b"\n")


def _read_jsonl(stream: IO[bytes]) -> Iterator[object]:
    rest = b""
    while block := stream.read(1 << 20):
        *lines, rest = (rest + block).split(b"\n")
        yield from map(_record, lines)
        if len(rest) > MAX_LINE_BYTES:
            raise ValueError(f"a line is longer than {MAX_LINE_BYTES} bytes; is it of another `format:`, json?")
    if rest:
        yield _record(rest)


def _record(line: bytes) -> object:
    try:
        value = lossless.loads(line.removeprefix(b"\xef\xbb\xbf"))
    except ValueError:
        return line
    return value if isinstance(value, dict) else line


def _read_json(stream: IO[bytes]) -> Iterator[object]:
    for element in elements.cut(stream, MAX_LINE_BYTES):
        record = _record(element)
        # A line end within a text is no JSON, and a tab isn't either.
        yield re.sub(rb"[\r\n]", b"\t", record) if isinstance(record, bytes) else record


def _read_csv(stream: IO[bytes]) -> Iterator[object]:
    rows = csv.DictReader(io.TextIOWrapper(stream, encoding="utf-8-sig", newline=""), strict=True)
    for row in rows:
        if None in row or None in row.values():
            raise ValueError(f"line {rows.line_num} has other columns than the first line names")
        yield row


def _read_parquet(stream: IO[bytes]) -> Iterator[object]:
    with ExitStack() as stack:
        file = pyarrow.parquet.ParquetFile(_seekable(stream, stack))
        yield from _rows(file.iter_batches(batch_size=1024))


def _read_arrow(stream: IO[bytes]) -> Iterator[object]:
    """Arrow's file format, or its stream format, which datasets writes."""
    with ExitStack() as stack:
        source = _seekable(stream, stack)
        magic = source.read(6)
        source.seek(0)
        if magic == b"ARROW1":
            file = pyarrow.ipc.open_file(source)
            yield from _rows(file.get_batch(number) for number in range(file.num_record_batches))
        else:
            yield from _rows(pyarrow.ipc.open_stream(source))


def _seekable(stream: IO[bytes], stack: ExitStack) -> IO[bytes]:
    if isinstance(stream, io.BufferedReader):
        return stream
    spooled = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
    shutil.copyfileobj(stream, spooled)
    spooled.seek(0)
    return spooled


def _rows(batches: Iterator[pyarrow.RecordBatch]) -> Iterator[object]:
    for batch in batches:
        for start in range(0, len(batch), 1024):
            part = batch.slice(start, 1024)
            columns = {name: map(_plain, _values(column)) for name, column in zip(part.schema.names, part, strict=True)}
            for row in zip(*columns.values(), strict=True):
                yield dict(zip(columns, row, strict=True))


def _read_yaml(stream: IO[bytes]) -> Iterator[object]:
    """The items of one list, or one record for each document of the file."""
    try:
        for document in YAML(typ="safe", pure=True).load_all(stream):
            for value in document if isinstance(document, list) else [document]:
                yield _plain(value)
    except MarkedYAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None


def _values(column: pyarrow.Array) -> list[Any]:
    """Python's values; of points in time Arrow's text, since Python knows neither nanoseconds nor the year 10,000."""
    try:
        return (column.cast(pyarrow.string()) if pyarrow.types.is_temporal(column.type) else column).to_pylist()
    except (ValueError, ArithmeticError, pyarrow.ArrowException):  # such points deeper in the column, or intervals
        return [None] * len(column)


def _plain(value: Any) -> Any:
    """The value in a form that JSON has."""
    if isinstance(value, dict):
        return {str(key): _plain(member) for key, member in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(member) for member in value]
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return None
    if isinstance(value, Decimal):
        return lossless.Number(str(value)) if value.is_finite() else None
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, date | time):
        return value.isoformat()
    return value if value is None or isinstance(value, str | int) else str(value)


READERS: dict[str, Callable[[IO[bytes]], Iterator[object]]] = {
    "jsonl": _read_jsonl, "json": _read_json, "csv": _read_csv, "parquet": _read_parquet, "arrow": _read_arrow,
    "yaml": _read_yaml,
}  # fmt: skip
"""Records of each format, one in memory at a time; what is no object, or can't be read as JSON, comes as its bytes."""


def without_nulls(value: Any) -> Any:
    """A column has a value in every row: what a record does not have is null there."""
    if isinstance(value, dict):
        return {key: without_nulls(member) for key, member in value.items() if member is not None}
    return [without_nulls(member) for member in value] if isinstance(value, list) else value
