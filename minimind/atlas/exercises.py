"""An exercise: something a user asks, with the answer wanted and how to judge one.

The same exercises, drawn from different splits, become conversations, prompts and benchmark items.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from minimind.atlas.facts import Language
from minimind.atlas.splits import Split
from minimind.random import Random

Message = dict[str, Any]
Draw = Callable[[Random, Language, Split], "Exercise"]


@dataclass(frozen=True)
class Exercise:
    """`messages` end with the user's question; `reply` is the assistant's message wanted.

    verify: a specification as of `minimind.verify`, for the answer that ends the exercise: the reply, or, where the
    reply calls a tool, what is said after the tool's result.
    """

    family: str
    language: Language
    messages: list[Message]
    reply: Message
    verify: dict[str, Any]
    tools: list[dict[str, Any]] = field(default_factory=list)
    call: dict[str, Any] | None = None  # {"name", "arguments"} where the reply calls a tool
    after_call: list[Message] = field(default_factory=list)  # the tool's result and the final answer


def user(content: str) -> Message:
    """A user's message."""
    return {"role": "user", "content": content}


def assistant(content: str, reasoning: str = "") -> Message:
    """An assistant's message, with `reasoning` as its thought if there is any."""
    message = {"role": "assistant", "content": content}
    return message | {"reasoning_content": reasoning} if reasoning else message


def dump(value: object) -> str:
    """JSON in one line, in the form that models learn to write."""
    return json.dumps(value, ensure_ascii=False)


def exact(family: str, language: Language, question: str, answer: str, reasoning: str = "") -> Exercise:
    """One question with one right answer, to the letter."""
    return Exercise(
        family, language, [user(question)], assistant(answer, reasoning), {"kind": "exact", "value": answer}
    )
