"""Bringing bytes here: broken transfers go on where they stopped, busy servers are waited for, wrong files refused."""

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

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


@dataclass
class Remote(ABC):
    """A file elsewhere, as far as its owner tells before it is read."""

    size: int | None = None  # bytes
    sha256: str | None = None
    etag: str | None = None  # changes with the contents, whatever it is

    @abstractmethod
    def blocks(self, offset: int, etag: str | None) -> Iterator[tuple[int, bytes]]:
        """The file's bytes from `offset` on, or from 0 where it is no longer the one with `etag`: (position, block).

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


def bring(wanted: Sequence[Download]) -> None:
    """Bring several files, some at a time. Raises FetchError; what has arrived by then stays, for the next run."""
    stop = threading.Event()
    with ThreadPoolExecutor(PARALLEL) as pool:
        tasks = [pool.submit(_bring_one, download, stop) for download in wanted]
        try:
            for task in tasks:
                task.result()
        except BaseException:
            stop.set()
            for task in tasks:
                task.cancel()
            # Where one failed and the others were stopped, say what failed.
            pool.shutdown(wait=True)
            for task in tasks:
                if not task.cancelled() and isinstance(error := task.exception(), FetchError):
                    raise error from None
            raise


def patiently(action: Callable[[], T], uri: str, advice: str, progress: Callable[[], int] = int,
              stop: threading.Event | None = None) -> T:  # fmt: skip
    """What `action` returns, tried again after a TransientError, as long as `progress()` grows and a while longer.

    Raises FetchError once patience ends; at the second try where there was never a connection.
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
                tqdm.write(f"{uri}: {error}; again in {pause:.0f} s")
            if stop.wait(pause):
                raise


def _bring_one(download: Download, stop: threading.Event) -> None:
    part, remote = download.part, download.remote
    part.parent.mkdir(parents=True, exist_ok=True)
    part.touch()
    with tqdm(
        total=remote.size, initial=part.stat().st_size, desc=download.path.name, unit="B", unit_scale=True, disable=None
    ) as bar:

        def go_on() -> None:
            offset = part.stat().st_size
            etag = downloads.read_record(part).get("etag") if offset else None
            with part.open("r+b") as writer:
                for position, block in remote.blocks(offset, etag):
                    if stop.is_set():
                        raise TransientError("stopped, because another download failed")
                    if position < writer.seek(0, 2):
                        writer.truncate(position)
                    if remote.etag != etag:  # noted before the first byte that it is about
                        etag = remote.etag
                        with _RECORDS:
                            downloads.write_record(part, {"etag": etag})
                    writer.seek(position)
                    writer.write(block)
                    bar.n = position + len(block)
                    bar.update(0)
            found = part.stat().st_size
            if remote.size is not None and found < remote.size:
                raise TransientError(f"{found} of {remote.size} bytes arrived")

        patiently(go_on, download.uri, download.advice, lambda: part.stat().st_size, stop)
    try:
        found = download.pins.check(part, download.uri)
        if remote.size is not None and part.stat().st_size != remote.size:
            raise FetchError(f"{download.uri}: {part.stat().st_size} bytes arrived, {remote.size} were announced")
        if remote.sha256 is not None and found != remote.sha256:
            raise FetchError(f"{download.uri}: what arrived has the SHA-256 {found}, announced was {remote.sha256}")
    except FetchError:
        part.unlink()  # another try begins anew
        raise
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
