"""What a user asks about poems, with the answer wanted and how to judge one.

The same exercises, on poems of different splits and in different words, become conversations, pairs, prompts and items.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from minimind.poetry import rhymes
from minimind.poetry.anthology import SHORTEST_LINE, Anthology, Split
from minimind.poetry.poems import FORMS, Form, Poem
from minimind.random import Random
from minimind.verse import HAN
from minimind.verse import split as split_lines

Message = dict[str, Any]

# Wordings by split: dev and test ask in words that training never uses. t: title, f: form, r: rhyme, p: beginning.
COMPOSE: dict[Split, tuple[str, ...]] = {
    "train": (
        "写一首{f}，题为《{t}》。",
        "请以《{t}》为题写一首{f}。",
        "以“{t}”为题，作一首{f}。",
        "我想要一首题目是《{t}》的{f}。",
        "《{t}》，请写成{f}。",
    ),
    "dev": ("请你写一首题为《{t}》的{f}。", "用《{t}》这个题目写一首{f}。"),
    "test": ("请作一首{f}，题目是《{t}》。", "能不能写一首题为《{t}》的{f}？"),
}
RHYME: dict[Split, tuple[str, ...]] = {
    "train": ("押{r}韵。", "请押{r}韵。", "要押{r}韵。"),
    "dev": ("用{r}韵。",),
    "test": ("韵脚用{r}韵。",),
}
COMPLETE: dict[Split, tuple[str, ...]] = {
    "train": ("续写这首{f}：{p}", "请把这首{f}写完：{p}", "这首{f}的开头是：{p}请写完。", "{p}请接着写完这首{f}。"),
    "dev": ("请续完这首{f}：{p}",),
    "test": ("下面是一首{f}的开头，请写完：{p}",),
}
RECALL: dict[Split, tuple[str, ...]] = {
    "train": ("“{p}”的下一句是什么？", "{p}，下一句是？", "接下一句：{p}", "请问“{p}”的后一句是什么？"),
    "dev": ("“{p}”后面一句是什么？",),
    "test": ("“{p}”的下句是哪一句？",),
}
ATTRIBUTE: dict[Split, tuple[str, ...]] = {
    "train": ("“{p}”是谁写的？", "{p}，作者是谁？", "请问“{p}”出自谁的笔下？"),
    "dev": ("写下“{p}”的诗人是谁？",),
    "test": ("“{p}”这句诗是谁作的？",),
}
RECITE_TITLE = ("背诵{a}的《{t}》。", "请背一遍{a}的《{t}》。", "{a}的《{t}》怎么背？")
RECITE_LINE = ("请背诵以“{p}”开头的诗。", "“{p}”是哪首诗的第一句？请背出全诗。")

_TITLE = re.compile(f"[{HAN}]{{2,8}}")
_NO_TITLES = frozenset({"无题", "失题", "失题诗", "诗一首", "杂诗", "杂诗一首"})


@dataclass(frozen=True)
class Exercise:
    """One question and its answer. verify: a specification as of `minimind.verify`."""

    family: str
    question: str
    answer: str
    verify: dict[str, Any]
    poem: Poem

    @property
    def asked(self) -> list[Message]:
        """The messages up to the answer."""
        return [{"role": "user", "content": self.question}]

    def answered(self, answer: str) -> list[Message]:
        """The whole conversation."""
        return [*self.asked, {"role": "assistant", "content": answer}]


def form_of(form: Form, rhyme: str | None = None, given: Sequence[str] = ()) -> dict[str, Any]:
    """Accepts any verse of this form that goes on behind the lines given, in this rhyme if one is named."""
    value: dict[str, Any] = {"lines": form.lines - len(given), "length": form.length}
    if rhyme:
        value["rhyme"] = rhymes.characters()[rhyme]
    if given:
        value["given"] = [*given]
    return {"kind": "form", "value": value}


def is_title(title: str) -> bool:
    """Whether one can ask for a poem of this title: it is short and names something."""
    return bool(_TITLE.fullmatch(title)) and title not in _NO_TITLES


def draw(random: Random, anthology: Anthology, split: Split, fits: Callable[[Poem], object]) -> tuple[Form, Poem]:
    """A poem that fits, of each regular form as often."""
    form = random.choice(FORMS)
    while True:
        poem = random.choice(anthology.regular[split][form])
        if fits(poem):
            return form, poem


def compose(random: Random, anthology: Anthology, split: Split) -> Exercise:
    """A title and a form → a poem."""
    form, poem = draw(random, anthology, split, lambda poem: is_title(poem.title) and distinct(poem))
    question = random.choice(COMPOSE[split]).format(t=poem.title, f=form.name)
    return Exercise("compose", question, poem.text, form_of(form), poem)


def rhyme(random: Random, anthology: Anthology, split: Split) -> Exercise:
    """A title, a form and a rhyme → a poem."""
    form, poem = draw(random, anthology, split, lambda poem: is_title(poem.title) and distinct(poem) and poem.rhyme)
    question = random.choice(COMPOSE[split]).format(t=poem.title, f=form.name)
    question += random.choice(RHYME[split]).format(r=poem.rhyme)
    return Exercise("rhyme", question, poem.text, form_of(form, rhyme=poem.rhyme), poem)


def complete(random: Random, anthology: Anthology, split: Split) -> Exercise:
    """The first two lines → the others."""
    form, poem = draw(random, anthology, split, lambda poem: distinct(poem) and _couplets(poem))
    beginning, rest = poem.text.split("\n", 1)
    question = random.choice(COMPLETE[split]).format(p=beginning, f=form.name)
    return Exercise("complete", question, rest, form_of(form, given=poem.lines[:2]), poem)


def recall(random: Random, anthology: Anthology, split: Split) -> Exercise:
    """A line of a famous poem → the next one. Which pairs of lines are asked differs by split."""
    while True:
        poem = random.choice(anthology.famous)
        lines = poem.lines
        place = random.below(len(lines) - 1)
        line, following = lines[place : place + 2]
        known_apart = len(line) >= SHORTEST_LINE and anthology.once(line) and anthology.once(following)
        if known_apart and split_of(f"{line}\n{following}") == split:
            question = random.choice(RECALL[split]).format(p=line)
            return Exercise("recall", question, following, {"kind": "exact", "value": following}, poem)


def attribute(random: Random, anthology: Anthology, split: Split) -> Exercise:
    """A line of a famous poem → who wrote it. Which lines are asked differs by split."""
    while True:
        poem = random.choice(anthology.famous)
        line = random.choice(poem.lines)
        if len(line) >= SHORTEST_LINE and anthology.once(line) and split_of(line) == split:
            question = random.choice(ATTRIBUTE[split]).format(p=line)
            return Exercise("attribute", question, poem.author, {"kind": "exact", "value": poem.author}, poem)


def recite(random: Random, anthology: Anthology, split: Split) -> Exercise:
    """A famous poem, by its title or its first line → all of it. The same in every split: it is for training."""
    poem = random.choice(anthology.famous)
    by_title = random.chance(50) and anthology.is_title_of_one(poem)
    wording = random.choice(RECITE_TITLE if by_title else RECITE_LINE)
    question = wording.format(a=poem.author, t=poem.title, p=poem.lines[0])
    return Exercise("recite", question, poem.text, {"kind": "exact", "value": poem.text}, poem)


def distinct(poem: Poem) -> bool:
    """Whether no line occurs twice."""
    return len({*poem.lines}) == len(poem.lines)


def _couplets(poem: Poem) -> bool:
    """Whether the first paragraph holds two lines."""
    return len(split_lines(poem.text.partition("\n")[0])) == 2


def split_of(lines: str) -> Split:
    """Dev and test get three sixteenths of the lines, or pairs of lines, each, training the rest."""
    place = hashlib.sha256(lines.encode()).digest()[0]
    return "dev" if place < 48 else "test" if place < 96 else "train"
