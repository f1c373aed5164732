"""Limits of a number, written beside the field that holds it.

    @dataclass(frozen=True)
    class Recipe:
        batch_size: Annotated[int, Limits(1, 10**6)]
        decay_share: Share = 0.4

        def __post_init__(self) -> None:
            limits.check(self)

`config` checks what stands in a file by the same limits, and names the key in full.
"""

import math
import types
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class Limits:
    """The numbers from `least` to `most`, both of them included unless it says `above` and `below`."""

    least: float
    most: float
    above: bool = False  # least itself is too little
    below: bool = False  # most itself is too much

    def admit(self, value: float) -> bool:
        """Whether the value lies within; what is not finite never does."""
        if not math.isfinite(value):
            return False
        high_enough = value > self.least if self.above else value >= self.least
        return high_enough and (value < self.most if self.below else value <= self.most)

    def __str__(self) -> str:
        low, high = (f"{end:,}" if isinstance(end, int) else f"{end:g}" for end in (self.least, self.most))
        return f"{'above' if self.above else 'from'} {low} {'and below' if self.below else 'to'} {high}"


Share = Annotated[float, Limits(0, 1)]
Part = Annotated[float, Limits(0, 1, above=True, below=True)]
"""A share that leaves something on both sides."""

Seed = Annotated[int, Limits(0, 2**32 - 1)]


def split(hint: Any) -> tuple[Any, Limits | None]:
    """A type without its limits, and these: of `Annotated[int, Limits(…)]`, int and the limits."""
    if get_origin(hint) is not Annotated:
        return hint, None
    plain, *notes = get_args(hint)
    return plain, next((note for note in notes if isinstance(note, Limits)), None)


def check(value: Any, section: str = "") -> None:
    """Raise ValueError naming the first field of a dataclass whose number lies outside of its limits.

    `section` is where the dataclass stands in params.yaml.
    """
    hints = _hints(type(value))  # type: ignore[arg-type]
    for field in fields(value):
        for number, limits in _limited(hints[field.name], getattr(value, field.name)):
            if not limits.admit(number):
                name = f"{section}.{field.name}" if section else field.name
                raise ValueError(f"{name} is {number}: it must lie {limits}")


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)


def _limited(hint: Any, value: Any) -> Iterator[tuple[float, Limits]]:
    """The numbers that have limits: the value itself, or the items of a tuple."""
    plain, limits = split(hint)
    if value is None:
        return
    if limits is not None:
        yield value, limits
    elif get_origin(plain) is tuple:
        for item_hint, item in zip(get_args(plain), value, strict=False):
            yield from _limited(item_hint, item)
    elif get_origin(plain) in (Union, types.UnionType):
        for alternative in get_args(plain):
            yield from _limited(alternative, value)
