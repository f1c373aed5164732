"""Lists of words: to reverse, to repeat, to count, to tell the last of.

English words stand one after another with only a space between, and Chinese ones share no character, so that each
word tells which comes next. The working numbers them.
"""

from collections.abc import Sequence
from typing import Literal

from minimind.atlas.exercises import Exercise, exact
from minimind.atlas.facts import Language
from minimind.atlas.splits import Split, draw
from minimind.atlas.stories import OBJECTS, PLACES
from minimind.random import Random

Operation = Literal["reverse", "repeat", "last", "count"]

OPERATIONS: tuple[Operation, ...] = ("reverse", "repeat", "last", "count")

WORDS: dict[Language, tuple[str, ...]] = {
    "en": (*OBJECTS["en"], *PLACES["en"], "cat", "dog", "horse", "bird", "fish", "lion", "bear", "duck"),
    "zh": (*OBJECTS["zh"], *PLACES["zh"], "老虎", "狐狸", "熊猫", "海豚", "骆驼", "蜜蜂", "蝴蝶", "山羊"),
}
SEPARATOR: dict[Language, str] = {"en": " ", "zh": "、"}
_LEAD: dict[Language, str] = {"en": " ", "zh": ""}  # before the first word

QUESTIONS: dict[Language, dict[Operation, tuple[str, ...]]] = {
    "en": {
        "reverse": ("Reverse this list:", "Write this list backwards:"),
        "repeat": ("Repeat this list:", "Repeat after me:"),
        "last": ("What is the last word of this list:", "Name the last word:"),
        "count": ("How many words are in this list:", "Count the words:"),
    },
    "zh": {
        "reverse": ("把这个列表倒过来：", "倒着写出这个列表："),
        "repeat": ("重复这个列表：", "跟我读："),
        "last": ("这个列表的最后一个词是什么：", "说出最后一个词："),
        "count": ("这个列表有几个词：", "数一数有几个词："),
    },
}
_ANSWERS: dict[Language, dict[Operation, str]] = {
    "en": {
        "reverse": "Backwards:{x}",
        "repeat": "The list:{x}",
        "last": "The last word is{x}.",
        "count": "There are {x} words.",
    },
    "zh": {"reverse": "倒过来：{x}", "repeat": "列表：{x}", "last": "最后一个词是{x}。", "count": "一共有{x}个词。"},
}


def join(words: Sequence[str], language: Language) -> str:
    """The list as text, to stand right after a colon."""
    return _LEAD[language] + SEPARATOR[language].join(words)


def number(words: Sequence[str], language: Language) -> str:
    """The working: one numbered word a line."""
    return "\n".join(f"{i}{_LEAD[language]}{word}" for i, word in enumerate(words, start=1))


def answer(operation: Operation, words: Sequence[str], language: Language) -> str:
    """The answer, as a sentence or a list after a colon."""
    result = {
        "reverse": join(words[::-1], language),
        "repeat": join(words, language),
        "last": join(words[-1:], language),
        "count": str(len(words)),
    }
    return _ANSWERS[language][operation].format(x=result[operation])


def draw_words(random: Random, language: Language, split: Split) -> list[str]:
    """Three to five different words."""
    return draw(random, split, lambda r: r.sample(WORDS[language], r.between(3, 5)), lambda words: ("list", *words))


def operate(random: Random, language: Language, split: Split) -> Exercise:
    """A list, and one of the operations on it."""
    words = draw_words(random, language, split)
    operation = random.choice(OPERATIONS)
    question = random.choice(QUESTIONS[language][operation]) + join(words, language)
    return exact("list", language, question, answer(operation, words, language), number(words, language))
