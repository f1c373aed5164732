"""Maps from the keys of others to ours."""

from typing import Any

import pytest

from minimind.sources import maps


def filled(template: str, **record: Any) -> str:
    return str(maps.apply({"text": template}, record, set())["text"])


@pytest.mark.parametrize("nothing", [None, "", " ", [], {}])
def test_what_is_empty_leaves_nothing_behind(nothing: Any) -> None:
    assert filled("{a}\n{b}", a=nothing, b="B") == "B"
    assert filled("{a}\n{b}", a="A", b=nothing) == "A"
    assert filled("{a}\n\n{b}\n\n{c}", a="A", b=nothing, c="C") == "A\n\nC"
    assert filled("{a}\n\n{b}", a=nothing, b="B") == "B"
    assert filled("Q: {a}\nNote: {b}\nA:", a="A", b=nothing) == "Q: A\nA:"
    assert filled("{a} {b} {c}", a="A", b=nothing, c="C") == "A C"
    assert filled("{a} {b}", a=nothing, b="B") == filled("{b} {a}", a=nothing, b="B") == "B"
    assert filled("{a}, {b}!", a="A", b=nothing) == "A, !"
    assert filled("Dear {a}{b},", a="A", b=nothing) == "Dear A,"
    assert filled("## Title\n\n{a}", a=nothing) == "## Title"


def test_what_is_no_text_becomes_json() -> None:
    assert filled("{a}|{b}|{c}|{d}", a={"x": [None, True]}, b=False, c=0, d=[1, "é"]) == (
        '{"x": [null, true]}|false|0|[1, "é"]'
    )
    assert filled("{lines}", lines=["one", "two"]) == "one\ntwo"
    assert filled("{{a}} {a.b}", a={"b": " kept "}) == "{a}  kept "


def test_a_key_may_be_missing_but_not_all_of_them() -> None:
    seen: set[str] = set()
    assert maps.apply({"text": "{a}\n{b}"}, {"a": "A"}, seen) == {"text": "A"}
    assert seen == {"a"} and maps.fields({"text": "{a}\n{b}", "role": "from"}) == {"a", "b"}
    with pytest.raises(KeyError, match="a"):
        maps.apply({"text": "{a}\n{b}"}, {"c": "C"}, seen)


def test_a_system_message_and_tools_are_optional() -> None:
    places = {"system": "s", "user": "q", "assistant": "a", "tools": "t"}
    talk = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
    assert maps.apply(places, {"q": "Q", "a": "A"}, set()) == {"conversations": talk}
    said = {"q": "Q", "a": "A", "s": "S", "t": []}
    assert maps.apply(places, said, set()) == {
        "conversations": [{"role": "system", "content": "S"}, *talk], "tools": [],
    }  # fmt: skip


def test_answers_as_messages_get_their_question() -> None:
    answers = {"c": [{"role": "assistant", "content": "A"}], "r": "B", "q": "Q"}
    made = maps.apply({"user": "q", "chosen": "c", "rejected": "r"}, answers, set())
    question = {"role": "user", "content": "Q"}
    assert made == {
        "chosen": [question, {"role": "assistant", "content": "A"}],
        "rejected": [question, {"role": "assistant", "content": "B"}],
    }
    assert maps.apply({"user": "q"}, {"q": "Q"}, set()) == {"conversations": [question]}


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ({"txet": "a"}, "`map` has txet, known are text"),
        ({"text": "{a"}, "`map.text` is '{a': .*write {{ or }}"),
        ({"text": "a}"}, "`map.text`"),
        ({"text": "{}"}, "names no key between its braces"),
    ],
)
def test_a_map_that_can_not_work_is_refused(places: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        maps.check(places)
