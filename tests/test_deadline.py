"""A generator in a process of its own: what it yields arrives, and whatever it does, it ends when it is to."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from minimind.config import ConfigError
from minimind.deadline import Child, DeadError, OverdueError

PATIENCE = 600.0  # seconds after which something counts as hung, on however busy a machine


def soon() -> float:
    return time.monotonic() + PATIENCE


def count(number: int) -> Iterator[int]:
    yield from range(number)


def never_ends(stubborn: bool) -> Iterator[int]:
    """Yields its process id and that of a program that it has started."""
    if stubborn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    yield os.getpid()
    yield subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"]).pid
    while True:
        time.sleep(3600)


def gone(pid: int) -> bool:
    """Whether a process has ended; without an init, nobody takes note of an orphan's end."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def mistaken() -> Iterator[int]:
    yield 1
    raise ConfigError("params.yaml: `seed` is missing")


def broken() -> Iterator[int]:
    yield 1
    raise ZeroDivisionError("by nought")


def dies() -> Iterator[int]:
    yield 1
    os._exit(3)


def test_what_it_yields_arrives_in_order() -> None:
    with Child(count, 3) as child:
        assert list(child.until(soon())) == [0, 1, 2]
        assert list(child.until(soon())) == []


def test_another_moment_may_follow() -> None:
    with Child(count, 3) as child:
        assert next(child.until(soon())) == 0
        assert list(child.until(soon())) == [1, 2]


@pytest.mark.parametrize("stubborn", [False, True])
def test_one_that_never_ends_is_ended_with_all_that_it_has_started(stubborn: bool) -> None:
    with Child(never_ends, stubborn) as child:
        started = [next(child.until(soon())), next(child.until(soon()))]
        assert started[0] == child.pid
        with pytest.raises(OverdueError):
            next(child.until(time.monotonic() + 0.01))
        assert all(psutil.pid_exists(pid) for pid in started)
    assert not psutil.pid_exists(started[0])
    end = soon()
    while not gone(started[1]):  # who was killed takes a moment to die
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_user_s_mistake_is_raised_here() -> None:
    with Child(mistaken) as child, pytest.raises(ConfigError, match="`seed` is missing"):
        list(child.until(soon()))


@pytest.mark.parametrize(
    ("function", "says"), [(broken, "ZeroDivisionError: by nought"), (dies, "ended with status 3")]
)
def test_a_defect_and_a_death_are_told(function: object, says: str) -> None:
    with Child[int](function) as child, pytest.raises(DeadError, match=says):  # type: ignore[arg-type]
        list(child.until(soon()))
