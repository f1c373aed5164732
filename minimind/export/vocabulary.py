"""A tokenizer.json in the terms of llama.cpp: tokens, their types, merges, and how text is cut before merging.

llama.cpp has no tokenizer.json. It knows cuts by name, each of which stands for regular expressions in its code:

| tokenizer                                    | name   |
|----------------------------------------------|--------|
| GPT-2's words (MiniMind's; `isolate: false`) | gpt-2  |
| the same, and digits and Han characters are  |        |
| isolated first (`isolate: true`)             | smollm |
| Qwen2's and Qwen3's                          | qwen2  |

`smollm` isolates digits, not Han characters. But tokens of the type USER_DEFINED are cut out of a text before
anything else, so every Han character that is a token becomes one. A rare character without a token of its own stays
with its neighbours; that shows only where a run of two or more blanks stands before it.

llama.cpp normalises nothing. A tokenizer that does is refused, but for NFC, which Qwen's tokenizers have: nearly every
text is in it already, so there a note says what is left to the reader of the file.
"""

from dataclasses import dataclass
from typing import Any

from gguf import TokenType
from tokenizers import Regex, pre_tokenizers

from minimind.alphabet import BYTES as BYTE_OF
from minimind.chat import NO_STOP, Chat
from minimind.export.contents import Contents, ExportError

WORDS = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
BYTES = WORDS | {"use_regex": False}
ISOLATED = r"\p{N}|\p{Han}"
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class Vocabulary:
    """What a GGUF file says of its tokenizer."""

    cut: str  # llama.cpp's name of the pre-tokenizer
    tokens: list[str]  # by id; ordinary ones in the byte-level alphabet, the others as they are read
    types: list[TokenType]  # by id
    merges: list[str]


def describe(contents: Contents) -> Vocabulary:
    """The vocabulary of a checkpoint, one entry for each row of its embedding.

    Raises ExportError for a tokenizer that llama.cpp has no name for.
    """
    model, path = contents.tokenizer["model"], contents.folder / "tokenizer.json"
    if model["type"] != "BPE" or model.get("byte_fallback"):
        raise ExportError(f"{path} is no byte-level BPE: only that is written to GGUF")
    normalizer = (contents.tokenizer.get("normalizer") or {}).get("type")
    if normalizer == "NFC":
        print(f"note: {path} brings texts into NFC, and llama.cpp does not: give it é as one character, not as e and ´")
    elif normalizer is not None:
        raise ExportError(f"{path} has a normalizer, {normalizer}, and llama.cpp reads texts as they are: use --to hf")
    cut = _cut(contents.tokenizer["pre_tokenizer"])
    if cut is None:
        raise ExportError(f"{path}: llama.cpp has no name for its pre_tokenizer, so it would cut texts differently")
    written = {number: token for token, number in model["vocab"].items()}
    added = {entry["id"]: entry for entry in contents.tokenizer["added_tokens"]}
    isolated = _isolated(list(written.values())) if cut == "smollm" else {}
    tokens, types = [], []
    for number in range(contents.config["vocab_size"]):
        if number in added:
            tokens.append(added[number]["content"])
            types.append(TokenType.CONTROL if added[number]["special"] else TokenType.USER_DEFINED)
        elif number in written:
            token = written[number]
            tokens.append(isolated.get(token, token))
            types.append(TokenType.USER_DEFINED if token in isolated else TokenType.NORMAL)
        else:  # rows that make the matrix a rounder size
            tokens.append(f"[PAD{number}]")
            types.append(TokenType.UNUSED)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    return Vocabulary(cut, tokens, types, merges)


def end_of_turn(contents: Contents) -> int | None:
    """The token that ends an answer, by the chat template; None for a model that holds no conversations."""
    if contents.tokenizer_config.get("chat_template") is None:
        return None
    stop = Chat(contents.folder).stop
    return None if stop == NO_STOP else stop


def _cut(pre_tokenizer: dict[str, Any] | None) -> str | None:
    """llama.cpp's name of this cut, None where it has none."""
    steps = (pre_tokenizer or {}).get("pretokenizers", [pre_tokenizer])
    if any(step is None for step in steps):
        return None
    *splits, words = [{key: value for key, value in step.items() if key != "trim_offsets"} for step in steps]
    patterns = [
        step["pattern"].get("Regex")
        for step in splits
        if step["type"] == "Split" and step["behavior"] == "Isolated" and not step["invert"]
    ]
    if len(patterns) != len(splits):
        return None
    if words == WORDS:
        return {(): "gpt-2", (ISOLATED,): "smollm"}.get(tuple(patterns))
    return {(QWEN2,): "qwen2"}.get(tuple(patterns)) if words == BYTES else None


def _isolated(tokens: list[str]) -> dict[str, str]:
    """Those tokens that are one Han character, with the character they stand for."""
    han = pre_tokenizers.Split(Regex(r"\p{Han}"), "removed")
    found = {}
    for token in tokens:
        if not all(character in BYTE_OF for character in token):
            continue
        try:
            text = bytes(BYTE_OF[character] for character in token).decode()
        except UnicodeDecodeError:
            continue
        if len(text) == 1 and not han.pre_tokenize_str(text):
            found[token] = text
    return found
