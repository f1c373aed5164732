"""What the items of a benchmark say apart from the wording that they share.

Items are often made by a template: “Is this review good or bad? Review: …”. A text that holds the review alone gives
the item away, though most of the item's words are not in it. So what many items begin or end with is taken off, from
the whole text and from each of its lines. The template ends where what was alike until then goes on in the most ways,
since contents may begin alike too.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from minimind.cleaning import units

MOST_ITEMS = 10
"""What stands in more items than these is wording of the benchmark; of a small one, what stands in a fifth of it."""
LEAST_ITEMS = 3


class Piece(NamedTuple):
    """Some units in a row, and the number of the item that they are of."""

    words: tuple[str, ...]
    owner: int

    @classmethod
    def of(cls, text: str, owner: int) -> "Piece":
        """The units of a text."""
        return cls(tuple(units.of(text)), owner)


def templates(pieces: Sequence[Piece], num_items: int) -> list[tuple[int, int]]:
    """For each piece, how many units at its beginning and at its end are wording that items share."""
    least = min(MOST_ITEMS + 1, max(LEAST_ITEMS, -(-num_items // 5)))
    backwards = [Piece(piece.words[::-1], piece.owner) for piece in pieces]
    ends = zip(pieces, _ends(pieces, least), _ends(backwards, least), strict=True)
    return [(start, min(end, len(piece.words) - start)) for piece, start, end in ends]


def contents(texts: Sequence[tuple[str, int]], num_items: int) -> Iterator[Piece]:
    """All that may be an item's own: its texts, their lines, and both without what others share. `texts`: by item."""
    lines = [(line, owner) for text, owner in texts for line in text.splitlines() if line.strip() != text.strip()]
    for rows in (texts, lines):
        pieces = [Piece.of(text, owner) for text, owner in rows]
        if rows is texts:
            yield from pieces
        for piece, (start, end) in zip(pieces, templates(pieces, num_items), strict=True):
            for begin, stop in {(start, 0), (0, end), (start, end)} - {(0, 0)}:
                yield Piece(piece.words[begin : len(piece.words) - stop], piece.owner)


def _ends(pieces: Sequence[Piece], least: int) -> list[int]:
    """For each piece, how many units it begins with that are a template of `least` items or more; 0 without one."""
    found = [(0, 0)] * len(pieces)  # ways to go on, and the place, negative so that the first counts of equal ones
    stack = [(list(range(len(pieces))), 0)]
    while stack:
        members, depth = stack.pop()
        groups: dict[str, list[int]] = defaultdict(list)
        for number in members:
            if depth < len(pieces[number].words):
                groups[pieces[number].words[depth]].append(number)
        for group in groups.values():
            shared = len({pieces[number].owner for number in group}) >= least
            if depth and (not shared or 2 * len(group) < len(members)):
                for number in group:
                    found[number] = max(found[number], (len(groups), -depth))
            if shared:
                stack.append((group, depth + 1))
    return [-place for _, place in found]
