"""Forms of messages that others write."""

import pytest

from minimind import messages


def test_parts_of_text_are_one_text_and_other_content_stays() -> None:
    parts = [{"type": "text", "text": "a "}, {"text": "b"}, "c", {"type": "output_text", "text": ""}]
    assert messages.joined(parts) == "a bc"
    assert messages.joined([]) == ""
    assert [messages.joined(content) for content in ("x", None, 3)] == ["x", None, 3]
    for part in ({"type": "image_url", "image_url": {}}, {"type": "text"}, {"type": "text", "text": None}, 7, None):
        with pytest.raises(ValueError, match="part 2 of the content is"):
            messages.joined(["a", part])


def test_arguments_are_a_value_or_its_text() -> None:
    assert [messages.arguments(value) for value in ("", " \n", None, "null", "{}", {})] == [{}] * 6
    assert messages.arguments('{"a": [1]}') == messages.arguments({"a": [1]}) == {"a": [1]}
    with pytest.raises(ValueError, match="."):
        messages.arguments("{")


def test_an_old_call_is_a_list_of_one() -> None:
    call = {"name": "f", "arguments": "{}"}
    assert messages.calls({"function_call": call}) == messages.calls({"tool_calls": [call]}) == [call]
    assert messages.calls({"tool_calls": "[]", "function_call": None}) == "[]"
    assert messages.calls({"tool_calls": [call], "function_call": {"name": "other"}}) == [call]
