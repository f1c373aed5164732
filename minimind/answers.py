"""What the answers in a conversation teach, as the data says it: nothing at all, or a call in one of several notations.

These are rules for data that is learned from. They work on messages as they stand in a record, before
`chat.Conversation.of` checks them, and leave everything that they do not know as it is.
"""

import re
import unicodedata
from collections.abc import Iterator
from typing import Any

from minimind import lossless
from minimind import messages as forms

Message = dict[str, Any]

EMPTY = "empty answer"
SWITCHED_OFF = "weight 0"
WRITTEN_OUT = "tool call in text"
CONVERTED = "tool call made of text"
"""Names by which answers are counted: the first two are not learned, the third is learned as it stands."""

SWITCHES = ("weight", "train", "loss")
"""Keys of a message that say whether it is to be learned."""

_ON, _OFF = ("none", "true", "1", "1.0"), ("false", "0", "0.0")
_CALL = re.compile(r"\s*<tool_call>(.*?)</tool_call>\s*", re.DOTALL)
_RESPONSE = re.compile(r"\s*<tool_response>\n?(.*?)\n?</tool_response>\s*", re.DOTALL)
_INVISIBLE = ("Cc", "Cf", "Zs", "Zl", "Zp")  # categories of Unicode that leave no ink


def says_nothing(message: Message) -> bool:
    """Whether a message, checked, has neither text behind its thoughts nor calls."""
    if message.get("tool_calls"):
        return False
    said = str(message["content"]).lstrip()
    if said[:1].isalnum():  # most answers; what follows is slow
        return False
    if said.startswith("<think>"):
        said = said.rpartition("</think>")[2]
    return all(unicodedata.category(character) in _INVISIBLE for character in said)


def switched_off(message: Message) -> bool:
    """Whether one of SWITCHES says that a message is not learned. Raises ValueError for what is neither yes nor no."""
    off = False
    for name in SWITCHES:
        said = str(message.get(name)).strip().lower()
        if said not in (*_ON, *_OFF):
            raise ValueError(f"`{name}` is {message[name]!r}: an answer is learned (1, true) or not (0, false)")
        off |= said in _OFF
    return off


def one_notation(messages: object) -> tuple[object, int]:
    """The messages with calls that are written out in content, and their results, as `tool_calls` and role `tool`.

    Only what reads as a call is taken, at the end of an answer; the rest stays as it is. Returns the number of answers
    that changed besides.
    """
    if not isinstance(messages, list):
        return messages, 0
    found: list[object] = []
    converted = 0
    for message in messages:
        content = _text(message)
        if "<tool_" not in content:
            found.append(message)
        elif message.get("role") == "assistant":
            split = _calls(message, content)
            found.append(message if split is None else split)
            converted += split is not None
        elif message.get("role") in ("user", "tool", "function"):
            found += _responses(message, content)
        else:
            found.append(message)
    return found, converted


def written_out(messages: list[Message]) -> int:
    """How many answers speak of a call in their text."""
    return sum("<tool_call>" in message["content"] for message in messages if message["role"] == "assistant")


def _text(message: object) -> str:
    """What a message says, if it is one and says it in text."""
    try:
        content = forms.joined(message.get("content")) if isinstance(message, dict) else None
    except ValueError:  # which `Conversation.of` names
        return ""
    return content if isinstance(content, str) else ""


def _calls(message: Message, content: str) -> Message | None:
    """The answer with its written calls as `tool_calls`; None if they are none, or others than it has already."""
    thought, closed, said = content.rpartition("</think>")
    before, opened, rest = said.partition("<tool_call>")
    calls = [_call(_json(block)) for block in _whole(_CALL, opened + rest)]
    if not calls or None in calls:
        return None
    given = forms.calls(message)
    if isinstance(given, str):
        given = _json(given)
    if given and (not isinstance(given, list) or [_call(one) for one in given] != calls):
        return None
    return {**message, "content": thought + closed + before, "tool_calls": given or calls}


def _responses(message: Message, content: str) -> list[Message]:
    """A turn that is nothing but results, each as a message of its tool; any other as it is."""
    texts = list(_whole(_RESPONSE, content))
    return [{**message, "role": "tool", "content": text} for text in texts] or [message]


def _whole(pattern: re.Pattern[str], text: str) -> Iterator[str]:
    """The blocks that make up the whole of a text; none if anything else is in it."""
    matches = list(pattern.finditer(text))
    if "".join(match[0] for match in matches) == text:
        yield from (match[1] for match in matches)


def _call(value: Any) -> Message | None:
    """A call as {"name", "arguments"}, None if it is none."""
    call = value.get("function", value) if isinstance(value, dict) else None
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        return None
    try:
        arguments = forms.arguments(call.get("arguments", call.get("parameters")))
    except ValueError:
        return None
    return {"name": call["name"], "arguments": arguments} if isinstance(arguments, dict) else None


def _json(text: str) -> Any:
    try:
        return lossless.loads(text)
    except ValueError:
        return None
