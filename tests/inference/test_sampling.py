"""Penalties and cuts against transformers' logits processors."""

import pytest
import torch
import transformers
from torch import Tensor

from minimind.errors import UserError
from minimind.inference.sampling import Sampling, cut, penalise

SCORES = torch.randn(4, 40, generator=torch.Generator().manual_seed(0)) * 3


def marks(*rows: list[int]) -> Tensor:
    marked = torch.zeros(len(rows), SCORES.shape[1], dtype=torch.bool)
    for row, tokens in enumerate(rows):
        marked[row, tokens] = True
    return marked


@pytest.mark.parametrize("penalty", [0.7, 1.0, 1.3])
def test_repetition_penalty(penalty: float) -> None:
    ids = torch.tensor([[1, 5, 9, 5], [0, 0, 0, 39], [7, 8, 9, 10], [2, 2, 2, 2]])
    expected = transformers.RepetitionPenaltyLogitsProcessor(penalty)(ids, SCORES.clone())
    seen = marks(*ids.tolist())
    assert penalise(SCORES, seen, seen & False, Sampling(repetition_penalty=penalty)).equal(expected)


def test_presence_penalty_is_taken_once_from_what_was_said() -> None:
    scores = torch.tensor([[1.0, -1.0, 3.0, 0.5]])
    seen, said = torch.tensor([[True, True, True, False]]), torch.tensor([[False, True, True, False]])
    assert penalise(scores, seen, said, Sampling(presence_penalty=0.75)).tolist() == [[1.0, -1.75, 2.25, 0.5]]
    both = penalise(scores, seen, said, Sampling(presence_penalty=0.75, repetition_penalty=2.0))
    assert both.tolist() == [[0.5, -2.75, 0.75, 0.5]]


@pytest.mark.parametrize(
    "options",
    [
        {}, {"top_k": 5}, {"top_k": 1000}, {"top_p": 0.6}, {"min_p": 0.1}, {"min_p": 1.0},
        {"top_k": 20, "top_p": 0.9, "min_p": 0.05}, {"top_p": 0.5, "min_p": 0.3}, {"top_p": 1e-6},
    ],
)  # fmt: skip
@pytest.mark.parametrize("temperature", [0.6, 1.5])
def test_cuts(options: dict[str, float], temperature: float) -> None:
    processors = [transformers.TemperatureLogitsWarper(temperature)]
    if "top_k" in options:
        processors.append(transformers.TopKLogitsWarper(int(options["top_k"])))
    if "top_p" in options:
        processors.append(transformers.TopPLogitsWarper(options["top_p"]))
    if "min_p" in options:
        processors.append(transformers.MinPLogitsWarper(options["min_p"]))
    expected = SCORES
    for processor in processors:
        expected = processor(None, expected)
    actual = cut(SCORES, Sampling(temperature=temperature, **options))  # type: ignore[arg-type]
    assert actual.equal(expected)
    assert (actual.isneginf().any() == bool(options and options != {"top_k": 1000})).item()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_new_tokens", 0), ("temperature", -0.1), ("temperature", float("nan")), ("top_k", -1), ("top_p", 0.0),
        ("top_p", 1.1), ("min_p", 1.1), ("repetition_penalty", 0.0), ("presence_penalty", float("inf")),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(UserError, match=f"^{name} is {value}, expected"):
        Sampling(**{name: value})  # type: ignore[arg-type]


def test_stop_may_be_one_string_or_several() -> None:
    assert Sampling(stop="a").stop == ("a",)  # type: ignore[arg-type]
    assert Sampling(stop=["a", "b"]).stop == ("a", "b")  # type: ignore[arg-type]
