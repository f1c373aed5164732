"""What every kind of source has in common."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from minimind.errors import UserError


class FetchError(UserError):
    """A source that can't be brought here; the message names it and says the mend."""


class AbsentError(FetchError):
    """A file that should be on this machine and is not."""


@dataclass(frozen=True, kw_only=True)
class Source(ABC):
    """One entry of a data set in params.yaml. The fields of a kind are the keys that such an entry may have.

    A new kind is a module beside this one with a subclass, and a line in `collection.KINDS`.
    """

    uri: str  # `<kind>:<place>`
    name: str | None = None  # of the file in the data set, without `.jsonl`; None: a number and the source's own name

    def __post_init__(self) -> None:
        if self.name is not None and not re.fullmatch(r"\w[\w.-]*", self.name):
            raise ValueError(f"the name {self.name!r} of {self.uri} must be of letters, digits, `_`, `.` and `-`")

    @property
    def place(self) -> str:
        """The URI without its kind."""
        return self.uri.partition(":")[2]

    @property
    def folder(self) -> Path | None:
        """Where in the folder of downloads lies what it brings; None for a kind that brings nothing."""
        return None

    def bring(self) -> None:  # noqa: B027  (not every kind has something to bring)
        """Bring what lies elsewhere to the folder of downloads, and no further. Raises FetchError."""

    def stems(self) -> list[str] | None:
        """Own names of the files that it will bring, without `.jsonl`; None where only fetching tells."""
        return None

    @abstractmethod
    def fetch(self, destination: Path, watched: Path) -> None:
        """Write one or more `.jsonl` files into the empty folder `destination`. Raises FetchError.

        `watched` is the folder of the user's own files: a dependency of the stage, so that DVC sees changes there.
        """

    def noted(self) -> Mapping[str, object]:
        """What the manifest says of where fetched files came from: uri, file, sha256 and bytes; nothing by default."""
        return {}

    def details(self, name: str) -> Mapping[str, object]:
        """What the manifest says of the file `name` that was written, beside its size; nothing by default."""
        return {}

    def compare(self, noted: Mapping[str, object]) -> str | None:
        """How what lies elsewhere differs from what a manifest notes, in words; None if it doesn't, as far as known.

        Raises FetchError where it is gone, or is not what is pinned.
        """
        return None
