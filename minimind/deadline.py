"""Work that may never end: a generator in a process of its own, which is stopped at a given moment."""

import contextlib
import multiprocessing
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection
from typing import Any, Generic, Self, TypeVar

import psutil

from minimind.errors import UserError

GRACE_SECONDS = 0.5  # in which a process that is told to stop may clean up

T = TypeVar("T")


class OverdueError(Exception):
    """The moment came first."""


class DeadError(Exception):
    """The process ended without a result; the text says how."""


class Child(Generic[T]):
    """The generator `function(*arguments)` in a process of its own. A context manager: leaving it ends the process.

    The process begins anew (spawn), so the function stands at the top level of a module, and its arguments and what it
    yields can be pickled. With it ends whatever it has started, such as a compiler.
    """

    def __init__(self, function: Callable[..., Iterable[T]], *arguments: Any):
        context = multiprocessing.get_context("spawn")
        self._reader, self._writer = context.Pipe(duplex=False)
        self._process = context.Process(target=_serve, args=(self._writer, function, arguments), daemon=True)

    @property
    def pid(self) -> int | None:
        """Of the process, once it has started."""
        return self._process.pid

    def until(self, moment: float) -> Iterator[T]:
        """What it yields from here on, each as it comes, up to the `moment` of time.monotonic.

        Raises OverdueError at that moment, and DeadError; and what the generator raises, if it is a UserError.
        """
        while True:
            if not self._reader.poll(max(0.0, moment - time.monotonic())):
                raise OverdueError
            try:
                error, item = self._reader.recv()
            except EOFError:
                self._process.join()
                if self._process.exitcode != 0:
                    raise DeadError(f"its process ended with status {self._process.exitcode}") from None
                return
            if error is not None:
                raise error
            yield item

    def __enter__(self) -> Self:
        self._process.start()
        self._writer.close()
        return self

    def __exit__(self, *_: object) -> None:
        family = _family(self._process.pid)
        self._process.terminate()
        self._process.join(GRACE_SECONDS)
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        self._process.join()
        self._reader.close()


def _family(pid: int | None) -> list[psutil.Process]:
    """The process and all that come from it; none if it has ended."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _serve(writer: Connection, function: Callable[..., Iterable[Any]], arguments: tuple[Any, ...]) -> None:
    """What the process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends this process
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # leaves every `with`, so that no half-made file remains
    try:
        for item in function(*arguments):
            writer.send((None, item))
    except BrokenPipeError:  # the parent is gone
        return
    except UserError as error:
        writer.send((error, None))
    except Exception:  # whatever it is, the parent learns of it
        writer.send((DeadError(traceback.format_exc().strip()), None))
    writer.close()
