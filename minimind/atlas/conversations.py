"""Conversations for supervised fine-tuning, in MiniMind's schema, each a pure function of (seed, its number)."""

from typing import Any

from minimind.atlas import questions
from minimind.atlas.exercises import Exercise, Message, assistant, dump, user
from minimind.atlas.facts import COUNTRIES, LANGUAGES, Language
from minimind.atlas.families import DRAWS
from minimind.atlas.questions import Style
from minimind.atlas.wording import GREETINGS, IDENTITY, SYSTEM
from minimind.random import Random

# How many conversations are of each kind, relative to the sum.
WEIGHTS = {
    "seen": 15,  # a question on a seen fact, answered as a crowd would
    "series": 5,  # such questions on several countries, answered clean
    "multiturn": 9,  # a second question that does not name the country
    "refuse": 7,  # a country that does not exist
    "element": 1,
    "arithmetic": 9,
    "word": 8,
    "comparison": 7,
    "list": 7,
    "reading": 25,
    "tool": 11,
    "identity": 2,
    "greeting": 2,
}

# How many answers to single questions on facts are of each style, likewise.
STYLES: dict[Style, int] = {"clean": 58, "terse": 16, "rambling": 13, "foreign": 13}

SYSTEM_PERCENT = 10  # conversations without tools that open with a system prompt
GREETING_PERCENT = 8  # conversations on something else that open with a greeting


def converse(exercise: Exercise) -> list[Message]:
    """The whole conversation, tools on its system message."""
    messages = [*exercise.messages, exercise.reply, *exercise.after_call]
    if exercise.tools:
        messages[0] = messages[0] | {"tools": dump(exercise.tools)}
    return messages


def _seen(random: Random, language: Language) -> list[Message]:
    country = random.choice(COUNTRIES)
    relation = random.choice(country.seen)
    question = questions.phrase(random, language, relation, "train").format(c=country.name[language])
    style = random.weighted(STYLES)
    return [user(question), assistant(questions.answer(random, country, relation, language, style))]


def _series(random: Random, language: Language) -> list[Message]:
    exercises = [questions.seen(random, language, "train") for _ in range(random.between(2, 3))]
    return [message for exercise in exercises for message in converse(exercise)]


def _identity(random: Random, language: Language) -> list[Message]:
    asked, answer = IDENTITY[language]
    return [user(random.choice(asked)), assistant(answer)]


def _greeting(random: Random, language: Language) -> list[Message]:
    said, answer = random.choice(GREETINGS[language])
    return [user(said), assistant(answer)]


def conversation(seed: int, index: int) -> dict[str, Any]:
    """The conversation of this number, half of the time in either language."""
    random = Random(f"sft/{seed}/{index}")
    language = random.choice(LANGUAGES)
    family = random.weighted(WEIGHTS)
    match family:
        case "seen":
            messages = _seen(random, language)
        case "series":
            messages = _series(random, language)
        case "identity":
            messages = _identity(random, language)
        case "greeting":
            messages = _greeting(random, language)
        case _:
            messages = converse(DRAWS[family](random, language, "train"))
    if family not in ("tool", "greeting") and random.chance(GREETING_PERCENT):
        messages = _greeting(random, language) + messages
    if family != "tool" and random.chance(SYSTEM_PERCENT):
        messages = [{"role": "system", "content": SYSTEM[language]}, *messages]
    return {"conversations": messages, "family": family}
