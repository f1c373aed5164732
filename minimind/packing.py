"""Documents → rows of one length on disk.

A row holds whole documents, best fit: each goes where it leaves the least room. Boundaries are kept, so attention,
positions and targets never cross from one document to the next. Everything streams: what is in memory is one batch
of lines and the rows still open.

| data set | a document                  | what is learned         | when it is longer than a row                    |
|----------|-----------------------------|-------------------------|-------------------------------------------------|
| pretrain | BOS text EOS                | all but BOS             | goes on in further documents, each with a BOS   |
| sft      | a conversation              | the assistant's answers | loses its end, if an answer is left             |
| dpo      | two conversations, together | their last answers      | the longer one loses its end, if answers remain |

The split is decided by the content, so equal documents never stand on both sides.
"""

import shutil
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from tqdm import tqdm

from minimind import corpus, files
from minimind.chat import Chat, Conversation
from minimind.corpus import Dialogue, Document, LineError, Source, Text
from minimind.errors import UserError
from minimind.rows import MAX_ROW_LENGTH, RowWriter
from minimind.tokenizer import BOS, EOS, token_bytes

SPLITS = ("train", "validation")
BATCH_BYTES = 1 << 20  # raw bytes that are encoded at once
OPEN_ROWS = 256  # rows that may still take documents; beyond it the fullest is closed. 64 fill as well as 4096
TRUNCATED = "nothing left to learn after truncation"
NUM_EXAMPLES = 3  # bad lines quoted when a stage fails


@dataclass(frozen=True)
class PackConfig:
    """Section `pack` of params.yaml. Raises ValueError naming the field."""

    max_seq_len: int  # tokens in a row
    validation_share: float  # of the documents is kept for validation
    max_quarantine_share: float  # of the lines may be bad; more fail the stage
    thinking_off_share: float  # of the conversations without a thought is shown with thinking switched off

    def __post_init__(self) -> None:
        if not 8 <= self.max_seq_len <= MAX_ROW_LENGTH:
            raise ValueError(f"pack.max_seq_len {self.max_seq_len} must lie between 8 and {MAX_ROW_LENGTH}")
        for name in ("validation_share", "max_quarantine_share", "thinking_off_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"pack.{name} {getattr(self, name)} is a share: it must lie between 0 and 1")


class PackError(UserError):
    """A data set that can't be packed as it is; the message says what is wrong with it and where to look."""


@dataclass(frozen=True)
class Tokens:
    """One document in tokens, 1 where one is learned, and the number of UTF-8 bytes the learned ones stand for."""

    ids: NDArray[np.uint32]
    learn: NDArray[np.uint8]
    num_bytes: int


@dataclass(frozen=True)
class Packed:
    """What became of one line: groups of documents, each group to stand in one row."""

    groups: list[list[Tokens]]
    validation: bool = False
    truncated: bool = False
    continued: bool = False


class Encoder:
    """Documents → tokens that fit a row."""

    def __init__(self, chat: Chat, config: PackConfig):
        self.chat, self.config, self.row_length = chat, config, config.max_seq_len
        self.sizes = np.array(token_bytes(chat.tokenizer), dtype=np.int64)

    def encode(self, documents: Sequence[Document]) -> list[Packed | LineError]:
        """All documents at once; a LineError stands for a document of which nothing can be learned."""
        conversations = [conversation for document in documents for conversation in self._conversations(document)]
        texts = iter(self.chat.encode_texts([document.text for document in documents if isinstance(document, Text)]))
        dialogues = iter(self.chat.encode_batch(conversations))
        encoded: list[Packed | LineError] = []
        for document in documents:
            try:
                if isinstance(document, Text):
                    packed = self._text(next(texts))
                elif isinstance(document, Dialogue):
                    packed = self._dialogue(*next(dialogues))
                else:
                    packed = self._pair(*next(dialogues), *next(dialogues))
                validation = corpus.fraction(document.content, "split") < self.config.validation_share
                encoded.append(replace(packed, validation=validation))
            except LineError as error:
                encoded.append(error)
        return encoded

    def _conversations(self, document: Document) -> list[Conversation]:
        """The conversations within a document, in a share of cases with thinking switched off."""
        if isinstance(document, Text):
            return []
        found = [document.conversation] if isinstance(document, Dialogue) else [document.chosen, document.rejected]
        off = corpus.fraction(document.content, "thinking") < self.config.thinking_off_share
        if off and not any(conversation.thinks() for conversation in found):
            return [replace(conversation, enable_thinking=False) for conversation in found]
        return found

    def _text(self, ids: list[int]) -> Packed:
        ids, room = [*ids, EOS], self.row_length - 1
        pieces = [[BOS, *ids[start : start + room]] for start in range(0, len(ids), room)]
        groups = [[self._tokens(piece, [0] + [1] * (len(piece) - 1))] for piece in pieces]
        return Packed(groups, continued=len(groups) > 1)

    def _dialogue(self, ids: list[int], learn: list[int]) -> Packed:
        length = self.row_length
        if not any(learn[:length]):
            raise LineError(TRUNCATED, f"{len(ids)} tokens, the row has {length}")
        return Packed([[self._tokens(ids[:length], learn[:length])]], truncated=len(ids) > length)

    def _pair(self, chosen: list[int], learn: list[int], rejected: list[int], rejected_learn: list[int]) -> Packed:
        # The last answer is the last run of ones: a header stands between any two answers.
        start = len(learn) - learn[::-1].index(0)
        assert chosen[:start] == rejected[:start] and learn[:start] == rejected_learn[:start], "the prompts differ"
        lengths = share(len(chosen), len(rejected), self.row_length)
        if min(lengths) <= start:
            raise LineError(TRUNCATED, f"{len(chosen)} and {len(rejected)} tokens, the row has {self.row_length}")
        group = [
            self._tokens(ids[:length], [0] * start + [1] * (length - start))
            for ids, length in zip((chosen, rejected), lengths, strict=True)
        ]
        return Packed([group], truncated=sum(lengths) < len(chosen) + len(rejected))

    def _tokens(self, ids: Sequence[int], learn: Sequence[int]) -> Tokens:
        array, mask = np.array(ids, dtype=np.uint32), np.array(learn, dtype=np.uint8)
        return Tokens(array, mask, int(self.sizes[array[mask == 1]].sum()))


def share(first: int, second: int, room: int) -> tuple[int, int]:
    """The lengths that two documents may keep in a row of `room` tokens; the longer one gives way first."""
    half = room // 2
    return min(first, max(half, room - second)), min(second, max(half, room - first))


def encode(
    lines: Iterable[tuple[Source, Document | LineError]], encoder: Encoder
) -> Iterator[tuple[Source, Packed | LineError]]:
    """Every line in tokens, in order, bad ones passed on. Reads no further ahead than BATCH_BYTES and a line."""
    batch: list[tuple[Source, Document | LineError]] = []
    num_bytes = 0
    for source, document in lines:
        batch.append((source, document))
        num_bytes += source.num_bytes
        if num_bytes >= BATCH_BYTES:
            yield from _encode(batch, encoder)
            batch, num_bytes = [], 0
    yield from _encode(batch, encoder)


def _encode(
    batch: list[tuple[Source, Document | LineError]], encoder: Encoder
) -> Iterator[tuple[Source, Packed | LineError]]:
    packed = iter(encoder.encode([document for _, document in batch if not isinstance(document, LineError)]))
    for source, document in batch:
        yield source, document if isinstance(document, LineError) else next(packed)


class BestFit:
    """Puts groups of documents into rows, and a row into the writer once it is full or too many are open."""

    def __init__(self, writer: RowWriter, open_rows: int = OPEN_ROWS):
        self.writer, self.open_rows = writer, open_rows
        self.rows: dict[int, list[Tokens]] = {}
        self.rooms: list[tuple[int, int]] = []  # (free tokens, row), sorted
        self.opened = 0

    def add(self, group: Sequence[Tokens]) -> None:
        """Put documents, which stay together, into the row that has the least room for them."""
        length = sum(len(document.ids) for document in group)
        best = bisect_left(self.rooms, (length, 0))
        if best < len(self.rooms):
            room, row = self.rooms.pop(best)
        else:
            room, row = self.writer.row_length, self.opened
            self.rows[row] = []
            self.opened += 1
        self.rows[row].extend(group)
        insort(self.rooms, (room - length, row))
        if self.rooms[0][0] == 0 or len(self.rooms) > self.open_rows:
            self._write()

    def finish(self) -> None:
        """Write the rows that are still open."""
        while self.rooms:
            self._write()

    def _write(self) -> None:
        _, row = self.rooms.pop(0)
        self.writer.add([(document.ids, document.learn, document.num_bytes) for document in self.rows.pop(row)])


@dataclass
class Tally:
    """Counts over the documents of one split."""

    documents: int = 0
    tokens: int = 0
    target_tokens: int = 0
    target_bytes: int = 0
    truncated: int = 0
    continued: int = 0
    lengths: Counter[int] = field(default_factory=Counter)  # documents, by the power of two they reach up to

    def add(self, packed: Packed) -> None:
        self.truncated += packed.truncated
        self.continued += packed.continued
        for document in (document for group in packed.groups for document in group):
            self.documents += 1
            self.tokens += len(document.ids)
            self.target_tokens += int(document.learn.sum())
            self.target_bytes += document.num_bytes
            self.lengths[1 << (len(document.ids) - 1).bit_length()] += 1

    def report(self, num_rows: int, row_length: int) -> dict[str, Any]:
        """The counts, and what follows from them."""
        return {
            "rows": num_rows,
            "documents": self.documents,
            "tokens": self.tokens,
            "target_tokens": self.target_tokens,
            "target_bytes": self.target_bytes,
            "bytes_per_target_token": round(self.target_bytes / max(1, self.target_tokens), 4),
            "fill": round(self.tokens / max(1, num_rows * row_length), 4),
            "truncated": self.truncated,
            "split": self.continued,
        }


class Quarantine:
    """Collects bad lines in a file."""

    def __init__(self, path: Path):
        self.path, self.stream = path, path.open("wb")
        self.reasons: Counter[str] = Counter()
        self.examples: list[str] = []

    def add(self, source: Source, bad: LineError) -> None:
        """Note a bad line."""
        self.reasons[bad.reason] += 1
        if len(self.examples) < NUM_EXAMPLES:
            self.examples.append(f"{source.file}:{source.line}: {bad}")
        entry = {"file": source.file, "line": source.line, "reason": bad.reason, "detail": bad.detail}
        self.stream.write(orjson.dumps({**entry, "excerpt": source.excerpt}) + b"\n")

    def close(self, name: str, num_lines: int, max_share: float, kept: Path) -> None:
        """Raises PackError, with a copy of the file in `kept`, if more than `max_share` of all lines are bad."""
        self.stream.close()
        bad = self.reasons.total()
        if bad > max_share * num_lines:
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.path, kept)
            counts = ", ".join(f"{number} {reason}" for reason, number in self.reasons.most_common())
            raise PackError(
                f"{name}: {bad} of {num_lines} lines can't be used ({counts}), more than pack.max_quarantine_share "
                f"{max_share} allows. The first: {'; '.join(self.examples)}. All of them, with reasons, are in "
                f"{kept}: mend the data, or raise the share"
            )


def pack(raw: Path, chat: Chat, config: PackConfig, out: Path, kept: Path) -> dict[str, Any]:
    """Pack the data set `raw`, named as in `corpus.PARSERS`, into the new folder `out`; return its statistics.

    Raises PackError if nothing is left to train on, or if more than `max_quarantine_share` of the lines are bad;
    their list is then copied to the file `kept`, since `out` doesn't outlive a failed stage.
    """
    length, vocab_size = config.max_seq_len, chat.tokenizer.get_vocab_size()
    out.mkdir()
    num_lines, quarantine = 0, Quarantine(out / "quarantine.jsonl")
    tallies = {split: Tally() for split in SPLITS}
    writers = {split: RowWriter(out / f"{split}.arrow", length, vocab_size) for split in SPLITS}
    with ExitStack() as stack:
        for writer in writers.values():
            stack.enter_context(writer)
        size = corpus.size([raw])
        bar = stack.enter_context(tqdm(total=size, desc=raw.name, unit="B", unit_scale=True, disable=None))
        fits = {split: BestFit(writer) for split, writer in writers.items()}
        for source, packed in encode(corpus.read(raw), Encoder(chat, config)):
            num_lines += 1
            bar.update(source.num_bytes)
            if isinstance(packed, LineError):
                quarantine.add(source, packed)
                continue
            split = "validation" if packed.validation else "train"
            tallies[split].add(packed)
            for group in packed.groups:
                fits[split].add(group)
        quarantine.close(raw.name, num_lines, config.max_quarantine_share, kept)
        if not tallies["train"].documents:
            raise PackError(f"{raw.name}: {num_lines} lines leave nothing to train on: bring more data")
        for fit in fits.values():
            fit.finish()
    statistics = {
        "lines": num_lines,
        "quarantined": quarantine.reasons.total(),
        "quarantined_because": dict(sorted(quarantine.reasons.items())),
        **{split: tally.report(writers[split].num_rows, length) for split, tally in tallies.items()},
    }
    lengths = {split: dict(sorted(tally.lengths.items())) for split, tally in tallies.items()}
    files.write_json(out / "statistics.json", {**statistics, "documents_up_to_length": lengths})
    files.write_manifest(out)
    return statistics
