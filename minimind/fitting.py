"""Best fit: documents into rows of one length, each where it leaves the least room."""

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from minimind.rows import RowWriter

OPEN_ROWS = 256  # rows that may still take documents; beyond it the fullest is closed. 64 fill as well as 4096
_ROW_BITS = 40  # a row's room and number are one integer, which is compared faster than a pair

T = TypeVar("T")


class Fit(Generic[T]):
    """Decides which items stand in a row together; an item is whatever the caller gives."""

    def __init__(self, row_length: int, open_rows: int = OPEN_ROWS):
        self.row_length, self.open_rows = row_length, open_rows
        self.rows: dict[int, list[T]] = {}
        self.rooms: list[int] = []  # free tokens << _ROW_BITS | row, sorted
        self.opened = 0

    def add(self, length: int, item: T) -> list[T] | None:
        """Put an item of `length` tokens into the row that has the least room for it.

        Returns a row that is finished: it is full, or too many are open and it is the fullest.
        """
        best = bisect_left(self.rooms, length << _ROW_BITS)
        if best < len(self.rooms):
            room = self.rooms.pop(best)
            self.rows[room & ((1 << _ROW_BITS) - 1)].append(item)
        else:
            room = (self.row_length << _ROW_BITS) | self.opened
            self.rows[self.opened] = [item]
            self.opened += 1
        insort(self.rooms, room - (length << _ROW_BITS))
        if self.rooms[0] >> _ROW_BITS == 0 or len(self.rooms) > self.open_rows:
            return self._pop()[1]
        return None

    def finish(self) -> Iterator[tuple[int, list[T]]]:
        """The rows that are still open, the fullest first, each after its room."""
        while self.rooms:
            yield self._pop()

    def _pop(self) -> tuple[int, list[T]]:
        room, row = divmod(self.rooms.pop(0), 1 << _ROW_BITS)
        return room, self.rows.pop(row)


@dataclass(frozen=True)
class Tokens:
    """One document in tokens, 1 where one is learned, and the number of UTF-8 bytes the learned ones stand for."""

    ids: NDArray[np.uint32]
    learn: NDArray[np.uint8]
    num_bytes: int


class BestFit:
    """Puts groups of documents, which stay together, into rows, and finished rows into the writer."""

    def __init__(self, writer: RowWriter, open_rows: int = OPEN_ROWS):
        self.writer, self.fit = writer, Fit[Sequence[Tokens]](writer.row_length, open_rows)

    def add(self, group: Sequence[Tokens]) -> None:
        """Put a group into a row."""
        finished = self.fit.add(sum(len(document.ids) for document in group), group)
        if finished:
            self._write(finished)

    def finish(self) -> None:
        """Write the rows that are still open."""
        for _, groups in self.fit.finish():
            self._write(groups)

    def _write(self, groups: list[Sequence[Tokens]]) -> None:
        self.writer.add([(tokens.ids, tokens.learn, tokens.num_bytes) for group in groups for tokens in group])
