"""A deterministic stream of random numbers that is equal on every Python version and machine.

SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014), seeded by a string.
The standard library's `random` promises equal sequences for `random()` only, not for choice, sample or shuffle.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")

_MASK = (1 << 64) - 1


class Random:
    """A stream of draws; equal seeds give equal streams."""

    __slots__ = ("_state",)

    def __init__(self, seed: str) -> None:
        self._state = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "big")

    def bits(self) -> int:
        """64 random bits."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        z = self._state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return z ^ (z >> 31)

    def below(self, bound: int) -> int:
        """An integer of 0 .. bound - 1; its bias is below bound / 2**53."""
        return (self.bits() >> 11) * bound >> 53

    def between(self, low: int, high: int) -> int:
        """An integer of low .. high, both included."""
        return low + self.below(high - low + 1)

    def chance(self, percent: int) -> bool:
        """True in `percent` of 100 draws."""
        return self.below(100) < percent

    def choice(self, items: Sequence[T]) -> T:
        return items[self.below(len(items))]

    def weighted(self, weights: Mapping[T, int]) -> T:
        """A key of `weights`, as often as its weight's share of their sum."""
        remaining = self.below(sum(weights.values()))
        for item, weight in weights.items():
            remaining -= weight
            if remaining < 0:
                return item
        raise AssertionError("unreachable: the draw is below the sum of the weights")

    def shuffle(self, items: Sequence[T]) -> list[T]:
        """A new list, in random order (Fisher-Yates)."""
        return self.sample(items, len(items))

    def sample(self, items: Sequence[T], count: int) -> list[T]:
        """`count` of the items at different places, in random order."""
        pool = list(items)
        for i in range(count):
            j = i + self.below(len(pool) - i)
            pool[i], pool[j] = pool[j], pool[i]
        return pool[:count]
