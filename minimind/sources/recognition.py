"""Files that have arrived, brought into our schema where their records' keys tell that they are in another one."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from minimind import lossless
from minimind.sources import dialogues, schemas
from minimind.sources.formats import MAX_LINE_BYTES
from minimind.sources.source import FetchError

PEEKED = 100  # records that show which schema a file is in


def convert(path: Path, data_set: str, called: str) -> dict[str, Any]:
    """Rewrite the lines of `path` that are in another schema; return what to note of the file, nothing if none is.

    Every other line stays as it is, to the byte. Raises FetchError if none of the first records is in a schema that
    is known; it says what the file is `called`, which keys there are, and the `map` to write.
    """
    _check(path, data_set, called)
    if data_set == "pretrain":
        return {}
    counts: Counter[str] = Counter()
    used: dict[str, None] = {}
    unused: dict[str, None] = {}
    partial = path.with_name(f"{path.name}.partial")
    place = 0  # how much of the file was read while nothing had to be rewritten
    with path.open("rb") as stream, _Late(path, partial) as writer:
        for line, whole in _lines(stream):
            found = _recognised(line, data_set) if whole else line
            if isinstance(found, schemas.Found) and found.schema:
                counts[found.schema] += 1
                used |= dict.fromkeys(found.used)
                unused |= dict.fromkeys(key for key in found.record if key not in _READ)
                writer.begin(place)
                writer.write(lossless.dumps(found.record) + b"\n")
            else:
                counts[_UNKNOWN] += found is None or isinstance(found, schemas.UnclearError)
                writer.write(line)
            place += len(line)
    if not writer.begun:
        return {}
    noted = {name: counts[name] for name in sorted(counts, key=lambda name: (name == _UNKNOWN, name)) if counts[name]}
    return {"schemas": noted, "keys": list(used), "unused_keys": list(unused)}


def told(noted: dict[str, Any]) -> str:
    """What `convert` has noted, for a reader."""
    counts = ", ".join(f"{number} {name}" for name, number in noted["schemas"].items())
    left = f"; not used: {', '.join(noted['unused_keys'])}" if noted["unused_keys"] else ""
    return f"{counts}, from {', '.join(noted['keys'])}{left}"


_UNKNOWN = "not recognised"
_READ = {"text", "conversations", "messages", "chosen", "rejected", "tools", "verify", "family", "gt"}


class _Late:
    """A file that replaces another once there is something new to write; until then nothing is written."""

    def __init__(self, path: Path, partial: Path):
        self._path, self._partial = path, partial
        self._stream: IO[bytes] | None = None
        self.begun = False

    def __enter__(self) -> "_Late":
        return self

    def begin(self, size: int) -> None:
        """Begin with the first `size` bytes of the file that is replaced."""
        if not self.begun:
            self.begun = True
            self._stream = self._partial.open("wb")
            with self._path.open("rb") as source:
                while size and (block := source.read(min(size, 1 << 20))):
                    size -= self._stream.write(block)

    def write(self, line: bytes) -> None:
        """Append, if anything is written at all."""
        if self._stream:
            self._stream.write(line)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if self._stream:
            self._stream.close()
            if kind is None:
                os.replace(self._partial, self._path)


def _lines(stream: IO[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Each line, True; of one that is too long to be read the pieces, False."""
    begins = True
    while line := stream.readline(MAX_LINE_BYTES):
        ends = line.endswith(b"\n")
        yield line, begins and (ends or len(line) < MAX_LINE_BYTES)
        begins = ends


def _recognised(line: bytes, data_set: str) -> schemas.Found | schemas.UnclearError | bytes | None:
    """What the record on the line is; the line itself if it holds none."""
    try:
        record = lossless.loads(line.removeprefix(b"\xef\xbb\xbf"))
    except ValueError:
        return line
    if not isinstance(record, dict):
        return line
    try:
        return schemas.recognise(record, data_set)
    except schemas.UnclearError as error:
        return error


def _check(path: Path, data_set: str, called: str) -> None:
    """Raise FetchError unless one of the first records is in a schema that is known, or there are none."""
    seen, unclear, first, place = 0, "", b"", 0
    with path.open("rb") as stream:
        for number, (line, whole) in enumerate(_lines(stream), 1):
            found = _recognised(line, data_set) if whole else line
            if isinstance(found, schemas.Found):
                return
            if isinstance(found, bytes):
                continue
            seen, first, place = seen + 1, first or line, place or number
            unclear = unclear or (str(found) if found else "")
            if seen == PEEKED:
                break
    if seen:
        record = lossless.loads(first.removeprefix(b"\xef\xbb\xbf"))
        why = f"{unclear}. Their" if unclear else "their"
        fits = [name for name in schemas.DATA_SETS if isinstance(_recognised(first, name), schemas.Found)]
        raise FetchError(
            f"{called}:{place}: the records are in no schema that {data_set} is read from: {why} keys are "
            f"{', '.join(map(str, record)) or 'none'}. Say beside the uri where what is wanted stands, such as "
            f"`map: {{{_advice(record, data_set)}}}`" + (f", or list the file under data.{fits[0]}" if fits else "")
        )


def _advice(record: dict[str, Any], data_set: str) -> str:
    """A map that may be what is meant."""
    texts = [key for key, value in record.items() if isinstance(value, str) and value.strip()]
    lists = [key for key, value in record.items() if isinstance(value, list) and value and isinstance(value[0], dict)]

    def pick(known: tuple[str, ...], *taken: str) -> str:
        return next((key for key in (*known, *texts) if key in record and key not in taken), "KEY")

    if data_set == "pretrain":
        longest = max(texts, key=lambda key: len(record[key]), default="KEY")
        return f"text: {pick(('content', 'body', longest))}"
    if data_set == "dpo":
        chosen = pick(("chosen", "accepted", "preferred", "better"))
        rejected = pick(("rejected", "dispreferred", "worse"), chosen)
        return f"user: {pick(schemas.QUESTIONS, chosen, rejected)}, chosen: {chosen}, rejected: {rejected}"
    if lists and not dialogues.are(record[lists[0]]) and len(record[lists[0]][0]) > 1:
        role, content = list(record[lists[0]][0])[:2]
        return f"conversations: {lists[0]}, role: {role}, content: {content}"
    question = pick(schemas.QUESTIONS + schemas.INPUTS)
    answer = pick(schemas.ANSWERS, question, *schemas.INPUTS)
    about = [key for key in schemas.INPUTS if key in texts and key not in (question, answer)]
    user = '"' + "\\n".join(f"{{{key}}}" for key in [question, *about]) + '"' if about else question
    return f"user: {user}" if data_set == "prompts" else f"user: {user}, assistant: {answer}"
