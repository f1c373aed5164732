"""Pretraining documents: {"text"}, each a pure function of (seed, its number)."""

from collections.abc import Callable
from typing import Any

from minimind.atlas import copying, numbers, stories
from minimind.atlas.exercises import Draw
from minimind.atlas.facts import COUNTRIES, ELEMENTS, LANGUAGES, RELATIONS, Language
from minimind.atlas.questions import state
from minimind.atlas.wording import ELEMENT_STATEMENTS, OPENINGS, QUESTIONS, SPACE, STATEMENTS
from minimind.random import Random

# How many documents are of each kind, relative to the sum.
WEIGHTS = {
    "profile": 32,  # several facts about one country, each in one of many wordings
    "survey": 7,  # one fact about each of several countries
    "interview": 6,  # questions on seen facts with their answers
    "alignment": 4,  # the same name in both languages
    "elements": 1,
    "story": 18,  # a story, then where somebody or something is, with the evidence
    "arithmetic": 5,  # columns
    "word_problem": 5,
    "comparison": 2,
    "repeat": 5,  # copying, from here on
    "echo": 3,
    "recall": 8,
    "quote": 2,
    "reverse": 1,
    "number": 2,
}

OPENING_PERCENT = 25  # of the statements of a profile

_ALIGNMENTS = (
    "In Chinese, {en} is {zh}.",
    "The Chinese name of {en} is {zh}.",
    "{zh}的英文是 {en}。",
    "{zh}，英文叫 {en}。",
)


def profile(random: Random, language: Language) -> str:
    """Two to four facts about one country, each in one of its wordings."""
    country = random.choice(COUNTRIES)
    sentences = []
    for relation in random.sample(RELATIONS, random.between(2, 4)):
        statement = random.choice(STATEMENTS[language][relation])
        if random.chance(OPENING_PERCENT):
            statement = random.choice(OPENINGS[language]) + statement[0].lower() + statement[1:]
        sentences.append(statement.format(c=country.name[language], a=country.facts[relation][language]))
    return SPACE[language].join(sentences)


def survey(random: Random, language: Language) -> str:
    """One fact about each of two to four countries, in one wording."""
    relation = random.choice(RELATIONS)
    statement = random.choice(STATEMENTS[language][relation])
    sentences = [
        statement.format(c=country.name[language], a=country.facts[relation][language])
        for country in random.sample(COUNTRIES, random.between(2, 4))
    ]
    return SPACE[language].join(sentences)


def interview(random: Random, language: Language) -> str:
    """Questions on seen facts, with their clean answers."""
    lines = []
    for country in random.sample(COUNTRIES, random.between(1, 2)):
        relation = random.choice(country.seen)
        question = random.choice(QUESTIONS["train"][language][relation]).format(c=country.name[language])
        lines.append(f"Q: {question}\nA: {state(country, relation, language)}")
    return "\n".join(lines)


def alignment(random: Random, language: Language) -> str:
    """Names in one language, with the same in the other."""
    country = random.choice(COUNTRIES)
    names = random.sample([country.name, *(country.facts[relation] for relation in RELATIONS)], 2)
    return "\n".join(random.choice(_ALIGNMENTS).format(**name) for name in names)


def elements(random: Random, language: Language) -> str:
    """One to three elements and their symbols."""
    return SPACE[language].join(
        random.choice(ELEMENT_STATEMENTS[language]).format(e=element.name[language], s=element.symbol)
        for element in random.sample(ELEMENTS, random.between(1, 3))
    )


def story(random: Random, language: Language) -> str:
    """A story, then where somebody or something is; mostly with the question and the evidence."""
    told = stories.tell(random, language, "train")
    subjects = random.shuffle(list(told.place))
    if random.chance(30):
        return SPACE[language].join([told.text, *(told.answer(subject) for subject in subjects)])
    return "\n".join(
        [
            told.text,
            *(f"{told.question(each)}\n{told.working(each)}\n{told.answer(each)}" for each in subjects[:4]),
        ]
    )


def arithmetic(random: Random, language: Language) -> str:
    """One or two sums in columns."""
    return "\n".join(_exercise(numbers.arithmetic, random, language) for _ in range(random.between(1, 2)))


def word_problem(random: Random, language: Language) -> str:
    """A word problem with its working."""
    return _exercise(numbers.word_problem, random, language)


def comparison(random: Random, language: Language) -> str:
    """One or two comparisons of numbers with their working."""
    return "\n".join(_exercise(numbers.comparison, random, language) for _ in range(random.between(1, 2)))


def _exercise(draw: Draw, random: Random, language: Language) -> str:
    """Question, working and answer as plain lines."""
    exercise = draw(random, language, "train")
    reply = exercise.reply
    return "\n".join([exercise.messages[-1]["content"], reply["reasoning_content"], reply["content"]])


_KINDS: dict[str, Callable[[Random, Language], str]] = {
    "profile": profile,
    "survey": survey,
    "interview": interview,
    "alignment": alignment,
    "elements": elements,
    "story": story,
    "arithmetic": arithmetic,
    "word_problem": word_problem,
    "comparison": comparison,
    "repeat": copying.repeat,
    "echo": copying.echo,
    "recall": copying.recall,
    "quote": copying.quote,
    "reverse": copying.reverse,
    "number": copying.number,
}


def document(seed: int, index: int) -> dict[str, Any]:
    """The document of this number, half of the time in either language."""
    random = Random(f"pretrain/{seed}/{index}")
    language = random.choice(LANGUAGES)
    return {"text": _KINDS[random.weighted(WEIGHTS)](random, language)}
