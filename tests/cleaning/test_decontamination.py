"""Which items of a benchmark a text gives away."""

from pathlib import Path
from typing import Any

import pytest

from minimind.cleaning.decontamination import Index
from minimind.errors import UserError

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


def test_every_turn_of_an_item_counts() -> None:
    turns = [{"role": "user", "content": " ".join(words)} for words in (WORDS[:20], WORDS[60:70])]
    index = Index([{"messages": [turns[0], {"role": "assistant", "content": "Yes."}, turns[1]]}], 13, 20)
    assert index.find([" ".join(WORDS[:15])]) is not None


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"choices": ["a"], "answer": 0}', '{"messages": [{"role": "user", "content": 1}]}']
)
def test_a_line_that_is_no_item_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "dev.jsonl").write_text('{"context": "a", "choices": ["b"], "answer": 0}\n' + line + "\n")
    with pytest.raises(UserError, match=r"dev.jsonl:2 is no item .* mend it at its source, which data.benchmark"):
        Index.read(tmp_path, 13, 20)


def test_an_item_is_short_if_all_its_texts_are() -> None:
    choice = {"context": "a b c ", "choices": ["d e", "f g"], "answer": 0}
    assert [Index([choice], length, 20).num_short for length in (5, 6)] == [0, 1]
