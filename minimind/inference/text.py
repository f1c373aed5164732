"""Tokens → text, piece by piece, and where it stops.

A piece is whole characters only. Text that may turn out to be the beginning of a stop string is held back until that
is settled, so what has been handed out never needs taking back.
"""

import codecs
from collections.abc import Sequence

from tokenizers import Tokenizer

from minimind.alphabet import BYTES
from minimind.errors import UserError


def num_ids(tokenizer: Tokenizer) -> int:
    """One more than the largest id that a token has."""
    return max(tokenizer.get_vocab().values()) + 1


def token_byte_values(tokenizer: Tokenizer) -> list[bytes]:
    """What every token of a byte-level BPE writes, by id: nothing if it is special, its own text if it was added."""
    added = tokenizer.get_added_tokens_decoder()
    written = [b""] * num_ids(tokenizer)
    for token, number in tokenizer.get_vocab().items():
        if number not in added:
            written[number] = bytes(BYTES[character] for character in token)
        elif not added[number].special:
            written[number] = token.encode()
    return written


class Writer:
    """Text of one answer as its tokens come in, up to the first of the `stops`, which is not part of it.

    Joined, the pieces are what the tokenizer's own `decode` gives, or the part of it before the stop.
    Raises UserError for an empty stop string.
    """

    def __init__(self, written: Sequence[bytes], stops: Sequence[str] = ()):
        if not all(stops):
            raise UserError("a stop string is empty, and would stop before the first character: leave it out")
        self.written, self.stops = written, tuple(stops)
        self.stopped = False
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    def write(self, token: int) -> str:
        """The text that is settled by this token; `stopped` says whether it is the last."""
        return self._settle(self._decoder.decode(self.written[token]))

    def finish(self) -> str:
        """What is left when no more tokens come; bytes that are no whole character become U+FFFD."""
        piece = self._settle(self._decoder.decode(b"", final=True))
        rest, self._held = self._held, ""
        return piece + rest

    def _settle(self, new: str) -> str:
        if self.stopped:
            return ""
        text = self._held + new
        # The stop that is complete first counts, so that it does not matter which characters come in one piece.
        ends = [(place + len(stop), place) for stop in self.stops if (place := text.find(stop)) >= 0]
        if ends:
            self.stopped, self._held = True, ""
            return text[: min(ends)[1]]
        held = max((_overlap(text, stop) for stop in self.stops), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that `stop` begins with, and that is not all of it."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
