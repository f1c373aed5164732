"""Reading what a model wrote and judging it by a `specification`, without a model."""

import json
import re
from decimal import Decimal
from typing import Any

from minimind import comparison, specification
from minimind.specification import Specification, listed
from minimind.verse import has_form

THINK = ("<think>", "</think>")
TOOL_CALL = ("<tool_call>", "</tool_call>")

Message = dict[str, Any]


def verify(spec: Specification, text: str) -> bool:
    """Whether `text`, all that the model wrote, meets the specification.

    Raises ValueError if that is none, or if its pattern takes too long.
    """
    specification.check(spec)
    return _meets(spec, text)


def _meets(spec: Specification, text: str) -> bool:
    answer, value = final_answer(text), spec["value"]
    match spec["kind"]:
        case "exact":
            return _folded(answer, spec) in [_folded(one, spec) for one in listed(value)]
        case "contains":
            wanted, unwanted = (
                [_folded(one, spec) for one in ones] for ones in (listed(value), spec.get("without", []))
            )
            folded = _folded(answer, spec)
            return any(_stands_in(one, folded) for one in wanted) and not any(
                _stands_in(one, folded) for one in unwanted
            )
        case "number":
            return _is_near(answer, value, spec.get("tolerance", 0))
        case "json":
            return _is_json(answer, value)
        case "regex":
            return comparison.found(value, answer)
        case "any":
            return any(_meets(one, text) for one in value)
        case "refusal":
            return answer.startswith(tuple(value))
        case "form":
            return has_form(answer, value["lines"], value["length"], value.get("rhyme"), value.get("given", ()))
        case _:
            return is_call(text, value)


def _folded(text: str, spec: Specification) -> str:
    return comparison.folded(text, spec["ignore"]) if "ignore" in spec else text


def _is_near(answer: str, value: float, tolerance: float) -> bool:
    number = comparison.last_number(answer)
    return number is not None and abs(number - Decimal(str(value))) <= Decimal(str(tolerance))


def _is_json(answer: str, value: object) -> bool:
    try:
        return comparison.same(comparison.parsed(answer), value)
    except ValueError:
        return False


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


def is_call(text: str, call: dict[str, Any]) -> bool:
    """Whether the final answer makes exactly one call and it equals {"name", "arguments"} as JSON (1 is not true)."""
    calls = message(text).get("tool_calls", [])
    return final_answer(text).count(TOOL_CALL[0]) == 1 and [*map(_canonical, calls)] == [_canonical(call)]


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
