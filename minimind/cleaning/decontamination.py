"""Is the answer to the benchmark in the training data? Overlap of n-grams with its items.

After GPT-3 (arXiv:2005.14165, appendix C), which drops what shares 13 words in a row with an item. Here a text is a
row of units, words or single Han characters, and n has a value for each. What stands in more than MOST_ITEMS items,
or in most of a small benchmark's, is wording of the benchmark, not its content, and does not count. What an item says
apart from such wording may be shorter than n (`contents`). Then it counts where it stands whole: anywhere, if it has
half of n units; else as a message, a document, a line, or what follows a colon. An item may list its `passages` itself,
if what it asks holds something that training data may share, such as the heading of a poem.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minimind import lossless
from minimind.cleaning import units
from minimind.cleaning.contents import MOST_ITEMS, Piece, contents, templates
from minimind.cleaning.units import Hashes
from minimind.errors import UserError

FEWEST_UNITS = 4  # of a line, or of what is left of an item without its template
_CLAUSE = re.compile(r"[^\n:：]*[:：]")
_LOOSE = " \t\n,.;:!?，。；：！？、…)）”’」』\"'"  # signs that belong to what was cut away before them


def texts(item: dict[str, Any]) -> list[str]:
    """An item's `passages`, or else all that it asks, together with its right answer where it has choices."""
    if "passages" in item:
        return list(item["passages"])
    if "choices" in item:
        return [item["context"] + item["choices"][item["answer"]], item["context"]]
    return [message["content"] for message in item.get("messages", []) if message.get("role") == "user"]


@dataclass(frozen=True)
class Table:
    """Sorted hashes, and for each the item that it is of."""

    hashed: Hashes
    owners: NDArray[np.int64]

    @classmethod
    def of(cls, entries: Sequence[tuple[Hashes, int]], most_items: int) -> "Table":
        """`entries`: hashes and the number of the item that they are of; those of more items are left out."""
        pairs = [np.stack([hashed, np.full(len(hashed), owner, np.uint64)], 1) for hashed, owner in entries]
        rows = np.unique(np.concatenate([np.empty((0, 2), np.uint64), *pairs]), axis=0)
        hashed, first, counts = np.unique(rows[:, 0], return_index=True, return_counts=True)
        few = counts <= most_items
        return cls(hashed[few], rows[first[few], 1].astype(np.int64))

    def find(self, hashed: Hashes) -> Iterator[tuple[int, int]]:
        """The positions of hashes that are in the table, and their items."""
        if len(self.hashed) and len(hashed):
            places = np.minimum(np.searchsorted(self.hashed, hashed), len(self.hashed) - 1)
            for hit in np.flatnonzero(self.hashed[places] == hashed):
                yield int(hit), int(self.owners[places[hit]])


class Hit(NamedTuple):
    """Units from `start` up to `stop` of a text that say what the item `owner` says."""

    owner: int
    start: int
    stop: int


class Index:
    """The items of a benchmark, to look texts up in."""

    def __init__(self, items: Sequence[dict[str, Any]], ngram_words: int, ngram_han: int):
        self.names = [str(item.get("id", number)) for number, item in enumerate(items, 1)]
        self.lengths = (ngram_words, ngram_han)
        self.sizes: set[int] = set()  # of whole texts
        runs: dict[int, list[tuple[Hashes, int]]] = defaultdict(list)
        wholes, lines = [], []
        whole = [[Piece.of(text, owner) for text in texts(item)] for owner, item in enumerate(items)]
        self.num_short = sum(  # items without an n-gram
            all(len(piece.words) < self._length(piece.words) for piece in pieces if piece.words) for pieces in whole
        )
        own = [piece for pieces, item in zip(whole, items, strict=True) for piece in pieces if "passages" in item]
        asked = [piece for pieces, item in zip(whole, items, strict=True) for piece in pieces if "passages" not in item]
        shared = templates(asked, len(items))
        for piece, (start, end) in zip(own + asked, [(0, 0)] * len(own) + shared, strict=True):
            length, hashed = self._length(piece.words), units.hashes(piece.words)
            # Of wording that is shared, with a unit or two of the item's, there is more than says anything.
            first, last = start, len(piece.words) - end
            begins = np.arange(len(piece.words) - length + 1)
            said = np.minimum(begins + length, last) - np.maximum(begins, first)
            kept = (said <= 0) | (said >= min(length / 2, last - first))
            runs[length].append((units.ngrams(hashed, length)[kept], piece.owner))
            if piece.words:
                wholes.append((units.ngrams(hashed, len(hashed)), piece.owner))
                self.sizes.add(len(hashed))
        templated = [
            (text, owner) for owner, item in enumerate(items) if "passages" not in item for text in texts(item)
        ]
        for words, owner in contents(templated, len(items)):
            length, hashed = self._length(words), units.hashes(words)
            if length / 2 <= len(words) < length:
                runs[len(words)].append((units.ngrams(hashed, len(words)), owner))
            elif FEWEST_UNITS <= len(words) < length:
                lines.append((units.ngrams(hashed, len(words)), owner))
        most_items = min(MOST_ITEMS, max(2, len(items) // 2))
        self.runs = {length: Table.of(entries, most_items) for length, entries in runs.items()}
        self.wholes, self.lines = Table.of(wholes, most_items), Table.of(lines, most_items)

    def _length(self, words: Sequence[str]) -> int:
        """Of the n-grams of such units."""
        return self.lengths[units.han_share(words) > 0.5]

    @classmethod
    def read(cls, benchmark: Path, ngram_words: int, ngram_han: int) -> "Index":
        """Of every split in the folder `benchmark`. Raises UserError naming the line that is no item."""
        items = []
        for path in sorted(benchmark.glob("*.jsonl")):
            for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
                if lossless.is_blank(line):
                    continue
                try:
                    items.append(lossless.line(line))
                    if not all(isinstance(text, str) for text in texts(items[-1])):
                        raise TypeError("what it asks is no text")
                except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
                    raise UserError(
                        f"{path}:{number} is no item of a benchmark, with `messages`, or `context`, `choices` and the "
                        f"number of the `answer` ({type(error).__name__}: {error}): mend it at its source, which "
                        "data.benchmark in params.yaml names"
                    ) from error
        return cls(items, ngram_words, ngram_han)

    def find(self, documents: Sequence[str]) -> str | None:
        """The item that one of these texts gives away, with the words that both share."""
        for text in documents:
            if hit := next(self._hits(text), None):
                words = units.of(text)[hit.start : hit.stop][:30]
                space = "" if units.han_share(words) > 0.5 else " "
                return f"{self.names[hit.owner]}: {space.join(words)}"
        return None

    def cut(self, text: str, whole_paragraphs: bool) -> str:
        """The text without the passages that it shares with items, or the paragraphs that they stand in.

        A paragraph is what blank lines set apart, or a line in a text without any.
        """
        while hits := list(self._hits(text)):
            places = units.places(text)
            taken = np.zeros(len(text) + 1, dtype=np.int8)
            for hit in hits:
                start, stop = places[hit.start][0], places[hit.stop - 1][1]
                if whole_paragraphs:
                    start, stop = _paragraph(text, start, stop)
                taken[start:stop] = 1
            borders = np.flatnonzero(np.diff(taken, prepend=0, append=0)).tolist()
            kept = [text[a:b] for a, b in zip([0, *borders[1::2]], [*borders[::2], len(text)], strict=True)]
            rest = [kept[0].rstrip(), *(piece.lstrip(_LOOSE).rstrip() for piece in kept[1:-1]), kept[-1].lstrip(_LOOSE)]
            text = _border(text).join(piece for piece in rest if piece)
        return text

    def _hits(self, text: str) -> Iterator[Hit]:
        hashed = units.hashes(units.of(text))
        if len(hashed) in self.sizes:
            for _, owner in self.wholes.find(units.ngrams(hashed, len(hashed))):
                yield Hit(owner, 0, len(hashed))
        for length, grams in units.all_ngrams(hashed, self.runs):
            for start, owner in self.runs[length].find(grams):
                yield Hit(owner, start, start + length)
        if len(self.lines.hashed):
            yield from self._lines(text, hashed)

    def _lines(self, text: str, hashed: Hashes) -> Iterator[Hit]:
        """Lines, and what follows a colon in them, that say just what an item says."""
        stop = 0
        for line in text.split("\n"):
            start, stop = stop, stop + len(units.of(line))
            label = _CLAUSE.match(line)
            after = start + len(units.of(label[0])) if label else start
            for begin in {start, after}:
                if FEWEST_UNITS <= stop - begin < max(self.lengths):
                    for _, owner in self.lines.find(units.ngrams(hashed[begin:stop], stop - begin)):
                        yield Hit(owner, begin, stop)


def _border(text: str) -> str:
    return "\n\n" if "\n\n" in text else "\n"


def _paragraph(text: str, start: int, stop: int) -> tuple[int, int]:
    """The borders of the paragraphs that a stretch of a text lies in."""
    border = _border(text)
    first, last = text.rfind(border, 0, start), text.find(border, stop)
    return (0 if first < 0 else first + len(border)), (len(text) if last < 0 else last)
