"""Which data an instance belongs to: training, or one of the two halves of the benchmark, by a hash of its content.

Every generator of training data draws from "train" only, so that what the benchmark asks is absent from training, and
dev from test, by construction and not by luck.
"""

import hashlib
from collections.abc import Callable
from typing import Literal, TypeVar

from minimind.random import Random

T = TypeVar("T")
Split = Literal["train", "dev", "test"]


def split_of(*content: object) -> Split:
    """The split of an instance: dev and test get an eighth each, training the rest."""
    digest = hashlib.sha256("\x1f".join(map(str, content)).encode()).digest()
    return "dev" if digest[0] < 32 else "test" if digest[0] < 64 else "train"


def draw(random: Random, split: Split, make: Callable[[Random], T], content: Callable[[T], tuple[object, ...]]) -> T:
    """Calls `make` until the split of its value's `content` is the wanted one."""
    while True:
        instance = make(random)
        if split_of(*content(instance)) == split:
            return instance
