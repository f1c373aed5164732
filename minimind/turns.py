"""Items of a benchmark: of several families in turn, no question twice."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from minimind.errors import UserError
from minimind.random import Random

_MAX_REPEATS = 1000  # equal draws in a row after which a family counts as exhausted

Item = dict[str, Any]


class ExhaustedError(UserError):
    """More items were asked for than a family has."""


def take_turns(
    families: Sequence[str], count: int, seed: str, draw: Callable[[str, Random, int], Item]
) -> Iterator[tuple[str, int, Item]]:
    """`count` items with different questions, as family, number within the family (from 0), and item.

    `draw` makes an item of a family for a number, from random numbers that are the family's own. Its question are its
    "messages" or its "context". Raises ExhaustedError where a family has not so many.
    """
    random = {family: Random(f"{seed}/{family}") for family in families}
    asked: set[str] = set()
    for i in range(count):
        number, place = divmod(i, len(families))
        family = families[place]
        for _ in range(_MAX_REPEATS):
            item = draw(family, random[family], number)
            question = str(item.get("messages") or item["context"])
            if question not in asked:
                break
        else:
            raise ExhaustedError(f"there are no {number + 1} different items of family {family}: ask for fewer")
        asked.add(question)
        yield family, number, item
