"""One set of conversations for all who render the chat template: in OpenAI's form, and what they are in ours."""

import json
from typing import Any

Message = dict[str, Any]

TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "calculator",
            "description": "算式",
            "parameters": {"type": "object", "properties": {"x": {"type": "string"}}},
        },
    }
]
ARGUMENTS: dict[str, Any] = {"x": '12 + 7, "巴黎": {a}', "y": "C:\\n\t/😀", "n": [1, -2.5, True, None], "o": {"k": ""}}
SYSTEM = {"role": "system", "content": "Be brief. 简短。"}
USER = {"role": "user", "content": "12 + 7?"}
RESULT = {"role": "tool", "content": "19"}
ANSWER = {"role": "assistant", "content": "19"}


def parts(*texts: str) -> list[dict[str, str]]:
    """Content in parts of text."""
    return [{"type": "text", "text": text} for text in texts]


def call(arguments: object, content: str | None = None, **more: Any) -> Message:
    """An answer with one call, in OpenAI's form."""
    calls = [{"id": "call_1", "type": "function", "function": {"name": "calculator", "arguments": arguments}}]
    return {"role": "assistant", "content": content, "tool_calls": calls, **more}


CALLED = call(ARGUMENTS, "")
CONVERSATIONS: dict[str, tuple[list[Message], list[Message]]] = {
    "plain": ([SYSTEM, USER, ANSWER, USER], [SYSTEM, USER, ANSWER, USER]),
    "object": ([USER, call(ARGUMENTS), {**RESULT, "tool_call_id": "call_1"}], [USER, CALLED, RESULT]),
    "text": ([USER, call(json.dumps(ARGUMENTS, ensure_ascii=False)), RESULT], [USER, CALLED, RESULT]),
    "compact": (
        [USER, call(json.dumps(ARGUMENTS, ensure_ascii=False, separators=(",", ":"))), RESULT],
        [USER, CALLED, RESULT],
    ),
    "escaped": ([USER, call(json.dumps(ARGUMENTS).replace("/", "\\/")), RESULT], [USER, CALLED, RESULT]),
    "indented": (
        [USER, call(json.dumps(ARGUMENTS, indent=2)), RESULT, ANSWER, USER], [USER, CALLED, RESULT, ANSWER, USER]
    ),
    "none": ([USER, call("{}", "One."), RESULT, USER], [USER, call({}, "One."), RESULT, USER]),
    "thought": (
        [USER, call('{"x": "1"}', "Let me see.", reasoning_content="add"), RESULT, RESULT],
        [USER, call({"x": "1"}, "Let me see.", reasoning_content="add"), RESULT, RESULT],
    ),
    "parts": (
        [
            {"role": "system", "content": parts("Be ", "brief. 简短。")},
            {"role": "user", "content": parts("12 ", "+ 7?")},
            {"role": "assistant", "content": parts("19")},
            {"role": "user", "content": parts("12 + 7?")},
        ],
        [SYSTEM, USER, ANSWER, USER],
    ),
    "developer": ([{**SYSTEM, "role": "developer"}, USER], [SYSTEM, USER]),
}  # fmt: skip
"""By name: OpenAI's form, and ours, which says the same."""

CASES: list[tuple[str, list[Message], list[Message], list[dict[str, Any]] | None, bool | None]] = [
    (name, theirs, ours, tools, thinking)
    for name, (theirs, ours) in CONVERSATIONS.items()
    for tools in (None, TOOLS)
    for thinking in (None, False)
]
"""With and without tools and the switch of thoughts."""
