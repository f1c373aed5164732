"""The kinds of exercise there are, by the names of the benchmark's families."""

from minimind.atlas import lists, numbers, questions, stories, tools
from minimind.atlas.exercises import Draw

DRAWS: dict[str, Draw] = {
    "seen": questions.seen,
    "heldout": questions.heldout,  # benchmark only
    "multiturn": questions.multiturn,
    "refuse": questions.unknown,
    "element": questions.element,  # training only
    "arithmetic": numbers.arithmetic,
    "word": numbers.word_problem,
    "comparison": numbers.comparison,
    "list": lists.operate,
    "reading": stories.reading,
    "tool": tools.use,
}
