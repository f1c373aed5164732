"""Ids are those of `tokenizers` on any text; a tokenizer for which that can't be shown is left to it."""

import json
import random
import sys

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from minimind import encoding, tokenizer
from minimind.tokenizer import TokenizerConfig

TEXTS = [
    "The capital of France is Paris, isn't it? Paris lies on the Seine; they'll say so.",
    "法国的首都是巴黎。巴黎在塞纳河边，塞纳河流向大海。",
    "12 + 7 = 19,  19 + 23 = 42,\n\n\tand 42 is the answer to everything. naïve Ωμέγα ١٢٣",
]
PIECES = [
    *("a", "Paris", " the", "'s", "'ll", "'", "0", "42", "½", "巴黎", "的", "〇", "々", "⺀", "한", "カ"),
    *("é", "e\u0301", "。", "!", "...", "😀", "<|im_end|>"),
    *(" ", "  ", "\n", "\t", "\r\n", "\u00a0", "\u3000", "\u200b", "\x00"),
]


@pytest.fixture(scope="module", params=[True, False], ids=["isolate", "plain"])
def learned(request: pytest.FixtureRequest) -> Tokenizer:
    config = TokenizerConfig(vocab_size=600, isolate=request.param, max_bytes=1 << 20, held_out_share=0.1)
    return tokenizer.plain(tokenizer.train(TEXTS * 4, config))


def merging(merges: list[tuple[str, str]]) -> Tokenizer:
    """A byte-level BPE with these merges, in whose order their tokens are numbered."""
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *dict.fromkeys(first + second for first, second in merges)]
    built = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, merges))
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = decoders.ByteLevel()
    return built


def is_fast(built: Tokenizer) -> bool:
    return encoding._tiktoken(built) is not None


def assert_equal(built: Tokenizer, texts: list[str]) -> None:
    wanted = [encoded.ids for encoded in built.encode_batch(texts)]
    for text, ids, right in zip(texts, encoding.encoder(built)(texts), wanted, strict=True):
        assert ids == right, repr(text)


def test_on_every_character_between_letters_spaces_and_digits(learned: Tokenizer) -> None:
    assert is_fast(learned)
    characters = [chr(number) for number in range(sys.maxunicode + 1) if not 0xD800 <= number < 0xE000]
    around = [f"a{c}b {c} 1{c}{c}" for c in characters]
    assert_equal(learned, ["".join(around[start : start + 256]) for start in range(0, len(around), 256)])


def test_on_random_texts(learned: Tokenizer) -> None:
    source = random.Random(1)
    texts = ["".join(source.choices(PIECES, k=source.randrange(40))) for _ in range(20_000)]
    assert_equal(learned, texts)


@pytest.mark.parametrize("text", [" ", "\n", "a", "的", "1", "!", "\u3000"])
def test_on_long_runs_of_one_character(learned: Tokenizer, text: str) -> None:
    for length in (999, 1000, 1001, 100_000):
        assert_equal(learned, [text * length, f"a{text * length}b", f"1{text * length}1"])


@pytest.mark.parametrize("seed", range(20))
def test_merges_of_any_order_give_the_same_ids(seed: int) -> None:
    """Merges that no training would make: whether they are taken for fast or not, the ids agree."""
    source = random.Random(seed)
    parts, merges = list("abc"), []
    for _ in range(8):
        first, second = source.choices(parts, k=2)
        if first + second not in parts:
            merges.append((first, second))
            parts.append(first + second)
    assert_equal(merging(merges), ["".join(source.choices("abc", k=source.randrange(30))) for _ in range(500)])


def test_merges_whose_token_has_two_origins_are_left_to_tokenizers() -> None:
    assert is_fast(merging([("b", "c"), ("a", "bc")]))
    assert not is_fast(merging([("b", "c"), ("a", "b"), ("ab", "c")]))  # abc is a bc when it comes to the third
    assert not is_fast(merging([("a", "b"), ("b", "c"), ("a", "bc")]))


def test_other_kinds_are_left_to_tokenizers(learned: Tokenizer) -> None:
    text = learned.to_str()
    lower, cut = Tokenizer.from_str(text), Tokenizer.from_str(text)
    lower.normalizer = normalizers.Lowercase()
    cut.pre_tokenizer = pre_tokenizers.Whitespace()
    description = json.loads(text)
    description["model"]["ignore_merges"] = True
    for built in (lower, cut, Tokenizer.from_str(json.dumps(description))):
        assert not is_fast(built)
        assert_equal(built, TEXTS)
