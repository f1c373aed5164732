"""Packages of a registry, brought by the registry's own client, whose configuration names the mirror."""

import shutil
import subprocess
import tarfile
import zipfile
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from minimind.sources import downloads
from minimind.sources.records import RecordSource
from minimind.sources.source import FetchError

ASK_SECONDS = 30
TIMEOUT_SECONDS = 3600

Command = Sequence[str | Path]


@dataclass(frozen=True, kw_only=True)
class PackageSource(RecordSource):
    """Files of a package whose names match the globs in `files`."""

    files: list[str]

    suffix: ClassVar[str]  # of the package's archive

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all([self.files, *self.files]):
            raise ValueError(f"`files` of {self.uri} must be globs such as data/**/*.json, at least one, none empty")

    @abstractmethod
    def archive(self) -> Path:
        """The package as it came; one that is there is compared with what is pinned and what it was.

        Raises FetchError.
        """

    @abstractmethod
    def package(self) -> Path:
        """The unpacked package's folder. Raises FetchError."""

    @property
    def folder(self) -> Path:
        """The archive's folder."""
        return downloads.folder(self.uri)

    def bring(self) -> None:
        """The archive. Raises FetchError."""
        self.archive()

    def fetch(self, destination: Path, watched: Path) -> None:
        """Write the records of the named files. Raises FetchError where a glob matches none."""
        root = self.package()
        paths: dict[Path, str] = {}
        for pattern in self.files:
            named = [root / pattern] if (root / pattern).is_file() else root.glob(pattern)
            found = sorted(path for path in named if path.is_file())
            if not found:
                raise FetchError(f"{self.uri}: no file of the package matches `{pattern}`; look into {root}")
            paths |= {path: path.relative_to(root).as_posix() for path in found}
        self.write(paths, destination)

    def noted(self) -> Mapping[str, object]:
        """The archive, for the manifest."""
        return {"uri": self.uri, **downloads.noted(next(self.folder.glob(f"*{self.suffix}")))}

    def compare(self, noted: Mapping[str, object]) -> str | None:
        """How the archive differs from the one that is noted: a version in a registry stays what it is."""
        found = downloads.noted(self.archive())["sha256"]
        if found == noted["sha256"]:
            return None
        return f"the SHA-256 of its archive was {noted['sha256']}, now it is {found}"


def bring(command: Command, folder: Path, suffix: str, uri: str, pins: downloads.Pins, ask: Command = ()) -> Path:
    """The one archive in `folder` whose name ends in `suffix`; `command` is run to put it there if there is none.

    The command must write into `<folder>.partial`. `ask`, for a client that waits for minutes where nobody answers,
    is a command that only asks the registry, and quickly. Raises FetchError, with what the client said.
    """
    if not (found := list(folder.glob(f"*{suffix}"))):
        # Written beside it first: a client that is killed may leave half an archive.
        partial = folder.with_name(f"{folder.name}.partial")
        partial.mkdir(parents=True, exist_ok=True)
        for leftover in partial.iterdir():
            leftover.unlink()
        client = Path(command[0]).name
        by_hand = " ".join([client, *("." if word == partial else str(word) for word in command[1:])])
        advice = f"Without a network here, run `{by_hand}` elsewhere and copy the *{suffix} to {folder}/"
        try:
            if ask:
                _run(ask, ASK_SECONDS)
            done = _run(command, TIMEOUT_SECONDS)
        except FileNotFoundError:
            raise FetchError(f"{uri}: `{client}`, which fetches it, is not installed here. {advice}") from None
        except subprocess.TimeoutExpired as error:
            raise FetchError(f"{uri}: `{client}` took more than {error.timeout:.0f} s. {advice}") from None
        arrived = list(partial.glob(f"*{suffix}"))
        if done.returncode or len(arrived) != 1:
            said = " ".join((done.stderr or done.stdout).split())[-600:]
            raise FetchError(f"{uri} could not be fetched: {said}. {advice}")
        try:
            pins.check(arrived[0], uri, "else fetch again")
        except FetchError:
            arrived[0].unlink()
            raise
        folder.mkdir(parents=True, exist_ok=True)
        found = [arrived[0].rename(folder / arrived[0].name)]
        partial.rmdir()
    if len(found) > 1:
        raise FetchError(f"{uri}: {folder} holds {len(found)} archives, expected one: delete the others")
    downloads.accept(found[0], uri, pins)
    return found[0]


def _run(command: Command, seconds: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)


def unpack(archive: Path, uri: str) -> Path:
    """The folder beside an archive, *.tgz or *.whl, that holds its files. Raises FetchError."""
    # Anew each time: nobody checks what happened to the files since.
    contents, partial = archive.parent / "contents", archive.parent / "contents.partial"
    for folder in (contents, partial):
        shutil.rmtree(folder, ignore_errors=True)
    try:
        if archive.suffix == ".tgz":
            with tarfile.open(archive) as tar:
                tar.extractall(partial, filter="data")
        else:
            with zipfile.ZipFile(archive) as zipped:
                zipped.extractall(partial)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise FetchError(f"{uri}: {archive} can't be unpacked ({error}): delete {archive.parent}") from error
    return partial.rename(contents)
