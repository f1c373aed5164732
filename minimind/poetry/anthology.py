"""All poems of the package, each once, in training, dev or test, so that no line of a held-out poem is trained on."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import orjson

from minimind.errors import UserError
from minimind.poetry.poems import FORMS, Form, Poem, parse
from minimind.progress import Progress

Split = Literal["train", "dev", "test"]

POEMS = "dist/quantangshi/poet.*.json"  # of the Tang and the Song dynasty
FAMOUS = "dist/quantangshi/唐诗三百首.json"
HELD_OUT_OF_256 = 2  # for dev, and as many for test
LONGEST_FAMOUS = 16  # lines of a famous poem that is to be known by heart
SHORTEST_LINE = 5  # characters; shorter lines, such as 长相思, are nobody's own
MAJOR = 200  # poems by which an author can be told


class AnthologyError(UserError):
    """A package that is not as expected; the message names the file."""


@dataclass(frozen=True)
class Anthology:
    """Poems by split; `famous`, the Three Hundred Tang Poems, are part of training."""

    splits: dict[Split, list[Poem]]
    famous: list[Poem]
    counts: dict[str, int]  # what became of the records

    @cached_property
    def regular(self) -> dict[Split, dict[Form, list[Poem]]]:
        """Those of a regular form, by it."""
        return {
            split: {form: [poem for poem in poems if poem.form == form] for form in FORMS}
            for split, poems in self.splits.items()
        }

    @cached_property
    def authors(self) -> list[str]:
        """Who has MAJOR or more poems in training, the most prolific first."""
        counts = Counter(poem.author for poem in self.splits["train"])
        return [author for author, count in counts.most_common() if count >= MAJOR]

    @cached_property
    def _famous_lines(self) -> Counter[str]:
        return Counter(line for poem in self.famous for line in poem.lines)

    @cached_property
    def _famous_titles(self) -> Counter[tuple[str, str]]:
        return Counter((poem.author, poem.title) for poem in self.famous)

    def once(self, line: str) -> bool:
        """Whether the line stands in one place only of the famous poems."""
        return self._famous_lines[line] == 1

    def is_title_of_one(self, poem: Poem) -> bool:
        """Whether author and title name one famous poem only."""
        return self._famous_titles[poem.author, poem.title] == 1


def read(package: Path) -> Anthology:
    """The poems of the unpacked package. Raises AnthologyError.

    A poem is held out by a hash of its text, unless it shares a line with a famous one. Then whatever shares a line
    with a held-out poem is left out of training, and of test if it shares one with dev.
    """
    counts: Counter[str] = Counter()
    famous = list(_distinct(_poems(package, FAMOUS, Counter()), set(), Counter()))
    known = {poem.text for poem in famous}
    poems = list(_distinct(_poems(package, POEMS, counts), known, counts))
    well_known = {line for poem in famous for line in _own_lines(poem)}
    splits: dict[Split, list[Poem]] = {"train": [], "dev": [], "test": []}
    for poem in poems:
        splits["train" if well_known.intersection(_own_lines(poem)) else _draw(poem)].append(poem)
    taken: set[str] = set()
    for split in ("dev", "test", "train"):  # each keeps what shares nothing with those before it
        kept = [poem for poem in splits[split] if not taken.intersection(_own_lines(poem))]
        counts["left out for sharing a line with dev or test"] += len(splits[split]) - len(kept)
        splits[split] = kept
        taken.update(line for poem in kept for line in _own_lines(poem))
        counts[split] = len(kept)
    splits["train"] = famous + splits["train"]
    counts["train"] += len(famous)
    short = [poem for poem in famous if len(poem.lines) <= LONGEST_FAMOUS]
    return Anthology(splits, short, dict(counts))


def _poems(package: Path, pattern: str, counts: Counter[str]) -> Iterator[Poem]:
    """The usable poems of the files of this name, in the order of the files' names."""
    paths = sorted(package.glob(pattern))
    if not paths:
        raise AnthologyError(f"{package} has no file {pattern}: is it the package chinese-poetry, version 2.0.1?")
    with Progress("poems", len(paths), "file") as bar:
        for path in bar.over(paths):
            try:
                for poem in parse(_records(path)):
                    counts["records"] += 1
                    counts["damaged or without verse"] += poem is None
                    if poem is not None:
                        yield poem
            except (KeyError, TypeError, ValueError) as error:
                raise AnthologyError(
                    f'{path}: expected a list of {{"title", "author", "paragraphs"}} ({error!r}): delete the '
                    "package's folder, and it will be fetched again"
                ) from error


def _records(path: Path) -> list[dict[str, Any]]:
    records = orjson.loads(path.read_bytes())
    if not isinstance(records, list):
        raise TypeError(f"is {type(records).__name__}")
    return records


def _distinct(poems: Iterator[Poem], known: set[str], counts: Counter[str]) -> Iterator[Poem]:
    for poem in poems:
        if poem.text in known:
            counts["the same again"] += 1
        else:
            known.add(poem.text)
            yield poem


def _own_lines(poem: Poem) -> list[str]:
    return [line for line in poem.lines if len(line) >= SHORTEST_LINE]


def _draw(poem: Poem) -> Split:
    place = hashlib.sha256(poem.text.encode()).digest()[0]
    return "dev" if place < HELD_OUT_OF_256 else "test" if place < 2 * HELD_OUT_OF_256 else "train"
