"""Perplexity of packed rows and of plain text, against transformers' own loss."""

import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from minimind import checkpoint, files, tokenizer
from minimind.export import contents as reading
from minimind.export.contents import ExportError
from minimind.export.perplexity import documents, perplexity
from minimind.rows import RowWriter

torch.set_num_threads(1)

DOCUMENTS = [[1, 60, 300, 41, 7, 2], [1, 99, 98, 97, 2], [1, 50, 2]]


def packed(folder: Path, vocab_size: int) -> Path:
    folder.mkdir()
    with RowWriter(folder / "validation.arrow", 12, vocab_size) as writer:
        for row in (DOCUMENTS[:2], DOCUMENTS[2:]):
            writer.add([(ids, [0] + [1] * (len(ids) - 1), 1) for ids in row])
    files.write_manifest(folder)
    return folder


def test_rows_are_read_document_by_document(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    contents = reading.read(checkpoints["qwen3"])
    folder = packed(tmp_path / "packed", len(contents.tokenizer["model"]["vocab"]))  # the model has more rows
    assert documents(folder, contents, 100) == DOCUMENTS
    assert documents(folder, contents, 9) == [DOCUMENTS[0], DOCUMENTS[1][:3]]
    assert documents(folder, contents, 7) == DOCUMENTS[:1]  # one token of a document predicts nothing
    with pytest.raises(ExportError, match="no token to predict"):
        documents(folder, contents, 1)
    with pytest.raises(ExportError, match="vocabulary of 400"):
        documents(packed(tmp_path / "other", 400), contents, 100)


def test_text_is_cut_to_what_the_model_can_take(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    contents = reading.read(checkpoints["qwen3"])
    text = "Paris lies on the Seine. 巴黎 <|im_end|>" * 60
    (tmp_path / "text").write_text(text, encoding="utf-8")
    pieces = documents(tmp_path / "text", contents, 10**6)
    ids = tokenizer.plain(tokenizer.load(checkpoints["qwen3"])).encode(text).ids
    assert 2 not in ids and [i for piece in pieces for i in piece[1:]] == ids
    assert {piece[0] for piece in pieces} == {1} and len(pieces[0]) == 256 and len(pieces) > 2


def test_transformers_has_the_same_loss(checkpoints: dict[str, Path]) -> None:
    theirs = AutoModelForCausalLM.from_pretrained(checkpoints["qwen3"])
    losses = []
    for ids in DOCUMENTS:
        batch = torch.tensor([ids])
        with torch.no_grad():
            losses.append(float(theirs(batch, labels=batch).loss) * (len(ids) - 1))
    expected = math.exp(sum(losses) / sum(len(ids) - 1 for ids in DOCUMENTS))
    assert perplexity(checkpoint.load(checkpoints["qwen3"]), DOCUMENTS) == pytest.approx(expected, rel=1e-5)
