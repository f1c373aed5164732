"""Rules for conversations: what can't be read as one, turns out of order, answers that refuse."""

import re
from typing import Any

from minimind.chat import Conversation, ConversationError

Messages = list[dict[str, Any]]

_CANNOT = r"i (?:can(?:['’]t|not| not)|am (?:not able|unable) to|['’]m (?:not able|unable) to|won['’]t|will not)"
_SERVING = (
    r"(?:help\b(?! but)|assist|provide|fulfil|comply|answer|do (?:that|this)\b|discuss|generate|create|engage|support|"
    r"continue|write|share|give|offer|recommend|access|browse|accommodate)"
)
_ZH_CANNOT = r"(?:无法|不能|没有能力|没办法)"
_ZH_SERVING = (
    r"[^。！？\n]{0,6}?(?:提供|回答|满足|完成(?:您|你|这|该|此)|协助|帮助(?:您|你)|帮(?:您|你)|为(?:您|你)|给(?:您|你)|"
    r"处理|执行|生成|讨论|评论|透露|浏览|访问)"
)
_ASSISTANT = r"as an? (?:ai|artificial intelligence)(?: assistant| model)?"
_ZH_ASSISTANT = r"作为(?:一个|一名|一款)?(?:ai|人工智能)(?:助手|助理|模型)?"
_MODEL = r"as an? (?:ai |artificial intelligence )?(?:large )?language model"
_ZH_MODEL = r"作为(?:一个|一名|一款)?(?:ai|人工智能)?(?:大型|大)?语言模型"
_REFUSALS = {
    "disclaimer": rf"(?:{_MODEL}),? i (?:can(?:['’]t|not| not)|do(?:n['’]t| not)|am (?:not|un)|have no|lack|won['’]t)|"
    rf"(?:{_ASSISTANT}),? {_CANNOT} {_SERVING}|"
    rf"{_ZH_MODEL}[，,]?\s*我[^。！？\n]{{0,4}}?(?:没有|无法|不能|不会|不具备|并不|并没有|缺乏)|"
    rf"{_ZH_ASSISTANT}[，,]?\s*我[^。！？\n]{{0,4}}?{_ZH_CANNOT}{_ZH_SERVING}",
    "apology": rf"(?:(?:i['’]m|i am) )?(?:very |really |so )?sorry,? (?:but )?(?:{_ASSISTANT},? |{_MODEL},? )?"
    rf"{_CANNOT} {_SERVING}|"
    rf"(?:我)?(?:很|非常|十分|实在)?(?:抱歉|对不起)[，,！!。]?\s*(?:但|但是)?(?:{_ZH_ASSISTANT}[，,]?|{_ZH_MODEL}[，,]?)?"
    rf"\s*我?[^。！？\n]{{0,4}}?{_ZH_CANNOT}{_ZH_SERVING}",
    "refusal": rf"{_CANNOT} "
    r"(?:help(?: you)?(?: with|\s*[.!,])|assist|provide you|fulfil|comply|answer (?:that|this)|do that)|"
    rf"我{_ZH_CANNOT}(?:提供|回答|满足|完成|协助)(?:您|你|这|该|此)",
}
REFUSALS = {name: re.compile(rf"\s*(?:{pattern})", re.IGNORECASE) for name, pattern in _REFUSALS.items()}
"""By what an answer refuses at its beginning. Who only says what it is, as in 作为一个人工智能助手, refuses nothing."""


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


def refusal(messages: Messages) -> tuple[str, str] | None:
    """The name of the pattern by which an answer refuses at its beginning, and the phrase."""
    for message in messages:
        content = message.get("content")
        if message.get("role") == "assistant" and isinstance(content, str):
            answer = content.rpartition("</think>")[2]
            for name, pattern in REFUSALS.items():
                if found := pattern.match(answer):
                    return name, found[0].strip()
    return None
