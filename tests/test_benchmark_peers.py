"""A peer is MiniMind's recipe on a model that computes what ours does, judged as ours is."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import peers
from benchmarks.peers import SHIPPED, Peer, Recipe
from benchmarks.workload import Workload
from minimind.batches import Batch, validation
from minimind.batches import Source as RowSource
from minimind.errors import UserError
from minimind.model import Decoder, ModelConfig
from minimind.objectives.language import Language, bits_per_byte

MODEL = ModelConfig(32, 2, 4, 2, 48, rope_theta=peers.ROPE_THETA, vocab_size=600)
SMALL = replace(SHIPPED, batch_size=4, accumulation=2)


@pytest.fixture
def pair(small_workload: Workload) -> tuple[Peer, Decoder]:
    """A peer and a model of ours with the same weights."""
    peer = Peer(small_workload, MODEL, SMALL, 1, None)
    ours = Decoder(MODEL)
    weights = {name: value for name, value in peer.model.state_dict().items() if name != "lm_head.weight"}
    ours.load_state_dict(weights)
    return peer, ours


def test_both_sides_are_judged_alike(pair: tuple[Peer, Decoder], small_workload: Workload) -> None:
    """One document a row and causal attention, or packed rows whose documents are isolated: the same bits per byte."""
    peer, ours = pair
    rows = small_workload.packed_validation
    expected = bits_per_byte(ours, validation(RowSource(rows), 3), rows.target_bytes)
    assert peer.bits_per_byte() == pytest.approx(expected, rel=1e-5)


def test_gradients_are_those_of_the_mean_over_the_targets(pair: tuple[Peer, Decoder]) -> None:
    peer, ours = pair
    batch: Batch = next(peer.micro_batches(0))
    peer.accumulate(batch)
    loss, _ = Language()(ours, batch)
    (loss / Language().weight(batch) / SMALL.accumulation).backward()
    gradients = {name: value.grad for name, value in peer.model.named_parameters() if name != "lm_head.weight"}
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], atol=1e-6, rtol=1e-4)


def test_the_rate_falls_from_its_peak_to_a_tenth_without_warm_up() -> None:
    shares = [peers.share(step, 100) for step in range(100)]
    assert shares[0] > 0.999 and shares[49] == pytest.approx(0.55) and shares[99] == pytest.approx(0.1)
    assert shares == sorted(shares, reverse=True)


def test_a_step_sees_each_row_once_and_learns(small_workload: Workload) -> None:
    recipe = Recipe(3e-3, batch_size=4, accumulation=1, bfloat16=True, packed=True, fused=True)
    peer = Peer(small_workload, MODEL, recipe, 1, None)
    before = peer.bits_per_byte()
    curve, seconds = peer.train(6, validations=3)
    assert [step for step, _ in curve] == [2, 4, 6] and seconds > 0
    assert curve[-1][1] == peer.bits_per_byte() < before
    ids = torch.cat([batch["ids"] for batch in Peer(small_workload, MODEL, SMALL, 1, None).micro_batches(0)])
    assert ids.shape == (8, 340) and len(torch.unique(ids, dim=0)) == 8


def test_equal_seeds_give_equal_peers(small_workload: Workload) -> None:
    ends = [Peer(small_workload, MODEL, SMALL, seed, None).train(2, 1)[0][-1][1] for seed in (1, 1, 2)]
    assert ends[0] == ends[1] != ends[2]


def test_steps_follow_from_the_budget(small_workload: Workload) -> None:
    per_step = 8 * small_workload.padded.target_tokens / len(small_workload.padded)
    assert peers.steps(small_workload, SMALL, round(5 * per_step)) == 5
    assert peers.steps(small_workload, SMALL, 1) == 1


def test_what_is_no_checkout_of_minimind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--reference"):
        peers.source(tmp_path)
