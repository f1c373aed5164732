"""What cleaning did to each data set and to each of its sources, in counts and bytes, with documents to read."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from minimind.cleaning.shards import EDITS, RULES, Outcome

NUM_REMOVED, NUM_KEPT = 20, 6  # samples of each rule, and of what stayed
DUPLICATE = "duplicate"  # the rule whose finds say nothing against a document

Removed = dict[str, Any]  # {"file", "line", "rule", "detail", "bytes", "excerpt"}


@dataclass
class Counts:
    """Lines and bytes of a data set or of a source."""

    lines: int = 0  # blank ones among them
    blank: int = 0
    num_bytes: int = 0  # of the lines that are not blank
    unreadable: int = 0
    kept: int = 0  # lines, unreadable ones among them
    kept_bytes: int = 0
    edits: Counter[str] = field(default_factory=Counter)
    removed: Counter[str] = field(default_factory=Counter)
    removed_bytes: Counter[str] = field(default_factory=Counter)

    @property
    def judged(self) -> tuple[int, int]:
        """How many documents other rules than DUPLICATE removed, and of how many."""
        again = self.removed[DUPLICATE]
        return self.removed.total() - again, self.documents - again

    @property
    def documents(self) -> int:
        """Lines that are not blank."""
        return self.lines - self.blank

    @property
    def edited_bytes(self) -> int:
        """By how much edits shortened what no rule removed; below 0 where they made it longer."""
        return self.num_bytes - self.removed_bytes.total() - self.kept_bytes

    def report(self) -> dict[str, Any]:
        """The counts, in the order of the rules."""
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


@dataclass
class Funnel(Counts):
    """A data set. Samples are those of the smallest hash: drawn neither by hand nor by place."""

    sources: dict[str, Counts] = field(default_factory=dict)  # by name of file
    samples: dict[str, list[tuple[str, Removed]]] = field(default_factory=dict)  # rule → (hash, entry), sorted

    def read(self, file: str, outcome: Outcome) -> None:
        """Count the lines of a shard of a file, whatever becomes of them."""
        for counts in self._both(file):
            counts.lines += outcome.lines
            counts.blank += outcome.blank
            counts.num_bytes += outcome.num_bytes
            counts.unreadable += outcome.unreadable
            counts.edits += outcome.edits

    def stay(self, file: str, num_bytes: int) -> None:
        """Count a line that stays."""
        for counts in self._both(file):
            counts.kept += 1
            counts.kept_bytes += num_bytes

    def remove(self, entry: Removed, key: str) -> None:
        """Count a removed document; `key`: a hash of it, in hexadecimal."""
        rule = entry["rule"]
        for counts in self._both(entry["file"]):
            counts.removed[rule] += 1
            counts.removed_bytes[rule] += entry["bytes"]
        self._sample(rule, key, entry, NUM_REMOVED)

    def keep(self, entry: Removed, key: str) -> None:
        """Perhaps show a document that stayed."""
        self._sample("kept", key, entry, NUM_KEPT)

    def wants(self, key: str) -> bool:
        """Whether a document of this hash would be shown among those that stayed."""
        rows = self.samples.get("kept", [])
        return len(rows) < NUM_KEPT or key < rows[-1][0]

    def shown(self, name: str) -> list[Removed]:
        """The samples of a rule, or those that stayed (`kept`), in the order of the data set."""
        entries = [entry for _, entry in self.samples.get(name, [])]
        return sorted(entries, key=lambda entry: (entry["file"], entry["line"]))

    def report(self) -> dict[str, Any]:
        """The counts, then those of each source, without samples."""
        return {**super().report(), "sources": {name: counts.report() for name, counts in self.sources.items()}}

    def _both(self, file: str) -> tuple[Counts, Counts]:
        return self, self.sources.setdefault(file, Counts())

    def _sample(self, name: str, key: str, entry: Removed, size: int) -> None:
        rows = self.samples.setdefault(name, [])
        if len(rows) < size or key < rows[-1][0]:
            rows.append((key, entry))
            rows.sort(key=lambda row: row[0])
            del rows[size:]
