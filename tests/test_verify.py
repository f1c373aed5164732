"""Verdicts that a person would give."""

from typing import Any

import pytest

from minimind import comparison, specification, verify
from minimind.errors import UserError

ANY = {"kind": "any", "value": [{"kind": "exact", "value": "Paris"}, {"kind": "number", "value": 7}]}
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
        ({"kind": "exact", "value": ["Paris", "Lutetia"]}, "Lutetia", True),
        ({"kind": "exact", "value": ["Paris", "Lutetia"]}, "Lyon", False),
        ({"kind": "exact", "value": "Paris", "ignore": ["case"]}, "PARIS", True),
        ({"kind": "exact", "value": "Paris", "ignore": ["case"]}, "paris.", False),
        ({"kind": "exact", "value": "Straße", "ignore": ["case"]}, "STRASSE", True),
        ({"kind": "exact", "value": "Paris", "ignore": ["case", "punctuation"]}, "“paris!”", True),
        ({"kind": "exact", "value": "巴黎", "ignore": ["punctuation"]}, "《巴黎》。", True),
        ({"kind": "exact", "value": "北京，上海", "ignore": ["punctuation"]}, "北京、上海。", True),
        ({"kind": "exact", "value": "4.5", "ignore": ["punctuation"]}, "4.5.", True),
        ({"kind": "exact", "value": "45", "ignore": ["punctuation"]}, "4.5", False),
        ({"kind": "exact", "value": "5", "ignore": ["punctuation"]}, "-5", False),
        ({"kind": "exact", "value": "don't stop", "ignore": ["punctuation"]}, "Dont  stop!", False),
        ({"kind": "exact", "value": "don't stop", "ignore": ["case", "punctuation"]}, "Dont  stop!", True),
        ({"kind": "contains", "value": ["Paris", "巴黎"]}, "It is 巴黎.", True),
        ({"kind": "contains", "value": "paris", "ignore": ["case"]}, "It is PARIS.", True),
        (
            {"kind": "contains", "value": "paris", "without": ["London"], "ignore": ["case"]},
            "Paris or LONDON",
            False,
        ),
        ({"kind": "contains", "value": "5", "ignore": ["punctuation"]}, "It is 4.5!", False),
        ({"kind": "number", "value": 42}, "6 * 7 is 42.", True),
        ({"kind": "number", "value": 42}, "42 is 6 * 7", False),
        ({"kind": "number", "value": 42}, "42.0", True),
        ({"kind": "number", "value": 42}, "forty-two", False),
        ({"kind": "number", "value": 1234567.5}, "It costs $1,234,567.50.", True),
        ({"kind": "number", "value": -3}, "The difference is −3", True),
        ({"kind": "number", "value": 3}, "-3", False),
        ({"kind": "number", "value": 0.3, "tolerance": 0}, "0.3", True),
        ({"kind": "number", "value": 3.14159, "tolerance": 0.01}, "about 3.15", True),
        ({"kind": "number", "value": 3.14159, "tolerance": 0.01}, "about 3.2", False),
        ({"kind": "number", "value": 1.5, "tolerance": 0.1}, "1.6", True),
        ({"kind": "number", "value": 1500}, "1.5e3", True),
        ({"kind": "number", "value": 12}, "答案是１２。", True),
        ({"kind": "number", "value": 0.5}, "p = .5", True),
        ({"kind": "number", "value": 12345678901234567890}, "12345678901234567891", False),
        ({"kind": "number", "value": 5}, "in 2024-05", True),
        ({"kind": "number", "value": 2}, "x2", False),
        ({"kind": "number", "value": 7}, "9" * 5000 + "e999", False),
        ({"kind": "json", "value": {"a": 1, "b": [True, None]}}, '{"b": [true, null], "a": 1.0}', True),
        ({"kind": "json", "value": {"a": 1}}, '{"a": true}', False),
        ({"kind": "json", "value": {"a": 1}}, '{"a": 1, "b": 2}', False),
        ({"kind": "json", "value": {"a": 1}}, 'Sure: {"a": 1}', False),
        ({"kind": "json", "value": {"城": "巴黎"}}, '```json\n{"城": "\\u5df4黎"}\n```', True),
        ({"kind": "json", "value": None}, "null", True),
        ({"kind": "json", "value": None}, "", False),
        ({"kind": "json", "value": [1, 2]}, "[2, 1]", False),
        ({"kind": "json", "value": 1}, "[" * 100_000, False),
        ({"kind": "regex", "value": r"\b\d{4}-\d{2}-\d{2}\b"}, "On 2024-05-01.", True),
        ({"kind": "regex", "value": r"^\d+$"}, "On 2024", False),
        ({"kind": "regex", "value": r"^yes\b"}, "<think>no</think>yes, it is", True),
        ({"kind": "regex", "value": r"(?i)PARIS"}, "paris", True),
        (ANY, "Paris", True),
        (ANY, "7", True),
        (ANY, "Lyon", False),
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


def test_a_pattern_without_end_is_named_and_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "PATTERN_SECONDS", 0.01)
    with pytest.raises(UserError, match=r"\(x\+x\+\)\+y' took more than 0.01 s on an answer of 5000 characters"):
        verify.verify({"kind": "regex", "value": "(x+x+)+y"}, "x" * 5000)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({}, "verify.kind is None"),
        ("Paris", "verify is 'Paris', expected an object"),
        ({"kind": "magic", "value": "x"}, "verify.kind is 'magic', expected one of exact, contains, number"),
        ({"kind": ["exact"], "value": "x"}, "verify.kind is "),
        ({"kind": "exact"}, "verify.value is missing"),
        ({"kind": "exact", "value": []}, r"verify.value is \[\], expected text or a list of texts"),
        ({"kind": "exact", "value": "x", "ignored": ["case"]}, "verify.ignored is no key of the kind exact"),
        ({"kind": "exact", "value": "x", "ignore": ["cases"]}, "expected a list of case and punctuation"),
        ({"kind": "exact", "value": "x", "tolerance": 1}, "verify.tolerance is no key"),
        ({"kind": "refusal", "value": "x"}, "verify.value is 'x', expected a list of phrases"),
        ({"kind": "number", "value": "42"}, "verify.value is '42', expected a number"),
        ({"kind": "number", "value": True}, "verify.value is True, expected a number"),
        ({"kind": "number", "value": float("nan")}, "verify.value is nan, expected a number"),
        ({"kind": "number", "value": 42, "tolerance": -1}, "verify.tolerance is -1"),
        ({"kind": "regex", "value": "(a"}, r"'\(a' is no regular expression: missing \)"),
        ({"kind": "any", "value": []}, "expected a list of specifications"),
        ({"kind": "any", "value": [{"kind": "exact"}]}, "verify.value is missing"),
        ({"kind": "call", "value": {"name": "f"}}, "expected an object with a name and arguments"),
        ({"kind": "form", "value": {"lines": 4}}, "verify.value.length is None"),
    ],
)
def test_bad_specifications_are_named(spec: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        verify.verify(spec, "x")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"kind": "exact", "value": "Paris"}, "Paris"),
        ({"kind": "exact", "value": ["Paris", "巴黎"]}, "Paris or 巴黎"),
        (contains("Paris", "London", "Lyon"), "… Paris …, without London or Lyon"),
        (contains("Paris", *"abcd"), "… Paris …, without any of 4 others"),
        ({"kind": "number", "value": 3.5, "tolerance": 0.1}, "3.5 ± 0.1"),
        ({"kind": "json", "value": {"城": 1}}, '{"城": 1}'),
        ({"kind": "regex", "value": "^a+$"}, "what matches ^a+$"),
        ({"kind": "refusal", "value": ["No", "不"]}, "No … or 不 …"),
        ({"kind": "call", "value": CALL}, 'calculator {"expression": "12*345"}'),
        ({"kind": "form", "value": {"lines": 4, "length": 5, "rhyme": "东同"}}, "4 lines of 5 characters, rhymed"),
        (ANY, "Paris or 7"),
    ],
)
def test_what_is_expected_can_be_read(spec: dict[str, Any], said: str) -> None:
    assert specification.expected(spec) == said
