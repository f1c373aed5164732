"""`poetry:<data set>`: made from 300,000 poems of the Tang and the Song dynasty, which the npm package ships."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from minimind.poetry import anthology, library
from minimind.poetry.anthology import Anthology
from minimind.sources.generated import GeneratedSource
from minimind.sources.npm import NpmSource

PACKAGE = "chinese-poetry@2.0.1"  # MIT; how its records look is what `minimind.poetry` knows
INTEGRITY = "sha512-KtYARvV7CWNtax0na9+Jn6PlhGgSoid7PWyDzXI4KsCEm2odZcqEQyval5koaLygZnM/EQ3lfJ//25K8p3uHNg=="


_SHIPPED = NpmSource(uri=f"npm:{PACKAGE}", integrity=INTEGRITY, files=["**"])


@dataclass(frozen=True, kw_only=True)
class PoetrySource(GeneratedSource):
    """`count` records of one of the data sets; for `pretrain`, 0 means every poem."""

    names = library.NAMES

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.count == 0 and self.place != "pretrain":
            raise ValueError(f"count is 0: {self.uri} has to bring some")

    @property
    def folder(self) -> Path:
        """The package's folder."""
        return _SHIPPED.folder

    def bring(self) -> None:
        """The package. Raises FetchError."""
        _SHIPPED.bring()

    def noted(self) -> Mapping[str, object]:
        """The package's archive, for the manifest."""
        return {**_SHIPPED.noted(), "uri": self.uri}

    def compare(self, noted: Mapping[str, object]) -> str | None:
        """How the package's archive differs from the one that is noted."""
        return _SHIPPED.compare(noted)

    def records(self) -> Iterable[dict[str, Any]]:
        """The records."""
        return library.generate(poems(), self.place, self.count, self.seed)


@cache
def poems() -> Anthology:
    """All poems, read once for all data sets. Raises FetchError and anthology.AnthologyError."""
    return anthology.read(_SHIPPED.package())
