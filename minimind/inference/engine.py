"""Answers to many prompts at once, or to one with a draft model's help, as text that comes in pieces.

A row takes a slot of the network when one is free, and leaves it when it has finished; prompts and single tokens of
different rows share a call. What a row draws depends on its sampling's seed, its own number and its tokens only.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from minimind.generate import sample, uniform
from minimind.inference.constraints import Constraint
from minimind.inference.network import Network, Source
from minimind.inference.sampling import Sampling, cut, penalise
from minimind.inference.text import Writer

# Draws of different kinds for the same token come from different streams.
TOKEN, DRAFT, ACCEPTANCE = (kind << 40 for kind in range(3))


class Row:
    """One prompt and the answer to it, as far as it goes. `take` hands out its text; `end` says why it ended."""

    def __init__(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        max_new_tokens: int,
        writer: Writer,
        constraint: Constraint | None = None,
        number: int = 0,
    ):
        self.prompt, self.sampling, self.max_new_tokens = list(prompt), sampling, max_new_tokens
        self.writer, self.constraint, self.number = writer, constraint, number
        self.tokens: list[int] = []
        self.end: Literal["stop", "length"] | None = None
        self.text = ""
        self.proposed = self.accepted = 0  # tokens of the draft
        self._taken = 0
        self._seen: Tensor | None = None

    def take(self) -> str:
        """The text since the last call."""
        start, self._taken = self._taken, len(self.text)
        return self.text[start:]

    def append(self, token: int, stop: int) -> None:
        """Go on by one token; `stop` ends the answer without being part of it."""
        if token == stop:
            self._finish("stop")
            return
        self.tokens.append(token)
        if self._seen is not None:
            self._seen[:, token] = True
        self.text += self.writer.write(token)
        if self.constraint is not None:
            self.constraint.accept(token)
        if self.writer.stopped or (self.constraint is not None and self.constraint.complete):
            self._finish("stop")
        elif len(self.tokens) == self.max_new_tokens:
            self._finish("length")

    def _finish(self, end: Literal["stop", "length"]) -> None:
        self.text += self.writer.finish()
        self.end = end

    @property
    def plain(self) -> bool:
        """Whether the model's scores are taken as they are."""
        return self.constraint is None and not self.sampling.penalises

    def adjust(self, logits: Tensor) -> Tensor:
        """The scores (V,) of the next token after penalties and constraint."""
        if self.sampling.penalises:
            if self._seen is None:  # of prompt and answer, and of the answer
                self._seen = torch.zeros(2, len(logits), dtype=torch.bool, device=logits.device)
                self._seen[0, self.prompt] = True
                self._seen[:, self.tokens] = True
            logits = penalise(logits[None], self._seen[:1], self._seen[1:], self.sampling)[0]
        if self.constraint is not None:
            logits = logits.masked_fill(~self.constraint.allowed().to(logits.device), -torch.inf)
        return logits


class Engine:
    """A model, and if wanted a smaller one whose guesses it checks (speculative decoding, arXiv:2211.17192)."""

    def __init__(self, source: Source, stop: int, draft: Source | None = None, draft_tokens: int = 4):
        self.source, self.draft, self.stop, self.draft_tokens = source, draft, stop, draft_tokens

    def run(self, rows: Sequence[Row], slots: int = 32) -> Iterator[Row]:
        """Finish the rows, up to `slots` of them side by side; yields a row whenever it has gone on.

        With a draft it is one after the other. Dropping the iterator ends the work.
        """
        if self.draft is not None:
            for row in rows:
                yield from self._speculate(row, self.draft)
        elif rows:
            yield from self._decode(rows, min(slots, len(rows)))

    def _decode(self, rows: Sequence[Row], slots: int) -> Iterator[Row]:
        # Long ones first: short ones fill the gaps at the end.
        waiting = deque(sorted(rows, key=lambda row: -len(row.prompt) - row.max_new_tokens))
        network = self.source.network(slots, _room(rows))
        active: dict[int, Row] = {}
        while waiting or active:
            entering = {slot: waiting.popleft() for slot in range(slots) if waiting and slot not in active}
            active |= entering
            for slot in entering:
                network.lengths[slot] = 0
            parts = [row.prompt if slot in entering else row.tokens[-1:] for slot, row in active.items()]
            logits = network.feed(list(active), parts)
            for row, token in zip(list(active.values()), choose(list(active.values()), logits), strict=True):
                row.append(token, self.stop)
                yield row
            active = {slot: row for slot, row in active.items() if row.end is None}

    def _speculate(self, row: Row, draft: Source) -> Iterator[Row]:
        room = _room([row]) + self.draft_tokens
        target, guesser = self.source.network(1, room), draft.network(1, room)
        if len(row.prompt) > 1:
            target.feed([0], [row.prompt[:-1]])
        while row.end is None:
            text = row.prompt + row.tokens
            guesses, chances = self._guess(row, guesser, text)
            logits = target.feed([0], [text[target.lengths[0] :] + guesses], every=True)
            for i in range(len(guesses) + 1):
                guess = guesses[i] if i < len(guesses) else None
                token = _check(row, logits[i], guess, None if guess is None else chances[i])
                row.append(token, self.stop)
                row.accepted += token == guess
                if row.end is not None or token != guess:
                    break
            row.proposed += len(guesses)
            known = len(row.prompt) + len(row.tokens) - 1  # the newest token has been entered nowhere yet
            target.lengths[0], guesser.lengths[0] = known, min(known, guesser.lengths[0])
            yield row

    def _guess(self, row: Row, guesser: Network, text: list[int]) -> tuple[list[int], list[Tensor]]:
        """The draft's continuation of `text`, and the logarithms of the chances (V,) that each was drawn with."""
        guesses: list[int] = []
        chances: list[Tensor] = []
        for _ in range(min(self.draft_tokens, row.max_new_tokens - len(row.tokens) - 1)):
            logits = guesser.feed([0], [(text + guesses)[guesser.lengths[0] :]])
            if row.sampling.temperature > 0:
                logits = cut(logits, row.sampling)
            guesses.append(_draw(row, logits, DRAFT, len(guesses)))
            chances.append(logits[0])
        return guesses, chances


def choose(rows: Sequence[Row], logits: Tensor) -> list[int]:
    """The next token of every row. logits (R, V) fp32."""
    if not all(row.plain for row in rows):
        adjusted = [scores if row.plain else row.adjust(scores) for row, scores in zip(rows, logits, strict=True)]
        logits = torch.stack(adjusted)
    tokens = logits.max(-1).indices.tolist()
    groups: dict[Sampling, list[int]] = {}
    for i, row in enumerate(rows):
        if row.sampling.temperature > 0:
            groups.setdefault(row.sampling, []).append(i)
    for sampling, members in groups.items():
        streams = torch.tensor([rows[i].number for i in members], device=logits.device)
        steps = torch.tensor([len(rows[i].tokens) for i in members], device=logits.device)
        drawn = sample(cut(logits[members], sampling), uniform(sampling.seed, streams, steps))
        for i, token in zip(members, drawn.tolist(), strict=True):
            tokens[i] = token
    return tokens


def _check(row: Row, logits: Tensor, guess: int | None, chances: Tensor | None) -> int:
    """The next token: the guess, or another where it does not stand, so that draws follow the model's distribution.

    A guess x, drawn with chance q(x), stands with probability min(1, p(x) / q(x)); otherwise the token is drawn from
    the positive part of p - q. logits (V,) of the model; chances (V,), log q up to a constant. Source:
    arXiv:2211.17192, algorithm 1.
    """
    logits = row.adjust(logits)
    if row.sampling.temperature == 0:
        return int(logits.max(-1).indices)
    logits = cut(logits[None], row.sampling)
    if guess is None or chances is None:
        return _draw(row, logits, TOKEN)
    p, q = logits[0].softmax(-1), chances.softmax(-1)
    if _uniform(row, ACCEPTANCE, logits.device) * q[guess] < p[guess]:
        return guess
    return _draw(row, (p - q).clamp(min=0).log()[None], TOKEN)


def _draw(row: Row, logits: Tensor, kind: int, ahead: int = 0) -> int:
    """A token from softmax(logits), or the most probable at temperature 0. logits (1, V)."""
    if row.sampling.temperature == 0:
        return int(logits.max(-1).indices)
    return int(sample(logits, _uniform(row, kind, logits.device, ahead)))


def _uniform(row: Row, kind: int, device: torch.device, ahead: int = 0) -> Tensor:
    streams = torch.tensor([row.number + kind], device=device)
    return uniform(row.sampling.seed, streams, len(row.tokens) + ahead)


def _room(rows: Sequence[Row]) -> int:
    return max(len(row.prompt) + row.max_new_tokens for row in rows)
