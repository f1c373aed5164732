"""Each heuristic on a text that breaks it alone, in both languages, and on prose that breaks none."""

from pathlib import Path

import pytest

from cleaning.prose import CHINESE, PROSE, VERSES
from minimind import config
from minimind.cleaning import units
from minimind.cleaning.quality import find
from minimind.cleaning.settings import CleanConfig

ROOT = Path(__file__).parents[2]
CONFIG = config.parse(CleanConfig, config.read(ROOT / "profiles" / "atlas.yaml")["clean"], Path("atlas.yaml"))


@pytest.mark.parametrize("text", [PROSE, CHINESE])
def test_prose_breaks_no_rule(text: str) -> None:
    assert find(text, units.split(text), CONFIG) is None


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
