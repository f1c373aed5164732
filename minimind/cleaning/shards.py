"""One stretch of a file → what is kept of it, and why the rest is not.

A shard is a range of bytes of a file, cut at line ends; what becomes of it depends on the shard, the settings and the
benchmark alone. So shards may be worked off in any number of processes: the results are the same.

A line that holds no record (not JSON, not UTF-8, no text in it, too long) is passed on as it is: `pack` puts it into
its quarantine with file and line, and stops where there are too many. Blank lines are left out and counted. A record
that no rule touches is passed on byte by byte.
"""

import hashlib
import pickle
import sys
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import IO

import orjson
from rensa import RMinHash

from minimind import corpus, files, journal, lossless
from minimind.cleaning import dialogue, duplicates, markup, quality, redaction, repetition, text
from minimind.cleaning.decontamination import Index
from minimind.cleaning.record import Record
from minimind.cleaning.settings import CleanConfig

EXCERPT = 300  # characters of a removed document that are written down

EDITS = {
    "unanswered": "turns at the end of a conversation that nobody answers taken out",
    "html": "tags and entities of HTML taken out",
    "markers": "line ends in place of <|im_start|> and the like",
    "normalised": "brought into one form of Unicode",
    "control": "control characters and zero-width signs taken out, line ends made Unix's",
    "boilerplate": "lines of page frames taken out",
    "redacted": "e-mail addresses, phone and identity-card numbers replaced",
    "decontaminated": "passages of the benchmark, or paragraphs with one, taken out",
}
RULES = {
    "malformed": "no conversation: roles, types, tools or tool_calls",
    "turns": "turns out of order, missing or empty",
    "disclaimer": "an answer that excuses itself as a model or an assistant",
    "apology": "an answer that begins by being sorry that it can't serve",
    "refusal": "an answer that begins by saying that it can't or won't serve",
    "too short": "fewer characters than clean.min_characters",
    "too long": "more characters than clean.max_characters",
    "language": "written in another language than clean.languages",
    "bullets": "nearly all lines are points of a list",
    "ellipses": "many lines break off",
    "line ends": "hardly a line ends as a sentence does",
    "symbols": "many # and … for its words",
    "alphabetic words": "many words without a letter",
    "word length": "words shorter or longer than those of prose",
    "stop words": "few of the words that prose can't do without",
    "repeated lines": "the same lines again",
    "repeated paragraphs": "the same paragraphs again",
    "top n-gram": "one phrase makes up much of it",
    "repeated n-grams": "much of it stood in it before",
    "contaminated": "shares a passage with an item of the benchmark",
    "duplicate": "stands there before, to the letter",
    "near duplicate": "nearly stands there before",
}
"""What edits and rules do, in the order in which they are asked; a document is removed by the first that it breaks."""


@dataclass(frozen=True)
class Recipe:
    """What becomes of a shard depends on this."""

    config: CleanConfig
    benchmark: Path | None  # that documents are compared with


@dataclass(frozen=True)
class Shard:
    """The lines of `path` that begin from byte `start` up to `end`. `part`: where what is kept of them goes."""

    data_set: str
    path: Path
    start: int
    end: int
    part: Path
    recipe: Recipe = field(repr=False)

    @property
    def removed(self) -> Path:
        """A file of {"line" (within the shard), "rule", "detail", "bytes", "excerpt"}."""
        return self.part.with_suffix(".removed")

    @property
    def outcome(self) -> Path:
        """A file of what became of the shard; written last."""
        return self.part.with_suffix(".outcome")


@dataclass
class Outcome:
    """What became of a shard; lists have one entry for each line of its part."""

    lines: int = 0
    blank: int = 0  # of the lines; they are left out
    num_bytes: int = 0
    unreadable: int = 0
    edits: Counter[str] = field(default_factory=Counter)  # documents, whether or not they were removed afterwards
    numbers: list[int] = field(default_factory=list)  # of the line within the shard
    sizes: list[int] = field(default_factory=list)  # bytes
    digests: list[bytes | None] = field(default_factory=list)  # None: unreadable
    signatures: list[RMinHash | None] = field(default_factory=list)


def cut(data_set: str, path: Path, parts: Path, recipe: Recipe) -> list[Shard]:
    """The shards of a file, whose parts are numbered files in `parts`."""
    return [
        Shard(data_set, path, start, end, parts / f"{path.stem}.{number}.part", recipe)
        for number, (start, end) in enumerate(corpus.ranges(path))
    ]


class Cleaner:
    """The rules, set up for a run."""

    def __init__(self, config: CleanConfig, index: Index | None):
        self.config, self.index = config, index

    def clean(self, shard: Shard) -> Outcome:
        """Write the shard's part and its list of removed lines."""
        outcome, words = Outcome(), []
        near = self.config.on("near_duplicates", shard.data_set)
        with (
            files.file(shard.part) as kept_path,
            files.file(shard.removed) as removed_path,
            kept_path.open("wb") as part,
            removed_path.open("wb") as removed,
        ):
            for number, (line, position, size) in enumerate(corpus.lines(shard.path, shard.start, shard.end), 1):
                outcome.lines += 1
                if lossless.is_blank(line) and len(line) == size:
                    outcome.blank += 1
                    continue
                record = Record.of(line, shard.data_set) if size <= corpus.MAX_LINE_BYTES else None
                key = None
                if record is None:
                    part.write(line)
                    if len(line) < size:
                        _copy(shard.path, position + len(line), size - len(line), part)
                    outcome.unreadable += 1
                elif broken := self.judge(record, outcome.edits):
                    rule, detail = broken
                    # What was edited is still the same document: its excerpt is as the rule saw it.
                    entry = {"line": number, "rule": rule, "detail": detail, "bytes": size}
                    hides = self.config.on("redact", shard.data_set)  # from the list too, if the rule came first
                    removed.write(orjson.dumps({**entry, "excerpt": excerpt(record, hides)}) + b"\n")
                    outcome.num_bytes += size
                    continue
                else:
                    kept = record.line() if self.edited else line
                    part.write(kept)
                    key = duplicates.digest(record.identity)
                outcome.num_bytes += size
                outcome.numbers.append(number)
                outcome.sizes.append(len(kept) if record is not None else size)
                outcome.digests.append(key)
                words.append(record.units if record is not None and near else [])
        outcome.signatures = duplicates.signatures(words) if near else [None] * len(words)
        return outcome

    def judge(self, record: Record, edits: Counter[str]) -> tuple[str, str] | None:
        """Edit the record and count that; the rule that it breaks and the details, None if it is kept."""
        config, data_set = self.config, record.data_set
        self.edited = False
        if data_set != "pretrain":
            for messages in record.conversations.values():
                tools = record.data.get("tools")
                if config.on("malformed", data_set) and (why := dialogue.malformed(messages, tools)):
                    return "malformed", why
                # A pair can't lose a turn on one side only, and prompts end with a user.
                if config.on("turns", data_set) and data_set == "sft" and dialogue.shorten(messages):
                    edits["unanswered"] += 1
                    self.edited = True
                if config.on("turns", data_set) and (why := dialogue.disorder(messages, data_set != "prompts")):
                    return "turns", why
        self._edit(record, edits)
        if config.on("refusals", data_set):
            answers = record.data["chosen"] if "chosen" in record.conversations else record.messages
            if refused := dialogue.refusal(answers):
                return refused
        return self._judge_text(record) or self._judge_overlap(record, edits)

    def _edit(self, record: Record, edits: Counter[str]) -> None:
        config, data_set = self.config, record.data_set
        changes = {
            # First, since an entity may stand for a control character.
            "html": (config.on("html", data_set), markup.strip),
            "markers": (config.on("markers", data_set), text.strip_markers),
            "normalised": (config.normalise != "off", lambda old: text.normalise(old, config.normalise)),
            "control": (config.on("control", data_set), text.strip_control),
            "boilerplate": (config.on("boilerplate", data_set), text.strip_frames),
            "redacted": (config.on("redact", data_set), redaction.redact),
        }
        for name, (switched_on, change) in changes.items():
            if switched_on and record.edit(change):
                edits[name] += 1
                self.edited = True

    def _judge_text(self, record: Record) -> tuple[str, str] | None:
        config, data_set = self.config, record.data_set
        if config.on("length", data_set):
            length = len(record.prose)
            if length < config.min_characters:
                return "too short", f"{length} characters"
            if 0 < config.max_characters < length:
                return "too long", f"{length} characters"
        if config.on("language", data_set):
            from_script = _shares(record.prose)
            kept = sum(from_script[name] for name in config.languages.split())
            if any(from_script.values()) and kept < config.min_language_share:
                shown = ", ".join(f"{share:.0%} {name}" for name, share in from_script.items() if share)
                return "language", shown
        broken = None
        if config.on("quality", data_set):
            broken = quality.find(record.prose, record.units, config)
        if not broken and config.on("repetition", data_set):
            broken = repetition.find(record.prose, record.units, config.repetition_scale)
        return broken

    def _judge_overlap(self, record: Record, edits: Counter[str]) -> tuple[str, str] | None:
        index, contaminated = self.index, self.config.contaminated
        if index is None or not self.config.on("decontaminate", record.data_set):
            return None
        item = index.find(record.texts)
        if item is None:
            return None
        # A conversation without one of its messages is none.
        if record.data_set != "pretrain" or contaminated == "document":
            return "contaminated", item
        rest = index.cut(record.data["text"], whole_paragraphs=contaminated == "paragraph")
        if not rest.strip():
            return "contaminated", item
        record.edit(lambda text: rest)
        edits["decontaminated"] += 1
        self.edited = True
        return self._judge_text(record)


def excerpt(record: Record, redacted: bool = False) -> str:
    """How a record begins, for a reader; if wanted without personal numbers."""
    if record.data_set == "pretrain":
        told = record.prose
    else:
        told = "\n".join(f"{message.get('role')}: {message.get('content')}" for message in record.messages)
    if redacted:
        told = redaction.redact(told)
    return told if len(told) <= EXCERPT else told[: EXCERPT - 1] + "…"


def _shares(prose: str) -> dict[str, float]:
    from minimind.cleaning import language  # its model takes half a second to load, which most runs need not spend

    return language.shares(prose)


def _copy(path: Path, start: int, size: int, writer: IO[bytes]) -> None:
    """Append so many bytes of a file to another."""
    with path.open("rb") as reader:
        reader.seek(start)
        while size > 0 and (block := reader.read(min(size, 1 << 20))):
            size -= writer.write(block)


@cache
def cleaner(recipe: Recipe) -> Cleaner:
    """The rules, and the benchmark read once in each process."""
    config, benchmark = recipe.config, recipe.benchmark
    return Cleaner(config, Index.read(benchmark, config.ngram_words, config.ngram_han) if benchmark else None)


def clean_shard(shard: Shard) -> Outcome:
    """`Cleaner.clean`, in whatever process; a shard that was cleaned before an interruption is taken up."""
    if (found := _taken_up(shard)) is not None:
        return found
    outcome = cleaner(shard.recipe).clean(shard)
    marks = {path.name: journal.mark(path) for path in (shard.part, shard.removed)}
    written = pickle.dumps((outcome, marks))
    with files.file(shard.outcome) as partial:
        partial.write_bytes(hashlib.sha256(written).digest() + written)
    return outcome


def _taken_up(shard: Shard) -> Outcome | None:
    """What became of the shard before, if all its files are there as they were written; damage is said."""
    if not shard.outcome.exists():
        return None
    content = shard.outcome.read_bytes()
    if hashlib.sha256(content[32:]).digest() == content[:32]:
        outcome: Outcome
        outcome, marks = pickle.loads(content[32:])
        if all(journal.holds(shard.part.with_name(name), mark) for name, mark in marks.items()):
            return outcome
    print(f"{shard.outcome}, or a file beside it, is damaged: cleaning this shard again", file=sys.stderr)
    return None
