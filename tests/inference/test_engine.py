"""Decoding against transformers' generate and our own, and speculation against decoding without it."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import save_file
from scipy import stats

from minimind.checkpoint import huggingface_config
from minimind.generate import generate
from minimind.inference import engine, kernel
from minimind.inference.engine import Engine, Row
from minimind.inference.network import Source
from minimind.inference.sampling import Sampling, cut
from minimind.inference.text import Writer
from minimind.model import Decoder

NO_STOP = -1
LENGTHS = (5, 1, 9, 9, 2, 17, 4, 30, 6, 1)
Decoders = Callable[..., Decoder]
Prompts = Callable[..., list[list[int]]]


def rows(prompts: Sequence[list[int]], new_tokens: int, **options: Any) -> list[Row]:
    written = [f"<{number}>".encode() for number in range(97)]
    sampling = Sampling(**options)
    return [
        Row(prompt, sampling, new_tokens, Writer(written, sampling.stop), number=number)
        for number, prompt in enumerate(prompts)
    ]


def answers(
    made: Engine, prompts: Sequence[list[int]], new_tokens: int, slots: int = 32, **options: Any
) -> list[list[int]]:
    work = rows(prompts, new_tokens, **options)
    for _ in made.run(work, slots):
        pass
    return [row.tokens for row in work]


def reference(model: Decoder, folder: Path) -> transformers.PreTrainedModel:
    save_file(dict(model.state_dict()), folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(huggingface_config(model.config)))
    return transformers.AutoModelForCausalLM.from_pretrained(folder).eval()


@pytest.mark.parametrize("name", ["qwen3", "llama", "wide", "moe"])
@pytest.mark.parametrize("penalty", [1.0, 1.2])
def test_greedy_equals_transformers(
    name: str, penalty: float, tmp_path: Path, decoder: Decoders, prompts: Prompts
) -> None:
    model = decoder(name)
    theirs = reference(model, tmp_path)
    expected = [
        theirs.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), max_new_tokens=64, do_sample=False,
            eos_token_id=None, pad_token_id=0, repetition_penalty=penalty,
        )[0, len(prompt) :].tolist()
        for prompt in prompts(*LENGTHS)
    ]  # fmt: skip
    made = Engine(Source(model), NO_STOP)
    for slots in (1, 4, 32):
        assert answers(made, prompts(*LENGTHS), 64, slots, repetition_penalty=penalty) == expected
    stop = max({token for tokens in expected for token in tokens}, key=lambda t: sum(t in row for row in expected))
    short = [tokens[: tokens.index(stop)] if stop in tokens else tokens for tokens in expected]
    assert len({len(tokens) for tokens in short}) > 2  # rows leave, and others enter, at different times
    for slots in (3, 32):
        assert answers(Engine(Source(model), stop), prompts(*LENGTHS), 64, slots, repetition_penalty=penalty) == short


def test_sampling_draws_what_generate_draws(decoder: Decoders, prompts: Prompts) -> None:
    model, made = decoder(), Engine(Source(decoder()), 5)
    expected = generate(model, prompts(*LENGTHS), max_new_tokens=24, stop=5, temperature=0.8, seed=4)
    for slots in (1, 3, 32):
        assert answers(made, prompts(*LENGTHS), 24, slots, temperature=0.8, seed=4) == expected
    assert answers(made, prompts(*LENGTHS), 24, temperature=0.8, seed=5) != expected


def test_rows_of_one_batch_may_differ_in_everything(decoder: Decoders, prompts: Prompts) -> None:
    made = Engine(Source(decoder()), NO_STOP)
    options: list[dict[str, Any]] = [
        {}, {"temperature": 1.0}, {"temperature": 1.0, "seed": 1}, {"repetition_penalty": 1.5},
        {"presence_penalty": 2.0}, {"temperature": 0.5, "min_p": 0.2, "top_k": 9},
    ]  # fmt: skip
    asked = prompts(*LENGTHS[: len(options)])
    work = [rows([prompt], 20 + i, **own)[0] for i, (prompt, own) in enumerate(zip(asked, options, strict=True))]
    for _ in made.run(work, 4):
        pass
    for i, (prompt, own) in enumerate(zip(asked, options, strict=True)):
        assert [work[i].tokens] == answers(made, [prompt], 20 + i, **own)
        assert work[i].end == "length"
    assert len(set(work[4].tokens)) > len(set(work[0].tokens))  # saying things once


def test_text_comes_as_it_is_settled(decoder: Decoders, prompts: Prompts) -> None:
    made = Engine(Source(decoder()), NO_STOP)
    (row,) = rows(prompts(4), 12)
    pieces = [worked.take() for worked in made.run([row])]
    assert pieces == [f"<{token}>" for token in row.tokens]
    stop = pieces[5] + pieces[6][:2]
    (again,) = rows(prompts(4), 12, stop=(stop,))
    assert "".join(worked.take() for worked in made.run([again])) == row.text[: row.text.index(stop)]
    assert again.end == "stop"


@pytest.mark.parametrize("form", ["fused", "plain"])
@pytest.mark.parametrize("draft_tokens", [1, 4, 7])
def test_a_draft_changes_no_greedy_answer(
    form: str, draft_tokens: int, decoder: Decoders, prompts: Prompts, monkeypatch: pytest.MonkeyPatch
) -> None:
    if form == "plain":
        monkeypatch.setattr(kernel, "covers", lambda _: False)
    model, close, far = Source(decoder()), Source(nudged(decoder())), Source(decoder("wide", seed=8))
    for options in ({}, {"repetition_penalty": 1.3, "presence_penalty": 0.5}):
        expected = answers(Engine(model, 5), prompts(*LENGTHS[:4]), 40, **options)
        for draft, least, most in ((model, 1.0, 1.0), (close, 0.3, 1.0), (far, 0.0, 0.5)):
            work = rows(prompts(*LENGTHS[:4]), 40, **options)
            for _ in Engine(model, 5, draft, draft_tokens).run(work):
                pass
            assert [row.tokens for row in work] == expected
            share = sum(row.accepted for row in work) / sum(row.proposed for row in work)
            if not options:
                assert least <= share <= most


def nudged(model: Decoder) -> Decoder:
    """Almost the same weights."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data += 0.03 * torch.randn(parameter.shape, generator=generator)
    return model


def test_a_draft_changes_no_distribution(decoder: Decoders) -> None:
    """Pairs of tokens, drawn with a draft that is quite wrong, against the model's own probabilities."""
    model, draft = decoder(), decoder(seed=8)
    sampling = Sampling(temperature=2.0, top_k=8, seed=11)
    prompt = [5, 6, 7]

    def chances(text: list[int]) -> torch.Tensor:
        hidden, _ = model(torch.tensor([text]), torch.ones(1, len(text), dtype=torch.int64))
        return cut(model.logits(hidden)[:, -1], sampling)[0].softmax(-1).double()

    first = chances(prompt)
    expected = {(a, b): float(first[a] * second[b]) for a in first.nonzero()[:, 0].tolist()
                for second in [chances([*prompt, a])] for b in second.nonzero()[:, 0].tolist()}  # fmt: skip
    made = Engine(Source(model), NO_STOP, Source(draft), 3)
    work = rows([prompt] * 3000, 2, temperature=2.0, top_k=8, seed=11)
    for _ in made.run(work):
        pass
    share = sum(row.accepted for row in work) / sum(row.proposed for row in work)
    assert 0.05 < share < 0.9  # both ways of going on are taken
    counts = dict.fromkeys(expected, 0)
    for row in work:
        counts[tuple(row.tokens)] += 1  # type: ignore[index]
    assert stats.chisquare(*pooled(list(counts.values()), [p * len(work) for p in expected.values()])).pvalue > 0.01


def pooled(counts: list[int], expected: list[float]) -> tuple[list[float], list[float]]:
    """The rare ones counted together, and the expectations brought to the same sum."""
    total = sum(counts) / sum(expected)
    common = [(c, e * total) for c, e in zip(counts, expected, strict=True) if e >= 5]
    rare = [(c, e * total) for c, e in zip(counts, expected, strict=True) if e < 5]
    both = [*common, (sum(c for c, _ in rare), sum(e for _, e in rare))] if rare else common
    return [float(c) for c, _ in both], [e for _, e in both]


def test_nothing_to_do_is_nothing(decoder: Decoders) -> None:
    assert list(Engine(Source(decoder()), NO_STOP).run([])) == []
    assert engine.choose([], torch.empty(0, 97)) == []
