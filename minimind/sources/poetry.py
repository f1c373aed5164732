"""`poetry:<data set>`: made from 300,000 poems of the Tang and the Song dynasty, which the npm package ships."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import orjson

from minimind.errors import UserError
from minimind.poetry import anthology, library
from minimind.poetry.anthology import Anthology
from minimind.sources import npm
from minimind.sources.source import FetchError, Source

PACKAGE = "chinese-poetry@2.0.1"  # MIT; how its records look is what `minimind.poetry` knows
INTEGRITY = "sha512-KtYARvV7CWNtax0na9+Jn6PlhGgSoid7PWyDzXI4KsCEm2odZcqEQyval5koaLygZnM/EQ3lfJ//25K8p3uHNg=="


@dataclass(frozen=True, kw_only=True)
class PoetrySource(Source):
    """`count` records of one of the data sets; for `pretrain`, 0 means every poem."""

    count: int
    seed: int

    def fetch(self, destination: Path, watched: Path) -> None:
        """Write `<data set>.jsonl`. Raises FetchError if there is no such data set, or not so many records."""
        try:
            records = library.generate(poems(), self.place, self.count, self.seed)
            with (destination / f"{self.place}.jsonl").open("wb") as stream:
                for record in records:
                    stream.write(orjson.dumps(record) + b"\n")
        except FetchError:
            raise
        except (ValueError, UserError) as error:
            raise FetchError(f"{self.uri} with count {self.count}: {error}") from error


@cache
def poems() -> Anthology:
    """All poems, read once for all data sets. Raises FetchError and anthology.AnthologyError."""
    return anthology.read(npm.package(PACKAGE, INTEGRITY))
