"""Which items of a benchmark a text gives away."""

from typing import Any

from minimind.cleaning.decontamination import Index

WORDS = [f"word{number}" for number in range(100)]


def item(words: list[str], **more: object) -> dict[str, Any]:
    return {"id": words[0], "messages": [{"role": "user", "content": " ".join(words)}], **more}


def test_a_shared_passage_is_found_wherever_it_stands_and_a_short_item_as_a_whole_only() -> None:
    index = Index([item(WORDS[:30]), item(WORDS[50:55])], 13, 20)
    assert index.find([" ".join(["x", *WORDS[10:23], "y"])]) == f"word0: {' '.join(WORDS[10:23])}"
    assert index.find([" ".join(["x", *WORDS[10:22], "y"])]) is None
    assert index.find(["x", " ".join(WORDS[50:55])]) == f"word50: {' '.join(WORDS[50:55])}"
    assert index.find([" ".join(["x", *WORDS[50:55]])]) is None
    assert index.num_short == 1


def test_an_item_says_itself_which_passages_are_its_own() -> None:
    index = Index([item(WORDS[:40], passages=[" ".join(WORDS[20:40])])], 13, 20)
    assert index.find([" ".join(WORDS[:20])]) is None
    assert index.find([" ".join(WORDS[20:33])]) is not None


def test_an_item_is_short_if_all_its_texts_are() -> None:
    choice = {"context": "a b c ", "choices": ["d e", "f g"], "answer": 0}
    assert [Index([choice], length, 20).num_short for length in (5, 6)] == [0, 1]
