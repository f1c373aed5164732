"""Preference pairs: what was asked for, over verse with a flaw in its form, its rhyme or its place."""

from collections.abc import Callable
from typing import Any

from minimind.poetry import exercises
from minimind.poetry.anthology import Anthology
from minimind.poetry.exercises import Exercise
from minimind.poetry.poems import Form, Poem
from minimind.random import Random
from minimind.verse import STOPS

# How many pairs reject an answer for each flaw, relative to the sum.
FLAWS = {
    "ragged": 30,  # one line a character short or long
    "lines": 20,  # half as many lines, or twice
    "length": 15,  # lines of five for seven, or the other way
    "repeated": 10,  # one line in place of another
    "rhyme": 15,  # another rhyme than asked for
    "wrong": 10,  # not the next line
    "stranger": 5,  # another poet
}


# What is asked, where that is not a poem on a title.
EXERCISES = {"rhyme": exercises.rhyme, "wrong": exercises.recall, "stranger": exercises.attribute}


def pair(anthology: Anthology, seed: int, index: int) -> dict[str, Any]:
    """{"chosen", "rejected", "flaw"}: the pair of this number."""
    random = Random(f"poetry/dpo/{seed}/{index}")
    flaw = random.weighted(FLAWS)
    exercise = EXERCISES.get(flaw, exercises.compose)(random, anthology, "train")
    rejected = _spoil(random, anthology, exercise, flaw)
    return {"chosen": exercise.answered(exercise.answer), "rejected": exercise.answered(rejected), "flaw": flaw}


def _spoil(random: Random, anthology: Anthology, exercise: Exercise, flaw: str) -> str:
    """An answer that does not do."""
    poem, form = exercise.poem, exercise.poem.form
    if flaw == "wrong":
        lines = [line for line in random.choice(anthology.famous).lines if line != exercise.answer]
        return random.choice(lines)
    if flaw == "stranger":
        return random.choice([other.author for other in anthology.famous if other.author != poem.author])
    assert form is not None, "only regular poems are composed"
    lines = poem.lines
    place = random.below(len(lines))
    match flaw:
        case "ragged":
            at = random.below(form.length)
            line = lines[place]
            changed = line[:at] + (line[at] + line[at:] if random.chance(50) else line[at + 1 :])
            return poem.text.replace(line, changed)
        case "repeated":
            return poem.text.replace(lines[place], lines[place - 1])
        case "rhyme":
            return _other(random, anthology, form, lambda other: other.rhyme not in (None, poem.rhyme)).text
        case "length":
            return _other(random, anthology, Form(form.lines, 12 - form.length)).text
        case _:  # lines
            if form.lines == 4:
                return f"{poem.text}\n{_other(random, anthology, form).text}"
            stops = [place for place, character in enumerate(poem.text) if character in STOPS]
            return poem.text[: stops[form.lines // 2 - 1] + 1]


def _other(random: Random, anthology: Anthology, form: Form, fits: Callable[[Poem], object] = bool) -> Poem:
    """A poem of this form that fits."""
    while True:
        poem = random.choice(anthology.regular["train"][form])
        if fits(poem):
            return poem
