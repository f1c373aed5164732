"""Decoding against transformers, one prompt at a time; samples against the distributions that they are drawn from."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import save_file
from scipy import stats
from torch import Tensor
from toy.attention import by_pieces
from toy.models import random_model

from minimind import model as definition
from minimind.checkpoint import huggingface_config
from minimind.generate import _mix, generate, loglikelihood, sample, uniform
from minimind.model import Decoder, ModelConfig

torch.set_num_threads(1)

VOCABULARY = 97
QWEN3 = ModelConfig(
    hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=48,
    max_position_embeddings=64, vocab_size=VOCABULARY,
)  # fmt: skip
MODELS = {
    "qwen3": QWEN3,
    "llama": replace(QWEN3, qk_norm=False, tie_word_embeddings=False),
    "moe": replace(QWEN3, use_moe=True, num_experts_per_tok=2, moe_intermediate_size=24),
}
LENGTHS = (5, 1, 9, 9, 2, 17, 4, 30, 6, 1)
NO_STOP = -1


def reference(model: Decoder, folder: Path) -> transformers.PreTrainedModel:
    """The same weights in transformers."""
    save_file(dict(model.state_dict()), folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(huggingface_config(model.config)))
    return transformers.AutoModelForCausalLM.from_pretrained(folder).eval()


def random_prompts(lengths: Sequence[int] = LENGTHS) -> list[list[int]]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(3, VOCABULARY, (length,), generator=generator).tolist() for length in lengths]


@pytest.mark.parametrize("name", MODELS)
def test_greedy_equals_transformers(name: str, tmp_path: Path) -> None:
    model, prompts = random_model(MODELS[name], seed=3, scale=0.3), random_prompts()
    theirs = reference(model, tmp_path)
    expected = [
        theirs.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), max_new_tokens=32, do_sample=False,
            eos_token_id=None, pad_token_id=0,
        )[0, len(prompt) :].tolist()
        for prompt in prompts
    ]  # fmt: skip
    assert len({tuple(tokens) for tokens in expected}) > len(prompts) / 2  # the prompts matter
    for batch_size in (1, 4, 256):
        assert generate(model, prompts, max_new_tokens=32, stop=NO_STOP, batch_size=batch_size) == expected
    # With a stop, rows of one batch end at different steps, and some leave early.
    stop = max({token for tokens in expected for token in tokens}, key=lambda t: sum(t in row for row in expected))
    cut = [tokens[: tokens.index(stop)] if stop in tokens else tokens for tokens in expected]
    assert len({len(tokens) for tokens in cut}) > 2
    assert generate(model, prompts, max_new_tokens=32, stop=stop) == cut


@pytest.mark.parametrize("name", MODELS)
def test_loglikelihood_equals_transformers(name: str, tmp_path: Path) -> None:
    model, contexts = random_model(MODELS[name], seed=3, scale=0.3), random_prompts()
    continuations = [prompt[::-1] for prompt in random_prompts([3, 1, 2, 9, 1, 4, 4, 20, 2, 1])]
    theirs = reference(model, tmp_path)
    for batch_size in (1, 3, 256):
        scores = loglikelihood(model, contexts, continuations, batch_size=batch_size)
        for (total, count), context, continuation in zip(scores, contexts, continuations, strict=True):
            ids = torch.tensor([context + continuation])
            with torch.no_grad():
                logprobs = theirs(ids).logits[0, :-1].log_softmax(-1)
            expected = logprobs.gather(1, ids[0, 1:, None])[len(context) - 1 :].sum().item()
            assert count == len(continuation)
            assert total == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("attention", ["masked", "by pieces"])
@pytest.mark.parametrize("name", MODELS)
def test_loglikelihood_is_the_same_in_any_company(name: str, attention: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in the form that CUDA takes in bf16, imitated: there padding on the left was attended to."""
    model, contexts = random_model(MODELS[name], seed=3, scale=0.3), random_prompts()
    continuations = [prompt[::-1] for prompt in random_prompts([3, 1, 2, 9, 1, 4, 4, 20, 2, 1])]
    alone = [loglikelihood(model, [a], [b])[0] for a, b in zip(contexts, continuations, strict=True)]
    if attention == "by pieces":
        monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", by_pieces)
        monkeypatch.setattr(definition, "takes_lengths", lambda x: True)
    together = loglikelihood(model, contexts, continuations)
    torch.testing.assert_close(torch.tensor(together), torch.tensor(alone), atol=1e-4, rtol=1e-5)


def test_a_prompt_is_continued_the_same_in_any_company() -> None:
    model, prompts = random_model(QWEN3, seed=3, scale=0.3), random_prompts()
    draw = {"max_new_tokens": 16, "stop": 5, "temperature": 0.8, "top_k": 50, "top_p": 0.95, "seed": 4}
    together = generate(model, prompts, **draw)
    assert generate(model, prompts, batch_size=3, **draw) == together
    assert generate(model, [*prompts[:4], [7] * 40, *prompts[5:]], **draw)[5:] == together[5:]
    assert generate(model, prompts, **{**draw, "seed": 5}) != together
    twins = generate(model, [prompts[0]] * 20, **draw)
    assert len({tuple(tokens) for tokens in twins}) > 15  # each with draws of its own


def test_bfloat16_differs_by_rounding_only() -> None:
    model, prompts = random_model(QWEN3, seed=3, scale=0.3), random_prompts()
    exact = loglikelihood(model, prompts, [[3, 4, 5]] * len(prompts))
    before = [parameter.clone() for parameter in model.parameters()]
    model.dtype = torch.bfloat16
    rounded = loglikelihood(model, prompts, [[3, 4, 5]] * len(prompts))
    torch.testing.assert_close(torch.tensor(rounded), torch.tensor(exact), rtol=0.02, atol=0.2)
    assert all(len(tokens) == 8 for tokens in generate(model, prompts, max_new_tokens=8, stop=NO_STOP))
    assert all(a.equal(b) and b.dtype == torch.float32 for a, b in zip(before, model.parameters(), strict=True))


def test_generated_tokens_follow_the_model_s_distribution() -> None:
    model, prompt = random_model(QWEN3, seed=3, scale=0.3), [5, 6, 7]
    hidden, _ = model(torch.tensor([prompt]), torch.ones(1, 3, dtype=torch.int64))
    expected = (model.logits(hidden)[0, -1].detach() / 1.5).softmax(-1)
    outputs = generate(model, [prompt] * 20_000, max_new_tokens=1, stop=NO_STOP, temperature=1.5, batch_size=4000)
    counts = torch.bincount(torch.tensor(outputs)[:, 0], minlength=VOCABULARY)
    assert goodness_of_fit(counts, expected) > 0.01


@pytest.mark.parametrize(
    ("top_k", "top_p"), [(0, 1.0), (5, 1.0), (0, 0.7), (6, 0.8), (100, 0.999), (1, 1.0), (0, 1e-6)]
)
def test_samples_follow_transformers_distribution(top_k: int, top_p: float) -> None:
    logits = torch.randn(12, generator=torch.Generator().manual_seed(1)) * 2
    warped = logits[None]
    if top_k:
        warped = transformers.TopKLogitsWarper(min(top_k, 12))(None, warped)
    if top_p < 1:
        warped = transformers.TopPLogitsWarper(top_p)(None, warped)
    draws = uniform(9, torch.arange(50_000), 0)
    counts = torch.bincount(sample(logits.expand(50_000, 12), draws, top_k, top_p), minlength=12)
    assert goodness_of_fit(counts, warped[0].softmax(-1)) > 0.01


def test_a_sample_is_never_impossible() -> None:
    logits = torch.tensor([-torch.inf, 0.0, -torch.inf, 1.0, -torch.inf]).expand(3, 5)
    ends = torch.tensor([0.0, 0.5, 1 - 2**-24])  # the least and the largest that `uniform` returns
    assert sample(logits, ends).tolist() == [1, 3, 3]
    assert sample(logits, ends, top_p=0.99).tolist() == [3, 3, 1]


def test_uniform_is_uniform_and_its_streams_are_unrelated() -> None:
    by_stream = uniform(1, torch.arange(10_000), 0)
    by_step = torch.stack([uniform(1, torch.tensor([3]), step) for step in range(10_000)])[:, 0]
    by_seed = torch.stack([uniform(seed, torch.tensor([3]), 0) for seed in range(10_000)])[:, 0]
    for draws in (by_stream, by_step, by_seed):
        assert draws.min() >= 0 and draws.max() < 1
        assert stats.kstest(draws, "uniform").pvalue > 0.01
        assert abs(torch.corrcoef(torch.stack([draws[1:], draws[:-1]]))[0, 1]) < 0.03
    assert abs(torch.corrcoef(torch.stack([by_stream, by_step, by_seed]))).triu(1).max() < 0.03


def test_mix_is_splitmix64() -> None:
    # Published outputs for the seed 1234567.
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    states = torch.tensor([1234567])
    for value in expected:
        assert _mix(states).item() % 2**64 == value
        states = states + (0x9E3779B97F4A7C15 - 2**64)


def test_what_does_not_fit_is_refused_with_words() -> None:
    model = random_model(QWEN3, seed=3, scale=0.3)
    with pytest.raises(ValueError, match=r"prompt 1 has 60 tokens.* 5 more exceeds the model's 64 positions"):
        generate(model, [[3], [3] * 60], max_new_tokens=5, stop=2)
    assert len(generate(model, [[3] * 60], max_new_tokens=4, stop=NO_STOP)[0]) == 4
    with pytest.raises(ValueError, match="64 positions"):
        loglikelihood(model, [[3] * 60], [[3] * 5])
    with pytest.raises(ValueError, match="prompt 0 is empty"):
        generate(model, [[]], max_new_tokens=1, stop=2)
    with pytest.raises(ValueError, match="continuation 1 is empty"):
        loglikelihood(model, [[3], [3]], [[3], []])
    with pytest.raises(ValueError, match="top_p"):
        generate(model, [[3]], max_new_tokens=1, stop=2, top_p=0.0)
    assert generate(model, [], max_new_tokens=1, stop=2) == []
    assert loglikelihood(model, [], []) == []


def test_progress_is_reported() -> None:
    told: list[int] = []
    generate(
        random_model(QWEN3, seed=3, scale=0.3),
        random_prompts(),
        max_new_tokens=2,
        stop=2,
        batch_size=4,
        report=told.append,
    )
    assert told == [4, 4, 2]


def goodness_of_fit(counts: Tensor, expected: Tensor) -> float:
    """p value of a chi-square test; what is impossible must not occur, and the rare is counted together."""
    assert counts[expected == 0].sum() == 0
    expected = expected.double() / expected.double().sum() * counts.sum()
    common = expected >= 5
    rare = counts[~common].sum()[None], expected[~common].sum()[None]
    observed, wanted = torch.cat([counts[common], rare[0]]), torch.cat([expected[common], rare[1]])
    kept = wanted > 0
    if kept.sum() == 1:
        return 1.0
    return float(stats.chisquare(observed[kept], wanted[kept]).pvalue)
