"""Several downloads at once, of which one fails."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from minimind.sources import downloads, transfer
from minimind.sources.source import FetchError
from minimind.sources.transfer import Download, Remote, TransientError


class Endless(Remote):
    """Sends one byte after the other."""

    def blocks(self, offset: int, etag: str | None) -> Iterator[tuple[int, bytes]]:
        begun.set()
        while True:
            yield offset, b"x"
            offset += 1


class Busy(Remote):
    """Is to be asked again in ten minutes."""

    def blocks(self, offset: int, etag: str | None) -> Iterator[tuple[int, bytes]]:
        raise TransientError("busy", 600.0)


class Gone(Remote):
    """Has no file, as it says once the endless one has begun."""

    def blocks(self, offset: int, etag: str | None) -> Iterator[tuple[int, bytes]]:
        assert begun.wait(60)
        raise FetchError("gone")


begun = threading.Event()


def test_the_first_failure_ends_all_and_is_what_is_told(tmp_path: Path) -> None:
    remotes = [Endless(), Busy(), Gone(), *(Endless() for _ in range(2 * transfer.PARALLEL))]
    wanted = [
        Download(f"x:{number}", tmp_path / f"{number}.jsonl", remote, downloads.Pins(), "")
        for number, remote in enumerate(remotes)
    ]
    with pytest.raises(FetchError, match="gone"):
        transfer.bring(wanted)
    assert (tmp_path / "0.jsonl.part").stat().st_size > 0, "what has arrived stays"
    assert not (tmp_path / f"{len(remotes) - 1}.jsonl.part").exists(), "what had not begun does not begin"
