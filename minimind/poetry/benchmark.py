"""The benchmark: items of seven families in turn, on poems that no training data holds, for dev or test.

Only `recall` and `attribute` are about poems of training, since nobody can know an unseen line, or who wrote it: what
they ask is asked in no conversation, though it is in poems that are read and recited. An eighth family, `drawn`, is
read off the items of `compose`, answered at temperature 1.
"""

from collections.abc import Callable, Iterator

from minimind.poetry import exercises
from minimind.poetry.anthology import Anthology, Split
from minimind.poetry.documents import heading
from minimind.poetry.poems import Poem
from minimind.random import Random
from minimind.turns import Item, take_turns

NUM_CHOICES = 4


def _next(random: Random, anthology: Anthology, split: Split) -> Item:
    """The next line, among lines of other poems of the form at the same place."""
    form, poem = exercises.draw(random, anthology, split, bool)
    place = random.between(1, len(poem.lines) - 1)
    line = poem.lines[place]
    begin = _position(poem, place)
    wrong: list[str] = []
    while len(wrong) < NUM_CHOICES - 1:
        other = random.choice(anthology.regular[split][form]).lines[place]
        if other not in (line, *wrong):
            wrong.append(other)
    end = begin + len(line)
    item = _choice(random, heading(poem) + poem.text[:begin], line, wrong, poem.text[end])
    return item | {"passages": [poem.text[:end]]}  # poems of training may have the same heading


def _author(random: Random, anthology: Anthology, split: Split) -> Item:
    """Who wrote a poem, among authors of many."""
    _, poem = exercises.draw(random, anthology, split, lambda poem: poem.author in anthology.authors)
    wrong = [author for author in anthology.authors if author != poem.author]
    # Behind the name the title's mark follows, and says that the name ends.
    return _choice(random, f"{poem.text}\n——", poem.author, random.sample(wrong, NUM_CHOICES - 1), "《")


def _choice(random: Random, context: str, right: str, wrong: list[str], end: str) -> Item:
    choices = random.shuffle([right, *wrong])
    return {
        "kind": "choice",
        "context": context,
        "choices": [choice + end for choice in choices],
        "answer": choices.index(right),
    }


def _position(poem: Poem, place: int) -> int:
    """Where the line of this number begins in the text."""
    position = 0
    for line in poem.lines[:place]:
        position = poem.text.index(line, position) + len(line)
    return poem.text.index(poem.lines[place], position)


def _generate(draw: Callable[[Random, Anthology, Split], exercises.Exercise]) -> Callable[..., Item]:
    def item(random: Random, anthology: Anthology, split: Split) -> Item:
        exercise = draw(random, anthology, split)
        fields = {"kind": "generate", "messages": exercise.asked, "verify": exercise.verify}
        return fields | (
            {"sampled": {"family": "drawn", "verify": exercise.verify}} if exercise.family == "compose" else {}
        )

    return item


FAMILIES: dict[str, Callable[[Random, Anthology, Split], Item]] = {
    "next": _next,
    "author": _author,
    "recall": _generate(exercises.recall),
    "attribute": _generate(exercises.attribute),
    "compose": _generate(exercises.compose),
    "rhyme": _generate(exercises.rhyme),
    "complete": _generate(exercises.complete),
}


def items(anthology: Anthology, split: Split, count: int, seed: int) -> Iterator[Item]:
    """`count` different items, of each family in turn. Raises turns.ExhaustedError where a family has not so many."""

    def draw(family: str, random: Random, number: int) -> Item:
        return FAMILIES[family](random, anthology, split)

    for family, number, item in take_turns(list(FAMILIES), count, f"poetry/{split}/{seed}", draw):
        yield {"id": f"{split}-{family}-{number:04d}", "family": family, "language": "zh", **item}
