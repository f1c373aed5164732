"""Real poems, each once, and none of a held-out poem's lines in training."""

from pathlib import Path

import pytest

from minimind.poetry import anthology
from minimind.poetry.anthology import Anthology, AnthologyError


def lines(poems: Anthology, split: anthology.Split) -> set[str]:
    found = {line for poem in poems.splits[split] for line in poem.lines}
    return {line for line in found if len(line) >= anthology.SHORTEST_LINE}


def test_no_line_is_in_two_splits(poems: Anthology) -> None:
    train, dev, test = (lines(poems, split) for split in ("train", "dev", "test"))
    assert not train & dev
    assert not train & test
    assert not dev & test
    assert len(dev) > 1000
    assert len(test) > 1000


def test_every_poem_stands_once_and_every_record_is_accounted_for(poems: Anthology) -> None:
    texts = [poem.text for split in poems.splits.values() for poem in split]
    assert len(texts) == len(set(texts))
    counts = dict(poems.counts)
    assert counts.pop("records") > 35_000
    famous = len({poem.text for poem in poems.splits["train"]}.intersection(poem.text for poem in poems.famous))
    assert famous == len(poems.famous) > 300


def test_an_other_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AnthologyError, match=r"has no file .*唐诗三百首\.json"):
        anthology.read(tmp_path)


def test_an_other_record_is_refused_by_its_file(part: Path, tmp_path: Path) -> None:
    folder = tmp_path / "dist" / "quantangshi"
    folder.mkdir(parents=True)
    (folder / "唐诗三百首.json").write_text('[{"title": "春望"}]', encoding="utf-8")
    with pytest.raises(AnthologyError, match=r"唐诗三百首\.json.*author.*fetched again"):
        anthology.read(tmp_path)
