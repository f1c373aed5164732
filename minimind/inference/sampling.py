"""Which token comes next: penalties, temperature, and the cuts to the probable ones."""

import dataclasses
import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from minimind.errors import UserError

DEFAULT_NEW_TOKENS = 512
NUMBER, WHOLE = (int, float), (int,)
TYPES: dict[str, tuple[type, ...]] = {
    "max_new_tokens": (int, type(None)), "temperature": NUMBER, "top_k": WHOLE, "top_p": NUMBER, "min_p": NUMBER,
    "repetition_penalty": NUMBER, "presence_penalty": NUMBER, "seed": WHOLE,
}  # fmt: skip


@dataclass(frozen=True)
class Sampling:
    """How an answer is drawn; temperature 0 takes the most probable token each time. Raises UserError."""

    max_new_tokens: int | None = None  # None: DEFAULT_NEW_TOKENS, or what the model has positions for
    temperature: float = 0.0
    top_k: int = 0  # draw from so many tokens; 0: from all
    top_p: float = 1.0  # then from the smallest set that holds this share of the rest
    min_p: float = 0.0  # then from those at least so probable, relative to the most probable
    repetition_penalty: float = 1.0  # divides positive scores of tokens that occur in prompt or answer
    presence_penalty: float = 0.0  # taken from the scores of tokens that occur in the answer
    stop: str | Sequence[str] = ()  # the answer ends before the first of these
    seed: int = 0

    @classmethod
    def of(cls, options: Mapping[str, Any], others: Sequence[str] = ()) -> "Sampling":
        """From options by name, some of which may be missing. Raises UserError for one that is unknown, naming the
        nearest of ours and of `others`, which the caller takes besides.
        """
        fields = [field.name for field in dataclasses.fields(cls)]
        for name in options:
            if name not in fields:
                close = difflib.get_close_matches(name, [*fields, *others], n=1)
                hint = f"; did you mean {close[0]}?" if close else ""
                raise UserError(f"there is no option {name}{hint} (there are: {', '.join([*fields, *others])})")
        return cls(**options)

    def __post_init__(self) -> None:
        for name, types in TYPES.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, types):
                raise UserError(f"{name} is {value!r}, expected a {'number' if float in types else 'whole number'}")
        if not isinstance(self.stop, str) and not all(isinstance(text, str) for text in self.stop):
            raise UserError(f"stop is {self.stop!r}, expected a text or a list of texts")
        object.__setattr__(self, "stop", (self.stop,) if isinstance(self.stop, str) else tuple(self.stop))
        bounds = {
            "max_new_tokens": self.max_new_tokens is None or self.max_new_tokens > 0,
            "temperature": 0 <= self.temperature < math.inf,
            "top_k": self.top_k >= 0,
            "top_p": 0 < self.top_p <= 1,
            "min_p": 0 <= self.min_p <= 1,
            "repetition_penalty": 0 < self.repetition_penalty < math.inf,
            "presence_penalty": math.isfinite(self.presence_penalty),
        }
        wanted = {
            "max_new_tokens": "1 or more",
            "temperature": "0 or more",
            "top_k": "0 (all) or more",
            "top_p": "above 0, at most 1 (all)",
            "min_p": "from 0 (all) to 1",
            "repetition_penalty": "above 0; 1 leaves the scores as they are",
            "presence_penalty": "finite; 0 leaves the scores as they are",
        }
        for name, right in bounds.items():
            if not right:
                raise UserError(f"{name} is {getattr(self, name)}, expected {wanted[name]}")

    @property
    def penalises(self) -> bool:
        """Whether scores depend on what has been said."""
        return self.repetition_penalty != 1 or self.presence_penalty != 0


def penalise(logits: Tensor, seen: Tensor, said: Tensor, sampling: Sampling) -> Tensor:
    """Scores less what repetition costs.

    logits (R, V) fp32; seen (R, V) bool, the tokens of prompt and answer; said (R, V) bool, those of the answer.
    Source: CTRL, arXiv:1909.05858, section 4.1, in the form that negative scores are multiplied.
    """
    penalty = sampling.repetition_penalty
    penalised = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(seen, penalised, logits) - sampling.presence_penalty * said


def cut(logits: Tensor, sampling: Sampling) -> Tensor:
    """logits (R, V) / temperature, -inf for what top-k, top-p and min-p exclude, in this order. Temperature above 0.

    Sources: nucleus sampling, arXiv:1904.09751; min-p, arXiv:2407.01082.
    """
    logits = logits / sampling.temperature
    if 0 < sampling.top_k < logits.shape[-1]:
        logits = logits.masked_fill(logits < logits.topk(sampling.top_k, -1).values[:, -1:], -math.inf)
    if sampling.top_p < 1:
        probabilities, order = logits.softmax(-1).sort(dim=-1, descending=True, stable=True)
        outside = probabilities.cumsum(-1) - probabilities >= sampling.top_p
        logits = logits.masked_fill(torch.zeros_like(outside).scatter(1, order, outside), -math.inf)
    if sampling.min_p > 0:
        least = logits.max(-1, keepdim=True).values + math.log(sampling.min_p)
        logits = logits.masked_fill(logits < least, -math.inf)
    return logits
