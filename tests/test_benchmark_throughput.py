"""Sides that take turns on a card: their sizes, the search for a micro-batch, the rows."""

from pathlib import Path

import pytest
import torch

from benchmarks import throughput
from benchmarks.throughput import DENSE_BF16, SHAPES, made_rows, maker_peak, search
from minimind import config
from minimind.losses import IGNORE
from minimind.model import Decoder, ModelConfig, document_ends

ROOT = Path(__file__).parents[1]
PRESETS = {"26m": "minimind2-small", "64m": "minimind-3", "104m": "minimind2", "MoE": "minimind-3-moe"}


@pytest.mark.parametrize("size", SHAPES)
def test_sizes_are_those_of_the_presets(size: str) -> None:
    path = ROOT / "presets" / f"{PRESETS[size]}.yaml"
    assert SHAPES[size] == config.parse(ModelConfig, config.read(path), path).with_vocabulary(6400)
    with torch.device("meta"):
        active = Decoder(SHAPES[size]).num_parameters(active=True)
    assert f"{active / 1e6:.0f}m" == {"MoE": "64m"}.get(size, size)


def test_the_search_ends_where_doubling_gains_little() -> None:
    rates = {8: 100.0, 16: 190.0, 32: 300.0, 64: 305.0, 128: 900.0}
    found = search(rates.__getitem__, 8, 512)
    assert found.rows == 64 and [rows for rows, _ in found.trail] == [8, 16, 32, 64]
    assert found.ended == "64 rows are not 3% faster than 32"
    assert search({8: 100.0, 16: 90.0}.__getitem__, 8, 512).rows == 8


def test_the_search_ends_where_memory_does() -> None:
    def rate(rows: int) -> float:
        if rows > 16:
            raise torch.OutOfMemoryError("no room")
        return float(rows)

    found = search(rate, 8, 512)
    assert found.rows == 16 and found.ended == "32 rows don't fit into memory"
    with pytest.raises(torch.OutOfMemoryError):
        search(rate, 32, 512)
    assert search(float, 1, 4).ended == "more than 4 rows were not tried"


def test_rows_are_packed_as_attention_wants_them() -> None:
    batch, most = made_rows(16, 768, 6400)
    documents, targets, ids = batch["documents"], batch["targets"], batch["ids"]
    ends = document_ends(documents, most)  # raises where they don't rise
    lengths = ends.diff().view(16, most + 1)[:, :-1]
    assert lengths.sum() == (documents > 0).sum() > 0.95 * documents.numel()
    assert lengths[lengths > 0].min() >= 20 and lengths.max() <= 390 and most == int(documents.max())
    learnt = targets != IGNORE
    assert learnt.sum() == (lengths - 1).clamp(min=0).sum()
    assert targets[:, :-1][learnt[:, :-1]].equal(ids[:, 1:][learnt[:, :-1]])


def test_the_maker_s_peak_is_that_of_the_card() -> None:
    assert maker_peak("NVIDIA H100 80GB HBM3") == 989e12
    assert maker_peak("NVIDIA H100 PCIe") == 756e12
    assert maker_peak("NVIDIA GeForce RTX 3090") == 71e12
    assert maker_peak("a card of tomorrow") is None
    names = list(DENSE_BF16)
    assert not [b for a in names for b in names[names.index(a) + 1 :] if a in b], "a name hides one after it"


def test_muon_and_adamw_sides_train() -> None:
    track = throughput.Track(torch.device("cpu"), True, False)
    for optimizer in ("adamw", "muon"):
        side = track.own("MoE", 2, optimizer=optimizer)
        side.turn(track.device, 0.0)
        assert side.positions == 2 * throughput.TOY_ROW_LENGTH and side.memory is None
        assert side.active < side.parameters and side.told()["flops"] == pytest.approx(6 * side.active * side.rate)
