"""Sources made of files of records.

Whatever the format, `.jsonl` comes out. JSON lines without a map are passed on byte for byte; nothing is dropped: a
line that is not JSON, or lacks what the map names, goes on as it is, and the stages that read it count and report it.
"""

import contextlib
import csv
import io
import os
import re
import shutil
import sys
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Literal

import pyarrow

from minimind import lossless
from minimind.sources import formats, maps, texts
from minimind.sources.formats import MAX_LINE_BYTES, PACKED, SUFFIXES
from minimind.sources.source import FetchError, Source
from minimind.sources.texts import TEXTS

Format = Literal["jsonl", "json", "csv", "parquet", "arrow", "yaml", "text", "markdown", "html"]

TABLES = ("parquet", "arrow")  # in which a record has every key, if only with null

_FICLONE = 0x40049409  # linux/fs.h


@dataclass(frozen=True, kw_only=True)
class RecordSource(Source):
    """A source made of files of records.

    `map` says where our keys find their values: {our key: their key, with dots for keys within keys}. Ours are
    `text`; `conversations`, with `role` and `content` for the names used in its messages; `user`, `assistant` and
    `system`, from which a conversation is made; `chosen` and `rejected`, lists of messages, or answers to `user`;
    `gt`; and `tools`, `verify` and `family`, which also come along unnamed. A value with braces, `{title}\\n{body}`,
    is filled in: what is null or empty goes, with the line break beside it, and what is no text becomes JSON.

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
        maps.check(self.map)

    def write(self, paths: Mapping[Path, str], destination: Path) -> None:
        """Write the records of files, each with the name it goes by, as `.jsonl` into `destination`; raises FetchError.

        With the entry's `name` all of them become one file, else each becomes its own.
        """
        mapping = _Mapping(self.map)
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
                self._append(path, name, format, packing, writer, mapping)
        mapping.check(self.uri)

    def first(self, path: Path, name: str, number: int) -> list[bytes]:
        """The first records of a file, at most so many, as lines of what `write` would write; raises FetchError."""
        head = _Head(number)
        with contextlib.suppress(_FullError):
            self._append(path, name, *self._format(name), head, _Mapping(self.map))
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

    def _append(self, path: Path, name: str, format: str, packing: str, writer: IO[bytes], mapping: "_Mapping") -> None:
        num_records = num_mapped = 0
        try:
            for member, stream in formats.opened(path, packing):
                with stream:
                    kind = format or self._format(member)[0]
                    if kind in TEXTS:
                        num_records += self._append_texts(stream.read(), kind, member if packing else name, writer)
                        continue
                    records: Any = stream
                    if kind == "jsonl" and not self.map:
                        head = stream.read(1 << 16)
                        records = formats.Joined(head, stream)
                        if not formats.begins_with_string(head):
                            formats.copy_lines(records, writer)
                            continue
                    for value in formats.READERS[kind](records):
                        num_records += 1
                        value = _document(value)
                        if isinstance(value, dict):
                            num_mapped += (mapped := mapping.apply(value)) is not None
                            value = value if mapped is None else mapped
                            value = formats.without_nulls(value) if kind in TABLES else value
                        writer.write((value if isinstance(value, bytes) else lossless.dumps(value)) + b"\n")
        except (
            OSError,
            EOFError,
            ValueError,
            RuntimeError,  # a zip with a password
            zlib.error,
            csv.Error,
            zipfile.BadZipFile,
            pyarrow.ArrowException,
        ) as error:
            if isinstance(error, FetchError):
                raise
            raise FetchError(
                f"{self.uri}: {name} can't be read as {format or 'records'} after {num_records} records: {error}"
            ) from error
        if self.map and num_records and not num_mapped:
            raise FetchError(f"{self.uri}: `map` fits no record of {name}: {mapping.lacks or 'none is an object'}")

    def _append_texts(self, content: bytes, kind: str, name: str, writer: IO[bytes]) -> int:
        number = 0
        for text in texts.documents(content, kind, self.split, self.max_characters):
            line = lossless.dumps({"text": text, "file": name}) + b"\n"
            if len(line) > MAX_LINE_BYTES:
                raise ValueError(
                    f"it is one document of {len(line):,} bytes, of which {MAX_LINE_BYTES:,} can be read: cut it with "
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
            return all(self._format(member)[0] in TEXTS for member in formats.members(zipped))
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


class _Mapping:
    """A map at work on the files of a source."""

    def __init__(self, places: dict[str, str]):
        self.places, self.lacks = places, ""
        self._seen: set[str] = set()
        self._keys = ""

    def apply(self, record: dict[str, Any]) -> dict[str, Any] | None:
        """The record in our schema; None where there is no map, or it does not fit."""
        if not self.places:
            return None
        self._keys = self._keys or ", ".join(map(str, record))
        try:
            return maps.apply(self.places, record, self._seen)
        except KeyError as error:
            self.lacks = self.lacks or f"{error.args[0]} is missing in {{{', '.join(map(str, record))}}}"
            return None

    def check(self, uri: str) -> None:
        """Raise FetchError if the map names a key that none of the records had."""
        if self._keys and (unseen := maps.fields(self.places) - self._seen):
            named = ", ".join(f"`{field}`" for field in sorted(unseen))
            raise FetchError(f"{uri}: `map` names {named}, which no record has; the first has {self._keys}")


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


def texts_stem(names: Mapping[Path, str]) -> str:
    """The name of the file that files of text become: a single one's own, or that of the folder that holds all."""
    if len(names) == 1:
        return stem(*names.values())
    folder = os.path.commonpath([path.parent for path in names])
    return re.sub(r"[^\w.-]+", "-", Path(folder).name).lstrip(".-") or "documents"


def _holds_strings(path: Path) -> bool:
    with path.open("rb") as stream:
        return formats.begins_with_string(stream.read(1 << 16))


def _document(value: object) -> object:
    """A string among records is a document; what else is no object stays."""
    text = value
    if isinstance(value, bytes) and value.lstrip().startswith(b'"'):
        try:
            text = lossless.loads(value)
        except ValueError:
            return value
    return {"text": text} if isinstance(text, str) else value


def stem(name: str) -> str:
    """The name of a file without the suffixes that say its format and how it is packed."""
    rest = Path(name).name
    while Path(rest).suffix.lstrip(".").lower() in (*SUFFIXES, *PACKED):
        rest = Path(rest).stem
    return rest
