"""A shard: a range of bytes of a data file → its documents in tokens → rows, in a file of its own.

`pack_shard` is a pure function, so shards may be worked on in any order, by any process, on any machine, and again if
one fails. How a file is cut does not depend on who does the work, and so neither do the rows.

Documents are kept one behind the other in flat arrays, and rows are made from them by whole-array steps: an object
for each document would cost more than tokenising a short one.
"""

import io
import sys
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from minimind import corpus, files
from minimind.chat import Chat, Conversation, flatten
from minimind.corpus import Dialogue, Document, LineError, Pair, Text
from minimind.fitting import Fit
from minimind.rows import dtypes
from minimind.tokenizer import BOS, EOS, token_bytes

BATCH_BYTES = 1 << 18  # raw bytes that are encoded at once; each token takes some 100 bytes meanwhile
FULL = 0.99  # an open row that is filled so far is not worth keeping open for other shards' documents
SPLITS = ("train", "validation")
TRUNCATED = "nothing left to learn after truncation"

Columns = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Recipe:
    """All that the rows of a shard depend on, but for the shard and how often it is read."""

    tokenizer: Path
    row_length: int
    validation_share: float
    thinking_off_share: float


@dataclass(frozen=True)
class Shard:
    """The lines of the file `path` that begin from byte `start` up to `end`; its results go into `folder`."""

    path: Path
    start: int
    end: int
    folder: Path
    recipe: Recipe

    def place(self, what: str) -> Path:
        """Where a result of this kind is."""
        return self.folder / f"{self.path.stem}-{self.start}.{what}.npz"


def cut(path: Path, folder: Path, recipe: Recipe) -> list[Shard]:
    """The shards of a file, in order."""
    return [Shard(path, start, end, folder, recipe) for start, end in corpus.ranges(path)]


class Documents(NamedTuple):
    """D documents in G groups, each group to stand in one row, the documents of a group one after the other."""

    ids: NDArray[np.uint32]  # of all documents
    learn: NDArray[np.uint8]  # 1 where that token is learned
    lengths: NDArray[np.int64]  # (D,) tokens
    num_bytes: NDArray[np.int64]  # (D,) UTF-8 bytes that the learned tokens stand for
    groups: NDArray[np.int64]  # (G,) documents
    validation: NDArray[np.bool_]  # (G,)
    draw: NDArray[np.float64]  # (G,) from 0 up to 1: with 1.4 epochs, those below 0.4 are read a second time
    truncated: NDArray[np.bool_]  # (G,)
    continued: NDArray[np.bool_]  # (G,) at the first part of a text that goes on in further documents

    def take(self, chosen: NDArray[np.int64]) -> "Documents":
        """The groups with these numbers, in this order."""
        members = _ranges((self.groups.cumsum() - self.groups)[chosen], self.groups[chosen])
        tokens = _ranges((self.lengths.cumsum() - self.lengths)[members], self.lengths[members])
        return Documents(
            self.ids[tokens], self.learn[tokens], self.lengths[members], self.num_bytes[members],
            self.groups[chosen], self.validation[chosen], self.draw[chosen], self.truncated[chosen],
            self.continued[chosen],
        )  # fmt: skip

    def group_lengths(self) -> NDArray[np.int64]:
        """(G,) tokens."""
        return _sums(self.lengths, self.groups)


def _ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """start, start + 1, … of each range, one after the other."""
    shifts: NDArray[np.int64] = np.repeat(starts - (lengths.cumsum() - lengths), lengths)
    shifts += np.arange(len(shifts))
    return shifts


def _sums(values: NDArray[Any], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sums over stretches of `values` of these lengths."""
    totals = np.concatenate(([0], values.cumsum(dtype=np.int64)))
    ends = lengths.cumsum()
    return totals[ends] - totals[ends - lengths]


def _join(parts: Sequence[Documents]) -> Documents:
    return Documents(*(np.concatenate(column) for column in zip(*parts, strict=True)))


class Encoder:
    """Documents of one data set → tokens that fit a row."""

    def __init__(self, recipe: Recipe):
        self.recipe, self.row_length = recipe, recipe.row_length
        self.chat = Chat(recipe.tokenizer)
        self.sizes = np.array(token_bytes(self.chat.tokenizer), dtype=np.int64)

    def encode(self, documents: Sequence[Document]) -> tuple[Documents, dict[int, LineError]]:
        """All documents, of one kind, at once; errors by number for those of which nothing can be learned."""
        contents = [document.content for document in documents]
        if isinstance(documents[0], Text):
            parts, errors = self._texts([document.text for document in documents if isinstance(document, Text)])
        else:
            talks = [
                talk
                for document, content in zip(documents, contents, strict=True)
                for talk in self._talks(document, content)
            ]
            parts, errors = (self._pairs if isinstance(documents[0], Pair) else self._dialogues)(talks)
        good = [content for number, content in enumerate(contents) if number not in errors]
        split, draw = (
            np.fromiter((corpus.fraction(content, purpose) for content in good), np.float64, len(good))
            for purpose in ("split", "epochs")
        )
        return parts.documents(self.sizes, split < self.recipe.validation_share, draw), errors

    def _talks(self, document: Document, content: str) -> list[Conversation]:
        """The conversations within a document, in a share of cases with thinking switched off."""
        if isinstance(document, Dialogue):
            found = [document.conversation]
        else:
            assert isinstance(document, Pair)
            found = [document.chosen, document.rejected]
        off = corpus.fraction(content, "thinking") < self.recipe.thinking_off_share
        if off and not any(conversation.thinks() for conversation in found):
            return [replace(conversation, enable_thinking=False) for conversation in found]
        return found

    def _texts(self, texts: list[str]) -> tuple["Parts", dict[int, LineError]]:
        """BOS text EOS, in as many documents as it takes, each with a BOS."""
        flat, lengths = flatten([[*ids, EOS] for ids in self.chat.encode_texts(texts)])
        room = self.row_length - 1
        counts = -(-lengths // room)
        ends = np.full(counts.sum(), room + 1)
        ends[counts.cumsum() - 1] = lengths - (counts - 1) * room + 1
        learn = np.ones(ends.sum(), np.uint8)
        learn[ends.cumsum() - ends] = 0
        ids = np.full(len(learn), BOS, np.uint32)
        ids[learn == 1] = flat
        return Parts(ids, learn, ends, np.ones(len(ends), np.int64), counts, np.zeros(len(texts), np.bool_)), {}

    def _dialogues(self, talks: list[Conversation]) -> tuple["Parts", dict[int, LineError]]:
        """Whole conversations; a long one loses its end."""
        ids, learn, lengths = self.chat.encode_arrays(talks)
        kept = np.minimum(lengths, self.row_length)
        tokens = _ranges(lengths.cumsum() - lengths, kept)
        learned = _sums(learn[tokens], kept)
        errors = {int(number): self._refusal(f"{lengths[number]}") for number in np.flatnonzero(learned == 0)}
        good = np.repeat(learned > 0, kept)
        ids, learn, kept, lengths = ids[tokens][good], learn[tokens][good], kept[learned > 0], lengths[learned > 0]
        ones = np.ones(len(kept), np.int64)
        return Parts(ids, learn, kept, ones, ones, kept < lengths), errors

    def _pairs(self, talks: list[Conversation]) -> tuple["Parts", dict[int, LineError]]:
        """Two conversations each; of the last answers, which are learned, the longer one loses its end."""
        ids, learn, lengths = self.chat.encode_arrays(talks)
        starts = lengths.cumsum() - lengths
        # The last answer is the last run of ones: a header stands between any two answers.
        last_zero = np.maximum.reduceat(np.where(learn == 0, np.arange(len(learn)), 0), starts)
        answers = last_zero + 1 - starts
        assert (answers[::2] == answers[1::2]).all(), "the prompts differ"
        sides = lengths.reshape(-1, 2).tolist()
        kept = np.array([share(first, second, self.row_length) for first, second in sides]).reshape(-1)
        good = kept.reshape(-1, 2).min(1) > answers[::2]
        errors = {
            int(number): self._refusal(f"{lengths[2 * number]} and {lengths[2 * number + 1]}")
            for number in np.flatnonzero(~good)
        }
        both = np.repeat(good, 2)
        starts, kept, answers, lengths = starts[both], kept[both], answers[both], lengths[both]
        tokens = _ranges(starts, kept)
        learn = (_ranges(np.zeros_like(kept), kept) >= np.repeat(answers, kept)).astype(np.uint8)
        pairs = np.full(len(kept) // 2, 2)
        cut_short = (kept < lengths).reshape(-1, 2).any(1)
        return Parts(ids[tokens], learn, kept, pairs, np.ones_like(pairs), cut_short), errors

    def _refusal(self, lengths: str) -> LineError:
        return LineError(TRUNCATED, f"{lengths} tokens, the row has {self.row_length}")


class Parts(NamedTuple):
    """Documents, before it is known what becomes of them; N lines that became groups."""

    ids: NDArray[np.uint32]
    learn: NDArray[np.uint8]
    lengths: NDArray[np.int64]  # (D,) tokens
    groups: NDArray[np.int64]  # (G,) documents
    lines: NDArray[np.int64]  # (N,) groups
    truncated: NDArray[np.bool_]  # (N,)

    def documents(
        self, sizes: NDArray[np.int64], validation: NDArray[np.bool_], draw: NDArray[np.float64]
    ) -> Documents:
        """With what is known of each line. sizes (V,): bytes of each token."""
        continued = np.zeros(len(self.groups), np.bool_)
        continued[(self.lines.cumsum() - self.lines)[self.lines > 1]] = True
        num_bytes = _sums(sizes[self.ids] * self.learn, self.lengths)
        return Documents(
            self.ids, self.learn, self.lengths, num_bytes, self.groups,
            np.repeat(validation, self.lines), np.repeat(draw, self.lines), np.repeat(self.truncated, self.lines),
            continued,
        )  # fmt: skip


def share(first: int, second: int, room: int) -> tuple[int, int]:
    """The lengths that two documents may keep in a row of `room` tokens; the longer one gives way first."""
    half = room // 2
    return min(first, max(half, room - second)), min(second, max(half, room - first))


@cache
def _encoder(recipe: Recipe) -> Encoder:
    return Encoder(recipe)


@dataclass(frozen=True)
class Encoded:
    """The documents of a shard, and what else was on its lines."""

    documents: Documents | None  # None: there are none
    lines: int
    bad: list[dict[str, Any]]  # entries of the quarantine; lines are numbered within the shard
    answers: dict[str, int]  # by what was noted of them


def encode_shard(shard: Shard) -> Encoded:
    """Every line of the shard in tokens."""
    encoder = _encoder(shard.recipe)
    parts: list[Documents] = []
    bad: list[dict[str, Any]] = []
    batch: list[tuple[corpus.Source, Document]] = []
    noted: Counter[str] = Counter()
    num_bytes = lines = 0

    def refuse(source: corpus.Source, error: LineError) -> None:
        entry = {"file": source.file, "line": source.line, "reason": error.reason, "detail": error.detail}
        bad.append({**entry, "excerpt": source.excerpt})

    def flush() -> None:
        if batch:
            documents, errors = encoder.encode([document for _, document in batch])
            parts.append(documents)
            for number, error in errors.items():
                refuse(batch[number][0], error)
            batch.clear()

    for source, document in corpus.read_range(shard.path, shard.start, shard.end):
        lines += 1
        if isinstance(document, LineError):
            refuse(source, document)
            continue
        if not isinstance(document, Text):
            noted.update(document.noted)
        batch.append((source, document))
        num_bytes += source.num_bytes
        if num_bytes >= BATCH_BYTES:
            flush()
            num_bytes = 0
    flush()
    bad.sort(key=lambda entry: entry["line"])
    return Encoded(_join(parts) if parts else None, lines, bad, dict(noted))


def count_shard(shard: Shard) -> int:
    """Training tokens in one epoch of the shard. Keeps its documents in a file, for `pack_shard` to take up."""
    path = shard.place("encoded")
    if (kept := taken_up(path)) is not None:
        _, arrays = kept
    else:
        encoded = encode_shard(shard)
        arrays = encoded.documents._asdict() if encoded.documents else {}
        _save(path, {"lines": encoded.lines, "bad": encoded.bad, "answers": encoded.answers}, arrays)
    if not arrays:
        return 0
    documents = Documents(**arrays)
    return int(documents.group_lengths()[~documents.validation].sum())


def pack_shard(task: tuple[Shard, float]) -> Path:
    """Pack the shard, its training documents read so many epochs; a file that is already there is the same.

    Returns the file, which `load` reads: for each split finished rows, the documents left over, and counts.
    """
    shard, epochs = task
    path = shard.place(f"rows-{epochs}")
    if taken_up(path) is not None:
        return path
    if (kept := taken_up(shard.place("encoded"))) is not None:
        notes, arrays = kept
        encoded = Encoded(Documents(**arrays) if arrays else None, notes["lines"], notes["bad"], notes["answers"])
    else:
        encoded = encode_shard(shard)
    summary: dict[str, Any] = {"lines": encoded.lines, "bad": encoded.bad, "answers": encoded.answers}
    arrays = {}
    if encoded.documents:
        lengths = encoded.documents.group_lengths().tolist()
        for split in SPLITS:
            order = _order(encoded.documents, split, epochs)
            rows, rest = _fit(order.tolist(), lengths, shard.recipe.row_length)
            vocab_size = len(_encoder(shard.recipe).sizes)
            columns, totals = lay(encoded.documents, rows, shard.recipe.row_length, vocab_size)
            summary[split] = {"tally": tally(encoded.documents, order), "rows": totals}
            left = encoded.documents.take(np.array(rest, np.int64))._asdict()
            arrays |= {f"{split}.rows.{name}": values for name, values in columns.items()}
            arrays |= {f"{split}.left.{name}": values for name, values in left.items()}
    _save(path, summary, arrays)
    return path


def _order(documents: Documents, split: str, epochs: float) -> NDArray[np.int64]:
    """The groups of a split as they are read: epoch after epoch, in the last one those that were drawn."""
    if split == "validation":
        return np.flatnonzero(documents.validation)
    readings = range(int(np.ceil(epochs)))
    return np.concatenate(
        [np.flatnonzero(~documents.validation & (documents.draw < epochs - before)) for before in readings]
    )


def _fit(order: list[int], lengths: list[int], row_length: int) -> tuple[list[list[int]], list[int]]:
    """Groups in rows, and those of rows that have too much room left."""
    fit = Fit[int](row_length)
    rows = [row for group in order if (row := fit.add(lengths[group], group))]
    rest: list[int] = []
    for room, row in fit.finish():
        if room <= (1 - FULL) * row_length:
            rows.append(row)
        else:
            rest += row
    return rows, rest


def lay(
    documents: Documents, rows: list[list[int]], row_length: int, vocab_size: int
) -> tuple[Columns, dict[str, int]]:
    """Rows of groups as the columns of `rows.RowWriter`, (N, row_length), and what its `extend` wants to know."""
    chosen = documents.take(np.array([group for row in rows for group in row], np.int64))
    row_groups = np.array([len(row) for row in rows], np.int64)
    counts = _sums(chosen.groups, row_groups)  # documents in each row
    lengths = chosen.lengths
    numbers = _ranges(np.ones_like(counts), counts)
    tokens = _sums(lengths, counts)
    # Documents follow each other in `chosen`; in the rows there is padding behind each row's last.
    places = np.arange(len(chosen.ids)) + np.repeat(
        np.arange(len(rows)) * row_length - (tokens.cumsum() - tokens), tokens
    )
    columns = {name: np.zeros(len(rows) * row_length, dtype) for name, dtype in dtypes(vocab_size).items()}
    values = {"tokens": chosen.ids, "learn": chosen.learn, "documents": np.repeat(numbers, lengths)}
    for name, column in columns.items():
        column[places] = values[name]
    shape = (len(rows), row_length)
    totals = {
        "max_documents": int(counts.max(initial=0)),
        "target_tokens": int(chosen.learn.sum()),
        "target_bytes": int(chosen.num_bytes.sum()),
    }
    return {name: column.reshape(shape) for name, column in columns.items()}, totals


def tally(documents: Documents, order: NDArray[np.int64]) -> dict[str, Any]:
    """Counts over groups in the order they are read; `lengths` of documents by the power of two they reach up to."""
    chosen = documents.take(order)
    powers = Counter((chosen.lengths - 1).tolist())
    lengths: Counter[int] = Counter()
    for length, number in powers.items():
        lengths[1 << length.bit_length()] += number
    return {
        "documents": len(chosen.lengths),
        "tokens": len(chosen.ids),
        "target_tokens": int(chosen.learn.sum()),
        "target_bytes": int(chosen.num_bytes.sum()),
        "truncated": int(chosen.truncated.sum()),
        "ends": int(((chosen.ids == EOS) & (chosen.learn == 1)).sum()),
        "split": int(chosen.continued.sum()),
        "lengths": {str(length): number for length, number in lengths.items()},
    }


def _save(path: Path, notes: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
    archive = io.BytesIO()  # in memory first: an archive that the disk refuses can't be closed
    np.savez(archive, notes=np.frombuffer(orjson.dumps(notes), np.uint8), **arrays)  # type: ignore[arg-type]
    with files.file(path) as partial:
        partial.write_bytes(archive.getbuffer())


def taken_up(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]] | None:
    """`load` of a result that is there and is what was written, by the archive's checksums; damage is said."""
    if not path.exists():
        return None
    try:
        return load(path)
    except (OSError, ValueError, LookupError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        print(f"{path} is damaged ({error}): working it out again", file=sys.stderr)
        return None


def load(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """What `count_shard` and `pack_shard` have written: notes, and arrays by name."""
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    return orjson.loads(arrays.pop("notes").tobytes()), arrays
