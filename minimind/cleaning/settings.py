"""Section `clean` of params.yaml: which rule looks at which data set, and how strict it is."""

from dataclasses import dataclass
from typing import Annotated, Literal

from minimind import limits
from minimind.limits import Limits, Share

DATA_SETS = ("pretrain", "sft", "dpo", "prompts")
SWITCHES = (
    "control", "html", "markers", "boilerplate", "redact", "malformed", "turns", "refusals", "length", "language",
    "quality", "repetition", "decontaminate", "exact_duplicates", "near_duplicates",
)  # fmt: skip
Characters = Annotated[int, Limits(0, 10**8)]
Ngram = Annotated[int, Limits(2, 1000)]


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
    min_characters: Characters
    max_characters: Characters  # 0: no limit
    language: str
    languages: str  # to keep, with spaces between
    min_language_share: Share  # of a document's letters that are of those languages
    quality: str
    min_stop_words: Annotated[int, Limits(0, 1000)]  # different ones, in documents of some length
    max_symbol_share: Share  # signs such as # and … for each word
    min_terminal_share: Share  # of the lines that end as sentences do
    repetition: str
    repetition_scale: Annotated[float, Limits(0, 1000, above=True)]  # times Gopher's thresholds
    decontaminate: str
    ngram_words: Ngram  # that a document may not share with an item of the benchmark
    ngram_han: Ngram
    contaminated: Literal["document", "paragraph", "passage"]  # what of a document goes, in pretrain
    exact_duplicates: str
    near_duplicates: str
    similarity: Annotated[float, Limits(0, 1, above=True)]  # Jaccard, of the sets of five words or characters in a row
    max_removed_share: Share  # of a data set's documents; more fail the stage

    def __post_init__(self) -> None:
        for name in SWITCHES:
            value = getattr(self, name)
            unknown = [word for word in value.split() if word not in DATA_SETS]
            if value not in ("all", "off") and (unknown or not value.split()):
                raise ValueError(f"clean.{name} is {value!r}, expected all, off, or some of: {' '.join(DATA_SETS)}")
        limits.check(self, "clean")
        if not self.languages.split():
            raise ValueError("clean.languages is empty, expected some of: zh en other")
        if 0 < self.max_characters < self.min_characters:
            raise ValueError(
                f"clean.max_characters {self.max_characters} is below clean.min_characters {self.min_characters}: "
                "no document is so long and so short"
            )
        if unknown := [word for word in self.languages.split() if word not in ("zh", "en", "other")]:
            raise ValueError(f"clean.languages has {unknown[0]!r}, expected some of: zh en other")

    def on(self, rule: str, data_set: str) -> bool:
        """Whether the switch `rule` names this data set."""
        value: str = getattr(self, rule)
        return value == "all" or data_set in value.split()
