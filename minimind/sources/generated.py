"""What kinds of sources have in common whose records our own code makes, the same ones for the same count and seed."""

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import orjson

from minimind import limits
from minimind.errors import UserError
from minimind.limits import Limits, Seed
from minimind.sources.source import FetchError, Source


@dataclass(frozen=True, kw_only=True)
class GeneratedSource(Source):
    """`count` records of a data set, which is what the URI names."""

    names: ClassVar[tuple[str, ...]]  # of the data sets

    count: Annotated[int, Limits(0, 10**9)]
    seed: Seed

    def __post_init__(self) -> None:
        super().__post_init__()
        limits.check(self)
        if self.place not in self.names:
            raise ValueError(f"{self.uri}: there is no data set {self.place!r}: use one of {', '.join(self.names)}")

    @abstractmethod
    def records(self) -> Iterable[dict[str, Any]]:
        """The records. Raises ValueError or UserError if there is no such data set, or not so many of them."""

    def stems(self) -> list[str]:
        """The data set's name."""
        return [self.place]

    def fetch(self, destination: Path, watched: Path) -> None:
        """Write `<data set>.jsonl`. Raises FetchError if there is no such data set, or not so many records."""
        try:
            records = self.records()
            with (destination / f"{self.place}.jsonl").open("wb") as stream:
                for record in records:
                    stream.write(orjson.dumps(record) + b"\n")
        except FetchError:
            raise
        except (ValueError, UserError) as error:
            raise FetchError(f"{self.uri} with count {self.count}: {error}") from error
