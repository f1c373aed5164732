"""Section `clean` of params.yaml: which rule looks at which data set, and how strict it is."""

from dataclasses import dataclass
from typing import Literal

DATA_SETS = ("pretrain", "sft", "dpo", "prompts")
SWITCHES = (
    "control", "html", "markers", "boilerplate", "redact", "malformed", "turns", "refusals", "length", "language",
    "quality", "repetition", "decontaminate", "exact_duplicates", "near_duplicates",
)  # fmt: skip
SHARES = ("min_language_share", "similarity", "max_symbol_share", "min_terminal_share", "max_removed_share")


@dataclass(frozen=True)
class CleanConfig:
    """A switch names the data sets that its rule looks at: `all`, `off`, or some of DATA_SETS with spaces between.

    Raises ValueError naming the field.
    """

    normalise: Literal["NFC", "NFKC", "off"]
    control: str
    html: str
    markers: str  # of chat templates, written out
    boilerplate: str
    redact: str
    malformed: str
    turns: str
    refusals: str
    length: str
    min_characters: int
    max_characters: int  # 0: no limit
    language: str
    languages: str  # to keep, with spaces between
    min_language_share: float  # of a document's letters that are of those languages
    quality: str
    min_stop_words: int  # different ones, in documents of some length
    max_symbol_share: float  # signs such as # and … for each word
    min_terminal_share: float  # of the lines that end as sentences do
    repetition: str
    repetition_scale: float  # times Gopher's thresholds
    decontaminate: str
    ngram_words: int  # that a document may not share with an item of the benchmark
    ngram_han: int
    contaminated: Literal["document", "paragraph", "passage"]  # what of a document goes, in pretrain
    exact_duplicates: str
    near_duplicates: str
    similarity: float  # Jaccard, of the sets of five words or characters in a row
    max_removed_share: float  # of a data set's documents; more fail the stage

    def __post_init__(self) -> None:
        for name in SWITCHES:
            value = getattr(self, name)
            unknown = [word for word in value.split() if word not in DATA_SETS]
            if value not in ("all", "off") and (unknown or not value.split()):
                raise ValueError(f"clean.{name} is {value!r}, expected all, off, or some of: {' '.join(DATA_SETS)}")
        for name in SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"clean.{name} {getattr(self, name)} is a share: it must lie between 0 and 1")
        if unknown := [word for word in self.languages.split() if word not in ("zh", "en", "other")]:
            raise ValueError(f"clean.languages has {unknown[0]!r}, expected some of: zh en other")
        for name, lowest in (("ngram_words", 2), ("ngram_han", 2), ("min_characters", 0), ("max_characters", 0)):
            if getattr(self, name) < lowest:
                raise ValueError(f"clean.{name} is {getattr(self, name)}: it must be {lowest} or more")
        if self.repetition_scale <= 0:
            raise ValueError(f"clean.repetition_scale is {self.repetition_scale}: it must be above 0")

    def on(self, rule: str, data_set: str) -> bool:
        """Whether the switch `rule` names this data set."""
        value: str = getattr(self, rule)
        return value == "all" or data_set in value.split()
