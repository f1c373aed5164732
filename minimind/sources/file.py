"""`file:<path or glob>`: JSON-lines files that are on this machine already."""

import fcntl
import glob
import shutil
from dataclasses import dataclass
from pathlib import Path

from minimind import files
from minimind.sources.source import FetchError, Source

_FICLONE = 0x40049409  # linux/fs.h


@dataclass(frozen=True, kw_only=True)
class FileSource(Source):
    """The files that a path or a glob matches; relative ones from the root of the repository.

    DVC sees changes in the watched folder only. A file elsewhere must be pinned by its SHA-256: params.yaml then
    says which contents are meant, and a file that has changed is refused instead of being missed unnoticed.
    """

    sha256: str | None = None

    def fetch(self, destination: Path, watched: Path) -> None:
        """Copy the files. Raises FetchError."""
        for path in self._matches():
            if path.suffix != ".jsonl":
                raise FetchError(f"{self.uri}: {path} is no .jsonl file: convert it to JSON lines, one object a line")
            target = destination / path.name
            if target.exists():
                raise FetchError(f"{self.uri}: it matches two files called {path.name}: list them as two sources")
            _copy(path, target)
            # The copy is what will be used, so it is what gets checked.
            self._check(path, files.sha256(target), watched)

    def _matches(self) -> list[Path]:
        # file:///a/b is the long spelling of file:/a/b.
        pattern = self.place.removeprefix("//") if self.place.startswith("///") else self.place
        paths = [Path(name) for name in sorted(glob.glob(pattern, recursive=True))]
        paths = [path for path in paths if path.is_file()]
        if not paths:
            raise FetchError(
                f"{self.uri}: there is no such file. A relative path starts at the root of the repository; "
                f"`dvc exp run --temp` sees only what git or DVC tracks (`dvc add` the file)"
            )
        return paths

    def _check(self, path: Path, found: str, watched: Path) -> None:
        # DVC follows a link to a file, but not one to a folder.
        inside = path.parent.resolve().is_relative_to(watched.resolve())
        if self.sha256 is None and not inside:
            raise FetchError(
                f"{self.uri}: DVC would not see {path} change. Move it into {watched}/, or pin it with "
                f"`sha256: {found}` beside its uri"
            )
        if self.sha256 is not None and self.sha256.lower() != found:
            raise FetchError(
                f"{self.uri}: the SHA-256 of {path} is {found}, params.yaml says {self.sha256}. If the new contents "
                "are meant, write the new value there; a glob with several files can't be pinned, list them one by one"
            )


def _copy(source: Path, target: Path) -> None:
    """Copy, sharing the blocks where the file system can.

    Never a hard link: DVC makes its cache read-only, and with a link it would make the user's own file so.
    """
    with source.open("rb") as reader, target.open("wb") as writer:
        try:
            fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
        except OSError:
            shutil.copyfileobj(reader, writer, length=1 << 20)
