"""Prompts with verifiable answers, for distillation and reinforcement, each a pure function of (seed, its number).

A record is {"messages", "tools"?, "verify", "family"}. A prompt that wants a tool called is verified with
{"kind": "call", "value": {"name", "arguments"}}; one that shows the tool's result asks for the final answer.
"""

from typing import Any

from minimind.atlas.facts import LANGUAGES
from minimind.atlas.families import DRAWS
from minimind.random import Random

# How many prompts are of each family, relative to the sum.
WEIGHTS = {
    "seen": 32,
    "multiturn": 12,
    "refuse": 4,
    "element": 2,
    "arithmetic": 12,
    "word": 6,
    "comparison": 8,
    "list": 8,
    "reading": 8,
    "tool": 8,
}


def prompt(seed: int, index: int) -> dict[str, Any]:
    """The prompt of this number, half of the time in either language."""
    random = Random(f"prompts/{seed}/{index}")
    language = random.choice(LANGUAGES)
    family = random.weighted(WEIGHTS)
    exercise = DRAWS[family](random, language, "train")
    messages, verify = exercise.messages, exercise.verify
    if exercise.call and random.chance(50):
        verify = {"kind": "call", "value": exercise.call}
    elif exercise.call:
        messages = [*messages, exercise.reply, exercise.after_call[0]]
    record = {"messages": messages, "verify": verify, "family": family}
    return record | {"tools": exercise.tools} if exercise.tools else record
