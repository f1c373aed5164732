"""Verdicts that a person would give."""

from typing import Any

import pytest

from minimind import verify

CALL = {"name": "calculator", "arguments": {"expression": "12*345"}}


def contains(value: str, *without: str) -> dict[str, Any]:
    return {"kind": "contains", "value": value, "without": list(without)}


@pytest.mark.parametrize(
    ("spec", "text", "right"),
    [
        ({"kind": "exact", "value": "42"}, " 42\n", True),
        ({"kind": "exact", "value": "42"}, "<think>6*7=42</think>42", True),
        ({"kind": "exact", "value": "42"}, "42.", False),
        ({"kind": "exact", "value": "42"}, "<think>42", False),
        ({"kind": "exact", "value": ""}, "<think>", True),
        (contains("Paris"), "The capital of France is Paris.", True),
        (contains("Paris"), "<think>Paris?</think>It is Lyon.", False),
        (contains("Paris"), "the capital is paris", False),
        (contains("Niger"), "It is Nigeria.", False),
        (contains("Niger"), "It is (Niger).", True),
        (contains("Bogotá"), "Bogotáa", False),
        (contains("巴黎"), "法国的首都是巴黎。", True),
        (contains("Euro"), "货币是Euro吗", True),
        (contains("Paris", "London"), "Paris or London.", False),
        (contains("Niger", "Nigeria"), "Niger, not Nigeria.", False),
        (contains("5"), "It is 5.", True),
        (contains("5"), "3+2=5", True),
        (contains("5"), "15", False),
        (contains("5"), "答案是5。", True),
        (contains("5"), "-5", False),
        (contains("-5"), "It is -5.", True),
        (contains("5"), "4.5", False),
        (contains("4"), "4.5", False),
        (contains("a.c"), "abc", False),
        ({"kind": "refusal", "value": ["I don't know", "我不知道"]}, "I don't know that country.", True),
        ({"kind": "refusal", "value": ["I don't know", "我不知道"]}, "我不知道。", True),
        ({"kind": "refusal", "value": ["I don't know", "我不知道"]}, "Well, I don't know.", False),
        ({"kind": "refusal", "value": ["I don't know"]}, "<think>hm</think>I don't know.", True),
    ],
)
def test_verdicts(spec: dict[str, Any], text: str, right: bool) -> None:
    assert verify.verify(spec, text) is right


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ('<tool_call>{"name": "calculator", "arguments": {"expression": "12*345"}}</tool_call>', True),
        (
            '<think>use it</think><tool_call>\n{"arguments":{"expression":"12*345"},"name":"calculator"}</tool_call>',
            True,
        ),
        ('Let me see. <tool_call>{"name": "calculator", "arguments": {"expression": "12*345"}}</tool_call>', True),
        ('<tool_call>{"name": "calculator", "arguments": {"expression": "12*354"}}</tool_call>', False),
        ('<tool_call>{"name": "clock", "arguments": {"expression": "12*345"}}</tool_call>', False),
        ('<tool_call>{"name": "calculator", "arguments": {"expression": "12*345", "x": 1}}</tool_call>', False),
        ('<tool_call>{"name": "calculator", "arguments": {"expression": "12*345"}}</tool_call>' * 2, False),
        ('<tool_call>{"name": "calculator", "arguments": {"expression": "12*345"}}', False),
        ('{"name": "calculator", "arguments": {"expression": "12*345"}}', False),
        (
            '<think><tool_call>{"name": "calculator", "arguments": {"expression": "12*345"}}</tool_call></think>4140',
            False,
        ),
        ("<tool_call>" + "[" * 100_000 + "</tool_call>", False),
        ("<tool_call>null</tool_call>", False),
        ("", False),
    ],
)
def test_calls(text: str, right: bool) -> None:
    assert verify.is_call(text, CALL) is right
    assert verify.verify({"kind": "call", "value": CALL}, text) is right


def test_calls_are_compared_as_json() -> None:
    def same(written: str, expected: object) -> bool:
        text = f'<tool_call>{{"name": "f", "arguments": {{"x": {written}}}}}</tool_call>'
        return verify.is_call(text, {"name": "f", "arguments": {"x": expected}})

    assert same('[1, {"b": null, "a": "\\u5df4"}]', [1, {"a": "巴", "b": None}])
    assert not same("1", True)
    assert not same('"1"', 1)
    assert not same("[2, 1]", [1, 2])


def test_a_message_is_taken_apart() -> None:
    call = '<tool_call>{"name": "calculator", "arguments": {"expression": "12*345"}}</tool_call>'
    assert verify.message(f"<think> hm </think>One moment.{call}") == {
        "role": "assistant", "content": "One moment.", "reasoning_content": "hm", "tool_calls": [CALL],
    }  # fmt: skip
    assert verify.message("Hello.") == {"role": "assistant", "content": "Hello."}
    unreadable = "<tool_call>{12*345}</tool_call>"
    assert verify.message(unreadable) == {"role": "assistant", "content": unreadable}
    endless = verify.message("<think>so 1 + 1 is")
    assert endless == {"role": "assistant", "content": "", "reasoning_content": "so 1 + 1 is"}
    assert verify.message("so</think>2")["reasoning_content"] == "so"  # the prompt opened the thinking


@pytest.mark.parametrize(
    "spec", [{}, {"kind": "magic", "value": "x"}, {"kind": "exact"}, {"kind": "refusal", "value": "x"}]
)
def test_bad_specifications_are_named(spec: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"verify\.(kind|value)"):
        verify.verify(spec, "x")
