"""The atlas: a small bilingual world of real facts, made by rules; every data set that the default profile needs."""

from collections.abc import Callable, Iterator
from typing import Any

from minimind.atlas import benchmark, conversations, documents, preferences, prompts
from minimind.atlas.splits import Split

Record = dict[str, Any]

_RECORDS: dict[str, Callable[[int, int], Record]] = {
    "pretrain": documents.document,
    "sft": conversations.conversation,
    "dpo": preferences.pair,
    "prompts": prompts.prompt,
}

_BENCHMARKS: dict[str, Split] = {"dev": "dev", "test": "test"}

NAMES = (*_RECORDS, *_BENCHMARKS)


def generate(name: str, count: int, seed: int) -> Iterator[Record]:
    """`count` records of the data set, in the schemas of MiniMind; equal arguments give equal records.

    pretrain: {"text"}. sft: {"conversations", "family"}. dpo: {"chosen", "rejected", "flaw"}.
    prompts: {"messages", "tools"?, "verify", "family"}. dev, test: items as of `benchmark`.
    Raises ValueError for an unknown name, and `turns.ExhaustedError` where dev or test has not so many items.
    """
    if name in _BENCHMARKS:
        return benchmark.items(_BENCHMARKS[name], count, seed)
    if name not in _RECORDS:
        raise ValueError(f"the atlas has no data set {name!r}: use one of {', '.join(NAMES)}")
    return (_RECORDS[name](seed, index) for index in range(count))
