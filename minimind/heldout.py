"""Bits per byte of what packing held out, by data set, file and language: what a model has learnt, without a benchmark.

The documents are those that `packing` keeps for validation, in the same tokens and rows, so the figure of all of them
together is the one that training logs. Of a long file the first are enough.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from minimind import corpus
from minimind.batches import Batch
from minimind.cleaning import language
from minimind.corpus import Dialogue, Document, LineError, Text
from minimind.losses import IGNORE
from minimind.model import Decoder
from minimind.objectives.language import bits_per_byte
from minimind.shards import Documents, Encoder, Recipe

MAX_BYTES = 1 << 18  # of the held-out lines of a file; minutes on a CPU for a large model

Figures = dict[str, Any]
"""{"bits_per_byte": float, "bytes": of the text that is predicted, "documents": int}"""


@dataclass(frozen=True)
class Group:
    """Held-out documents of one language in one file."""

    data_set: str
    source: str
    language: str
    documents: list[Document]


def groups(folders: Sequence[Path], share: float) -> list[Group]:
    """The held-out documents of folders that are named as in `corpus.PARSERS`, where `share` is held out."""
    found = []
    for path in (path for folder in folders for path in sorted(folder.glob("*.jsonl"))):
        by_language: dict[str, list[Document]] = {}
        for document in _held_out(path, share):
            by_language.setdefault(spoken(document), []).append(document)
        for name in sorted(by_language):
            found.append(Group(path.parent.name, path.stem, name, by_language[name]))
    return found


def _held_out(path: Path, share: float) -> Iterator[Document]:
    num_bytes = 0
    for source, document in corpus.read_range(path, 0, path.stat().st_size):
        if not isinstance(document, LineError) and corpus.fraction(document.content, "split") < share:
            yield document
            num_bytes += source.num_bytes
            if num_bytes >= MAX_BYTES:
                return


def spoken(document: Document) -> str:
    """The language that most of a document is in: "zh", "en" or "other"; "zh" also with many English words between."""
    if isinstance(document, Text):
        text = document.text
    else:
        talk = document.conversation if isinstance(document, Dialogue) else document.chosen
        text = "\n".join(message["content"] for message in talk.messages)
    shares = language.shares(text)
    if corpus.language(text) == "zh" and shares["zh"] > 0:
        return "zh"
    return "en" if shares["en"] > shares["other"] else "other"


def measure(
    model: Decoder, recipe: Recipe, found: Sequence[Group], batch_size: int, report: Callable[[int], object]
) -> dict[str, dict[str, dict[str, Figures]]]:
    """Data set → file → language → figures. `report` is told how many documents have been read.

    The recipe is that of packing, with the checkpoint's own tokenizer.
    """
    encoder = Encoder(recipe)
    figures: dict[str, dict[str, dict[str, Figures]]] = {}
    for group in found:
        documents, errors = encoder.encode(group.documents)
        num_bytes = int(documents.num_bytes.sum())
        if num_bytes:
            bits = bits_per_byte(model, _batches(documents, batch_size), num_bytes)
            own = {"bits_per_byte": round(bits, 4), "bytes": num_bytes, "documents": len(group.documents) - len(errors)}
            figures.setdefault(group.data_set, {}).setdefault(group.source, {})[group.language] = own
        report(len(group.documents))
    return figures


def _batches(documents: Documents, batch_size: int) -> Iterator[Batch]:
    """All documents, those of like length together, each in a row of its own."""
    order = np.argsort(-documents.lengths, kind="stable")
    starts = documents.lengths.cumsum() - documents.lengths
    for first in range(0, len(order), batch_size):
        chosen = order[first : first + batch_size]
        longest = int(documents.lengths[chosen].max())
        ids, learn, real = (np.zeros((len(chosen), longest), np.int64) for _ in range(3))
        for row, number in enumerate(chosen):
            length, start = documents.lengths[number], starts[number]
            ids[row, :length] = documents.ids[start : start + length]
            learn[row, :length] = documents.learn[start : start + length]
            real[row, :length] = 1
        targets = np.full_like(ids, IGNORE)
        targets[:, :-1] = np.where(learn[:, 1:] == 1, ids[:, 1:], IGNORE)
        yield {"ids": torch.from_numpy(ids), "targets": torch.from_numpy(targets), "documents": torch.from_numpy(real)}
