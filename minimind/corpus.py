"""Raw data sets: lines of JSON in, checked documents out.

A data set is a folder of `.jsonl` files in MiniMind's schemas. Real files hold broken lines, so each line becomes
either a document or a LineError that says what is wrong with it; nothing is dropped in silence and nothing is fatal.
Reading streams: one line is in memory at a time, and an endless line is cut off.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, NamedTuple

from tokenizers import Tokenizer

from minimind import answers, lossless
from minimind.chat import Conversation, ConversationError, Template

SHARD_BYTES = 1 << 22  # of a file, worked on at once; a change moves documents to other rows
MAX_LINE_BYTES = 1 << 24
EXCERPT_LENGTH = 200
BLANK = "blank"  # reason of a line that holds nothing: it is counted, and neither good nor bad


class LineError(ValueError):
    """A line that can't be used. `reason` is one of a few fixed words, to count by; `detail` explains the case."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail


class Source(NamedTuple):
    """Where a document stands: file name, line from 1 up, its size, and its first bytes."""

    file: str
    line: int
    num_bytes: int
    head: bytes

    @property
    def excerpt(self) -> str:
        """How the line begins."""
        return self.head.decode(errors="replace").strip()


@dataclass(frozen=True)
class Text:
    """A document to learn from the first word to the last."""

    text: str

    @property
    def content(self) -> str:
        """What makes two documents the same."""
        return self.text


@dataclass(frozen=True)
class Dialogue:
    """A conversation whose answers are to be learned. `noted` names what was done with answers, once for each."""

    conversation: Conversation
    noted: tuple[str, ...] = ()

    @property
    def content(self) -> str:
        return _canonical(self.conversation.messages, self.conversation.tools)


@dataclass(frozen=True)
class Pair:
    """Two answers to the same prompt, the first of them preferred."""

    chosen: Conversation
    rejected: Conversation
    noted: tuple[str, ...] = ()

    @property
    def content(self) -> str:
        """The prompt: all pairs of a prompt belong together."""
        return _canonical(self.chosen.messages[:-1], self.chosen.tools)


Document = Text | Dialogue | Pair


def parse_text(record: dict[str, Any]) -> Text:
    """{"text"}. Raises LineError."""
    text = record.get("text")
    if not isinstance(text, str):
        raise LineError("wrong type", f"`text` is {type(text).__name__}, expected text")
    if not text.strip():
        raise LineError("empty", "`text` has no characters but spaces")
    return Text(text)


def parse_dialogue(record: dict[str, Any]) -> Dialogue:
    """{"conversations": [message, …]}. Raises LineError.

    Answers that say nothing, or whose message says `weight: 0`, `train: false` or `loss: false`, are context only.
    """
    conversation, reasons, noted = _conversation(record, "conversations")
    if all(reasons):
        raise LineError("nothing to learn", "`conversations`: every answer is empty or has weight 0")
    unlearned = frozenset(number for number, reason in enumerate(reasons) if reason)
    return Dialogue(replace(conversation, unlearned=unlearned), (*filter(None, reasons), *noted))


def parse_pair(record: dict[str, Any]) -> Pair:
    """{"chosen": [message, …], "rejected": [message, …]}, equal up to the last answer. Raises LineError."""
    (chosen, chosen_reasons, noted), (rejected, rejected_reasons, others) = (
        _conversation(record, key) for key in ("chosen", "rejected")
    )
    if any(conversation.messages[-1]["role"] != "assistant" for conversation in (chosen, rejected)):
        raise LineError("nothing to learn", "a pair must end with the assistant's answers")
    if (chosen.messages[:-1], chosen.tools) != (rejected.messages[:-1], rejected.tools):
        raise LineError("prompts differ", "chosen and rejected must be equal up to the last answer")
    if chosen == rejected:
        raise LineError("nothing to learn", "chosen and rejected are the same")
    if answers.SWITCHED_OFF in (chosen_reasons[-1], rejected_reasons[-1]):
        raise LineError("nothing to learn", "an answer of the pair has weight 0")
    if chosen_reasons[-1]:
        raise LineError("empty", "the chosen answer says nothing")
    return Pair(chosen, rejected, (*noted, *others))


PARSERS: dict[str, Callable[[dict[str, Any]], Document]] = {
    "pretrain": parse_text,
    "sft": parse_dialogue,
    "dpo": parse_pair,
}
"""How to read each data set that is packed, by its name."""


def read(folder: Path) -> Iterator[tuple[Source, Document | LineError]]:
    """Every line of the `.jsonl` files of `folder`, whose name is one of PARSERS, in the order of their names."""
    for path in sorted(folder.glob("*.jsonl")):
        yield from read_range(path, 0, path.stat().st_size)


def read_range(path: Path, start: int, end: int) -> Iterator[tuple[Source, Document | LineError]]:
    """The lines of a file whose first byte lies from `start` up to `end`, numbered from 1 within that range.

    So ranges that follow each other hold every line once, wherever they meet. The folder's name is one of PARSERS.
    """
    parser, name = PARSERS[path.parent.name], path.name
    for number, (line, _, num_bytes) in enumerate(lines(path, start, end), 1):
        try:
            document: Document | LineError = parser(_record(line, num_bytes))
        except LineError as error:
            document = error
        yield Source(name, number, num_bytes, line[:EXCERPT_LENGTH]), document


def ranges(path: Path) -> list[tuple[int, int]]:
    """Start and end of the stretches of SHARD_BYTES that a file is worked on in."""
    size = path.stat().st_size
    return [(start, min(start + SHARD_BYTES, size)) for start in range(0, size, SHARD_BYTES)]


def lines(path: Path, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """The lines whose first byte lies from `start` up to `end`, cut off behind MAX_LINE_BYTES.

    With each comes its place in the file, and its whole size in bytes.
    """
    with path.open("rb") as stream:
        position = _line_start(stream, start, end)
        while position < end and (line := stream.readline(MAX_LINE_BYTES + 1)):
            num_bytes, rest = len(line), line
            while not rest.endswith(b"\n") and (rest := stream.readline(MAX_LINE_BYTES)):
                num_bytes += len(rest)
            yield line, position, num_bytes
            position += num_bytes


def _line_start(stream: IO[bytes], start: int, end: int) -> int:
    """Move to where the first line after `start` begins, or to `end` if none does before; returns the place."""
    position = max(0, start - 1)
    stream.seek(position)
    while start > 0 and position < end:
        part = stream.readline(min(MAX_LINE_BYTES, end - position))
        position += len(part)
        if not part or part.endswith(b"\n"):
            break
    return position


def fraction(content: str, purpose: str) -> float:
    """A number from 0 up to 1 that depends on nothing but the content; each purpose draws independently."""
    digest = hashlib.blake2b(content.encode(), digest_size=8, person=purpose.encode()).digest()
    return int.from_bytes(digest[:6]) / 2**48  # 48 bits are exact in a float


def size(folders: Iterable[Path]) -> int:
    """Bytes of the `.jsonl` files."""
    return sum(path.stat().st_size for folder in folders for path in folder.glob("*.jsonl"))


def texts(folders: Iterable[Path], template: Template, start: float, end: float) -> Iterator[list[str]]:
    """The text that a model will read, markers left out, of documents whose `fraction` is from `start` up to `end`.

    The fraction is the one that packing splits by: documents below a share s are the validation set of that share.
    Bad lines and preference pairs are left out. Each document is a list of pieces.
    """
    for folder in folders:
        for _, document in read(folder):
            if isinstance(document, Text | Dialogue) and start <= fraction(document.content, "split") < end:
                if isinstance(document, Text):
                    yield [document.text]
                else:
                    segments = template.segments(document.conversation)
                    yield [segment.text for segment in segments if not segment.special]


HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")


def language(text: str) -> str:
    """ "zh" if more than a tenth of the characters are Han, else "en"."""
    return "zh" if 10 * len(HAN.findall(text)) > len(text) else "en"


def compression(tokenizer: Tokenizer, documents: Iterable[list[str]]) -> dict[str, dict[str, float]]:
    """How far the tokenizer shortens text, by language: {language: {"bytes", "tokens", "bytes_per_token"}}."""
    num_bytes: Counter[str] = Counter()
    num_tokens: Counter[str] = Counter()
    for pieces in documents:
        kind = language("".join(pieces))
        num_bytes[kind] += sum(len(piece.encode()) for piece in pieces)
        num_tokens[kind] += sum(len(encoding.ids) for encoding in tokenizer.encode_batch_fast(pieces))
    return {
        kind: {"bytes": n, "tokens": num_tokens[kind], "bytes_per_token": round(n / num_tokens[kind], 4)}
        for kind, n in sorted(num_bytes.items())
    }


def _record(line: bytes, num_bytes: int) -> dict[str, Any]:
    if lossless.is_blank(line) and num_bytes == len(line):
        raise LineError(BLANK)
    if num_bytes > MAX_LINE_BYTES:
        raise LineError("too long", f"{num_bytes} bytes on one line, at most {MAX_LINE_BYTES} are read")
    try:
        record = lossless.loads(line)  # nearly every line; what follows finds out what is wrong with the others
    except ValueError:
        record = _mended(line)
    if not isinstance(record, dict):
        raise LineError("wrong type", f"the line is {type(record).__name__}, expected an object")
    return record


def _mended(line: bytes) -> object:
    """The value on a line that begins with a byte order mark. Raises LineError on any other that can't be read."""
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LineError("not UTF-8", str(error)) from None
    try:
        return lossless.loads(text)
    except ValueError as error:
        raise LineError("not JSON", str(error)) from None


def _conversation(record: dict[str, Any], key: str) -> tuple[Conversation, list[str], list[str]]:
    """The conversation; for each answer why it is not learned, or nothing; what else was noted of answers."""
    messages, converted = answers.one_notation(record.get(key))
    try:
        conversation = Conversation.of(messages, record.get("tools"))
    except ConversationError as error:
        raise LineError("wrong type", f"`{key}`: {error}") from None
    assert isinstance(messages, list)
    reasons, silent = [], True
    for number, (message, raw) in enumerate(zip(conversation.messages, messages, strict=True), 1):
        if message["role"] == "assistant":
            try:
                off = answers.switched_off(raw)
            except ValueError as error:
                raise LineError("wrong type", f"`{key}`: message {number}: {error}") from None
            empty = answers.says_nothing(message)
            silent &= empty
            reasons.append(answers.SWITCHED_OFF if off else answers.EMPTY if empty else "")
    if not reasons:
        raise LineError("nothing to learn", f"`{key}` holds no answer of the assistant")
    if silent:
        raise LineError("empty", f"`{key}`: every answer is empty")
    left = answers.written_out(conversation.messages)
    return conversation, reasons, [answers.CONVERTED] * converted + [answers.WRITTEN_OUT] * left


def _canonical(messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None) -> str:
    return lossless.text([messages, tools], sort_keys=True)
