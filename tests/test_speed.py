"""What is made of the events of a probe; the numbers are worked out by hand."""

import time
from collections.abc import Iterator

import pytest

from minimind.deadline import Child
from minimind.machine import Abilities, Begun, Event, Shape, Step
from minimind.speed import Findings, Rate

CPU = Abilities("cpu", "float32", False, "avx2", 2, True, "auto")
LARGE = Shape("model", 1000, 900, 0, 4000, "muon")
SMALL = Shape("student", 300, 300, 0, 4000, "muon")
PATIENCE = 600.0


def all_steps() -> Iterator[Event]:
    """A cold step of 100 tokens, then three of 1,000, in 2, 4 and 3 seconds, of which one is the optimizer's."""
    yield from (CPU, LARGE, Begun("model", 100), Step("model", 100, 9.0, 9.0))
    for passes in (1.0, 3.0, 2.0):
        yield from (Begun("model", 1000), Step("model", 1000, passes, 1.0))
    yield SMALL


def stuck_in_a_step() -> Iterator[Event]:
    yield from (CPU, LARGE, Begun("model", 50))
    time.sleep(PATIENCE)


def stuck_before() -> Iterator[Event]:
    yield from (CPU, LARGE)
    time.sleep(PATIENCE)


def broken() -> Iterator[Event]:
    yield CPU
    raise MemoryError("no room for 9 GiB")


def watched(function: object, events: int | None = None) -> Findings:
    """What is found; with a number of `events`, stopped soon after as many."""
    findings = Findings()
    with Child[Event](function) as child:  # type: ignore[arg-type]
        end = time.monotonic() + PATIENCE
        for number, _ in enumerate(findings.watch(child, end), 1):
            if number == events:
                break
        if events is not None:
            assert list(findings.watch(child, time.monotonic() + 0.01)) == []
    return findings


def test_the_middle_of_the_largest_steps_counts_and_others_follow_the_formula() -> None:
    findings = watched(all_steps)
    assert findings.trouble == "" and findings.step("model") == Step("model", 1000, 2.0, 1.0)
    rates = findings.rates()
    assert rates["model"] == Rate(0.002, 1.0)
    assert rates["model"].seconds(10_000, 5) == pytest.approx(25.0)
    # 300 active parameters against 900.
    assert rates["student"].seconds(10_000, 5) == pytest.approx(25.0 / 3)


def test_a_step_that_does_not_end_says_how_long_it_takes_at_least() -> None:
    findings = watched(stuck_in_a_step, events=3)
    assert findings.trouble.startswith("slow: the probe was stopped ")
    assert findings.trouble.endswith("into a step of 50 tokens of the model")
    rate = findings.rates()["model"]
    assert rate.at_least and rate.token == findings.lasted / 50 > 0


def test_what_came_to_nothing_is_said() -> None:
    assert "before its first step" in watched(stuck_before, events=2).trouble
    assert watched(broken).trouble == ("the probe failed, and so may training: MemoryError: no room for 9 GiB")
    nothing = Findings()
    with Child[Event](stuck_in_a_step) as child:
        assert list(nothing.watch(child, time.monotonic())) == []
    assert "imported torch" in nothing.trouble and nothing.rates() == {}
