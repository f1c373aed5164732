"""Messages of others in our form."""

import json
from typing import Any

import pytest

from minimind.chat import Conversation
from minimind.sources import dialogues

CALL = {"name": "f", "arguments": {"x": 1.5}}
OURS = [
    {"role": "system", "content": "S"},
    {"role": "user", "content": "Q"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "3"},
    {"role": "assistant", "content": "A"},
]


def test_share_gpt_with_calls() -> None:
    theirs = [("System", "S"), ("human", "Q"), ("function_call", json.dumps(CALL)), ("observation", "3"), ("gpt", "A")]
    assert dialogues.of([{"from": role, "value": said} for role, said in theirs], "user") == OURS


def test_calls_in_a_row_are_of_one_answer() -> None:
    theirs = [{"from": "gpt", "value": "Let me see.", "weight": 0}, {"from": "function_call", "value": CALL},
              {"from": "function_call", "value": str([CALL])}, {"from": "observation", "value": {"n": 1}}]  # fmt: skip
    assert dialogues.of(theirs, "user") == [
        {"role": "assistant", "content": "Let me see.", "tool_calls": [CALL, CALL], "weight": 0},
        {"role": "tool", "content": '{"n": 1}'},
    ]


def test_what_is_no_call_stays_for_the_rules_to_find() -> None:
    [message] = dialogues.of([{"from": "function_call", "value": "no call"}], "user") or []
    assert message == {"role": "function_call", "content": "no call"}


def test_openai_with_parts_and_older_names() -> None:
    theirs = [
        {"role": "developer", "content": [{"type": "text", "text": "S"}]},
        {"role": "user", "content": [{"type": "text", "text": "Q"}]},
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"x": 1.5}'}},
        {"role": "function", "name": "f", "content": "3"},
        {"role": "assistant", "content": "A", "train": False, "function_call": None},
    ]
    made = dialogues.of(theirs, "user")
    assert Conversation.of(made).messages == OURS
    assert made is not None and made[-1] == {"role": "assistant", "content": "A", "train": False}
    assert dialogues.of(OURS, "user") == OURS
    image = [{"role": "user", "content": [{"type": "image_url"}]}]
    assert dialogues.of(image, "user") == image


@pytest.mark.parametrize("write", [json.dumps, str])
def test_the_text_of_a_list_is_read_as_json_or_python(write: Any) -> None:
    talk = [{"role": "user", "content": 'It\'s "1 + 1"\n—[{(\\'}, {"role": "assistant", "content": "2", "id": None}]
    assert dialogues.held_by(write(talk))
    assert dialogues.of(write(talk), "user") == talk
    assert dialogues.of("[{ is an odd way to begin", "user") == [
        {"role": "user", "content": "[{ is an odd way to begin"}
    ]


def test_history_is_a_list_of_pairs_or_its_text() -> None:
    wanted = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "It's me."}]
    for history in (
        [["Who?", "It's me."]],
        "[['Who?', \"It's me.\"]]",
        '[["Who?", "It\'s me."]]',
        [("Who?", "It's me.")],
    ):
        assert dialogues.pairs(history) == wanted
    assert dialogues.pairs(None) == dialogues.pairs("") == dialogues.pairs("[]") == dialogues.pairs([]) == []
    for history in ("-" * 9999, "[" * 9999, "[['a']]", "__import__('os')", "[[1, 2]]", "x", 3.5, ["ab"]):
        with pytest.raises(ValueError, match="no list of pairs"):
            dialogues.pairs(history)


@pytest.mark.parametrize(
    "text", ["1+1", "--1", "f'x'", "b'x'", "a", "[1 for x in y]", "((" * 100, "not " * 99, "{[]: 1}"]
)
def test_only_plain_values_are_read_from_text(text: str) -> None:
    assert dialogues.literal(text) is None
    assert dialogues.literal("[1, -2.5, ('a', None), {'b': True}]") == [1, -2.5, ("a", None), {"b": True}]
