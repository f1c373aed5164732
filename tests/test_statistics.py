"""Intervals and tests against scipy, published tables and exact enumeration."""

import math
import random

import pytest
from scipy.stats import binomtest, multinomial

from minimind import statistics


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_published(successes: int, n: int, low: float, high: float) -> None:
    """Newcombe 1998, table I, method 3."""
    assert statistics.wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("n", [1, 7, 200])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_wilson_scipy(n: int, confidence: float) -> None:
    for successes in {0, 1, n // 3, n // 2, n - 1, n}:
        expected = binomtest(successes, n).proportion_ci(confidence, method="wilson")
        assert statistics.wilson(successes, n, confidence) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_ends() -> None:
    assert statistics.wilson(0, 0) == (0.0, 1.0)
    assert statistics.wilson(0, 50)[0] == 0.0
    assert statistics.wilson(50, 50)[1] == 1.0
    for successes, n in [(-1, 5), (6, 5)]:
        with pytest.raises(ValueError, match="out of 5"):
            statistics.wilson(successes, n)
    with pytest.raises(ValueError, match="confidence"):
        statistics.wilson(1, 5, confidence=95)


def test_mcnemar_published() -> None:
    """Airway reactivity before and after transplantation (Bentur 2009) in Fagerland et al. 2013: exact p = 0.070."""
    pairs = [(True, True)] + [(True, False)] + [(False, True)] * 7 + [(False, False)] * 12
    result = statistics.mcnemar([before for before, _ in pairs], [after for _, after in pairs])
    assert (result.gained, result.lost) == (7, 1)
    assert result.p == pytest.approx(0.0703, abs=5e-5)


def test_mcnemar_scipy() -> None:
    generator = random.Random(0)
    for share in (0.1, 0.5, 0.9):
        before = [generator.random() < 0.5 for _ in range(300)]
        after = [value if generator.random() < 0.7 else generator.random() < share for value in before]
        result = statistics.mcnemar(before, after)
        only_after = sum(pair == (False, True) for pair in zip(before, after, strict=True))
        only_before = sum(pair == (True, False) for pair in zip(before, after, strict=True))
        assert (result.gained, result.lost) == (only_after, only_before)
        assert result.p == pytest.approx(binomtest(only_after, only_after + only_before).pvalue, rel=1e-9)
        mirrored = statistics.mcnemar(after, before)
        assert (mirrored.gained, mirrored.lost, mirrored.p) == (result.lost, result.gained, result.p)


def test_mcnemar_agreement() -> None:
    assert statistics.mcnemar([True, False], [True, False]) == statistics.McNemar(0, 0, 1.0)
    assert statistics.mcnemar([], []).p == 1.0
    assert statistics.mcnemar([True, False], [False, True]).p == 1.0
    with pytest.raises(ValueError, match="2 and 1"):
        statistics.mcnemar([True, False], [True])


def test_mcnemar_keeps_level() -> None:
    """If both models are equally good, p ≤ 0.05 comes up at most that often, for any number of differing items."""
    for differing in range(1, 60):
        chance = 0.0
        for gained in range(differing + 1):
            before = [False] * gained + [True] * (differing - gained)
            if statistics.mcnemar(before, [not value for value in before]).p <= 0.05:
                chance += math.comb(differing, gained) / 2**differing
        assert chance <= 0.05


def test_paired_difference_covers() -> None:
    """The interval holds the true difference about 95 times in 100, by enumeration of every possible outcome."""
    n = 60
    for up, down in [(0.3, 0.05), (0.1, 0.1), (0.02, 0.2), (0.5, 0.02)]:
        outcomes = [(gained, lost) for gained in range(n + 1) for lost in range(n + 1 - gained)]
        counts = [(gained, lost, n - gained - lost) for gained, lost in outcomes]
        chances = multinomial(n, [up, down, 1 - up - down]).pmf(counts)
        coverage = 0.0
        for (gained, lost), chance in zip(outcomes, chances, strict=True):
            low, high = statistics.paired_difference(gained, lost, n)
            coverage += chance if low <= up - down <= high else 0.0
        assert 0.94 < coverage < 0.985, (up, down)


def test_paired_difference_ends() -> None:
    assert statistics.paired_difference(0, 0, 0) == (-1.0, 1.0)
    low, high = statistics.paired_difference(3, 10, 200)
    assert statistics.paired_difference(10, 3, 200) == pytest.approx((-high, -low))
    assert statistics.paired_difference(5, 0, 5)[1] == 1.0
    with pytest.raises(ValueError, match="3 lost"):
        statistics.paired_difference(3, 3, 5)


def test_holm_published() -> None:
    """As R gives it: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm") is 0.03 0.06 0.06 0.02."""
    adjusted = statistics.holm({"first": 0.01, "second": 0.04, "third": 0.03, "fourth": 0.005})
    assert list(adjusted) == ["first", "second", "third", "fourth"]
    assert list(adjusted.values()) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_is_the_step_down_procedure() -> None:
    """At any level the adjusted values reject what Holm's own procedure rejects, which steps down until it fails."""
    generator = random.Random(1)
    for _ in range(200):
        values = {f"test {i}": generator.random() ** 4 for i in range(generator.randrange(1, 15))}
        level = generator.choice([0.01, 0.05, 0.2])
        rejected = set()
        for rank, name in enumerate(sorted(values, key=values.__getitem__)):
            if values[name] > level / (len(values) - rank):
                break
            rejected.add(name)
        assert {name for name, p in statistics.holm(values).items() if p <= level} == rejected
    assert statistics.holm({}) == {}
    assert statistics.holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}
