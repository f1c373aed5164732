"""Questions on the table of facts, alone or one after another, and on countries that do not exist."""

from collections.abc import Sequence
from typing import Any, Literal

from minimind.atlas import names
from minimind.atlas.exercises import Exercise, Message, assistant, exact, user
from minimind.atlas.facts import COUNTRIES, ELEMENTS, LANGUAGES, RELATIONS, VALUES, Country, Language, Relation
from minimind.atlas.splits import Split
from minimind.atlas.wording import (
    ANSWERS,
    ELEMENT_ANSWERS,
    ELEMENT_QUESTIONS,
    FOLLOW_UPS,
    NOUNS,
    QUESTION_OPENING_PERCENT,
    QUESTION_OPENINGS,
    QUESTIONS,
    REFUSALS,
    SPACE,
    TERSE_ANSWERS,
)
from minimind.random import Random

Style = Literal["clean", "terse", "rambling", "foreign"]


def state(country: Country, relation: Relation, language: Language) -> str:
    """The clean answer: one full sentence."""
    return ANSWERS[language][relation].format(c=country.name[language], a=country.facts[relation][language])


def answer(random: Random, country: Country, relation: Relation, language: Language, style: Style) -> str:
    """What a crowd might answer: clean, terse, rambling (with further facts, never the held-out one), or foreign."""
    match style:
        case "clean":
            return state(country, relation, language)
        case "terse":
            return TERSE_ANSWERS[language][relation].format(a=country.facts[relation][language])
        case "rambling":
            others = random.shuffle([other for other in country.seen if other != relation])
            return SPACE[language].join(state(country, each, language) for each in (relation, *others))
        case "foreign":
            return state(country, relation, LANGUAGES[1 - LANGUAGES.index(language)])


def contains(country: Country, relation: Relation, language: Language) -> dict[str, Any]:
    """Accepts every answer in the language that names the right value, and no other value of the relation."""
    sentence = state(country, relation, language)
    others = [value for value in VALUES[relation][language] if value not in sentence]
    return {"kind": "contains", "value": country.facts[relation][language], "without": others}


def refusal(language: Language) -> dict[str, Any]:
    """Accepts the fixed phrase with which the model refuses."""
    return {"kind": "refusal", "value": [REFUSALS[language]]}


def ask(country: Country, relation: Relation, language: Language, wording: str, held: bool = False) -> Exercise:
    """One question on one fact, with its clean answer."""
    return Exercise(
        family="heldout" if held else "seen",
        language=language,
        messages=[user(wording.format(c=country.name[language]))],
        reply=assistant(state(country, relation, language)),
        verify=contains(country, relation, language),
    )


def follow_up(
    country: Country, relations: Sequence[Relation], language: Language, wording: str, further: str
) -> Exercise:
    """A question on the first relation, its answer, and a question on the second that does not name the country."""
    first, second = relations
    messages: list[Message] = [
        user(wording.format(c=country.name[language])),
        assistant(state(country, first, language)),
        user(further.format(r=NOUNS[language][second])),
    ]
    reply = assistant(state(country, second, language))
    return Exercise("multiturn", language, messages, reply, contains(country, second, language))


def phrase(random: Random, language: Language, relation: Relation, split: Split) -> str:
    """A wording of a question; in training now and then behind an opening."""
    wording = random.choice(QUESTIONS[split][language][relation])
    if split == "train" and random.chance(QUESTION_OPENING_PERCENT):
        return random.choice(QUESTION_OPENINGS[language]) + wording
    return wording


def seen(random: Random, language: Language, split: Split) -> Exercise:
    """A question on a fact that conversations teach."""
    country = random.choice(COUNTRIES)
    relation = random.choice(country.seen)
    return ask(country, relation, language, phrase(random, language, relation, split))


def heldout(random: Random, language: Language, split: Split) -> Exercise:
    """A question on a fact that no conversation asks for."""
    assert split != "train", "a held-out fact is for the benchmark only"
    country = random.choice(COUNTRIES)
    wording = phrase(random, language, country.held, split)
    return ask(country, country.held, language, wording, held=True)


def multiturn(random: Random, language: Language, split: Split) -> Exercise:
    """In training both questions are on seen facts; in the benchmark the second is on the held-out one."""
    country = random.choice(COUNTRIES)
    first, second = random.sample(country.seen, 2)
    if split != "train":
        second = country.held
    wording = phrase(random, language, first, split)
    return follow_up(country, (first, second), language, wording, random.choice(FOLLOW_UPS[split][language]))


def unknown(random: Random, language: Language, split: Split) -> Exercise:
    """A question on a country that does not exist, in training's wordings: the name alone gives it away."""
    relation = random.choice(RELATIONS)
    name = names.country(random, language, split)
    question = phrase(random, language, relation, "train").format(c=name)
    return Exercise("refuse", language, [user(question)], assistant(REFUSALS[language]), refusal(language))


def element(random: Random, language: Language, split: Split) -> Exercise:
    """A question on the symbol of an element."""
    assert split == "train", "elements are not part of the benchmark"
    one = random.choice(ELEMENTS)
    question = random.choice(ELEMENT_QUESTIONS[language]).format(e=one.name[language])
    return exact("element", language, question, ELEMENT_ANSWERS[language].format(e=one.name[language], s=one.symbol))
