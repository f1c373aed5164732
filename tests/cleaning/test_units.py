"""Units and their hashes."""

import numpy as np

from minimind.cleaning import quality, units


def test_words_and_han_characters_are_units() -> None:
    assert units.split("The 2nd test_case：法国，Paris!") == ["the", "2nd", "test", "case", "法", "国", "paris"]
    assert units.han_share(["法", "a", "é", "国"]) == 0.5


def test_the_narrow_form_has_every_character_at_its_place() -> None:
    text = "Ａｂ９（＋）　—\xa0，é法"
    assert units.narrow(text) == "Ab9(+) - ,é法"
    assert len(units.narrow(text)) == len(text)


def test_equal_ngrams_have_equal_hashes_and_others_do_not() -> None:
    grams = units.ngrams(units.hashes(["a", "b", "c", "a", "b", "c", "b", "a", "c"]), 3)
    same = {(i, j) for i in range(7) for j in range(i) if grams[i] == grams[j]}
    assert same == {(3, 0)}
    assert len(units.ngrams(units.hashes(["a"]), 3)) == 0


def test_the_share_covered_by_repeats_is_that_of_a_count_by_hand() -> None:
    drawn = np.random.default_rng(1)
    for _ in range(20):
        words = [str(number) for number in drawn.integers(0, 4, 40)]
        rows = [tuple(words[start : start + 3]) for start in range(38)]
        inside = {place for start, row in enumerate(rows) if rows.count(row) > 1 for place in range(start, start + 3)}
        assert quality.covered(units.ngrams(units.hashes(words), 3), 3) == len(inside) / 40
