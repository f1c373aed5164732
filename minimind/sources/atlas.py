"""`atlas:<data set>`: records of a small bilingual world."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from minimind.atlas import world
from minimind.limits import Limits
from minimind.sources.generated import GeneratedSource


@dataclass(frozen=True, kw_only=True)
class AtlasSource(GeneratedSource):
    """`count` records of one of the atlas's data sets."""

    names = world.NAMES

    count: Annotated[int, Limits(1, 10**9)]

    def records(self) -> Iterable[dict[str, Any]]:
        """The records."""
        return world.generate(self.place, self.count, self.seed)
