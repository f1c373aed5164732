"""`poetry:<data set>`: made from 300,000 poems of the Tang and the Song dynasty, which the npm package ships."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from minimind.poetry import anthology, library
from minimind.poetry.anthology import Anthology
from minimind.sources import npm
from minimind.sources.generated import GeneratedSource

PACKAGE = "chinese-poetry@2.0.1"  # MIT; how its records look is what `minimind.poetry` knows
INTEGRITY = "sha512-KtYARvV7CWNtax0na9+Jn6PlhGgSoid7PWyDzXI4KsCEm2odZcqEQyval5koaLygZnM/EQ3lfJ//25K8p3uHNg=="


@dataclass(frozen=True, kw_only=True)
class PoetrySource(GeneratedSource):
    """`count` records of one of the data sets; for `pretrain`, 0 means every poem."""

    def bring(self) -> None:
        """The package. Raises FetchError."""
        npm.package(PACKAGE, INTEGRITY)

    def records(self) -> Iterable[dict[str, Any]]:
        """The records."""
        return library.generate(poems(), self.place, self.count, self.seed)


@cache
def poems() -> Anthology:
    """All poems, read once for all data sets. Raises FetchError and anthology.AnthologyError."""
    return anthology.read(npm.package(PACKAGE, INTEGRITY))
