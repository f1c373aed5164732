"""The checks of a device find what is wrong: attention, log-likelihoods, decoding, gradients, repetition."""

from pathlib import Path
from typing import Any

import pytest
import torch
from toy.attention import by_pieces

from benchmarks import agreement
from benchmarks.agreement import LENGTHS, MASKED, AbsentError, Bench, DisagreementError, LeftOutError, difference
from minimind import model as definition
from minimind.engines.replicas import Replicas
from minimind.kernels import cpu


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(cpu, "_dtype", None)  # no kernels: the definition is the plain model
    return Bench(torch.device("cpu"), True, False, tmp_path)


def by_lengths(monkeypatch: pytest.MonkeyPatch, kernel: Any) -> None:
    """Let fp32 on the CPU stand for bf16 on CUDA, once the definition's answers are there."""
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", kernel)
    monkeypatch.setattr(definition, "takes_lengths", lambda x: True)
    monkeypatch.setattr(agreement, "takes_lengths", lambda x: True)


@pytest.mark.parametrize("kind", ["dense", "MoE"])
def test_attention_by_pieces_passes(bench: Bench, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, documents in bench.layouts.items():
        objective = agreement.Prediction()
        batch = bench.batch(documents)
        bench.defined(name, objective, kind, torch.float32, batch)  # before anything is imitated
    by_lengths(monkeypatch, by_pieces)
    assert bench.attention(kind, torch.float32, LENGTHS, False).startswith("3 layouts")
    assert bench.attention(kind, torch.float32, MASKED, False).startswith("4 layouts")


def test_attention_across_pieces_fails(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, documents in bench.layouts.items():
        bench.defined(name, agreement.Prediction(), "dense", torch.float32, bench.batch(documents))

    def across(query: Any, key: Any, value: Any, ends: Any, *others: Any, **words: Any) -> Any:
        whole = torch.arange(0, len(query) + 1, bench.length, dtype=torch.int32)
        return by_pieces(query, key, value, whole, whole, *others[1:], **words)

    by_lengths(monkeypatch, across)
    with pytest.raises(DisagreementError, match=r"several documents: logits \d"):
        bench.attention("dense", torch.float32, LENGTHS, False)


def test_a_batch_that_changes_log_likelihoods_fails(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    real = agreement.loglikelihood

    def wrong(model: Any, contexts: Any, continuations: Any) -> Any:
        off = 0.2 if len(contexts) > 1 else 0.0  # what padding on the left did on CUDA
        return [(total + off, count) for total, count in real(model, contexts, continuations)]

    monkeypatch.setattr(agreement, "loglikelihood", wrong)
    for dtype in (torch.float32, torch.bfloat16):
        with pytest.raises(DisagreementError, match="alone and in a batch"):
            bench.likelihood("dense", dtype)


def test_other_tokens_than_the_best_fail(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "generate", lambda model, prompts, **_: [[3, 4, 5, 6]] * len(prompts))
    with pytest.raises(DisagreementError, match="below the best"):
        bench.greedy("dense", torch.float32)


def test_a_loss_that_forgets_a_part_fails(bench: Bench) -> None:
    bench.objective("DPO", "dense", torch.float32)
    wrong = agreement.Preference(beta=0.1, nll=0.0)
    model, batch = agreement.randomised(bench.dense, torch.float32, agreement.CPU), bench.objective_batch("DPO")
    found = bench.outcome(model, agreement.bound(model, wrong, False), batch, wrong.weight(batch))
    with pytest.raises(DisagreementError, match="DPO: gradients"):
        bench.compare(found, "DPO", bench.objectives["DPO"], "dense", torch.float32, batch)


def test_runs_that_differ_in_a_bit_fail(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter(range(100))

    def trained(*arguments: Any) -> Replicas:
        engine = real(*arguments)
        with torch.no_grad():
            bits = engine.model.model.norm.weight.view(torch.int32)  # type: ignore[union-attr, operator]
            bits[0] += next(numbers) % 2
        return engine

    real = bench.trained
    monkeypatch.setattr(bench, "trained", trained)
    with pytest.raises(DisagreementError, match="from the same start"):
        bench.determinism("dense", False)
    monkeypatch.setattr(bench, "trained", real)
    monkeypatch.setattr(Replicas, "load", lambda self, state: self.model.load_state_dict(state["model"]))
    with pytest.raises(DisagreementError, match="taken up after"):
        bench.resume("dense", False)  # the optimizers forgot theirs


def test_what_the_device_lacks_is_neither_passed_nor_failed(bench: Bench) -> None:
    with pytest.raises(AbsentError, match="bfloat16 on CUDA"):
        bench.require((torch.float32, LENGTHS), False)
    with pytest.raises(LeftOutError, match="--compile on"):
        bench.require((torch.float32, MASKED), True)
    bench.device = torch.device("mps")
    with pytest.raises(AbsentError, match="doesn't multiply bfloat16"):
        bench.require((torch.bfloat16,), False)
    with pytest.raises(AbsentError, match="not compiled on mps"):
        bench.require(("dense",), True)


def test_a_small_tensor_counts_as_much_as_a_large_one() -> None:
    large, small = torch.ones(10_000), torch.ones(4)
    assert difference([large, small], [large, small]) == 0
    assert difference([large, 2 * small], [large, small]) == pytest.approx(0.5**0.5)
    assert difference([large, None], [large, small]) == pytest.approx(0.5**0.5)
    assert difference([None, None], [None, torch.zeros(3)]) == 0
    assert difference([small], [torch.zeros(4)]) == float("inf")
    assert not difference([small * torch.nan], [small]) <= 1e9
