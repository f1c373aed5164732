"""Whether an answer equals what was expected: as text, as a number, as JSON, by a pattern."""

import json
import re
import unicodedata
from collections.abc import Collection
from decimal import Decimal
from functools import lru_cache
from typing import Any

import regex

from minimind.errors import UserError

PATTERN_SECONDS = 2.0  # for one pattern on one answer; a nested repetition may take for ever

_NUMBER = re.compile(
    r"(?<![0-9A-Za-zÀ-ɏ_.])[-+−]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:[eE][-+]?\d{1,3}(?!\d))?|[-+−]?\.\d+"
)
_FENCE = re.compile(r"```[\w-]*\n(.*?)\n?```", re.DOTALL)
_HAN_SPACE = re.compile(r"(?<=[\u3400-\u9fff]) | (?=[\u3400-\u9fff])")


def folded(text: str, ignore: Collection[str]) -> str:
    """The text without what is ignored, of "case" and "punctuation"; white space becomes single spaces.

    Signs that belong to a number stay: the point in 4.5, the minus in -5.
    """
    if "punctuation" in ignore:
        text = "".join(
            character if _is_word(text, place) else "" if character in "'’" else " "
            for place, character in enumerate(text)
        )
        text = _HAN_SPACE.sub("", " ".join(text.split()))
    if "case" in ignore:
        text = text.casefold()
    return " ".join(text.split())


def _is_word(text: str, place: int) -> bool:
    character, before, after = text[place], text[place - 1 : place], text[place + 1 : place + 2]
    if not unicodedata.category(character).startswith("P"):
        return True
    return after.isdecimal() and (
        before.isdecimal() if character in ".," else character == "-" and not before.isalnum()
    )


def last_number(text: str) -> Decimal | None:
    """The last number in the text, if there is one; `1,234.5`, `−3`, `2e-3` and full-width digits are numbers."""
    found = _NUMBER.findall(unicodedata.normalize("NFKC", text))
    return Decimal(found[-1].replace(",", "").replace("−", "-")) if found else None


def parsed(text: str) -> Any:
    """The JSON value that the text is, in a fence (```json) or not. Raises ValueError if it is none."""
    fenced = _FENCE.fullmatch(text.strip())
    try:
        return json.loads(fenced[1] if fenced else text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def same(a: Any, b: Any) -> bool:
    """Whether two JSON values are equal: keys in any order, 1 is 1.0, but 1 is not true."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(value, b[key]) for key, value in a.items())
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    return bool(a == b)


@lru_cache(256)
def pattern(text: str) -> "regex.Pattern[str]":
    """The pattern, in the syntax of Python's `re`. Raises ValueError, with the place of the mistake."""
    try:
        return regex.compile(text)
    except regex.error as error:
        raise ValueError(f"{text!r} is no regular expression: {error}") from None


def found(text: str, answer: str) -> bool:
    """Whether the pattern `text` stands anywhere in the answer.

    Raises ValueError if it is none, UserError if it is not done within PATTERN_SECONDS.
    """
    try:
        return pattern(text).search(answer, timeout=PATTERN_SECONDS) is not None
    except TimeoutError:
        raise UserError(
            f"the pattern {text!r} took more than {PATTERN_SECONDS:g} s on an answer of {len(answer)} characters: "
            "write it without a repetition inside a repetition"
        ) from None
