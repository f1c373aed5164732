"""What cleaning did to each data set, in counts and bytes, with documents to read."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from minimind.cleaning.shards import EDITS, RULES

NUM_REMOVED, NUM_KEPT = 3, 6  # samples of each rule, and of what stayed

Removed = dict[str, Any]  # {"file", "line", "rule", "detail", "bytes", "excerpt"}


@dataclass
class Funnel:
    """The counts of one data set. Samples are those of the smallest hash: drawn neither by hand nor by place."""

    lines: int = 0  # blank ones among them
    blank: int = 0
    num_bytes: int = 0
    unreadable: int = 0
    kept: int = 0  # lines, unreadable ones among them
    kept_bytes: int = 0
    edits: Counter[str] = field(default_factory=Counter)
    removed: Counter[str] = field(default_factory=Counter)
    removed_bytes: Counter[str] = field(default_factory=Counter)
    samples: dict[str, list[tuple[str, Removed]]] = field(default_factory=dict)  # rule → (hash, entry), sorted

    @property
    def documents(self) -> int:
        """Lines that are not blank."""
        return self.lines - self.blank

    def remove(self, entry: Removed, key: str) -> None:
        """Count a removed document; `key`: a hash of it, in hexadecimal."""
        rule = entry["rule"]
        self.removed[rule] += 1
        self.removed_bytes[rule] += entry["bytes"]
        self._sample(rule, key, entry, NUM_REMOVED)

    def keep(self, entry: Removed, key: str) -> None:
        """Perhaps show a document that stayed."""
        self._sample("kept", key, entry, NUM_KEPT)

    def wants(self, key: str) -> bool:
        """Whether a document of this hash would be shown among those that stayed."""
        rows = self.samples.get("kept", [])
        return len(rows) < NUM_KEPT or key < rows[-1][0]

    def _sample(self, name: str, key: str, entry: Removed, size: int) -> None:
        rows = self.samples.setdefault(name, [])
        if len(rows) < size or key < rows[-1][0]:
            rows.append((key, entry))
            rows.sort(key=lambda row: row[0])
            del rows[size:]

    def shown(self, name: str) -> list[Removed]:
        """The samples of a rule, or those that stayed (`kept`), in the order of the data set."""
        entries = [entry for _, entry in self.samples.get(name, [])]
        return sorted(entries, key=lambda entry: (entry["file"], entry["line"]))

    def report(self) -> dict[str, Any]:
        """The counts, in the order of the rules, without samples."""
        return {
            "documents": self.documents,
            "blank": self.blank,
            "bytes": self.num_bytes,
            "unreadable": self.unreadable,
            "edited": {name: self.edits[name] for name in EDITS if self.edits[name]},
            "removed": {
                name: {"documents": self.removed[name], "bytes": self.removed_bytes[name]}
                for name in RULES
                if self.removed[name]
            },
            "kept": {"documents": self.kept, "bytes": self.kept_bytes},
        }
