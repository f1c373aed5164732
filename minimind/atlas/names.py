"""Invented things: countries that do not exist, and random words to copy."""

from minimind.atlas.facts import COUNTRIES, LANGUAGES, RELATIONS, Language
from minimind.atlas.splits import Split, draw
from minimind.random import Random

SYLLABLES = (
    "ba", "zo", "ri", "ke", "lu", "mo", "ta", "vi", "dra", "sol", "gan", "pe", "xu", "wen", "shi", "tor", "al", "me",
    "ci", "no",
)  # fmt: skip
_ENDINGS = ("land", "nia", "stan", "ria")
_CHINESE_SYLLABLES = "贝佐里克卢莫塔维德索甘佩许文"
_CHINESE_ENDINGS = ("国", "尼亚", "斯坦", "利亚")

# Every Chinese character of the table of facts: each has a token of its own.
CHARACTERS = tuple(
    sorted(
        {
            character
            for country in COUNTRIES
            for text in (country.name["zh"], *(country.facts[relation]["zh"] for relation in RELATIONS))
            for character in text
        }
        | set(_CHINESE_SYLLABLES)
    )
)

_REAL = {country.name[language] for country in COUNTRIES for language in LANGUAGES}


def country(random: Random, language: Language, split: Split) -> str:
    """The name of a country that does not exist."""
    return draw(random, split, lambda r: _country(r, language), lambda name: ("country", name))


def _country(random: Random, language: Language) -> str:
    while True:
        length = random.between(2, 3)
        if language == "en":
            name = "".join(random.choice(SYLLABLES) for _ in range(length)).capitalize() + random.choice(_ENDINGS)
        else:
            name = "".join(random.sample(_CHINESE_SYLLABLES, length)) + random.choice(_CHINESE_ENDINGS)
        if not any(real in name for real in _REAL):  # 维德国 holds 德国
            return name


def word(random: Random, language: Language) -> str:
    """A word that does not exist: two or three syllables, or as many Chinese characters."""
    if language == "en":
        return "".join(random.sample(SYLLABLES, random.between(2, 3)))
    return "".join(random.sample(CHARACTERS, random.between(2, 3)))
