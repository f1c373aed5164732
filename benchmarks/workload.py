"""What benchmarks train on: models of MiniMind's sizes, and text that anyone can make again.

The text is our own generator's, its short documents joined until their lengths are spread as in MiniMind's corpus:
204 tokens on average after the cut at 340, so that padding costs here what it costs there, 40% of all positions.
Equal settings give equal bytes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from minimind import files, tokenizer
from minimind.atlas import world
from minimind.fitting import BestFit, Tokens
from minimind.model import ModelConfig
from minimind.random import Random
from minimind.rows import Rows, RowWriter
from minimind.tokenizer import BOS, EOS, TokenizerConfig

VOCAB_SIZE = 6400
PADDED_LENGTH = 340  # MiniMind's max_seq_len: each document is cut or padded to it
MEAN_TOKENS = 200  # of a document, at least
VALIDATION_DOCUMENTS = 96
SEED = 1

_BYTES = (60, 1650)  # a document ends behind the first part that takes it past a length drawn from these
TOKENIZER_DOCUMENTS = 4000  # the vocabulary is learned from the first so many: it does not depend on the budget

SHAPES = {  # hidden size, layers, heads, key/value heads, intermediate size
    "1m": (96, 6, 3, 3, 256),
    "2m": (160, 5, 5, 5, 448),
    "5m": (192, 8, 4, 2, 640),
    "26m": (512, 8, 8, 4, 1664),
    "64m": (768, 8, 8, 4, 2432),
}


def model(size: str) -> ModelConfig:
    """The architecture of `size` (a key of SHAPES), of MiniMind 3 but for the width."""
    hidden, layers, heads, groups, inner = SHAPES[size]
    return ModelConfig(hidden, layers, heads, groups, inner, qk_norm=True, vocab_size=VOCAB_SIZE)


@dataclass(frozen=True)
class Workload:
    """One text, as each side wants it. `padded` and `packed` hold the same documents, as do the two for validation."""

    padded: Rows  # one document a row, cut at the row's length
    packed: Rows  # several documents a row, best fit
    padded_validation: Rows
    packed_validation: Rows
    digest: str  # of all rows

    def tokens_per_row(self, rows: Rows) -> float:
        """Target tokens in a row, on average."""
        return rows.target_tokens / len(rows)


def texts(count: int, seed: int) -> Iterator[str]:
    """`count` documents."""
    random = Random(f"lengths/{seed}")
    parts = (record["text"] for record in world.generate("pretrain", 60 * count, seed))
    for _ in range(count):
        wanted, text = random.between(*_BYTES), next(parts)
        while len(text.encode()) < wanted:
            text += "\n\n" + next(parts)
        yield text


def build(folder: Path, num_tokens: int, row_length: int, padded_length: int = PADDED_LENGTH) -> Workload:
    """Make the text in the empty `folder`: at least `num_tokens` of it to train on, in rows of `row_length`.

    Documents are cut at `padded_length`.
    """
    wanted = max(TOKENIZER_DOCUMENTS, 1 + num_tokens // MEAN_TOKENS)
    documents = list(texts(VALIDATION_DOCUMENTS + wanted, SEED))
    held_out, documents = documents[:VALIDATION_DOCUMENTS], documents[VALIDATION_DOCUMENTS:]
    config = TokenizerConfig(VOCAB_SIZE, isolate=False, max_bytes=1 << 23, held_out_share=0.02)
    vocabulary = tokenizer.plain(tokenizer.train(documents[:TOKENIZER_DOCUMENTS], config))
    for split, members in {"train": documents, "validation": held_out}.items():
        encoded = encode(vocabulary, members, padded_length)
        with RowWriter(folder / f"padded-{split}.arrow", padded_length, VOCAB_SIZE) as writer:
            for document in encoded:
                writer.add([(document.ids, document.learn, document.num_bytes)])
        with RowWriter(folder / f"packed-{split}.arrow", row_length, VOCAB_SIZE) as writer:
            fit = BestFit(writer)
            for document in encoded:
                fit.add([document])
            fit.finish()
    files.write_manifest(folder)
    rows = [Rows.open(folder, f"{kind}-{split}") for split in ("train", "validation") for kind in ("padded", "packed")]
    padded, packed, padded_validation, packed_validation = rows
    assert padded.target_tokens == packed.target_tokens >= num_tokens
    assert padded_validation.target_bytes == packed_validation.target_bytes
    digest = files.sha256(folder / files.MANIFEST)
    return Workload(padded, packed, padded_validation, packed_validation, digest)


def encode(vocabulary: Tokenizer, documents: list[str], longest: int) -> list[Tokens]:
    """Each document between its markers, cut to `longest` tokens; all but BOS is learned."""
    sizes = np.array(tokenizer.token_bytes(vocabulary), dtype=np.int64)
    encoded = []
    for encoding in vocabulary.encode_batch_fast(documents):
        ids = np.array([BOS, *encoding.ids[: longest - 2], EOS], dtype=np.uint32)
        learn = np.ones(len(ids), dtype=np.uint8)
        learn[0] = 0
        encoded.append(Tokens(ids, learn, int(sizes[ids[1:]].sum())))
    return encoded


def fill(rows: Rows) -> float:
    """Share of the positions that hold a token of a document."""
    return float((rows.column("documents") > 0).mean())
