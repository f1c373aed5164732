"""Lines of Chinese verse, and whether they have a form."""

import re
from collections.abc import Collection

HAN = r"\u3007\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"
"""Chinese characters, for a class of a regular expression."""

STOPS = "，。！？；：、"
"""What ends a line."""


def split(text: str) -> list[str]:
    """The lines without what ends them, be it a stop or a line end."""
    return [line for line in re.split(f"[{STOPS}\n]", text) if line]


def has_form(text: str, num_lines: int, length: int, rhyme: str | None = None, given: Collection[str] = ()) -> bool:
    """Whether it is `num_lines` different lines of `length` characters each, none of them among those `given`.

    rhyme: characters of which one must end every second line.
    """
    lines = split(text)
    even = all(re.fullmatch(f"[{HAN}]{{{length}}}", line) for line in lines)
    rhymed = rhyme is None or all(line[-1] in rhyme for line in lines[1::2])
    return even and rhymed and len(lines) == len({*lines}.difference(given)) == num_lines
