"""A file of JSON cut into its records, each as the bytes that it is written in.

It is cut at brackets and texts, and no value is built. So a record is read like a line of JSON lines, whatever it
holds, and a file of nothing but opening brackets takes no more memory than it has bytes.
"""

import re
from collections.abc import Generator, Iterator
from typing import IO

from minimind import lossless

WRAPPERS = ("data", "rows", "records", "examples", "instances", "items", "train")
"""Keys under which a file that is one object has its list of records."""

_OWN = {"text", "conversations", "messages", "prompt", "instruction", "question", "query", "chosen", "id"}  # a record's
_BLOCK = 1 << 16
_TEXT = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_WHOLE_TEXT = re.compile(_TEXT, re.DOTALL)
_TO_BRACKET = re.compile(rb'(?:[^"\[\]{}]++|' + _TEXT + rb")*+([\[\]{}])", re.DOTALL)
_SCALAR = re.compile(rb'[^\s,:\[\]{}"]++')
_SPACE = re.compile(rb"[ \t\r\n]*+")


def cut(stream: IO[bytes], limit: int) -> Iterator[bytes]:
    """The records of a list, of a list under one of WRAPPERS, or of objects one after the other.

    Raises ValueError where the file is cut off or not built so, or a record is longer than `limit` bytes.
    """
    reader = _Reader(stream, limit)
    first = reader.peek()
    if first == b"[":
        yield from reader.members()
    elif first not in (b"{", b""):
        raise ValueError("it begins with neither [ nor {")
    elif not (first and (yield from _unwrapped(reader))):
        while reader.peek() == b"{":
            yield reader.value()
    if reader.peek():
        raise ValueError("what follows is no record; if every line is one, say `format: jsonl`")


def _unwrapped(reader: "_Reader") -> Generator[bytes, None, bool]:
    """The records within the object that begins; returns whether it holds any. If not, nothing has been read."""
    reader.pin()
    reader.take(b"{")
    while reader.peek() == b'"':
        key = reader.key()
        if key in _OWN:
            break
        if key in WRAPPERS and reader.lists_objects():
            reader.unpin()
            yield from reader.members()
            while reader.skip(b","):
                other = reader.key()
                if reader.lists_objects():
                    raise ValueError(f"it lists records under `{key}` and under `{other}`: make two files of it")
                reader.value()
            reader.take(b"}")
            return True
        reader.value()
        if not reader.skip(b","):
            break
    reader.unpin(back=True)
    return False


class _Reader:
    """A stream, and what was read of it and not yet taken."""

    def __init__(self, stream: IO[bytes], limit: int):
        self._stream, self._limit = stream, limit
        self._buffer, self._at = b"", 0
        self._pinned: int | None = None
        while len(self._buffer) < 3 and self._fill():
            pass
        self._at = 3 if self._buffer.startswith(b"\xef\xbb\xbf") else 0

    def pin(self) -> None:
        """Remember this place."""
        self._pinned = self._at

    def unpin(self, back: bool = False) -> None:
        """Forget the place, having gone back to it if so wished."""
        if back and self._pinned is not None:
            self._at = self._pinned
        self._pinned = None

    def peek(self) -> bytes:
        """The next byte that is no white space; none at the end."""
        return self._after_space(0)

    def skip(self, sign: bytes) -> bool:
        """Whether `sign` comes next; it is then taken."""
        if self.peek() != sign:
            return False
        self._pass_space()
        self._at += 1
        return True

    def take(self, sign: bytes) -> None:
        """Take `sign`. Raises ValueError where something else comes next."""
        if not self.skip(sign):
            found = self.peek().decode(errors="replace")
            raise ValueError(f"expected {sign.decode()}, found {found!r}" if found else "it ends in the middle")

    def key(self) -> str:
        """A key and the colon behind it."""
        if self.peek() != b'"':
            raise ValueError("expected a key")
        found = lossless.loads(self.value())
        self.take(b":")
        return str(found)

    def lists_objects(self) -> bool:
        """Whether what comes next is a list that begins with an object; nothing is taken."""
        if self.peek() != b"[":
            return False
        self._pass_space()
        return self._after_space(1) == b"{"

    def members(self) -> Iterator[bytes]:
        """The members of the list that begins."""
        self.take(b"[")
        if self.skip(b"]"):
            return
        while True:
            yield self.value()
            if self.skip(b"]"):
                return
            self.take(b",")

    def value(self) -> bytes:
        """The text of the next value, a list or an object up to the bracket that closes it."""
        first = self.peek()
        self._pass_space()
        pattern = {b"[": _TO_BRACKET, b"{": _TO_BRACKET, b'"': _WHOLE_TEXT}.get(first, _SCALAR)
        depth = offset = 0
        while True:
            found = pattern.match(self._buffer, self._at + offset)
            if found is None or (pattern is _SCALAR and found.end() == len(self._buffer)):
                if self._fill():
                    continue
                if found is None:
                    raise ValueError("it ends in the middle of a record" if first else "it ends in the middle")
            offset = found.end() - self._at
            if pattern is _TO_BRACKET:
                depth += 1 if found[1] in b"[{" else -1
            if depth == 0:
                taken = self._buffer[self._at : self._at + offset]
                self._at += offset
                return taken

    def _pass_space(self) -> None:
        space = self._space(0)  # which may move what is in the buffer
        self._at += space

    def _after_space(self, offset: int) -> bytes:
        space = self._space(offset)
        place = self._at + offset + space
        return self._buffer[place : place + 1]

    def _space(self, offset: int) -> int:
        """Bytes of white space behind so many others; what follows is in the buffer then."""
        while True:
            found = _SPACE.match(self._buffer, self._at + offset)
            end = found.end() if found else self._at + offset
            if end < len(self._buffer) or not self._fill():
                return end - self._at - offset

    def _fill(self) -> bool:
        """Read on; whether there was more."""
        start = self._at if self._pinned is None else self._pinned
        if len(self._buffer) - start > self._limit:
            raise ValueError(f"a record is longer than {self._limit} bytes")
        block = self._stream.read(max(_BLOCK, len(self._buffer) - start))
        if block:
            self._buffer = self._buffer[start:] + block
            self._at -= start
            self._pinned = None if self._pinned is None else 0
        return bool(block)
