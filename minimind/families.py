"""The families of benchmarks, in the order in which their scores are told; those of other benchmarks follow."""

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
    "next": "the next line of an unseen poem, multiple choice",
    "author": "who wrote an unseen poem, multiple choice",
    "attribute": "who wrote a line of a famous poem, a line whose poet is never asked for in conversations",
    "recall": "the next line of a famous poem, a pair never asked in conversations",
    "compose": "a poem on an unseen title in the form asked for: lines and characters",
    "rhyme": "the same, and in the rhyme asked for",
    "complete": "the rest of an unseen poem from its first two lines, in form",
    "drawn": "as compose, at temperature 1",
}
"""What each one measures, of every benchmark that comes with the project."""

LOWER_IS_BETTER = frozenset({"overrefuse"})


def in_order(families: Iterable[str]) -> list[str]:
    """Each family once: those of FAMILIES in its order, then others as they come."""
    found = dict.fromkeys(families)
    return [name for name in FAMILIES if name in found] + [name for name in found if name not in FAMILIES]
