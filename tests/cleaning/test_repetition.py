"""What counts as repetition: later occurrences only, told with the phrase that repeats."""

import random

import numpy as np
import pytest

from cleaning.prose import CHINESE, PROSE, VERSES, WORDS
from minimind.cleaning import repetition, units

DRAWN = random.Random(2)
REFRAIN = " ".join(DRAWN.choices(WORDS, k=18))


def find(text: str, scale: float = 1.0) -> tuple[str, str] | None:
    return repetition.find(text, units.split(text), scale)


@pytest.mark.parametrize(
    ("text", "rule", "told"),
    [
        ("\n".join([*VERSES[:3], *VERSES[:3]]), "repeated lines", "50% of the lines; 2 times “The cat of "),
        ("\n\n".join(f"{verse}\n{number}." for number, verse in enumerate(VERSES)), None, ""),
        (
            "\n\n".join(["\n".join(VERSES[:3]), "\n".join(VERSES[3:]), *["Read on."] * 3]),
            "repeated paragraphs", "3 times “Read on.”",
        ),
        (
            " in fact ".join(" ".join(DRAWN.choices(WORDS, k=3)) for _ in range(18)),
            "top n-gram", "17 times “in fact”",
        ),
        (PROSE + " " + " ".join(PROSE.split()[:60]), "repeated n-grams", "make up 20%; again “the cat of "),
        (CHINESE + CHINESE[:150], "repeated n-grams", "again “这是"),
    ],
)  # fmt: skip
def test_what_repeats_itself_is_found_with_the_phrase(text: str, rule: str | None, told: str) -> None:
    found = find(text)
    assert (None if found is None else found[0]) == rule
    assert found is None or told in found[1]
    assert find(text, 100.0) is None


@pytest.mark.parametrize("text", [PROSE, CHINESE, f"{PROSE} {REFRAIN} x {REFRAIN}", CHINESE + CHINESE[:30]])
def test_prose_may_say_a_thing_twice(text: str) -> None:
    """The first time is no repetition: 18 words of 205 are under a tenth, both times together would be above."""
    assert find(text) is None


def test_only_what_stood_before_is_covered_as_counted_by_hand() -> None:
    drawn = np.random.default_rng(1)
    for _ in range(20):
        words = [str(number) for number in drawn.integers(0, 4, 40)]
        rows = [tuple(words[start : start + 3]) for start in range(38)]
        later = (start for start, row in enumerate(rows) if row in rows[:start])
        inside = {place for start in later for place in range(start, start + 3)}
        covered = repetition.repeated(units.ngrams(units.hashes(words), 3), 3)
        assert set(np.flatnonzero(covered)) == inside and len(covered) == 40
    assert len(repetition.repeated(units.ngrams(units.hashes(["a"]), 3), 3)) == 0
