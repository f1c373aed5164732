"""Text as a row of units: words where words are spaced, single characters of Han; and hashes of n of them in a row."""

import re
from collections.abc import Collection, Iterator, Sequence
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

HAN = "\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_UNITS = re.compile(rf"[{HAN}]|[^\W_{HAN}]+")
# Of one character each, so that what is found in the one form stands at the same place in the other.
_WIDE = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20, 0xA0: 0x20}
_DASHES = dict.fromkeys(map(ord, "‐‑‒–—−"), ord("-"))
_NARROW = _WIDE | _DASHES
_FACTOR = np.uint64(0x9E3779B97F4A7C15)

Hashes = NDArray[np.uint64]


def split(text: str) -> list[str]:
    """Its units in lower case; punctuation and spaces are left out."""
    return _UNITS.findall(_lower(text))


def narrow(text: str) -> str:
    """The text, as long as before, with ASCII for its full-width forms, plain blanks and hyphens."""
    return text if text.isascii() else text.translate(_NARROW)


def of(text: str) -> list[str]:
    """`split` with full-width letters and digits as the ordinary ones."""
    return split(narrow(text))


def places(text: str) -> list[tuple[int, int]]:
    """Start and stop of each unit `of` the text, in characters."""
    return [found.span() for found in _UNITS.finditer(_lower(narrow(text)))]


def _lower(text: str) -> str:
    return text.replace("İ", "I").lower()  # the only letter that is two characters in lower case


def is_han(unit: str) -> bool:
    """Whether a unit is a Han character."""
    return unit[0] > "\u3006" and len(unit) == 1 and _UNITS.match(unit) is not None and not unit.isascii()


def han_share(units: Sequence[str]) -> float:
    """The share of the units that are Han characters."""
    return sum(map(is_han, units)) / max(1, len(units))


def hashes(units: Sequence[str]) -> Hashes:
    """A number for each unit, the same on every machine (Python's own `hash` is not)."""
    return np.fromiter((crc32(unit.encode()) for unit in units), dtype=np.uint64, count=len(units))


def ngrams(hashed: Hashes, n: int) -> Hashes:
    """A number for each n units in a row: a polynomial modulo 2^64, stirred; empty where there are fewer."""
    count = max(0, len(hashed) - n + 1)
    total = np.zeros(count, dtype=np.uint64)
    for offset in range(n):
        total = total * _FACTOR + hashed[offset : offset + count]
    return _stirred(total)


def all_ngrams(hashed: Hashes, lengths: Collection[int]) -> Iterator[tuple[int, Hashes]]:
    """`ngrams` for each of these lengths, the shortest first, each made from the one before."""
    total = np.zeros(len(hashed) + 1, dtype=np.uint64)
    for n in range(1, max(lengths, default=0) + 1):
        total = total[:-1] * _FACTOR + hashed[n - 1 :]
        if n in lengths:
            yield n, _stirred(total.copy())


def _stirred(total: Hashes) -> Hashes:
    total ^= total >> np.uint64(29)
    total *= np.uint64(0xBF58476D1CE4E5B9)
    return total ^ (total >> np.uint64(32))
