"""Is the answer to the benchmark in the training data? Overlap of n-grams with its items.

After GPT-3 (arXiv:2005.14165, appendix C), which drops what shares 13 words in a row with an item. Here a text is a
row of units, words or single Han characters, and n has a value for each. An item that is shorter than n can only be
found as a whole: a message, or a document, that says exactly what it says. What stands in more than MOST_ITEMS items
is wording of the benchmark, not its content, and does not count. An item may list its `passages` itself, if what it
asks holds something that training data may share, such as the heading of a poem.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minimind import lossless
from minimind.cleaning import units
from minimind.cleaning.units import Hashes
from minimind.errors import UserError

MOST_ITEMS = 10


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
    owners: np.ndarray

    @classmethod
    def of(cls, entries: Sequence[tuple[Hashes, int]]) -> "Table":
        """`entries`: hashes and the number of the item that they are of."""
        pairs = [np.stack([hashed, np.full(len(hashed), owner, np.uint64)], 1) for hashed, owner in entries]
        rows = np.unique(np.concatenate([np.empty((0, 2), np.uint64), *pairs]), axis=0)
        hashed, first, counts = np.unique(rows[:, 0], return_index=True, return_counts=True)
        few = counts <= MOST_ITEMS
        return cls(hashed[few], rows[first[few], 1].astype(np.int64))

    def find(self, hashed: Hashes) -> tuple[int, int] | None:
        """The position of the first hash that is in the table, and its item."""
        if not len(self.hashed) or not len(hashed):
            return None
        places = np.minimum(np.searchsorted(self.hashed, hashed), len(self.hashed) - 1)
        hits = np.flatnonzero(self.hashed[places] == hashed)
        return (int(hits[0]), int(self.owners[places[hits[0]]])) if len(hits) else None


class Index:
    """The items of a benchmark, to look texts up in."""

    def __init__(self, items: Sequence[dict[str, Any]], ngram_words: int, ngram_han: int):
        self.names = [str(item.get("id", number)) for number, item in enumerate(items, 1)]
        self.lengths = (ngram_words, ngram_han)
        self.num_short = 0  # items without an n-gram
        grams: dict[int, list[tuple[Hashes, int]]] = {length: [] for length in self.lengths}
        wholes = []
        for owner, item in enumerate(items):
            short = True
            for text in texts(item):
                words = units.split(text)
                hashed = units.hashes(words)
                if words:
                    length = ngram_han if units.han_share(words) > 0.5 else ngram_words
                    short = short and len(words) < length
                    grams[length].append((units.ngrams(hashed, length), owner))
                    wholes.append((units.ngrams(hashed, len(hashed)), owner))
            self.num_short += short
        self.grams = {length: Table.of(entries) for length, entries in grams.items()}
        self.wholes = Table.of(wholes)

    @classmethod
    def read(cls, benchmark: Path, ngram_words: int, ngram_han: int) -> "Index":
        """Of every split in the folder `benchmark`. Raises UserError naming the line that is no item."""
        items = []
        for path in sorted(benchmark.glob("*.jsonl")):
            for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
                if lossless.is_blank(line):
                    continue
                try:
                    items.append(lossless.loads(line.removeprefix(b"\xef\xbb\xbf")))
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
            words = units.split(text)
            hashed = units.hashes(words)
            if len(words) and (hit := self.wholes.find(units.ngrams(hashed, len(hashed)))):
                return self._told(hit[1], words[:30])
            for length, table in self.grams.items():
                if hit := table.find(units.ngrams(hashed, length)):
                    return self._told(hit[1], words[hit[0] : hit[0] + length])
        return None

    def _told(self, owner: int, words: Sequence[str]) -> str:
        space = "" if units.han_share(words) > 0.5 else " "
        return f"{self.names[owner]}: {space.join(words)}"
