"""Conversations on poems for supervised fine-tuning, and prompts with verifiable answers for distillation."""

from collections.abc import Callable
from typing import Any

from minimind.poetry import exercises
from minimind.poetry.anthology import Anthology, Split
from minimind.poetry.exercises import Exercise
from minimind.random import Random

DRAWS: dict[str, Callable[[Random, Anthology, Split], Exercise]] = {
    "recall": exercises.recall,
    "attribute": exercises.attribute,
    "recite": exercises.recite,  # training only
    "compose": exercises.compose,
    "rhyme": exercises.rhyme,
    "complete": exercises.complete,
}

# How many conversations and how many prompts are of each kind, relative to the sum.
CONVERSATIONS = {"recall": 20, "attribute": 10, "recite": 26, "compose": 14, "rhyme": 17, "complete": 13}
PROMPTS = {"recall": 22, "attribute": 10, "compose": 22, "rhyme": 28, "complete": 18}


def conversation(anthology: Anthology, seed: int, index: int) -> dict[str, Any]:
    """{"conversations", "family"}: the conversation of this number."""
    random = Random(f"poetry/sft/{seed}/{index}")
    exercise = DRAWS[random.weighted(CONVERSATIONS)](random, anthology, "train")
    return {"conversations": exercise.answered(exercise.answer), "family": exercise.family}


def prompt(anthology: Anthology, seed: int, index: int) -> dict[str, Any]:
    """{"messages", "verify", "family"}: the prompt of this number."""
    random = Random(f"poetry/prompts/{seed}/{index}")
    exercise = DRAWS[random.weighted(PROMPTS)](random, anthology, "train")
    return {"messages": exercise.asked, "verify": exercise.verify, "family": exercise.family}
