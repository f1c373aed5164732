"""How well a model predicts a text: one number, to tell what a quantised file has lost."""

import math
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from minimind import tokenizer
from minimind.export.contents import Contents, ExportError
from minimind.generate import loglikelihood
from minimind.model import Decoder
from minimind.rows import Rows

BATCH_SIZE = 16


def documents(path: Path, contents: Contents, max_tokens: int) -> list[list[int]]:
    """Token ids to predict, `max_tokens` of them at most, in pieces that the model can take whole.

    `path` is the folder of a packed data set, whose validation split is read document by document, or a file of
    text in UTF-8, where markers count as ordinary characters; its pieces begin with the model's `bos`, if it has one.
    Raises ExportError if there is nothing to predict, or rows are of another vocabulary.
    """
    longest = contents.config["max_position_embeddings"]
    if path.is_dir():
        rows = Rows.open(path, "validation")
        num_tokens = len(contents.tokenizer["model"]["vocab"])  # the embedding may have more rows
        if rows.vocab_size != num_tokens:
            raise ExportError(
                f"{path} was packed with a vocabulary of {rows.vocab_size}, and {contents.folder} has one of "
                f"{num_tokens}: take the data of that checkpoint, or a file of text"
            )
        pieces = _unpacked(rows, longest)
    else:
        text = tokenizer.plain(Tokenizer.from_file(str(contents.folder / "tokenizer.json")))
        bos = contents.token("bos")
        start = [] if bos is None else [bos]
        ids = text.encode(path.read_text(encoding="utf-8"), add_special_tokens=False).ids
        room = longest - len(start)
        pieces = [[*start, *ids[first : first + room]] for first in range(0, len(ids), room)]
    chosen: list[list[int]] = []
    for piece in pieces:
        room = max_tokens - sum(map(len, chosen))
        if len(piece[:room]) > 1:
            chosen.append(piece[:room])
    if not chosen:
        raise ExportError(f"{path} holds no token to predict")
    return chosen


def _unpacked(rows: Rows, longest: int) -> list[list[int]]:
    found = []
    for tokens, numbers in zip(rows.column("tokens"), rows.column("documents"), strict=True):
        found += [tokens[numbers == number][:longest].tolist() for number in np.unique(numbers[numbers > 0])]
    return found


def perplexity(model: Decoder, pieces: list[list[int]]) -> float:
    """exp of the mean negative log-probability, in nats, of every token but the first of each piece."""
    scored = loglikelihood(model, [p[:1] for p in pieces], [p[1:] for p in pieces], batch_size=BATCH_SIZE)
    return math.exp(-math.fsum(score for score, _ in scored) / sum(count for _, count in scored))
