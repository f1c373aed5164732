"""JSON whose numbers stay as they are written, digit for digit, and whose depth is bounded.

orjson reads nearly everything. What it would alter, integers beyond 64 bits and floats that come out in another form,
is read by the standard library, and kept beside its value. So is NaN, which is not JSON, but stands in many files.
"""

import codecs
import json
import math
import re
from typing import Any

import orjson

MAX_LINE_BYTES = 1 << 24  # of a line of JSON lines; longer ones are not read
MAX_DEPTH = 128  # of lists and objects within each other; orjson writes 254, and what is read is wrapped before

# Outside of texts a number follows one of these signs; within a text the match costs a little time, nothing else.
_ODD = re.compile(r"(?:^|[\[:,])\s*(?:NaN|-0\b|-?(?:Infinity|\d{16,}|\d+(?:\.\d|[eE])))")
_ODD_BYTES = re.compile(_ODD.pattern.encode())
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+"|-?\d+')
_MASK = 1 << 80  # beyond 64 bits, so no number that is left as it is


class Number(float):
    """A number with the text that it was read from."""

    literal: str

    def __new__(cls, literal: str) -> "Number":
        """As `float`, of JSON's notation or NaN, Infinity and -Infinity."""
        number = super().__new__(cls, literal)
        number.literal = literal
        return number

    def __reduce__(self) -> tuple[type["Number"], tuple[str]]:
        return Number, (self.literal,)


def loads(text: bytes | str) -> Any:
    """The value of a JSON text. NaN, Infinity and numbers that Python would write in another way are `Number`s.

    Raises ValueError where it is none, holds half of a surrogate pair, or is nested deeper than MAX_DEPTH.
    """
    try:
        value, refusal = orjson.loads(text), None
    except orjson.JSONDecodeError as error:
        value, refusal = None, ValueError(str(error))
    if _ODD_BYTES.search(text) if isinstance(text, bytes) else _ODD.search(text):
        value = _read_exactly(text, refusal)
    elif refusal:
        raise refusal
    if _opens(text) > MAX_DEPTH and depth(value) > MAX_DEPTH:
        raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")
    return value


def line(content: bytes) -> Any:
    """`loads` of a line of a file, the first of which may begin with a byte order mark."""
    return loads(content.removeprefix(codecs.BOM_UTF8))


def dumps(value: Any, sort_keys: bool = False) -> bytes:
    """JSON as orjson writes it, numbers as they were read. Half of a surrogate pair is written as an escape."""
    try:
        return orjson.dumps(value, default=_fragment, option=orjson.OPT_SORT_KEYS if sort_keys else None)
    except TypeError:
        options: dict[str, Any] = {"separators": (",", ":"), "sort_keys": sort_keys}
    try:
        return text(value, **options).encode()
    except UnicodeEncodeError:
        return text(value, ensure_ascii=True, **options).encode()


def text(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    """JSON as `json.dumps` writes it, with its options, numbers as they were read."""
    literals: list[str] = []
    written = json.dumps(_masked(value, literals), ensure_ascii=ensure_ascii, **options)
    if not literals:
        return written

    def unmask(found: re.Match[str]) -> str:
        number = 0 if found[0].startswith('"') or len(found[0]) > 30 else int(found[0]) - _MASK
        return literals[number] if found[0][0] != '"' and 0 <= number < len(literals) else found[0]

    return _TOKEN.sub(unmask, written)


def depth(value: Any) -> int:
    """Lists and objects within each other, up to one more than MAX_DEPTH; 0 for a text or a number."""
    found, level = 0, [value]
    while level and found <= MAX_DEPTH:
        level = [entry for entry in level if isinstance(entry, dict | list | tuple)]
        if level:
            found += 1
        level = [member for entry in level for member in (entry.values() if isinstance(entry, dict) else entry)]
    return found


def is_blank(content: bytes) -> bool:
    """Whether nothing stands on the line but white space and a byte order mark."""
    return not content.removeprefix(codecs.BOM_UTF8).strip()


def is_strict(value: Any) -> bool:
    """Whether JSON has a word for every number in the value: not for NaN and the infinities."""
    if isinstance(value, dict):
        return all(map(is_strict, value.values()))
    if isinstance(value, list | tuple):
        return all(map(is_strict, value))
    if isinstance(value, Number):
        return value.literal[-1].isdigit()
    return not isinstance(value, float) or math.isfinite(value)


def _opens(text: bytes | str) -> int:
    return text.count(b"[") + text.count(b"{") if isinstance(text, bytes) else text.count("[") + text.count("{")


def _read_exactly(text: bytes | str, refusal: ValueError | None) -> Any:
    """The value as the standard library reads it; `refusal` is what orjson had against it."""
    try:
        decoded = text.decode() if isinstance(text, bytes) else text
        value = json.loads(decoded, parse_float=_number, parse_int=_number, parse_constant=Number)
        if refusal and "\\u" in decoded:
            json.dumps(value, ensure_ascii=False).encode()  # the standard library lets half a surrogate pass
    except (ValueError, RecursionError) as error:
        raise refusal or ValueError(str(error)) from None
    return value


def _number(literal: str) -> int | float:
    """The plain number, where every writer writes it just so."""
    if len(literal) < 400:
        plain = float(literal) if any(sign in literal for sign in ".eE") else int(literal)
        if str(plain) == literal and (isinstance(plain, int) or orjson.dumps(plain).decode() == literal):
            return plain
    return Number(literal)


def _fragment(value: object) -> orjson.Fragment:
    if isinstance(value, Number):
        return orjson.Fragment(value.literal)
    raise TypeError(f"{type(value).__name__} is no JSON")


def _masked(value: Any, literals: list[str]) -> Any:
    """The value with a number of our own in place of each that is to be written as it was read."""
    if isinstance(value, dict):
        return {key: _masked(member, literals) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(member, literals) for member in value]
    beyond = isinstance(value, int) and not -(1 << 63) <= value < 1 << 64
    if isinstance(value, Number) or beyond:
        literals.append(value.literal if isinstance(value, Number) else str(value))
        return _MASK + len(literals) - 1
    return value
