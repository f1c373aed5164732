"""Messages in the forms of OpenAI, ShareGPT and others → messages in ours; texts that hold lists, as CSV has them."""

import ast
import re
from contextlib import suppress
from typing import Any

from minimind import lossless, messages

Messages = list[dict[str, Any]]

ROLES = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "bot", "chatgpt", "model", "function_call"), "assistant"),
    **dict.fromkeys(("tool", "observation", "function", "function_response"), "tool"),
}
"""What others call our roles, in lower case. What is said under `function_call` is a call."""

_SAID = ("content", "value", "tool_calls", "function_call")
_PYTHON_TEXT = r"""(?:'(?:[^'\\\n]|\\.)*+'|"(?:[^"\\\n]|\\.)*+")"""
# Lists, dicts and tuples of texts, numbers and three names: what is deep or long to read must not be handed to ast.
_PYTHON = re.compile(
    rf"(?:[\s\[\](){{}},:]++|{_PYTHON_TEXT}|(?<![\w.+-])-?\d+(?:\.\d+)?(?![\w.])|\b(?:None|True|False)\b)*+", re.DOTALL
)


def of(value: Any, role: str) -> Messages | None:
    """Messages in our form, of a list of messages, of one, of the text of a list, or of what `role` says.

    None where it is nothing of that kind.
    """
    if isinstance(value, str):
        parsed = literal(value) if value.lstrip().startswith(("[{", "[ {")) else None
        return of(parsed, role) if are(parsed) else [{"role": role, "content": value}]
    if isinstance(value, dict):
        value = [value]
    return _converted(value) if are(value) else None


def are(value: Any) -> bool:
    """Whether it is a list of messages, in whatever form."""
    return isinstance(value, list) and bool(value) and all(map(_is_message, value))


def held_by(value: Any) -> bool:
    """Whether it is a list of messages or the text of one."""
    return are(value) or (isinstance(value, str) and value.lstrip().startswith(("[{", "[ {")) and are(literal(value)))


def pairs(history: Any) -> Messages:
    """The earlier turns in a list of pairs of question and answer, or in its text. Raises ValueError."""
    found = literal(history) if isinstance(history, str) else history
    if not isinstance(found, list | None) or (found is None and history not in (None, "")):
        raise ValueError("the history is no list of pairs")
    talk: Messages = []
    for pair in found or []:
        if not (isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(text, str) for text in pair)):
            raise ValueError("the history is no list of pairs")
        talk += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    return talk


def literal(text: str) -> Any:
    """The list or object that a text holds, in JSON or as Python writes it; None where it is neither, or too deep."""
    try:
        return lossless.loads(text)
    except ValueError:
        if not _PYTHON.fullmatch(text) or _depth(text) > lossless.MAX_DEPTH:
            return None
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _depth(text: str) -> int:
    """Most brackets open at once, those in texts left out."""
    deepest = opened = 0
    for bracket in re.findall(r"[\[({\])}]", re.sub(_PYTHON_TEXT, "", text, flags=re.DOTALL)):
        opened += 1 if bracket in "[({" else -1
        deepest = max(deepest, opened)
    return deepest


def _is_message(message: Any) -> bool:
    return isinstance(message, dict) and ("role" in message or "from" in message) and any(k in message for k in _SAID)


def _converted(talk: Messages) -> Messages:
    converted: Messages = []
    for message in map(_message, talk):
        before = converted[-1] if converted else {}
        if "calls" in message:
            called = {"role": "assistant", "content": "", "tool_calls": message.pop("calls"), **message}
            if before.get("role") == "assistant" and isinstance(before.get("tool_calls", []), list):
                converted[-1] = {
                    **called,
                    **before,
                    "tool_calls": [*before.get("tool_calls", []), *called["tool_calls"]],
                }
            else:
                converted.append(called)
        else:
            converted.append(message)
    return converted


def _message(message: dict[str, Any]) -> dict[str, Any]:
    """In our form, its other keys kept; {"calls"} instead of role and content where the role is function_call."""
    role_key = "role" if "role" in message else "from"
    content_key = "content" if "content" in message or "value" not in message else "value"
    said = message.get(content_key)
    rest = {key: value for key, value in message.items() if key not in (role_key, content_key, "function_call")}
    role = message[role_key]
    name = role.strip().lower() if isinstance(role, str) else ""
    if name == "function_call" and (calls := _calls(said)):
        return {"calls": calls, **rest}
    with suppress(ValueError):  # the stages that read it say what is wrong with it
        said = messages.joined(said)
    if name != "function_call":
        role = ROLES.get(name, role)
    if role == "tool" and isinstance(said, dict | list):
        said = lossless.text(said)
    if called := messages.calls(message):
        rest["tool_calls"] = called
    ours: dict[str, Any] = {"role": role}
    if content_key in message:
        ours["content"] = said
    return ours | rest


def _calls(said: Any) -> list[dict[str, Any]] | None:
    found = literal(said) if isinstance(said, str) else said
    found = [found] if isinstance(found, dict) else found
    if isinstance(found, list) and found and all(isinstance(call, dict) and "name" in call for call in found):
        return found
    return None
