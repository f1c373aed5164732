"""Rules for conversations: what can't be read as one, turns out of order, answers that refuse or name themselves."""

import re
from typing import Any

from minimind.chat import Conversation, ConversationError

Messages = list[dict[str, Any]]

_SELF = re.compile(
    r"\bas an? (?:ai|artificial intelligence)(?: language)? (?:model|assistant)\b|"
    r"作为(?:一个|一名|一款)?(?:ai|人工智能)(?:语言)?(?:模型|助手)|作为一个(?:大型)?语言模型",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    r"\s*(?:(?:i['’]m|i am) (?:very |really )?sorry,? (?:but )?(?:i|as an)\b|"
    r"sorry,? (?:but )?i (?:can(?:['’]t|not)|am (?:not able|unable))|"
    r"i (?:can(?:['’]t|not)|am (?:not able|unable) to) (?:help|assist|fulfil|comply|provide|answer|do that)|"
    r"(?:很|非常)?(?:抱歉|对不起)[，,]?\s*(?:我|作为)[^。\n]{0,12}(?:无法|不能|没有能力|不会)|"
    r"我(?:无法|不能)(?:提供|回答|满足|完成|协助)(?:您|你|这|该|此))",
    re.IGNORECASE,
)


def malformed(messages: Messages, tools: object) -> str | None:
    """Why they are no conversation: an unknown role, content that is no text, tools or tool_calls that are no JSON."""
    try:
        Conversation.of(messages, tools)
    except ConversationError as error:
        return str(error)
    return None


def disorder(messages: Messages, ends_in_answer: bool) -> str | None:
    """What is wrong with the order: [system] then user, assistant in turn, with tool messages only after calls."""
    before = "system"
    for number, message in enumerate(messages, 1):
        role = str(message.get("role"))
        # As JSON text, in MiniMind's files, calls may be an empty list.
        called = before == "assistant" and messages[number - 2].get("tool_calls") not in (None, "", "[]", [])
        allowed = {
            "system": ("system", "user") if number == 1 else ("user",),
            "user": ("assistant",),
            "assistant": ("tool",) if called else ("user",),
            "tool": ("tool", "assistant"),
        }[before if before in ("system", "user", "assistant", "tool") else "system"]
        if role == "tool" and before == "assistant" and "<tool_call>" in str(messages[number - 2].get("content")):
            allowed = ("tool",)  # the call stands in the text, as in older files
        if role not in allowed:
            return f"message {number} is of {role}, expected {' or '.join(allowed)}"
        if role == "user" and not str(message.get("content") or "").strip():
            return f"message {number} of user is empty"
        before = role
    if ends_in_answer and before != "assistant":
        return f"it ends with {before}, so nobody answers"
    return None


def shorten(messages: Messages) -> bool:
    """Take out, in place, the turns at the end that nobody answers; returns whether there were any.

    Without any answer all of them stay. A call is an answer, so the result behind the last one goes.
    """
    last = max((n for n, message in enumerate(messages, 1) if message.get("role") == "assistant"), default=0)
    unanswered = 0 < last < len(messages)
    if unanswered:
        del messages[last:]
    return unanswered


def refusal(messages: Messages) -> str | None:
    """The phrase by which an answer refuses at its beginning, or speaks of itself as a model anywhere."""
    for message in messages:
        content = message.get("content")
        if message.get("role") == "assistant" and isinstance(content, str):
            answer = content.rpartition("</think>")[2]
            if found := _REFUSAL.match(answer) or _SELF.search(answer):
                return found[0].strip()
    return None
