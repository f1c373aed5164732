"""Reading what a model wrote and judging it, without a model.

A specification is the `verify` value of a benchmark item or a prompt:

- {"kind": "exact", "value": str}: the final answer is the value
- {"kind": "contains", "value": str, "without"?: [str]}: the value stands in the final answer, as whole words, and
  none of `without` does
- {"kind": "refusal", "value": [str]}: the final answer begins with one of these phrases
- {"kind": "call", "value": {"name", "arguments"}}: the final answer makes exactly this tool call
- {"kind": "form", "value": {"lines": int, "length": int, "rhyme"?: str, "given"?: [str]}}: the final answer is Chinese
  verse of so many lines, all different and none of them among those given, of so many characters each; every second
  line ends in one of the characters `rhyme`
"""

import json
import re
from typing import Any

from minimind.verse import has_form

THINK = ("<think>", "</think>")
TOOL_CALL = ("<tool_call>", "</tool_call>")

KINDS: dict[str, type] = {"exact": str, "contains": str, "refusal": list, "call": dict, "form": dict}
"""What each kind's value is."""

FORM: dict[str, type] = {"lines": int, "length": int, "rhyme": str, "given": list}
OPTIONAL = ("rhyme", "given")
"""What the value of a form is made of, and what of it may be left out."""

Message = dict[str, Any]


def check(spec: dict[str, Any]) -> None:
    """Raise ValueError, saying why, if `spec` is no specification."""
    if spec.get("kind") not in KINDS:
        raise ValueError(f"verify.kind is {spec.get('kind')!r}, expected one of {', '.join(KINDS)}")
    expected = KINDS[spec["kind"]]
    if not isinstance(spec.get("value"), expected):
        raise ValueError(f"verify.value is {spec.get('value')!r}, expected {expected.__name__} for {spec['kind']}")
    if spec["kind"] == "form":
        for name, wanted in FORM.items():
            found = spec["value"].get(name, wanted() if name in OPTIONAL else None)
            if not isinstance(found, wanted):
                raise ValueError(f"verify.value.{name} is {found!r}, expected {wanted.__name__} for form")


def verify(spec: dict[str, Any], text: str) -> bool:
    """Whether `text`, all that the model wrote, meets the specification. Raises ValueError if that is none."""
    check(spec)
    answer, value = final_answer(text), spec["value"]
    if spec["kind"] == "exact":
        return bool(answer == value)
    if spec["kind"] == "contains":
        return _stands_in(value, answer) and not any(_stands_in(other, answer) for other in spec.get("without", []))
    if spec["kind"] == "refusal":
        return answer.startswith(tuple(value))
    if spec["kind"] == "form":
        return has_form(answer, value["lines"], value["length"], value.get("rhyme"), value.get("given", ()))
    return is_call(text, value)


def final_answer(text: str) -> str:
    """What stands behind the thinking, stripped; nothing if the thinking never ends."""
    opening, closing = THINK
    if closing in text:
        return text.rpartition(closing)[2].strip()
    return "" if opening in text else text.strip()


def reasoning(text: str) -> str:
    """What stands before the end of the thinking, or, if it never ends, behind its beginning; stripped."""
    opening, closing = THINK
    if closing in text:
        return text.rpartition(closing)[0].removeprefix(opening).strip()
    return text.partition(opening)[2].strip()


def message(text: str) -> Message:
    """The assistant's message that a chat template would render as `text`; calls that can't be read stay content."""
    calls: list[dict[str, Any]] = []

    def take(match: re.Match[str]) -> str:
        call = _call(match[1])
        if call is None:
            return match[0]
        calls.append(call)
        return ""

    opening, closing = TOOL_CALL
    content = re.sub(f"{opening}(.*?){closing}", take, final_answer(text), flags=re.DOTALL).strip()
    parts: Message = {"role": "assistant", "content": content}
    if thought := reasoning(text):
        parts["reasoning_content"] = thought
    if calls:
        parts["tool_calls"] = calls
    return parts


def is_call(text: str, expected: dict[str, Any]) -> bool:
    """Whether the final answer makes exactly one call and it equals {"name", "arguments"} as JSON (1 is not true)."""
    calls = message(text).get("tool_calls", [])
    return final_answer(text).count(TOOL_CALL[0]) == 1 and [*map(_canonical, calls)] == [_canonical(expected)]


def _call(body: str) -> dict[str, Any] | None:
    """The call {"name", "arguments"} that stands between the marks, if it is one."""
    try:
        call = json.loads(body)
    except (ValueError, RecursionError):  # a model may write anything, such as a thousand brackets
        return None
    if not (isinstance(call, dict) and isinstance(call.get("name"), str) and isinstance(call.get("arguments"), dict)):
        return None
    return {"name": call["name"], "arguments": call["arguments"]}


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def _stands_in(value: str, text: str) -> bool:
    """Whether `value` stands in `text` and not within a longer word or number: no Niger in Nigeria, no 5 in -5 or 4.5.

    Chinese has no spaces, so only Latin letters and digits bound a word.
    """
    latin = "0-9A-Za-zÀ-ɏ"
    before = f"(?<![{latin}])" if re.match(f"[{latin}]", value) else ""
    after = f"(?![{latin}])" if re.search(f"[{latin}]$", value) else ""
    if value[:1].isdecimal():
        before += r"(?<![0-9]\.)(?<!-)"
    if value[-1:].isdecimal():
        after += r"(?!\.[0-9])"
    return re.search(before + re.escape(value) + after, text) is not None
