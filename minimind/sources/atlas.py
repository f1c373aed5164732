"""`atlas:<data set>`: records that our own generator makes, the same ones for the same count and seed."""

from dataclasses import dataclass
from pathlib import Path

import orjson

from minimind.atlas import world
from minimind.sources.source import FetchError, Source


@dataclass(frozen=True, kw_only=True)
class AtlasSource(Source):
    """`count` records of one of the atlas's data sets."""

    count: int
    seed: int

    def fetch(self, destination: Path, watched: Path) -> None:
        """Write `<data set>.jsonl`. Raises FetchError if there is no such data set, or not so many records."""
        try:
            records = world.generate(self.place, self.count, self.seed)
            with (destination / f"{self.place}.jsonl").open("wb") as stream:
                for record in records:
                    stream.write(orjson.dumps(record) + b"\n")
        except ValueError as error:
            raise FetchError(f"{self.uri} with count {self.count}: {error}") from error
