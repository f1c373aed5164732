"""`file:<path or glob>`: files of records that are on this machine already."""

import glob
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from minimind.sources.downloads import Pins
from minimind.sources.records import RecordSource
from minimind.sources.source import AbsentError, FetchError


@dataclass(frozen=True, kw_only=True)
class FileSource(RecordSource):
    """The files that a path or a glob matches; relative ones from the root of the repository.

    DVC sees changes in the watched folder only. A file elsewhere must be pinned by its SHA-256: params.yaml then
    says which contents are meant, and a file that has changed is refused instead of being missed unnoticed.
    """

    sha256: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        Pins(self.sha256)

    def fetch(self, destination: Path, watched: Path) -> None:
        """Write the files' records. Raises FetchError."""
        paths = self._matches()
        if self.sha256 is not None and len(paths) > 1:
            raise FetchError(f"{self.uri}: it matches {len(paths)} files, which can't be pinned: list them one by one")
        for path in paths:
            self._check(path, watched)
        self.write({path: path.name for path in paths}, destination)

    def stems(self) -> list[str]:
        """The files' names, without what says how they are packed. Raises FetchError."""
        paths = {path: path.name for path in self._matches()}
        return list(dict.fromkeys(self.stem(path, paths) for path in paths))

    def heads(self, watched: Path, number: int) -> Iterator[tuple[Path, list[bytes]]]:
        """Each file with its first records, as lines of our schemas. Raises FetchError."""
        for path in self._matches():
            if self.sha256 is None:
                self._check(path, watched)
            yield path, self.first(path, path.name, number)

    def _matches(self) -> list[Path]:
        # file:///a/b is the long spelling of file:/a/b.
        pattern = self.place.removeprefix("//") if self.place.startswith("///") else self.place
        # A name that exists is meant, even if it could be read as a pattern: part[1].jsonl.
        names = [pattern] if Path(pattern).is_file() else sorted(glob.glob(pattern, recursive=True))
        paths = [Path(name) for name in names]
        paths = [path for path in paths if path.is_file()]
        if not paths:
            raise AbsentError(
                f"{self.uri}: there is no such file. A relative path starts at the root of the repository; "
                f"`dvc exp run --temp` sees only what git or DVC tracks (`dvc add` the file)"
            )
        return paths

    def _check(self, path: Path, watched: Path) -> None:
        # DVC follows a link to a file, but not one to a folder.
        inside = path.parent.resolve().is_relative_to(watched.resolve())
        if self.sha256 is None and inside:
            return
        found = Pins(self.sha256).check(path, self.uri, "else put the old file back")
        if self.sha256 is None:
            raise FetchError(
                f"{self.uri}: DVC would not see {path} change. Move it into {watched}/, or pin it with "
                f"`sha256: {found}` beside its uri"
            )
