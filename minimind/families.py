"""The families of a benchmark, in the order in which their scores are told; others follow."""

from collections.abc import Iterable

FAMILIES = {
    "know": "facts, multiple choice",
    "story": "what a story implies, multiple choice",
    "seen": "a fact seen in conversations, asked in new words",
    "heldout": "a fact never asked in conversations",
    "multiturn": "the same, later in a conversation",
    "arithmetic": "addition and subtraction, thinking aloud",
    "comparison": "which of two numbers is greater",
    "word": "word problems",
    "list": "reverse, repeat, count a list of words",
    "reading": "questions on a short text",
    "tool": "the exact tool call, then the answer from its result",
    "refuse": "saying that it does not know a country that does not exist",
    "overrefuse": "refusing what can be answered",
    "clean": "nothing but the answer, at temperature 1",
}
"""What each one measures."""

LOWER_IS_BETTER = frozenset({"overrefuse"})


def in_order(families: Iterable[str]) -> list[str]:
    """Each family once: those of FAMILIES in its order, then others as they come."""
    found = dict.fromkeys(families)
    return [name for name in FAMILIES if name in found] + [name for name in found if name not in FAMILIES]
