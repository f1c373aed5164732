"""One file of records that lies elsewhere."""

import sys
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from minimind.sources import downloads, records, transfer
from minimind.sources.records import RecordSource
from minimind.sources.source import FetchError


@dataclass(frozen=True, kw_only=True)
class RemoteSource(RecordSource):
    """A kind says how to locate its file; all else is here: it is downloaded once, checked, and noticed if it changes.

    Without `sha256` the first download decides what is meant, and a file that has changed upstream since is refused.
    """

    sha256: str | None = None
    size: int | None = None  # bytes

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.file_name:
            raise ValueError(f"the uri {self.uri} names no file")
        self.pins  # noqa: B018 (its checks)

    @abstractmethod
    def locate(self) -> transfer.Remote:
        """Ask where the file is and what is known of it. Raises transfer.TransientError and FetchError."""

    @abstractmethod
    def by_hand(self) -> str:
        """A command that brings the file, for a machine with a network."""

    @property
    def file_name(self) -> str:
        """The file's own name."""
        return PurePosixPath(unquote(urlsplit(self.uri).path)).name

    def stems(self) -> list[str]:
        """The file's name, without what says how it is packed."""
        return [records.stem(self.file_name)]

    @property
    def pins(self) -> downloads.Pins:
        """What params.yaml says of the file."""
        return downloads.Pins(self.sha256, self.size)

    @property
    def folder(self) -> Path:
        """The folder of the download."""
        return downloads.folder(self.uri)

    @property
    def path(self) -> Path:
        """Where the download lies."""
        return self.folder / self.file_name

    @property
    def advice(self) -> str:
        """What to do without a network."""
        return f"Without a network here, run `{self.by_hand()}` elsewhere and copy {self.file_name} to {self.folder}/"

    def plan(self) -> transfer.Download | None:
        """What is to be downloaded; None where the file is here. Raises FetchError, also if it has changed upstream."""
        if self.path.exists():
            downloads.accept(self.path, self.uri, self.pins)
            if self.sha256 is None:
                pin = f"pin them with `sha256: {downloads.noted(self.path)['sha256']}` in params.yaml"
                try:
                    change = self.compare(downloads.noted(self.path))
                except FetchError as error:
                    raise FetchError(f"{error}. Contents of before are in {self.folder}: to keep them, {pin}") from None
                if change:
                    raise FetchError(
                        f"{self.uri}: {change}. If the new contents are meant, delete {self.folder} and fetch again; "
                        f"if the old are, {pin}"
                    )
            return None
        remote = transfer.patiently(self.locate, self.uri, self.advice)
        if self.size is not None and remote.size is not None and remote.size != self.size:
            raise FetchError(
                f"{self.uri} has {remote.size} bytes now, `size` says {self.size}: if the new contents are meant, "
                "write the new size (and sha256) in params.yaml"
            )
        if self.sha256 is not None and remote.sha256 is not None and remote.sha256 != self.sha256.lower():
            raise FetchError(
                f"{self.uri} has the SHA-256 {remote.sha256} now, `sha256` says {self.sha256}: if the new contents are "
                "meant, write the new value in params.yaml; else name the older revision in the uri"
            )
        return transfer.Download(self.uri, self.path, remote, self.pins, self.advice)

    def compare(self, noted: Mapping[str, object]) -> str | None:
        """How the file upstream differs from what is noted; says on stderr if nobody answers. Raises FetchError."""
        try:
            remote = self.locate()
        except transfer.TransientError as error:
            print(f"{self.uri}: not compared with what is upstream now, {error}", file=sys.stderr)
            return None
        etag = downloads.read_record(self.path).get("etag")
        for what, now, then in (
            ("SHA-256", remote.sha256, noted["sha256"]),
            ("number of bytes", remote.size, noted["bytes"]),
            ("ETag", remote.etag, etag),
        ):
            if now is not None and then is not None and now != then:
                return f"it has changed upstream since it was fetched: its {what} was {then}, now it is {now}"
            if what == "SHA-256" and now is not None:
                return None
        return None

    def fetch(self, destination: Path, watched: Path) -> None:
        """Write the records of the downloaded file. Raises FetchError."""
        if download := self.plan() if not self.path.exists() else None:
            transfer.bring([download])
        self.write({self.path: self.file_name}, destination)

    def noted(self) -> Mapping[str, object]:
        """The file upstream, for the manifest."""
        return {"uri": self.uri, **downloads.noted(self.path)}
