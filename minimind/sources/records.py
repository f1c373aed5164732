"""Records in files of the usual formats, and how they map onto our schemas.

Whatever the format, `.jsonl` comes out. JSON lines without a map are passed on byte for byte; nothing is dropped: a
line that is not JSON, or lacks what the map names, goes on as it is, and the stages that read it count and report it.
"""

import ast
import contextlib
import csv
import gzip
import io
import os
import re
import shutil
import string
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Literal, cast

import ijson
import orjson
import pyarrow
import pyarrow.parquet
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from minimind.sources import texts
from minimind.sources.source import FetchError, Source
from minimind.sources.texts import TEXTS

Format = Literal["jsonl", "json", "csv", "parquet", "yaml", "text", "markdown", "html"]
FORMATS: tuple[str, ...] = ("jsonl", "json", "csv", "parquet", "yaml")
SUFFIXES = {name: name for name in FORMATS} | {"yml": "yaml"} | texts.SUFFIXES
"""What a file's name ends in → its format."""
PACKED = ("gz", "zst", "zip")

_MAX_LINE_BYTES = 1 << 24  # as in corpus
_FICLONE = 0x40049409  # linux/fs.h
_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant"}  # as ShareGPT calls them
_KEYS = ("text", "conversations", "role", "content", "system", "user", "assistant", "chosen", "rejected")
_BESIDE = ("tools", "verify", "family")  # what a record may have besides, under these names or mapped to them

csv.field_size_limit(1 << 30)  # documents are longer than the 128 KiB that it expects


@dataclass(frozen=True, kw_only=True)
class RecordSource(Source):
    """A source made of files of records.

    `map` says where our keys find their values: {our key: their key, with dots for keys within keys}. Ours are
    `text`; `conversations`, with `role` and `content` for the names used in its messages; `user`, `assistant` and
    `system`, from which a conversation is made; `chosen` and `rejected`, lists of messages, or answers to `user`; and
    `tools`, `verify` and `family`, which also come along unnamed. A value with braces, `{title}\\n{body}`,
    is filled in.

    Files of text (`texts`) are joined to one file of documents. `split` and `max_characters` say how they are cut.
    """

    format: Format | None = None  # None: what the name says
    map: dict[str, str] = field(default_factory=dict)
    split: Literal["blank lines"] | None = None  # where files of text are cut; None: one document a file
    max_characters: int = 0  # of a document from a file of text, which is cut; 0: any number

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_characters < 0:
            raise ValueError(f"`max_characters` is {self.max_characters}, expected 0 or more")
        if unknown := set(self.map) - {*_KEYS, *_BESIDE}:
            raise ValueError(f"`map` has {', '.join(sorted(unknown))}, known are {', '.join(_KEYS + _BESIDE)}")
        if empty := [key for key, place in self.map.items() if not place]:
            raise ValueError(f"`map.{empty[0]}` is empty: it names a key of the records")

    def write(self, paths: Mapping[Path, str], destination: Path) -> None:
        """Write the records of files, each with the name it goes by, as `.jsonl` into `destination`; raises FetchError.

        With the entry's `name` all of them become one file, else each becomes its own.
        """
        for path, name in paths.items():
            is_text = self._is_text(path, name)
            own = self.name if self.name is not None else self.stem(path, paths)
            target = destination / f"{own}.jsonl"
            if is_text:
                self._cuts[target.name] = self._cut()
            if self.name is None and target.exists() and not is_text:
                raise FetchError(
                    f"{self.uri}: it matches two files called {target.name}: give it a `name` to join them"
                )
            format, packing = self._format(name)
            as_it_is = format == "jsonl" and not packing and not self.map and not _holds_strings(path)
            if as_it_is and (self.name is None or len(paths) == 1):
                copy(path, target)
                continue
            with target.open("ab") as writer:
                self._append(path, name, format, packing, writer)

    def first(self, path: Path, name: str, number: int) -> list[bytes]:
        """The first records of a file, at most so many, as lines of what `write` would write; raises FetchError."""
        head = _Head(number)
        with contextlib.suppress(_FullError):
            self._append(path, name, *self._format(name), head)
        return head.getvalue().removesuffix(b"\n").split(b"\n")[:number]

    def _format(self, name: str) -> tuple[str, str]:
        """Format of a file and how it is packed, by its name: ("jsonl", "gz")."""
        suffixes = [suffix.lstrip(".").lower() for suffix in Path(name).suffixes]
        packing = suffixes.pop() if suffixes and suffixes[-1] in PACKED else ""
        if self.format is not None:
            return self.format, packing
        if suffixes and suffixes[-1] in SUFFIXES:
            return SUFFIXES[suffixes[-1]], packing
        if packing == "zip":
            return "", packing  # its members have names
        raise FetchError(
            f"{self.uri}: {name} is no {', '.join('.' + kind for kind in SUFFIXES)} file, packed as "
            f"{', '.join('.' + kind for kind in PACKED)} or not: say which with `format:`"
        )

    def _append(self, path: Path, name: str, format: str, packing: str, writer: IO[bytes]) -> None:
        num_records, num_mapped, seen = 0, 0, ""
        try:
            for member, stream in _opened(path, packing):
                with stream:
                    kind = format or self._format(member)[0]
                    if kind in TEXTS:
                        num_records += self._append_texts(stream.read(), kind, member if packing else name, writer)
                        continue
                    records: Any = stream
                    if kind == "jsonl" and not self.map:
                        head = stream.read(1 << 16)
                        records = _Joined(head, stream)
                        if not _begins_with_string(head):
                            _copy_lines(records, writer)
                            continue
                    for value in READERS[kind](records):
                        num_records += 1
                        value = _document(value)
                        if isinstance(value, dict):
                            try:
                                value = self._mapped(value)
                                num_mapped += 1
                            except KeyError as error:
                                seen = seen or f"{error.args[0]} is missing in {{{', '.join(map(str, value))}}}"
                        writer.write(value + b"\n" if isinstance(value, bytes) else orjson.dumps(value) + b"\n")
        except (
            OSError,
            EOFError,
            ValueError,
            TypeError,  # a value that JSON has no word for
            RuntimeError,  # a zip with a password
            zlib.error,
            csv.Error,
            zipfile.BadZipFile,
            ijson.JSONError,
            MarkedYAMLError,
            pyarrow.ArrowException,
        ) as error:
            if isinstance(error, FetchError):
                raise
            raise FetchError(
                f"{self.uri}: {name} can't be read as {format or 'records'} after {num_records} records: {error}"
            ) from error
        if self.map and num_records and not num_mapped:
            raise FetchError(f"{self.uri}: `map` fits no record of {name}: {seen or 'none is an object'}")

    def _append_texts(self, content: bytes, kind: str, name: str, writer: IO[bytes]) -> int:
        number = 0
        for text in texts.documents(content, kind, self.split, self.max_characters):
            line = orjson.dumps({"text": text, "file": name}) + b"\n"
            if len(line) > _MAX_LINE_BYTES:
                raise ValueError(
                    f"it is one document of {len(line):,} bytes, of which {_MAX_LINE_BYTES:,} can be read: cut it with "
                    "`split: blank lines` or `max_characters: 100000` beside its uri"
                )
            writer.write(line)
            number += 1
        return number

    def stem(self, path: Path, paths: Mapping[Path, str]) -> str:
        """The name, without `.jsonl`, of what one of the files becomes where the entry has none."""
        return texts_stem(paths) if self._is_text(path, paths[path]) else stem(paths[path])

    def _is_text(self, path: Path, name: str) -> bool:
        """Whether the file, or all that is in the zip, is text."""
        format, packing = self._format(name)
        if format or packing != "zip":
            return format in TEXTS
        with contextlib.suppress(OSError, zipfile.BadZipFile), zipfile.ZipFile(path) as zipped:
            return all(self._format(member)[0] in TEXTS for member in _members(zipped))
        return False

    @cached_property
    def _cuts(self) -> dict[str, str]:
        """File that was written → how its documents were made, for the manifest."""
        return {}

    def _cut(self) -> str:
        """How documents are made of files of text, in words."""
        how = "split at blank lines" if self.split else "one a file"
        return f"{how}, cut at {self.max_characters} characters" if self.max_characters else how

    def details(self, name: str) -> Mapping[str, object]:
        """What the manifest says of the written file `name`, beside its size."""
        return {"documents": self._cuts[name]} if name in self._cuts else {}

    def _mapped(self, record: dict[str, Any]) -> dict[str, Any]:
        """The record in our schema. Raises KeyError, with the name of what it lacks."""
        if not self.map:
            return _turns(record) if {"q", "a"} <= set(record) and "conversations" not in record else record
        found = {key: _value(record, place) for key, place in self.map.items() if key not in ("role", "content")}
        found |= {key: record[key] for key in _BESIDE if key in record and key not in found}
        asked = {key: found.pop(key) for key in ("system", "user", "assistant") if key in found}
        for key in ("conversations", "chosen", "rejected"):
            if isinstance(found.get(key), list):
                found[key] = [self._message(message) for message in found[key]]
        messages = [{"role": role, "content": asked[role]} for role in ("system", "user") if asked.get(role)]
        if "assistant" in asked:
            found["conversations"] = [*messages, {"role": "assistant", "content": asked["assistant"]}]
        for key in ("chosen", "rejected"):
            if isinstance(found.get(key), str):
                found[key] = [*messages, {"role": "assistant", "content": found[key]}]
        return found

    def _message(self, message: object) -> object:
        if not isinstance(message, dict):
            return message
        names = {self.map.get(key, key): key for key in ("role", "content")}
        renamed = {names.get(key, key): value for key, value in message.items()}
        if isinstance(role := renamed.get("role"), str):
            renamed["role"] = _ROLES.get(role, role)
        return renamed


class _FullError(Exception):
    """A `_Head` holds what it was made for."""


class _Head(io.BytesIO):
    """Takes so many lines, and no more."""

    def __init__(self, number: int):
        super().__init__()
        self.missing = number

    def write(self, content: Any) -> int:
        written = super().write(content)
        self.missing -= content.count(b"\n")
        if self.missing <= 0:
            raise _FullError
        return written


def copy(source: Path, target: Path) -> None:
    """Copy, sharing the blocks where the file system can.

    Never a hard link: DVC makes its cache read-only, and with a link it would make the user's own file so.
    """
    with source.open("rb") as reader, target.open("wb") as writer:
        if not _shared(reader, writer):
            shutil.copyfileobj(reader, writer, length=1 << 20)


def _shared(reader: IO[bytes], writer: IO[bytes]) -> bool:
    """Make the writer's file share all blocks of the reader's; False where Linux or its file system can't."""
    if sys.platform != "linux":
        return False
    import fcntl

    try:
        fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
    except OSError:
        return False
    return True


def _opened(path: Path, packing: str) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of what is in the file: of each member of a zip, in the order of their names."""
    if packing == "zip":
        with zipfile.ZipFile(path) as zipped:
            for member in _members(zipped):
                yield member, zipped.open(member)
    elif packing == "gz":
        yield path.name, cast(IO[bytes], gzip.open(path, "rb"))  # noqa: SIM115
    elif packing == "zst":
        yield path.name, pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), "zstd")
    else:
        yield path.name, path.open("rb")


def _members(zipped: zipfile.ZipFile) -> list[str]:
    return [name for name in sorted(zipped.namelist()) if not name.endswith("/") and "__MACOSX/" not in name]


def texts_stem(names: Mapping[Path, str]) -> str:
    """The name of the file that files of text become: a single one's own, or that of the folder that holds all."""
    if len(names) == 1:
        return stem(*names.values())
    folder = os.path.commonpath([path.parent for path in names])
    return re.sub(r"[^\w.-]+", "-", Path(folder).name).lstrip(".-") or "documents"


def _begins_with_string(head: bytes) -> bool:
    """Whether the first line of JSON lines is a string."""
    return head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b'"')


def _holds_strings(path: Path) -> bool:
    with path.open("rb") as stream:
        return _begins_with_string(stream.read(1 << 16))


def _document(value: object) -> object:
    """A string among records is a document; what else is no object stays."""
    text = value
    if isinstance(value, bytes) and value.lstrip().startswith(b'"'):
        try:
            text = orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return {"text": text} if isinstance(text, str) else value


def _copy_lines(stream: IO[bytes], writer: IO[bytes]) -> None:
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
        yield from map(_line, lines)
        if len(rest) > _MAX_LINE_BYTES:
            raise ValueError(f"a line is longer than {_MAX_LINE_BYTES} bytes; is it of another `format:`, json?")
    if rest:
        yield _line(rest)


def _line(line: bytes) -> object:
    try:
        value = orjson.loads(line.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError:
        return line
    return value if isinstance(value, dict) else line


def _read_json(stream: IO[bytes]) -> Iterator[object]:
    """The objects of one list, or objects one after the other, as many files called .json are."""
    head = stream.read(1 << 16)
    first = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    joined = _Joined(head.removeprefix(b"\xef\xbb\xbf"), stream)
    if first == b"[":
        yield from ijson.items(joined, "item", use_float=True)
    else:
        yield from ijson.items(joined, "", use_float=True, multiple_values=True)


class _Joined:
    """A stream whose first bytes were read already."""

    def __init__(self, head: bytes, stream: IO[bytes]):
        self._head, self._stream = head, stream

    def read(self, size: int) -> bytes:
        if size == 0:  # by which ijson learns that these are bytes
            return b""
        head, self._head = self._head, b""
        return head or self._stream.read(size)


def _read_csv(stream: IO[bytes]) -> Iterator[object]:
    rows = csv.DictReader(io.TextIOWrapper(stream, encoding="utf-8-sig", newline=""), strict=True)
    for row in rows:
        if None in row or None in row.values():
            raise ValueError(f"line {rows.line_num} has other columns than the first line names")
        yield row


def _read_parquet(stream: IO[bytes]) -> Iterator[object]:
    with ExitStack() as stack:
        if not isinstance(stream, io.BufferedReader):  # packed: parquet is read from its end
            spooled = stack.enter_context(tempfile.TemporaryFile())
            shutil.copyfileobj(stream, spooled)
            stream = spooled
        for batch in pyarrow.parquet.ParquetFile(stream).iter_batches(batch_size=1024):
            for record in batch.to_pylist():
                yield _without_nulls(record)


def _without_nulls(value: Any) -> Any:
    """A column has a value in every row: what a record does not have is null there."""
    if isinstance(value, dict):
        return {key: _without_nulls(member) for key, member in value.items() if member is not None}
    return [_without_nulls(member) for member in value] if isinstance(value, list) else value


def _read_yaml(stream: IO[bytes]) -> Iterator[object]:
    """The items of one list, or one record for each document of the file."""
    for document in YAML(typ="safe", pure=True).load_all(stream):
        for value in document if isinstance(document, list) else [document]:
            yield _plain(value)


def _plain(value: Any) -> Any:
    """A value of YAML as JSON has it: days and times as text, keys as text."""
    if isinstance(value, dict):
        return {str(key): _plain(member) for key, member in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(member) for member in value]
    return value.isoformat() if isinstance(value, date) else value


READERS: dict[str, Callable[[IO[bytes]], Iterator[object]]] = {
    "jsonl": _read_jsonl, "json": _read_json, "csv": _read_csv, "parquet": _read_parquet,
    "yaml": _read_yaml,
}  # fmt: skip
"""Records of each format, one in memory at a time; a line of JSON lines that is no object comes as its bytes."""


def stem(name: str) -> str:
    """The name of a file without the suffixes that say its format and how it is packed."""
    rest = Path(name).name
    while Path(rest).suffix.lstrip(".").lower() in (*SUFFIXES, *PACKED):
        rest = Path(rest).stem
    return rest


def _turns(record: dict[str, Any]) -> dict[str, Any]:
    """MiniMind V1's {history, q, a} as a conversation; history is a list of such pairs, in a CSV its text."""
    history = record.get("history") or []
    if isinstance(history, str):
        try:
            history = ast.literal_eval(history)
        except (ValueError, SyntaxError):
            return record
    try:
        pairs = [*((question, answer) for question, answer in history), (record["q"], record["a"])]
    except (TypeError, ValueError):
        return record
    roles = ("user", "assistant")
    return {
        "conversations": [{"role": r, "content": text} for pair in pairs for r, text in zip(roles, pair, strict=True)]
    }


def _value(record: Any, place: str) -> Any:
    if "{" in place:
        return _filled(record, place)
    for key in place.split("."):
        if not isinstance(record, dict) or key not in record:
            raise KeyError(place)
        record = record[key]
    return record


def _filled(record: dict[str, Any], template: str) -> str:
    pieces = []
    for literal, place, _, _ in string.Formatter().parse(template):
        pieces.append(literal)
        if place is not None:
            value = _value(record, place)
            pieces.append("\n".join(map(str, value)) if isinstance(value, list) else str(value))
    return "".join(pieces)
