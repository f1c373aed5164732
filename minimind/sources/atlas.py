"""`atlas:<data set>`: records of a small bilingual world."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from minimind.atlas import world
from minimind.sources.generated import GeneratedSource


@dataclass(frozen=True, kw_only=True)
class AtlasSource(GeneratedSource):
    """`count` records of one of the atlas's data sets."""

    def records(self) -> Iterable[dict[str, Any]]:
        """The records."""
        return world.generate(self.place, self.count, self.seed)
