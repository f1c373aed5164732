"""Bringing bytes here: broken transfers go on where they stopped, busy servers are waited for, wrong files refused."""

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TypeVar

from minimind.progress import Progress, say
from minimind.sources import downloads
from minimind.sources.source import FetchError

PARALLEL = 4
ATTEMPTS = 6  # without a byte in between
PAUSE_SECONDS = 1.0  # after the first; doubled after each further
LONGEST_PAUSE_SECONDS = 600.0  # that a server may ask for

T = TypeVar("T")


class TransientError(Exception):
    """Something that may work a little later: a cut connection, a busy server. The text says what happened."""

    def __init__(self, reason: str, seconds: float | None = None):
        super().__init__(reason)
        self.seconds = seconds  # to wait for, if the server said so


class UnreachableError(TransientError):
    """No connection at all: most often there is no network, which no patience mends."""


class StoppedError(Exception):
    """A download that was given up because another one failed."""


@dataclass
class Remote(ABC):
    """A file elsewhere, as far as its owner tells before it is read."""

    size: int | None = None  # bytes
    sha256: str | None = None
    etag: str | None = None  # changes with the contents, whatever it is

    @abstractmethod
    def blocks(self, offset: int, etag: str | None) -> Iterator[tuple[int, bytes]]:
        """The file's bytes from `offset` on, or from 0 where it is no longer the one with `etag`: (position, block).

        Without `etag` it is taken for the same file.
        Sets `etag`, and `size`, as the server tells them. Raises TransientError and FetchError.
        """


@dataclass(frozen=True)
class Download:
    """A file to bring to `path`."""

    uri: str
    path: Path
    remote: Remote
    pins: downloads.Pins
    advice: str  # what to do without a network

    @property
    def part(self) -> Path:
        """Where it grows."""
        return self.path.with_name(f"{self.path.name}.part")

    @property
    def size(self) -> int:
        """Bytes, as its owner or params.yaml says; 0 where neither does."""
        return self.remote.size or self.pins.size or 0


def bring(wanted: Sequence[Download]) -> None:
    """Bring several files, some at a time. Raises FetchError; what has arrived by then stays, for the next run."""
    stop = threading.Event()
    with ThreadPoolExecutor(PARALLEL) as pool:
        tasks = [pool.submit(_bring_one, download, stop) for download in wanted]
        try:
            wait(tasks, return_when=FIRST_EXCEPTION)
        finally:  # all are here, or the others are to stop
            stop.set()
            pool.shutdown(cancel_futures=True)
    errors = [task.exception() for task in tasks if not task.cancelled()]
    for error in errors:
        if error is not None and not isinstance(error, StoppedError):
            raise error


def patiently(action: Callable[[], T], uri: str, advice: str, progress: Callable[[], int] = int,
              stop: threading.Event | None = None) -> T:  # fmt: skip
    """What `action` returns, tried again after a TransientError, as long as `progress()` grows and a while longer.

    Raises FetchError once patience ends, at the second try where there was never a connection; StoppedError.
    """
    stop = stop or threading.Event()
    failures, furthest, connected = 0, 0, False
    while True:
        try:
            return action()
        except TransientError as error:
            connected = connected or not isinstance(error, UnreachableError)
            if progress() > furthest:
                furthest, failures = progress(), 0
            failures += 1
            if failures == (ATTEMPTS if connected else 2):
                raise FetchError(f"{uri} could not be fetched, {failures} times in a row: {error}. {advice}") from error
            if error.seconds is not None and error.seconds > LONGEST_PAUSE_SECONDS:
                raise FetchError(
                    f"{uri}: {error}, and wants {error.seconds:.0f} seconds to pass: fetch again after that"
                ) from error
            pause = PAUSE_SECONDS * 2 ** (failures - 1) if error.seconds is None else error.seconds
            if connected:
                say(f"{uri}: {error}; again in {pause:.0f} s")
            if stop.wait(pause):
                raise StoppedError from error


def _bring_one(download: Download, stop: threading.Event, splice: bool = True) -> None:
    """`splice`: where no ETag says that the rest is of the same file, let a digest say so in the end."""
    part, remote = download.part, download.remote
    splice = splice and (download.pins.digest or remote.sha256 is not None)
    spliced = False
    part.parent.mkdir(parents=True, exist_ok=True)
    part.touch()
    with Progress(download.path.name, download.size or None, "B", part.stat().st_size) as bar:

        def go_on() -> None:
            nonlocal spliced
            offset = part.stat().st_size
            etag = downloads.read_record(part).get("etag") if offset else None
            if etag is None or etag.startswith("W/"):  # a weak one doesn't speak of bytes
                offset, etag = offset if splice else 0, None
                spliced = spliced or offset > 0
            with part.open("r+b") as writer:
                for position, block in remote.blocks(offset, etag):
                    if stop.is_set():
                        raise StoppedError
                    if position == 0:
                        spliced = False
                    if position < writer.seek(0, 2):
                        writer.truncate(position)
                    if remote.etag != etag:  # noted before the first byte that it is about
                        etag = remote.etag
                        with _RECORDS:
                            downloads.write_record(part, {"etag": etag})
                    writer.seek(position)
                    writer.write(block)
                    bar.reach(position + len(block))
            found = part.stat().st_size
            if remote.size is not None and found < remote.size:
                raise TransientError(f"{found} of {remote.size} bytes arrived")

        patiently(go_on, download.uri, download.advice, lambda: part.stat().st_size, stop)
    try:
        found = download.pins.check(part, download.uri, "else fetch again")
        if remote.size is not None and part.stat().st_size != remote.size:
            raise FetchError(f"{download.uri}: {part.stat().st_size} bytes arrived, {remote.size} were announced")
        if remote.sha256 is not None and found != remote.sha256:
            raise FetchError(f"{download.uri}: what arrived has the SHA-256 {found}, announced was {remote.sha256}")
    except FetchError:
        part.unlink()  # another try begins anew
        if not spliced:
            raise
        say(f"{download.uri}: what arrived in parts is not the file; again from the start")
        return _bring_one(download, stop, splice=False)
    record = {"uri": download.uri, "sha256": found, "bytes": part.stat().st_size, "etag": remote.etag}
    with _RECORDS:
        downloads.write_record(download.path, record)
    part.rename(download.path)


_RECORDS = threading.Lock()  # of record.json, in case two sources share a folder


def seconds(retry_after: str | None) -> float | None:
    """How long the header Retry-After says to wait; it holds seconds or a date."""
    if not retry_after:
        return None
    if retry_after.strip().isdigit():
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return None
