"""Plain text → token ids, to the same ids as `tokenizers`, several times as fast.

What takes the time in `tokenizers` is not merging but what it notes of every token. `tiktoken` notes nothing but ids.
It knows a tokenizer as one expression that cuts text into words, and as bytes → rank: it merges the two neighbours
whose joint bytes rank first, where `tokenizers` looks up the pair. That comes to the same if every token has one
origin only, see `ranks`. Where the same can't be shown, and for texts that the expression can't cut, `tokenizers` does
the work.
"""

import itertools
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tiktoken
from tokenizers import Tokenizer

from minimind.alphabet import BYTES

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
SINGLES = {"type": "Split", "pattern": {"Regex": r"\p{N}|\p{Han}"}, "behavior": "Isolated", "invert": False}

CONTRACTIONS = r"'(?:[sdmt]|ll|ve|re)"
WORDS = {
    json.dumps(BYTE_LEVEL): rf"{CONTRACTIONS}| ?\p{{L}}+| ?\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+|\s+(?!\S)|\s+",
    # Digits and Han characters are cut out first, so no word reaches across them, and whitespace ends before them.
    json.dumps({"type": "Sequence", "pretokenizers": [SINGLES, BYTE_LEVEL]}): (
        rf"{CONTRACTIONS}|[\p{{N}}\p{{Han}}]| ?[\p{{L}}--\p{{Han}}]+| ?[^\s\p{{L}}\p{{N}}\p{{Han}}]+"
        r"|\s+(?![^\s\p{N}\p{Han}])|\s+"
    ),
}
"""What cuts text into words, by the description of the pre-tokenizer that cuts it in the same places."""

OPTIONS = (
    "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", "byte_fallback",
    "ignore_merges",
)  # fmt: skip
"""Of a BPE; none of them is on in ours."""

TOO_WIDE = re.compile(r"\s{1000}")  # the expressions go back through whitespace, on a stack

Encode = Callable[[Sequence[str]], list[list[int]]]


def encoder(tokenizer: Tokenizer) -> Encode:
    """Texts → the ids that `tokenizer.encode_batch` gives. The tokenizer must know no markers (`tokenizer.plain`)."""
    fast = _tiktoken(tokenizer)
    if fast is None:
        return lambda texts: [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts))]
    encode = fast.encode_ordinary
    return lambda texts: [tokenizer.encode(text).ids if TOO_WIDE.search(text) else encode(text) for text in texts]


def _tiktoken(tokenizer: Tokenizer) -> tiktoken.Encoding | None:
    """The same tokenizer; None if it is none of ours."""
    description = json.loads(tokenizer.to_str())
    words = WORDS.get(json.dumps(description["pre_tokenizer"]))
    others = ("normalizer", "post_processor", "truncation", "padding", "added_tokens")
    if words is None or any(description.get(part) for part in others):
        return None
    found = ranks(description["model"])
    if found is None:
        return None
    return tiktoken.Encoding("plain", pat_str=words, mergeable_ranks=found, special_tokens={})


def ranks(model: Mapping[str, Any]) -> dict[bytes, int] | None:
    """Ids of a BPE's tokens by their bytes, for merging by them. None if merging by pairs may give other tokens.

    model: as in `tokenizer.json`. It is the same if ids ascend with the merges, and if each merge's two parts are just
    what the merges before it make of the token's bytes. For then no other two neighbours ever join to these bytes:
    what the earlier merges make of a stretch that none of them crosses does not depend on what stands around it.
    """
    vocabulary: Mapping[str, int] = model["vocab"]
    if model["type"] != "BPE" or any(model.get(key) for key in OPTIONS) or not BYTES.keys() <= vocabulary.keys():
        return None
    order: dict[tuple[str, str], int] = {}
    newest = max(vocabulary[letter] for letter in BYTES)
    for first, second in model["merges"]:
        number = vocabulary[first + second]
        if number <= newest or _merge(first + second, order) != [first, second]:
            return None
        newest = order[first, second] = number
    tokens = [*BYTES, *(first + second for first, second in order)]
    return {bytes(BYTES[letter] for letter in token): vocabulary[token] for token in tokens}


def _merge(word: str, order: Mapping[tuple[str, str], int]) -> list[str]:
    """The tokens of a word. order: merges, the first to be made having the smallest number."""
    tokens = list(word)
    while True:
        pairs = [order.get(pair, math.inf) for pair in itertools.pairwise(tokens)]
        place = min(range(len(pairs)), key=pairs.__getitem__, default=None)
        if place is None or pairs[place] == math.inf:
            return tokens
        tokens[place : place + 2] = [tokens[place] + tokens[place + 1]]
