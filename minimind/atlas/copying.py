"""Documents that can be predicted only by looking back: copies, echoes, look-ups, quotations, reversals.

They hold random things, so that nothing but copying predicts the second half of each. An English item always follows
a space, or always a quotation mark, in source and copy alike.
"""

from collections.abc import Sequence

from minimind.atlas import lists, names, tools
from minimind.atlas.exercises import dump
from minimind.atlas.facts import COUNTRIES, LANGUAGES, Language
from minimind.atlas.stories import OBJECTS, PEOPLE, PLACES
from minimind.random import Random

_KINDS = {"symbols": 4, "words": 3, "inventions": 2, "digits": 2}
_LEAD: dict[Language, str] = {"en": " ", "zh": ""}  # before every item

_WORDS: dict[Language, tuple[str, ...]] = {
    language: (
        *PEOPLE[language],
        *PLACES[language],
        *OBJECTS[language],
        *(country.name[language] for country in COUNTRIES if not country.name[language].startswith("the ")),
        *(country.facts["capital"][language] for country in COUNTRIES),
    )
    for language in LANGUAGES
}

_REPEATS: dict[Language, tuple[tuple[str, str], ...]] = {
    "en": (("Copy:", " |"), ("Again:", ";"), ("Lines:", "\n"), ("Words:", " ->")),
    "zh": (("抄写：", "|"), ("再来：", "；"), ("几行：", "\n"), ("词语：", "，")),
}
_ECHOES: dict[Language, tuple[str, ...]] = {
    "en": (
        "Say {x}: {x}.",
        "He wrote {x} and she copied {x}.",
        "Input {x}, output {x}.",
        'The text "{x}" becomes {{"text": "{x}"}}.',
    ),
    "zh": ("说{x}：{x}。", "他写了{x}，她抄下{x}。", "输入{x}，输出{x}。", '文字"{x}"变成{{"text": "{x}"}}。'),
}
_PAIRS: dict[Language, tuple[str, ...]] = {  # ways to bind a value to a key, those of stories among them
    "en": (
        " {key} is {value}",
        " {key} went to the {value}",
        " {key} walked to the {value}",
        " {key} took the {value}",
    ),
    "zh": ("{key}是{value}", "{key}去了{value}", "{key}来到{value}", "{key}拿起了{value}"),
}
_RECALLS: dict[Language, tuple[str, str, str, str]] = {
    "en": ("Given:", ",", ". So", "."),
    "zh": ("已知：", "，", "。所以", "。"),
}
_REVERSALS: dict[Language, tuple[str, str, str]] = {
    "en": ("Forwards:", ". Backwards:", "."),
    "zh": ("顺着：", "。倒着：", "。"),
}


def _items(random: Random, language: Language, kind: str, count: int) -> list[str]:
    """`count` different things of one kind."""
    match kind:
        case "symbols":
            return random.sample(names.SYLLABLES if language == "en" else names.CHARACTERS, count)
        case "words":
            return random.sample(_WORDS[language], count)
        case "inventions":
            make = names.word
        case "digits":
            make = _digits
    things: dict[str, None] = {}
    while len(things) < count:
        things[make(random, language)] = None
    return list(things)


def _digits(random: Random, language: Language) -> str:
    return "".join(str(random.below(10)) for _ in range(random.between(2, 4)))


def _join(items: Sequence[str], language: Language) -> str:
    return "".join(_LEAD[language] + item for item in items)


def repeat(random: Random, language: Language) -> str:
    """A sequence of different things, two to four times over."""
    kind = random.weighted(_KINDS)
    short = kind in ("symbols", "words")
    sequence = _join(_items(random, language, kind, random.between(4, 10) if short else random.between(2, 4)), language)
    start, separator = random.choice(_REPEATS[language])
    return start + separator.join([sequence] * random.between(2, 4))


def echo(random: Random, language: Language) -> str:
    """Several things, each said and said again."""
    frame = random.choice(_ECHOES[language])
    items = _items(random, language, random.weighted(_KINDS), random.between(2, 5))
    return _LEAD[language].join(frame.format(x=item) for item in items)


def recall(random: Random, language: Language) -> str:
    """Keys and their values, told once in one order and once in another."""
    count = random.between(2, 5)
    keys = _items(random, language, random.choice(("symbols", "words", "inventions")), count)
    values = _items(random, language, random.choice(("symbols", "words", "digits")), count)
    ways = random.sample(_PAIRS[language], random.between(1, 2))
    pairs = [random.choice(ways).format(key=key, value=value) for key, value in zip(keys, values, strict=True)]
    start, comma, again, end = _RECALLS[language]
    return start + comma.join(pairs) + again + comma.join(random.shuffle(pairs)) + end


def quote(random: Random, language: Language) -> str:
    """Arguments, each put into the call of a tool."""
    lines = []
    for _ in range(random.between(1, 3)):
        if random.chance(70):
            expression, _ = tools.draw_product(random, "train")
            lines.append(f"{expression}\n{dump(tools.call('calculator', expression))}")
        else:
            name = random.choice(("weather", "clock"))
            city = tools.draw_city(random, language, name, "train")
            lines.append(f'{name} "{city}"\n{dump(tools.call(name, city))}')
    return "\n".join(lines)


def reverse(random: Random, language: Language) -> str:
    """A sequence of different things, and the same from its end."""
    items = _items(random, language, random.choice(("symbols", "words")), random.between(2, 6))
    start, turn, end = _REVERSALS[language]
    return start + _join(items, language) + turn + _join(items[::-1], language) + end


def number(random: Random, language: Language) -> str:
    """A list of words, numbered, with the answers to the questions that can be asked of it."""
    words = lists.draw_words(random, language, "train")
    operations = random.sample(lists.OPERATIONS, 2)
    return "\n".join(
        [
            random.choice(lists.QUESTIONS[language][operations[0]]) + lists.join(words, language),
            lists.number(words, language),
            *(lists.answer(operation, words, language) for operation in operations),
        ]
    )
