"""How often each source of a data set is read: epochs, or the share that it is to have of all tokens."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from minimind import limits
from minimind.errors import UserError
from minimind.limits import Limits

Times = Annotated[float, Limits(0, 1000, above=True)]


@dataclass(frozen=True)
class Portion:
    """What a source contributes. Raises ValueError naming the field."""

    epochs: Times | None = None  # times that its documents are read; of the broken part, a fixed choice of them
    weight: Annotated[float, Limits(0, 1, above=True)] | None = None  # share of the data set's training tokens
    max_epochs: Times = 1.0  # with a weight: at most so many epochs

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.weight is None):
            raise ValueError("a source has `epochs` or a `weight`, one of the two")
        limits.check(self)


@dataclass(frozen=True)
class Mixture:
    """Portions by data set and source, which is the name of a file without `.jsonl`; empty: every source once."""

    pretrain: dict[str, Portion] = field(default_factory=dict)
    sft: dict[str, Portion] = field(default_factory=dict)

    def of(self, data_set: str, sources: list[str]) -> dict[str, Portion]:
        """The portions of a data set that has these sources. Raises UserError where they don't fit together."""
        portions: dict[str, Portion] = getattr(self, data_set, {})
        key, known = f"pack.mixture.{data_set}", ", ".join(sources)
        for source in portions:
            if source not in sources:
                raise UserError(f"{key}: there is no source `{source}` (known: {known})")
        weights = {source: portion.weight for source, portion in portions.items() if portion.weight is not None}
        if not weights:
            return portions
        if set(weights) != set(sources):
            lacking = ", ".join(source for source in sources if source not in weights)
            raise UserError(f"{key}: where one source has a weight, every one needs it; without are: {lacking}")
        if abs(sum(weights.values()) - 1) > 1e-6:
            raise UserError(f"{key}: the weights add up to {sum(weights.values()):g}, expected 1")
        return portions


def epochs(portions: Mapping[str, Portion], tokens: Mapping[str, int]) -> dict[str, float]:
    """How many times each source is read; those without a portion once. tokens: of one epoch of each, for training.

    Weights w_i are shares of the tokens that are read, T: a source of n_i tokens is read w_i T / n_i times. T is the
    largest for which none is read more than its max_epochs: the smallest of max_epochs_i n_i / w_i. Raises UserError
    where a source with a weight has nothing to train on.
    """
    weighted = {source: portion for source, portion in portions.items() if portion.weight is not None}
    if empty := [source for source in weighted if not tokens[source]]:
        raise UserError(f"pack.mixture: {', '.join(empty)} has a weight and nothing to train on: take it out of `data`")
    total = min((p.max_epochs * tokens[source] / (p.weight or 1) for source, p in weighted.items()), default=0.0)
    found = dict.fromkeys(tokens, 1.0)
    for source, portion in portions.items():
        found[source] = portion.epochs or (portion.weight or 0) * total / tokens[source]
    return found
