"""Pieces of text against the tokenizer's own decoding, and stop strings by hand."""

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from minimind import tokenizer
from minimind.errors import UserError
from minimind.inference.text import Writer, num_ids, token_byte_values

MIXED = "Paris 是法国的首都。🦊🦊 naïve <think>47+38</think>é\n\ttabs 𝔘 done"


@pytest.fixture(scope="module")
def words(tokenizer_folder: Path) -> Tokenizer:
    return tokenizer.load(tokenizer_folder)


def write(writer: Writer, tokens: list[int]) -> list[str]:
    pieces = []
    for token in tokens:
        pieces.append(writer.write(token))
        if writer.stopped:
            break
    return [*pieces, writer.finish()]


def by_byte(text: str) -> tuple[list[bytes], list[int]]:
    """A vocabulary of single bytes, and a text in it."""
    return [bytes([byte]) for byte in range(256)], list(text.encode())


def test_pieces_join_to_what_the_tokenizer_decodes(words: Tokenizer) -> None:
    written = token_byte_values(words)
    generator = torch.Generator().manual_seed(0)
    ids = words.encode(MIXED).ids
    assert "".join(write(Writer(written), ids)) == MIXED
    for length in (1, 2, 5, 40, 400):  # random tokens are full of broken characters and of markers
        tokens = torch.randint(0, len(written), (length,), generator=generator).tolist()
        assert "".join(write(Writer(written), tokens)) == words.decode(tokens, skip_special_tokens=True)


def test_ids_may_have_gaps(words: Tokenizer) -> None:
    described = json.loads(words.to_str())
    described["added_tokens"].append({**described["added_tokens"][-1], "id": 600, "content": "<far>", "special": False})
    gappy = Tokenizer.from_str(json.dumps(described))
    far = gappy.token_to_id("<far>")
    assert num_ids(gappy) == len(token_byte_values(gappy)) == far + 1 > words.get_vocab_size()
    assert token_byte_values(gappy)[far] == b"<far>"


def test_a_piece_never_ends_within_a_character() -> None:
    written, tokens = by_byte("aé巴🦊")
    assert write(Writer(written), tokens) == ["a", "", "é", "", "", "巴", "", "", "", "🦊", ""]
    assert write(Writer(written), tokens[:-1])[-1] == "\ufffd"  # the limit of tokens came in between


@pytest.mark.parametrize(
    ("text", "stops", "expected"),
    [
        ("abcdef", ("cd",), "ab"),
        ("abcdef", ("xy",), "abcdef"),
        ("abc", ("abc",), ""),
        ("aaab", ("aab",), "a"),  # the first "a" does not belong to it
        ("abab abac!", ("abac",), "abab "),
        ("你好。再见。", ("。再",), "你好"),
        ("x🦊y", ("🦊",), "x"),
        ("one\n\nUser: two", ("\nUser:", "\n\n"), "one"),
        ("abcd", ("bcd", "c"), "ab"),  # the one that is complete first
        ("abcd", ("bc", "abc"), ""),  # both are at the same time: the longer
        ("ends in a beg", ("begin",), "ends in a beg"),  # held back, and given at the end
    ],
)
def test_stop_strings(text: str, stops: tuple[str, ...], expected: str) -> None:
    written, tokens = by_byte(text)
    assert "".join(write(Writer(written, stops), tokens)) == expected
    # However the bytes are portioned, the text is the same, and no piece is taken back.
    encoded, generator = text.encode(), torch.Generator().manual_seed(1)
    for _ in range(30):
        borders = [0, *(torch.rand(len(encoded) - 1, generator=generator) < 0.4).nonzero()[:, 0].add(1), len(encoded)]
        parts = [encoded[a:b] for a, b in zip(borders, borders[1:], strict=False)]
        writer = Writer(parts, stops)
        so_far = ""
        for piece in write(writer, list(range(len(parts)))):
            so_far += piece
            assert expected.startswith(so_far)
        assert so_far == expected
        assert writer.stopped == (expected != text)


def test_text_is_held_back_no_longer_than_needed() -> None:
    written, tokens = by_byte("stop stamp")
    assert write(Writer(written, ("stone",)), tokens) == ["", "", "", "stop", " ", "", "", "sta", "m", "p", ""]


def test_an_empty_stop_is_refused() -> None:
    with pytest.raises(UserError, match="empty"):
        Writer([], ("a", ""))
