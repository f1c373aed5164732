"""Records of the package's shape become poems, or nothing where characters are lost."""

import pytest

from minimind.poetry.poems import Form, Poem, parse

SPRING = {
    "author": "杜甫",
    "title": "春望",
    "paragraphs": [
        "國破山河在，城春草木深。",
        "感時花濺淚，恨別鳥驚心。",
        "烽火連三月，家書抵萬金。",
        "白頭搔更短，渾欲不勝簪。",
    ],
    "id": "ignored",
}


def read(**changes: object) -> Poem | None:
    (poem,) = parse([SPRING | changes])
    return poem


def test_a_record_becomes_a_poem_in_simplified_characters() -> None:
    poem = read()
    assert poem is not None
    assert (
        poem.text
        == "国破山河在，城春草木深。\n感时花溅泪，恨别鸟惊心。\n烽火连三月，家书抵万金。\n白头搔更短，浑欲不胜簪。"
    )
    assert poem.form == Form(8, 5)
    assert poem.kind == "五言律诗·侵韵"  # a rhyme that modern pronunciation, shēn and zān, does not show


def test_remarks_and_blanks_are_left_out_and_stops_made_wide() -> None:
    poem = read(title="春望 二首（其一）", paragraphs=["國破山河在(一作存), 城春草木深。"])
    assert poem == Poem("春望二首", "杜甫", "国破山河在，城春草木深。")
    assert poem.kind == "五言诗"
    assert poem.form is None


@pytest.mark.parametrize("paragraphs", [[], [""], ["國□山河在，城春草木深。"], ["國破山河在，城春草木深"], ["abc。"]])
def test_what_is_damaged_is_no_poem(paragraphs: list[str]) -> None:
    assert read(paragraphs=paragraphs) is None


def test_lines_of_several_lengths_have_no_form() -> None:
    poem = read(paragraphs=["前不見古人，後不見來者。", "念天地之悠悠，獨愴然而涕下。"])
    assert poem is not None
    assert (poem.form, poem.kind) == (None, "杂言诗")


def test_a_record_of_another_shape_is_refused() -> None:
    with pytest.raises(KeyError, match="paragraphs"):
        list(parse([{"title": "春望", "author": "杜甫"}]))
