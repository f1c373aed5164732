"""Every data set that the profile `poetry` needs, made from the anthology."""

from collections.abc import Callable, Iterator
from typing import Any

from minimind.poetry import benchmark, conversations, documents, preferences
from minimind.poetry.anthology import Anthology
from minimind.random import Random

Record = dict[str, Any]

_RECORDS: dict[str, Callable[[Anthology, int, int], Record]] = {
    "sft": conversations.conversation,
    "dpo": preferences.pair,
    "prompts": conversations.prompt,
}

NAMES = ("pretrain", *_RECORDS, "dev", "test")


def generate(anthology: Anthology, name: str, count: int, seed: int) -> Iterator[Record]:
    """`count` records of the data set, in MiniMind's schemas; equal arguments give equal records.

    pretrain: {"text"}, at most one for each poem of training, in random order; count 0: all of them.
    sft: {"conversations", "family"}. dpo: {"chosen", "rejected", "flaw"}. prompts: {"messages", "verify", "family"}.
    dev, test: items as of `benchmark`.
    Raises ValueError for an unknown name, and `turns.ExhaustedError` where dev or test has not so many items.
    """
    match name:
        case "pretrain":
            poems = Random(f"poetry/pretrain/{seed}").shuffle(anthology.splits["train"])
            return (documents.document(poem, seed) for poem in poems[: count or None])
        case "dev" | "test":
            return benchmark.items(anthology, name, count, seed)
        case _ if name in _RECORDS:
            return (_RECORDS[name](anthology, seed, index) for index in range(count))
    raise ValueError(f"there is no data set {name!r}: use one of {', '.join(NAMES)}")
