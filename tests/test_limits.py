"""Limits of numbers: what they admit, and how they are told."""

from dataclasses import dataclass
from typing import Annotated

import pytest

from minimind import limits
from minimind.limits import Limits, Part, Share


@dataclass(frozen=True)
class Recipe:
    size: Annotated[int, Limits(1, 10**6)] = 1
    share: Share = 0.0
    part: Part = 0.5
    pair: tuple[Share, Part] = (1.0, 0.5)
    width: Annotated[int, Limits(2, 8)] | None = None
    free: float = -1e300


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, None),
        ({"size": 10**6, "share": 1, "part": 1e-300, "width": 8}, None),
        ({"size": 0}, "sft.size is 0: it must lie from 1 to 1,000,000"),
        ({"size": 10**6 + 1}, "sft.size is 1000001"),
        ({"share": float("nan")}, "sft.share is nan: it must lie from 0 to 1"),
        ({"share": float("inf")}, "sft.share is inf"),
        ({"part": 0.0}, "sft.part is 0.0: it must lie above 0 and below 1"),
        ({"part": 1.0}, "sft.part is 1.0"),
        ({"pair": (2.0, 0.5)}, "sft.pair is 2.0: it must lie from 0 to 1"),
        ({"pair": (0.0, 1.0)}, "sft.pair is 1.0: it must lie above 0 and below 1"),
        ({"width": 1}, "sft.width is 1: it must lie from 2 to 8"),
    ],
)
def test_a_number_outside_of_its_limits_is_named(values: dict[str, float], message: str | None) -> None:
    recipe = Recipe(**values)  # type: ignore[arg-type]
    if message is None:
        limits.check(recipe, "sft")
        return
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        limits.check(recipe, "sft")
