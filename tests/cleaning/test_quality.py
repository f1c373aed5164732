"""Each heuristic on a text that breaks it alone, in both languages, and on prose that breaks none."""

import random
from pathlib import Path

import pytest

from minimind import config
from minimind.cleaning import units
from minimind.cleaning.quality import find, find_repetition
from minimind.cleaning.settings import CleanConfig

ROOT = Path(__file__).parents[2]
DRAWN = random.Random(1)
WORDS = [f"{a}{b}" for a in "bdfghjklmn" for b in ("ado", "ibe", "uce", "ony", "ash", "ert", "ilk", "oam")]
PROSE = "\n\n".join(" ".join(["The", "cat", "of", *DRAWN.choices(WORDS, k=25)]) + "." for _ in range(6))
CHINESE = "\n\n".join(
    "这是" + "".join(chr(DRAWN.randrange(0x4E00, 0x8000)) for _ in range(60)) + "。" for _ in range(6)
)
VERSES = PROSE.split("\n\n")
CONFIG = config.parse(CleanConfig, config.read(ROOT / "profiles" / "atlas.yaml")["clean"], Path("atlas.yaml"))


@pytest.mark.parametrize("text", [PROSE, CHINESE])
def test_prose_breaks_no_rule(text: str) -> None:
    assert find(text, units.split(text), CONFIG) is None
    assert find_repetition(text, units.split(text), 1.0) is None


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("\n".join(f"- {verse}" for verse in VERSES), "bullets"),
        ("\n".join(f"{verse[:-1]}..." for verse in VERSES), "ellipses"),
        ("\n".join(verse[:-1] for verse in VERSES), "line ends"),
        (PROSE.replace(" b", " #b").replace(" d", " #d"), "symbols"),
        (" ".join(f"{verse} 1 2 3 4 5 6 7 8 9 10 11 12" for verse in VERSES), "alphabetic words"),
        ("The of " + "ab " * 30 + "cd " * 30, "word length"),
        (PROSE.replace("The", "Ashes").replace(" of ", " off "), "stop words"),
        (CHINESE.replace("这是", "東西"), "stop words"),
    ],
)
def test_what_is_no_prose_is_found(text: str, rule: str) -> None:
    found = find(text, units.split(text), CONFIG)
    assert found is not None and found[0] == rule


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("\n".join([*VERSES[:3], *VERSES[:3]]), "repeated lines"),
        ("\n\n".join(f"{verse}\n{number}." for number, verse in enumerate(VERSES)), None),
        ("\n\n".join(["\n".join(VERSES[:3]), "\n".join(VERSES[3:]), *["Read on."] * 3]), "repeated paragraphs"),
        (" in fact ".join(" ".join(DRAWN.choices(WORDS, k=5)) for _ in range(12)), "top n-gram"),
        (PROSE + " " + " ".join(PROSE.split()[:30]), "repeated n-grams"),
    ],
)
def test_what_repeats_itself_is_found(text: str, rule: str | None) -> None:
    found = find_repetition(text, units.split(text), 1.0)
    assert (None if found is None else found[0]) == rule
    assert find_repetition(text, units.split(text), 100.0) is None
