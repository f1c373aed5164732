"""Preference pairs for DPO, in MiniMind's schema, each a pure function of (seed, its number).

Preferred is the clean answer, over one with a flaw; and, for a country that does not exist, the refusal over an
invented answer.
"""

from typing import Any

from minimind.atlas import questions
from minimind.atlas.exercises import assistant, user
from minimind.atlas.facts import COUNTRIES, LANGUAGES, RELATIONS, VALUES
from minimind.atlas.names import country as invent
from minimind.atlas.wording import ANSWERS, REFUSALS
from minimind.random import Random

# How many pairs reject an answer for each flaw, relative to the sum.
WEIGHTS = {
    "terse": 22,
    "rambling": 20,
    "foreign": 20,  # in the other language
    "false": 12,
    "refusal": 16,  # of a country that exists
    "invention": 10,  # an answer about a country that does not exist
}


def pair(seed: int, index: int) -> dict[str, Any]:
    """The pair of this number, half of the time in either language."""
    random = Random(f"dpo/{seed}/{index}")
    language = random.choice(LANGUAGES)
    flaw = random.weighted(WEIGHTS)
    country = random.choice(COUNTRIES)
    relation = random.choice(RELATIONS if flaw == "invention" else country.seen)
    name = invent(random, language, "train") if flaw == "invention" else country.name[language]
    chosen = questions.state(country, relation, language)
    match flaw:
        case "terse" | "rambling" | "foreign":
            rejected = questions.answer(random, country, relation, language, flaw)
        case "false":
            values = [each for each in VALUES[relation][language] if each != country.facts[relation][language]]
            rejected = ANSWERS[language][relation].format(c=name, a=random.choice(values))
        case "refusal":
            rejected = REFUSALS[language]
        case "invention":
            chosen = REFUSALS[language]
            rejected = ANSWERS[language][relation].format(c=name, a=country.facts[relation][language])
    question = user(questions.phrase(random, language, relation, "train").format(c=name))
    return {"chosen": [question, assistant(chosen)], "rejected": [question, assistant(rejected)], "flaw": flaw}
