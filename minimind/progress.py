"""How far long work has come: a bar on a terminal; plain lines in a log file, CI, nohup or `dvc queue logs`.

A line comes seconds after the start, then every half minute, however long a single unit takes, and one at the end:

    pretrain: 340 of 1,400 steps (24%), loss 2.314, 4,512 tokens/s, about 15 min left
"""

import contextlib
import os
import sys
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from typing import Any, Self, TypeVar

from tqdm import tqdm

from minimind.errors import UserError

SECONDS = 30.0  # between two lines
FIRST_SECONDS = 3.0  # before the first
VARIABLE = "MINIMIND_PROGRESS_SECONDS"  # of the environment; sets the former, for tests

T = TypeVar("T")


class Progress:
    """Work of `total` units, None where nobody knows how many, of which `done` were done before. A context manager.

    Shown on stderr, unless `show` is false. `unit` is the name of one; "B" are bytes. Nothing that it does raises an
    error once it has begun: work goes on where stderr is gone. Raises UserError for a wrong MINIMIND_PROGRESS_SECONDS.
    """

    def __init__(self, name: str, total: int | None, unit: str, done: int = 0, show: bool = True):
        self.name, self.total, self.unit, self.done = name, total, unit, done
        self._before, self._note, self._begin = done, "", time.monotonic()
        self._lock, self._closed = threading.Lock(), threading.Event()
        self._bar: tqdm[Any] | None = None
        seconds = interval()
        if not show:
            self._closed.set()
        elif sys.stderr.isatty():
            self._bar = tqdm(total=total, initial=done, unit=unit, unit_scale=unit == "B", desc=name, mininterval=1)
        else:
            # A thread, since a unit may take minutes. It keeps nothing alive: work that an error ended needs no lines.
            watch = threading.Thread(target=_watch, args=(weakref.ref(self), self._closed, seconds), daemon=True)
            watch.start()

    def update(self, count: int = 1, note: str = "") -> None:
        """So many units more are done. `note` says more of the state, such as a loss; it stays until the next one."""
        self.done += count
        self._note = note or self._note
        if self._bar is not None:
            if note:
                self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(count)

    def reach(self, done: int) -> None:
        """So many units are done in all; fewer than before where some have to be done again."""
        if self._bar is not None:
            self._bar.n = done
            self._bar.update(0)
        self.done = done

    def over(self, items: Iterable[T]) -> Iterator[T]:
        """The items; each is a unit, done when the next one is asked for."""
        for item in items:
            yield item
            self.update()

    def line(self, seconds: float, last: bool = False) -> str:
        """The state after so many seconds of work, in words; `last`: no more will be done."""
        made = self.done - self._before
        parts = [f"{self.name}: {amount(self.done, self.total, self.unit)}"]
        if self._note:
            parts.append(self._note)
        elif made > 0 and seconds > 0:
            parts.append(f"{rate(made / seconds, self.unit)}")
        if last or (self.total is not None and self.done >= self.total):
            parts.append(f"after {words(seconds)}")
        elif self.total is not None and made > 0:
            parts.append(f"about {words(seconds * (self.total - self.done) / made)} left")
        else:
            parts.append(f"{words(seconds)} so far")
        return ", ".join(parts)

    def close(self) -> None:
        """No more is done: the last line, or the end of the bar. A second time does nothing."""
        if self._bar is not None:
            self._bar.close()
        elif not self._closed.is_set():
            self._say(last=True)
        self._closed.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _say(self, last: bool = False) -> None:
        with self._lock:  # no line after the last
            if not self._closed.is_set():
                with contextlib.suppress(OSError, ValueError):  # stderr may be closed, or its reader gone
                    print(self.line(time.monotonic() - self._begin, last), file=sys.stderr, flush=True)


def _watch(progress: "weakref.ref[Progress]", closed: threading.Event, seconds: float) -> None:
    """Say how far it is, until it is closed or gone."""
    pause = min(FIRST_SECONDS, seconds)
    while not closed.wait(pause):
        watched = progress()
        if watched is None:
            return
        watched._say()
        del watched
        pause = seconds


def say(text: str) -> None:
    """A line on stderr that leaves bars whole."""
    tqdm.write(text, file=sys.stderr)


def interval() -> float:
    """Seconds between two lines. Raises UserError where the environment's value is no number above 0."""
    text = os.environ.get(VARIABLE, str(SECONDS))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < threading.TIMEOUT_MAX:
        raise UserError(f"{VARIABLE} is {text!r}: set it to a number of seconds above 0, or unset it")
    return seconds


def amount(done: int, total: int | None, unit: str) -> str:
    """How much of it is done, in words: `340 of 1,400 steps (24%)`, `12.0 of 45.6 MB (26%)`, `17 documents`."""
    if unit == "B":
        number, name = (lambda size: f"{size / 1e6:,.1f}"), "MB"
    else:
        number, name = (lambda count: f"{count:,}"), f"{unit}s"
    if total is None:
        return f"{number(done)} {name}"
    share = f" ({100 * done // total}%)" if total else ""
    return f"{number(done)} of {number(total)} {name}{share}"


def rate(per_second: float, unit: str) -> str:
    """A rate in words: `4.1 answers/s`, `2.5 MB/s`."""
    if unit == "B":
        return f"{per_second / 1e6:,.1f} MB/s"
    return f"{per_second:,.0f} {unit}s/s" if per_second >= 10 else f"{per_second:,.1f} {unit}s/s"


def words(seconds: float) -> str:
    """A duration in the unit that fits it."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
