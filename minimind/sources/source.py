"""What every kind of source has in common."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from minimind.errors import UserError


class FetchError(UserError):
    """A source that can't be brought here; the message names it and says the mend."""


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

    def bring(self) -> None:  # noqa: B027  (most kinds have nothing to bring)
        """Bring what lies elsewhere to the folder of downloads, and no further. Raises FetchError."""

    @abstractmethod
    def fetch(self, destination: Path, watched: Path) -> None:
        """Write one or more `.jsonl` files into the empty folder `destination`. Raises FetchError.

        `watched` is the folder of the user's own files: a dependency of the stage, so that DVC sees changes there.
        """

    def noted(self) -> Mapping[str, object]:
        """What the manifest says of where fetched files came from: uri, file, sha256 and bytes; nothing by default."""
        return {}
