"""What answers teach: those that say nothing or are switched off teach nothing, calls have one notation."""

import json

import pytest

from minimind import answers
from minimind.chat import Conversation

CALL = {"name": "add", "arguments": {"a": 1, "big": 12345678901234567890123}}


@pytest.mark.parametrize(
    ("message", "nothing"),
    [
        ({"content": ""}, True),
        ({"content": " \n\t\u3000\u00a0"}, True),
        ({"content": "\u200b\ufeff\u200e"}, True),
        ({"content": "<think>\n\n</think>\n\n"}, True),
        ({"content": "<think>Let me see.</think>"}, True),
        ({"content": "", "reasoning_content": "Let me see."}, True),
        ({"content": "", "tool_calls": [CALL]}, False),
        ({"content": "\u200bYes."}, False),
        ({"content": "。"}, False),
        ({"content": "😀"}, False),
        ({"content": "<think>never closed"}, False),
        ({"content": "<think></think>0"}, False),
    ],
)
def test_an_answer_says_nothing_without_ink_behind_its_thoughts(message, nothing):
    assert answers.says_nothing({"role": "assistant", **message}) is nothing


@pytest.mark.parametrize("value", [0, 0.0, False, "0", "false", "False"])
@pytest.mark.parametrize("name", answers.SWITCHES)
def test_an_answer_is_switched_off_by_any_of_three_keys(name, value):
    assert answers.switched_off({"content": "x", name: value})
    assert answers.switched_off({"content": "x", "weight": 1, "train": None, name: value})


@pytest.mark.parametrize("value", [1, 1.0, True, None, "1", "true"])
@pytest.mark.parametrize("name", answers.SWITCHES)
def test_and_stays_on_by_the_opposite(name, value):
    assert not answers.switched_off({"content": "x", name: value})
    assert not answers.switched_off({"content": "x"})


@pytest.mark.parametrize("value", [0.5, 2, "often", [0], {}])
def test_what_is_neither_yes_nor_no_is_refused_by_name(value):
    with pytest.raises(ValueError, match="`weight` is "):
        answers.switched_off({"content": "x", "weight": value})


def said(content: object, **more: object) -> list[object]:
    return [{"role": "user", "content": "1+?"}, {"role": "assistant", "content": content, **more}]


WRITTEN = f"<tool_call>{json.dumps(CALL)}</tool_call>"


@pytest.mark.parametrize(
    ("content", "before", "count"),
    [
        (WRITTEN, "", 1),
        (f"<tool_call>\n{json.dumps(CALL)}\n</tool_call>\n", "", 1),
        (f"One moment.\n{WRITTEN}\n{WRITTEN}", "One moment.\n", 2),
        (f"<think>\nI call <tool_call>.\n</think>\n\n{WRITTEN}", "<think>\nI call <tool_call>.\n</think>\n\n", 1),
        ('<tool_call>{"name": "add", "arguments": "{}"}</tool_call>', "", 1),
        ('<tool_call>{"name": "add", "parameters": {}}</tool_call>', "", 1),
        ('<tool_call>{"name": "add", "arguments": ""}</tool_call>', "", 1),
        ([{"type": "text", "text": WRITTEN}], "", 1),
    ],
)
def test_calls_that_are_written_out_become_calls(content, before, count):
    messages, converted = answers.one_notation(said(content))
    conversation = Conversation.of(messages)
    assert converted == 1 and not answers.written_out(conversation.messages[1:] if "think" not in before else [])
    assert conversation.messages[1]["content"] == before
    assert [call["name"] for call in conversation.messages[1]["tool_calls"]] == ["add"] * count
    if json.dumps(CALL) in str(content):
        assert conversation.messages[1]["tool_calls"][0] == CALL


@pytest.mark.parametrize(
    "content",
    [
        "A call is written <tool_call>.",
        f"{WRITTEN} is how I call.",
        '<tool_call>{"name": "add", "arguments": 7}</tool_call>',
        '<tool_call>{"arguments": {}}</tool_call>',
        "<tool_call>add(1, 2)</tool_call>",
        f"<tool_call>{json.dumps(CALL)}",
        f"{WRITTEN}<tool_call>{{</tool_call>",
    ],
)
def test_what_is_no_call_stays_and_is_counted(content):
    messages, converted = answers.one_notation(said(content))
    assert messages == said(content) and converted == 0
    assert answers.written_out(Conversation.of(messages).messages) == 1


def test_a_call_that_stands_there_twice_is_one():
    given = [{"type": "function", "function": {"name": "add", "arguments": json.dumps(CALL["arguments"])}}]
    messages, converted = answers.one_notation(said(WRITTEN, tool_calls=given))
    assert Conversation.of(messages).messages[1] == {"role": "assistant", "content": "", "tool_calls": [CALL]}
    assert converted == 1
    other = said(WRITTEN, tool_calls=[{"name": "other", "arguments": {}}])
    assert answers.one_notation(other) == (other, 0)


def test_results_that_are_written_out_are_those_of_tools():
    user = {"role": "user", "content": "<tool_response>\n3\n</tool_response>\n<tool_response>4</tool_response>"}
    tool = {"role": "tool", "content": "<tool_response>3</tool_response>"}
    quoted = {"role": "user", "content": "What is <tool_response>3</tool_response>?"}
    messages, _ = answers.one_notation([user, tool, quoted])
    assert messages == [
        {"role": "tool", "content": "3"},
        {"role": "tool", "content": "4"},
        {"role": "tool", "content": "3"},
        quoted,
    ]


def test_what_is_no_list_of_messages_passes_through():
    for value in (None, "x", [], [None, 7, {"content": None}], [{"role": "assistant", "content": [7]}]):
        assert answers.one_notation(value) == (value, 0)
