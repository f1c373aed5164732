"""A poem, and how one is read from a record of the npm package chinese-poetry."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from minimind.poetry import rhymes
from minimind.poetry.script import simplify
from minimind.verse import HAN, STOPS, split

_NOTES = re.compile(r"[（(\[{〈【][^（(\[{〈【）)\]}〉】]*[）)\]}〉】]")  # editors' remarks
_PARAGRAPH = re.compile(f"([{HAN}]+[{STOPS}])+")
_NAME = re.compile(f"[{HAN}]+")
_HALF_WIDTH = str.maketrans(",.!?;:", "，。！？；：", " \u3000\n\r\t\ufeff“”‘’「」『』\"'")

_NUMERALS = {4: "四", 5: "五", 6: "六", 7: "七"}
_KINDS = {4: "绝句", 8: "律诗"}


class Form(NamedTuple):
    """How many lines of how many characters. Only the count is meant: tone patterns are not looked at."""

    lines: int
    length: int

    @property
    def name(self) -> str:
        """As in 五言绝句."""
        return f"{_NUMERALS[self.length]}言{_KINDS[self.lines]}"


FORMS = (Form(4, 5), Form(4, 7), Form(8, 5), Form(8, 7))


@dataclass(frozen=True)
class Poem:
    """In simplified characters; `text` has one couplet (or whatever the source calls a paragraph) a line."""

    title: str
    author: str
    text: str

    @property
    def lines(self) -> list[str]:
        """The lines of verse without their stops."""
        return split(self.text)

    @cached_property
    def form(self) -> Form | None:
        """The regular form that it has, if it has one."""
        lines = self.lines
        form = Form(len(lines), len(lines[0]))
        return form if form in FORMS and all(len(line) == form.length for line in lines) else None

    @cached_property
    def rhyme(self) -> str | None:
        """The level-tone rhyme of its even lines, if they share exactly one."""
        return rhymes.shared(line[-1] for line in self.lines[1::2])

    @property
    def kind(self) -> str:
        """What it is called in a heading: the regular form and its rhyme, else whether its lines are of one length."""
        if self.form:
            return self.form.name + (f"·{self.rhyme}韵" if self.rhyme else "")
        lengths = {len(line) for line in self.lines}
        (length, *others) = lengths
        return "杂言诗" if others or length not in _NUMERALS else f"{_NUMERALS[length]}言诗"


def parse(records: Sequence[dict[str, Any]]) -> Iterable[Poem | None]:
    """For each record {"title", "author", "paragraphs"} its poem; None if characters are lost (□) or it has no verse.

    Editors' remarks in brackets are left out. Raises KeyError for a record of another shape.
    """
    fields = [[record["title"], record["author"], *record["paragraphs"]] for record in records]
    flat = iter(simplify(_tidy(text) for texts in fields for text in texts))
    for texts in fields:
        title, author, *paragraphs = [next(flat) for _ in texts]
        paragraphs = [paragraph for paragraph in paragraphs if paragraph]
        sound = all(map(_PARAGRAPH.fullmatch, paragraphs)) and _NAME.fullmatch(author)
        yield Poem(title, author, "\n".join(paragraphs)) if paragraphs and sound else None


def _tidy(text: str) -> str:
    return _NOTES.sub("", text).translate(_HALF_WIDTH)
