"""Units and their hashes."""

from minimind.cleaning import units


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
