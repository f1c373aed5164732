"""How sure a score is, and whether two models really differ: intervals, a paired test, a correction for many tests."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Score interval (low, high) of the share behind `successes` out of `n`, both from 0 to 1.

    Unlike the textbook's p ± z·√(p(1−p)/n) it keeps its promise at shares near 0 and 1 and never leaves that range.
    Nothing observed (n = 0) tells nothing: (0, 1). Raises ValueError if successes is not within 0…n.
    Source: Wilson 1927, J. Am. Stat. Assoc. 22:209; Newcombe 1998, Stat. Med. 17:857, method 3.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes out of {n}: expected a number from 0 to {n}")
    if n == 0:
        return 0.0, 1.0
    z = _quantile(confidence)
    share = successes / n
    centre = share + z * z / (2 * n)
    reach = z * math.sqrt((share * (1 - share) + z * z / (4 * n)) / n)
    scale = 1 + z * z / n
    # At the ends the bound is exactly 0 or 1, which rounding would miss.
    low = 0.0 if successes == 0 else (centre - reach) / scale
    high = 1.0 if successes == n else (centre + reach) / scale
    return low, high


@dataclass(frozen=True)
class McNemar:
    """Two models on the same items. `p` is the two-sided probability of so uneven a split if they were equally good."""

    gained: int  # items that only the second model gets right
    lost: int  # items that only the first gets right
    p: float


def mcnemar(before: Sequence[bool], after: Sequence[bool]) -> McNemar:
    """Exact McNemar test of two models, by whether each got item i right.

    Items on which they agree say nothing about which is better. If both are equally good, each of the others is a
    fair coin; p is twice the smaller tail of that binomial, at most 1. Raises ValueError if the lengths differ.
    Source: McNemar 1947, Psychometrika 12:153; exact form as in Fagerland et al. 2013, BMC Med. Res. Methodol. 13:91.
    """
    if len(before) != len(after):
        raise ValueError(f"the models answered {len(before)} and {len(after)} items: pair them item by item")
    gained = sum(new and not old for old, new in zip(before, after, strict=True))
    lost = sum(old and not new for old, new in zip(before, after, strict=True))
    differing = gained + lost
    tail = sum(math.comb(differing, k) for k in range(min(gained, lost) + 1))  # whole numbers, so p is exact
    return McNemar(gained, lost, min(1.0, 2 * tail / 2**differing))


def paired_difference(gained: int, lost: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Interval (low, high), within −1…1, of how much larger the second model's share is, on the same `n` items.

    Raises ValueError if gained + lost > n. No items tell nothing: (−1, 1).
    Source: Bonett and Price 2012, J. Educ. Behav. Stat. 37:479 (Wald's interval after adding one item to each side).
    """
    if gained < 0 or lost < 0 or gained + lost > n:
        raise ValueError(f"{gained} gained and {lost} lost don't fit into {n} items")
    if n == 0:
        return -1.0, 1.0
    up, down = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    reach = _quantile(confidence) * math.sqrt((up + down - (up - down) ** 2) / (n + 2))
    return max(-1.0, up - down - reach), min(1.0, up - down + reach)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """The p values, raised so that calling all those below α real errs anywhere with probability α at most.

    Holds however the tests depend on one another. Keys and their order are kept.
    Source: Holm 1979, Scand. J. Stat. 6:65; adjusted values as in Wright 1992, Biometrics 48:1005.
    """
    adjusted: dict[str, float] = {}
    largest = 0.0
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


def _quantile(confidence: float) -> float:
    """How many standard deviations to each side hold `confidence` of a normal distribution."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence} is not between 0 and 1")
    return NormalDist().inv_cdf((1 + confidence) / 2)
