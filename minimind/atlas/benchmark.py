"""The benchmark: items of twelve families in turn, all different, for dev or test.

Two further scores are read off the same items by `stages.evaluate`: over-refusal, for which the items on seen and
held-out facts carry "refusals" (what a refusal begins with) and "clean" (the clean answer), and clean answers at
temperature 1, for which those on seen facts carry "sampled".
"""

from collections.abc import Callable, Iterator

from minimind.atlas import stories
from minimind.atlas.exercises import Draw
from minimind.atlas.facts import COUNTRIES, LANGUAGES, RELATIONS, VALUES, Language
from minimind.atlas.families import DRAWS
from minimind.atlas.splits import Split
from minimind.atlas.wording import CLOZES, REFUSALS, SPACE
from minimind.random import Random
from minimind.turns import Item, take_turns

_NUM_CHOICES = 4


def _know(random: Random, language: Language, split: Split) -> Item:
    """A fact, seen or held out, in words that training never uses; the choices are values of its relation."""
    country, relation = random.choice(COUNTRIES), random.choice(RELATIONS)
    context = random.choice(CLOZES[split][language][relation]).format(c=country.name[language])
    right = country.facts[relation][language]
    wrong = [value for value in VALUES[relation][language] if value != right]
    space, stop = SPACE[language], {"en": ".", "zh": "。"}[language]
    return _choice(random, context, f"{space}{right}{stop}", [f"{space}{value}{stop}" for value in wrong])


def _story(random: Random, language: Language, split: Split) -> Item:
    """Where somebody or something is at the end of a story."""
    story = stories.tell(random, language, split)
    subject = stories.draw_subject(random, story)
    right = story.place[subject]
    wrong = [place for place in stories.PLACES[language] if place != right]
    space = SPACE[language]
    context = story.text + space + story.beginning(subject).rstrip()
    return _choice(random, context, space + story.ending(right), [space + story.ending(place) for place in wrong])


def _choice(random: Random, context: str, right: str, wrong: list[str]) -> Item:
    choices = random.shuffle([right, *random.sample(wrong, _NUM_CHOICES - 1)])
    return {"kind": "choice", "context": context, "choices": choices, "answer": choices.index(right)}


def _generate(draw: Draw) -> Callable[[Random, Language, Split], Item]:
    def item(random: Random, language: Language, split: Split) -> Item:
        exercise = draw(random, language, split)
        if exercise.call:
            return {
                "kind": "tool",
                "messages": exercise.messages,
                "tools": exercise.tools,
                "call": exercise.call,
                "result": exercise.after_call[0]["content"],
                "verify": exercise.verify,
            }
        fields = {"kind": "generate", "messages": exercise.messages, "verify": exercise.verify}
        if exercise.family in ("seen", "heldout"):
            fields |= {"clean": exercise.reply["content"], "refusals": list(REFUSALS.values())}
        if exercise.family == "seen":
            fields["sampled"] = {"family": "clean", "verify": {"kind": "exact", "value": exercise.reply["content"]}}
        return fields

    return item


FAMILIES: dict[str, Callable[[Random, Language, Split], Item]] = {
    "know": _know,
    "story": _story,
    **{family: _generate(draw) for family, draw in DRAWS.items() if family != "element"},
}


def items(split: Split, count: int, seed: int) -> Iterator[Item]:
    """`count` different items, of each family in turn and in both languages by turns.

    Raises turns.ExhaustedError where a family has not so many.
    """

    def draw(family: str, random: Random, number: int) -> Item:
        language = LANGUAGES[number % len(LANGUAGES)]
        return {"language": language, **FAMILIES[family](random, language, split)}

    for family, number, item in take_turns(list(FAMILIES), count, f"{split}/{seed}", draw):
        yield {"id": f"{split}-{family}-{number:04d}", "family": family, **item}
