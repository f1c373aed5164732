"""Heuristics that find documents which repeat themselves, after Gopher (arXiv:2112.11446, appendix A.1.1, table A1).

Lines and paragraphs are compared as they stand. N-grams are of units, words or Han characters; as a Chinese word is
some 1.5 characters, its n-grams are 1.5 times as long. Shares are of the document's characters. What stands in it for
the first time is no repetition: only the later occurrences of an n-gram count, and a unit that several of them cover
counts once. docs/data.md compares these rules with datatrove's.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from minimind.cleaning import units

FEWEST_UNITS = 50  # to judge n-grams by
FEWEST_LINES = 5  # or paragraphs, to judge them by
HAN_FACTOR = 1.5  # characters of Han for a word
REPEATED_PARTS, REPEATED_CHARACTERS = 0.30, 0.20  # lines and paragraphs
TOP_NGRAMS = {2: 0.20, 3: 0.18, 4: 0.16}
REPEATED_NGRAMS = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
QUOTED = 80  # characters of what repeats that are told


def find(text: str, words: Sequence[str], scale: float) -> tuple[str, str] | None:
    """The rule that a document breaks, by how much and with which phrase; None if it breaks none.

    `words`: its units; `scale` multiplies Gopher's thresholds.
    """
    for kind, border in (("lines", "\n"), ("paragraphs", "\n\n")):
        parts = [part.strip() for part in text.split(border) if part.strip()]
        if len(parts) < FEWEST_LINES:
            continue
        counts = Counter(parts)
        again = [part for part, count in counts.items() for _ in range(count - 1)]
        if not again:
            continue
        commonest, number = counts.most_common(1)[0]
        told = f"{number} times {_quoted(commonest)}"
        if (share := len(again) / len(parts)) > REPEATED_PARTS * scale:
            return f"repeated {kind}", f"{share:.0%} of the {kind}; {told}"
        if (share := sum(map(len, again)) / sum(map(len, parts))) > REPEATED_CHARACTERS * scale:
            return f"repeated {kind}", f"{share:.0%} of the characters; {told}"
    if len(words) < FEWEST_UNITS:
        return None
    factor = HAN_FACTOR if units.han_share(words) > 0.5 else 1.0
    hashed = units.hashes(words)
    sizes = np.fromiter(map(len, words), np.int64, len(words))
    for n, limit in TOP_NGRAMS.items():
        length = round(n * factor)
        _, places, numbers = np.unique(units.ngrams(hashed, length), return_index=True, return_counts=True)
        most = int(numbers.max(initial=0))
        if most <= 2:  # a long name that occurs twice is a fifth of a short text
            continue
        phrase = _said(words[(start := int(places[numbers == most].min())) : start + length])
        if (share := most * len(phrase) / len(text)) > limit * scale:
            return "top n-gram", f"the commonest {length} in a row make up {share:.0%}; {most} times {_quoted(phrase)}"
    for n, limit in REPEATED_NGRAMS.items():
        length = round(n * factor)
        covered = repeated(units.ngrams(hashed, length), length)
        if len(covered) and (share := int(sizes[covered].sum()) / len(text)) > limit * scale:
            phrase = _quoted(_said(words[_longest(covered)]))
            return "repeated n-grams", f"{length} in a row that stood there before make up {share:.0%}; again {phrase}"
    return None


def repeated(grams: units.Hashes, length: int) -> NDArray[np.bool_]:
    """For each unit of a document whether it lies in an n-gram that has occurred before; empty without n-grams.

    grams (N,): the n-grams' hashes, in order. Returns (N + length - 1,).
    """
    if not len(grams):
        return np.empty(0, np.bool_)
    again = np.ones(len(grams), np.bool_)
    again[np.unique(grams, return_index=True)[1]] = False
    # An n-gram covers the unit that it begins at and the length - 1 behind it.
    change = np.zeros(len(grams) + length, np.int64)
    change[: len(grams)] += again
    change[length:] -= again
    return np.cumsum(change)[:-1] > 0


def _longest(covered: NDArray[np.bool_]) -> slice:
    """The longest run of repeated units, the first of them."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], covered, [False])).astype(np.int8)))
    starts, ends = edges[::2], edges[1::2]
    longest = int(np.argmax(ends - starts))
    return slice(int(starts[longest]), int(ends[longest]))


def _said(words: Sequence[str]) -> str:
    return ("" if units.han_share(words) > 0.5 else " ").join(words)


def _quoted(text: str) -> str:
    return f"“{text if len(text) <= QUOTED else text[: QUOTED - 1] + '…'}”"
