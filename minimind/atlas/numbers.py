"""Column arithmetic, comparison and word problems on numbers, with the working that leads to each answer.

The working is made of short lines that first restate what it works on, and is the same in both languages, so that
each is copied from a place not far away:

    47+38          the expression, restated     457 803      both numbers, padded to three digits
    7+8=15         ones                         4<8          digit by digit up to the first difference
    4+3+1=8        tens with the carry
    85
"""

from dataclasses import dataclass
from itertools import takewhile
from typing import Literal

from minimind.atlas.exercises import Exercise, exact
from minimind.atlas.facts import Language
from minimind.atlas.splits import Split, draw
from minimind.atlas.stories import COUNTABLE, PEOPLE
from minimind.random import Random

_ARITHMETIC: dict[Language, tuple[str, ...]] = {
    "en": ("What is {x}?", "Compute {x}.", "How much is {x}?"),
    "zh": ("请计算{x}。", "算一算{x}。", "请问{x}？"),
}
_COMPARISON: dict[Language, tuple[str, ...]] = {
    "en": ("Which number is greater, {a} or {b}?", "Which is the greater number: {a} or {b}?"),
    "zh": ("哪个数更大，{a}还是{b}？", "请说出较大的数：{a}还是{b}？"),
}
_GREATER: dict[Language, str] = {"en": "The greater number is {x}.", "zh": "更大的数是{x}。"}

_STARTS: dict[Language, str] = {"en": "Today {p} has {a} {o}.", "zh": "今天{p}有{a}个{o}。"}
# What happens, told in full and restated in the working: the verb decides the sign.
_CHANGES: dict[Language, dict[str, tuple[tuple[str, str], ...]]] = {
    "en": {
        "+": (
            (" Then {p} gets {b} {o} from {q}.", "Then {p} gets {b}"),
            (" Then {p} finds {b} {o}.", "Then {p} finds {b}"),
        ),
        "-": (
            (" Then {p} gives {q} {b} {o}.", "Then {p} gives {b}"),
            (" Then {p} loses {b} {o}.", "Then {p} loses {b}"),
        ),
    },
    "zh": {
        "+": (("后来{p}从{q}那里得到{b}个{o}。", "{p}得到{b}"), ("后来{p}捡到{b}个{o}。", "{p}捡到{b}")),
        "-": (("后来{p}给了{q}{b}个{o}。", "{p}给了{b}"), ("后来{p}丢了{b}个{o}。", "{p}丢了{b}")),
    },
}
_HAS: dict[Language, str] = {"en": "Today {p} has {a}", "zh": "{p}有{a}"}
_ENDS: dict[Language, str] = {"en": " How many {o} does {p} have now?", "zh": "现在{p}有几个{o}？"}
_COUNTS: dict[Language, str] = {"en": "Now {p} has {x} {o}.", "zh": "现在{p}有{x}个{o}。"}


@dataclass(frozen=True)
class Sum:
    """a + b or a - b of two-digit numbers, a >= b where they are subtracted."""

    a: int
    b: int
    sign: Literal["+", "-"]

    @property
    def expression(self) -> str:
        return f"{self.a}{self.sign}{self.b}"

    @property
    def value(self) -> int:
        return self.a + self.b if self.sign == "+" else self.a - self.b

    @property
    def working(self) -> str:
        """The expression, the ones, the tens with carry or borrow, the value: one line each."""
        (a_tens, a_ones), (b_tens, b_ones) = divmod(self.a, 10), divmod(self.b, 10)
        if self.sign == "+":
            carry = (a_ones + b_ones) // 10
            ones = f"{a_ones}+{b_ones}={a_ones + b_ones}"
            tens = f"{a_tens}+{b_tens}+{carry}={a_tens + b_tens + carry}"
        else:
            borrow = int(a_ones < b_ones)
            a_ones += 10 * borrow
            ones = f"{a_ones}-{b_ones}={a_ones - b_ones}"
            tens = f"{a_tens}-{b_tens}-{borrow}={a_tens - b_tens - borrow}"
        return f"{self.expression}\n{ones}\n{tens}\n{self.value}"


def draw_sum(random: Random, split: Split) -> Sum:
    """A sum whose pair of operands, in either order and under either sign, is of the split."""
    sign: Literal["+", "-"] = random.choice(("+", "-"))
    a, b = draw(
        random, split, lambda r: (r.between(10, 99), r.between(10, 99)), lambda pair: ("operands", *sorted(pair))
    )
    return Sum(a, b, sign) if sign == "+" else Sum(max(a, b), min(a, b), sign)


def draw_pair(random: Random, split: Split) -> tuple[int, int]:
    """Two different numbers of 0 .. 999, half of the time close to each other."""
    return draw(random, split, _pair, lambda pair: ("comparison", *sorted(pair)))


def _pair(random: Random) -> tuple[int, int]:
    while True:
        a = random.between(0, 999)
        b = random.between(max(0, a - 30), min(999, a + 30)) if random.chance(50) else random.between(0, 999)
        if a != b:
            return a, b


def comparison_working(a: int, b: int) -> str:
    """Both numbers padded to three digits, then digit by digit up to the first that differ."""
    digits = list(zip(f"{a:03d}", f"{b:03d}", strict=True))
    equal = [f"{x}={y}" for x, y in takewhile(lambda pair: pair[0] == pair[1], digits)]
    x, y = digits[len(equal)]
    return "\n".join([f"{a:03d} {b:03d}", *equal, f"{x}{'<' if x < y else '>'}{y}"])


def greater(a: int, b: int, language: Language) -> str:
    """The answer to a comparison."""
    return _GREATER[language].format(x=max(a, b))


def arithmetic(random: Random, language: Language, split: Split) -> Exercise:
    """A sum or a difference of two-digit numbers."""
    x = draw_sum(random, split)
    question = random.choice(_ARITHMETIC[language]).format(x=x.expression)
    return exact("arithmetic", language, question, f"{x.expression}={x.value}", x.working)


def comparison(random: Random, language: Language, split: Split) -> Exercise:
    """Which of two numbers is greater."""
    a, b = draw_pair(random, split)
    question = random.choice(_COMPARISON[language]).format(a=a, b=b)
    return exact("comparison", language, question, greater(a, b, language), comparison_working(a, b))


def word_problem(random: Random, language: Language, split: Split) -> Exercise:
    """Somebody has things, then gets, finds, gives or loses some."""
    x = draw_sum(random, split)
    p, q = random.sample(PEOPLE[language], 2)
    parts = {"p": p, "q": q, "o": random.choice(COUNTABLE[language]), "a": x.a, "b": x.b, "x": x.value}
    change, restated = random.choice(_CHANGES[language][x.sign])
    question = (_STARTS[language] + change + _ENDS[language]).format(**parts)
    working = f"{_HAS[language]}\n{restated}\n".format(**parts) + x.working
    return exact("word", language, question, _COUNTS[language].format(**parts), working)
