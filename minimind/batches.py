"""From packed rows to batches. Which rows a step sees is a pure function of (seed, step)."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from minimind.errors import UserError
from minimind.losses import IGNORE
from minimind.rows import Rows

Batch = dict[str, Tensor]
"""ids, targets, documents: int64 (B, T), and whatever extra columns a stage lines up with its rows."""


@dataclass(frozen=True)
class Source:
    """Rows that make up `share` of every batch; `extras` are arrays (N, …) aligned with the rows."""

    rows: Rows
    share: float = 1.0
    extras: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)


def collate(source: Source, indices: NDArray[np.int64]) -> Batch:
    """The rows at `indices` as tensors. A position's target is the next token, where that token is to be learnt."""
    tokens = torch.from_numpy(source.rows.column("tokens")[indices].astype(np.int64))
    learn = torch.from_numpy(source.rows.column("learn")[indices].astype(np.bool_))
    documents = torch.from_numpy(source.rows.column("documents")[indices].astype(np.int64))
    targets = torch.full_like(tokens, IGNORE)
    follows = learn[:, 1:] & (documents[:, 1:] == documents[:, :-1]) & (documents[:, 1:] > 0)
    targets[:, :-1] = torch.where(follows, tokens[:, 1:], IGNORE)
    extras = {name: torch.from_numpy(np.ascontiguousarray(array[indices])) for name, array in source.extras.items()}
    return {"ids": tokens, "targets": targets, "documents": documents, **extras}


class Batches:
    """Endless shuffled batches of `batch_size` rows from one or several sources, mixed by their shares.

    Each source is shuffled anew every time it has been used up, with a seed of its own; nothing is drawn twice
    before everything has been drawn once. Shares hold exactly over the run, not only on average.
    Raises ValueError if the shares don't add up to 1, UserError if a source has no rows.
    """

    def __init__(self, sources: Sequence[Source], batch_size: int, seed: int):
        if any(len(source.rows) == 0 for source in sources):
            raise UserError("a source of batches has no rows: bring more data")
        if abs(sum(s.share for s in sources) - 1) > 1e-9:
            raise ValueError(f"the sources' shares add up to {sum(s.share for s in sources)}, not to 1")
        if any(s.share <= 0 for s in sources):
            raise ValueError("a source of batches has no share: leave it out")
        self.sources, self.batch_size, self.seed = list(sources), batch_size, seed
        self._orders: dict[int, tuple[int, NDArray[np.int64]]] = {}
        self._reader = ThreadPoolExecutor(1, "batches")
        self._next: tuple[int, Future[Batch]] | None = None

    def steps(self, epochs: float) -> int:
        """Number of steps in which the first source is seen `epochs` times."""
        first = self.sources[0]
        return max(1, round(epochs * len(first.rows) / (first.share * self.batch_size)))

    def at(self, step: int) -> Batch:
        """The batch of `step`, from 0. The one after it is read while the caller works on this one."""
        ready, self._next = self._next, None
        if ready is None or ready[0] != step:
            ready = step, self._reader.submit(self._read, step)
        batch = ready[1].result()
        self._next = (step + 1, self._reader.submit(self._read, step + 1))
        return batch

    def _read(self, step: int) -> Batch:
        parts = []
        for number, (start, end) in enumerate(self._spans(step)):
            if end > start:
                indices = np.array([self._row(number, draw) for draw in range(start, end)])
                parts.append(collate(self.sources[number], indices))
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _spans(self, step: int) -> Iterator[tuple[int, int]]:
        """How many rows of each source are drawn before and after this step; the first source takes the remainder."""
        befores, afters = [], []
        for source in self.sources[1:]:
            befores.append(int(source.share * self.batch_size * step + 0.5))
            afters.append(int(source.share * self.batch_size * (step + 1) + 0.5))
        yield self.batch_size * step - sum(befores), self.batch_size * (step + 1) - sum(afters)
        yield from zip(befores, afters, strict=True)

    def _row(self, number: int, draw: int) -> int:
        epoch, position = divmod(draw, len(self.sources[number].rows))
        if self._orders.get(number, (-1, None))[0] != epoch:
            digest = hashlib.sha256(f"{self.seed}/{number}/{epoch}".encode()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
            order = torch.randperm(len(self.sources[number].rows), generator=generator).numpy()
            self._orders[number] = (epoch, order)
        return int(self._orders[number][1][position])


def validation(source: Source, batch_size: int) -> Iterator[Batch]:
    """Every row once, in order."""
    for start in range(0, len(source.rows), batch_size):
        yield collate(source, np.arange(start, min(start + batch_size, len(source.rows))))
