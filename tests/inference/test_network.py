"""Sequences that grow piece by piece, against the model's pass over all of each at once."""

import platform
from collections.abc import Callable
from pathlib import Path

import gguf
import pytest
import torch
from arm import emulator
from torch import Tensor

from minimind import native
from minimind.errors import UserError
from minimind.inference import kernel
from minimind.inference.network import Fused, Network, Plain, Source
from minimind.model import Decoder

# Which slots are fed how many tokens, one line a call: prompts and single tokens together, a cut, a slot used again.
FEEDS: list[dict[int, int]] = [{0: 5, 2: 17, 1: 1}, {2: 1, 0: 1}, {1: 40}, {0: 1, 1: 1, 2: 1}, {2: 7}, {0: 30, 2: 2}]

# Of decode.c: without AMX's tiles, without AVX-512, without AVX.
BUILDS = ["-mno-amx-bf16", "-march=x86-64-v3", "-march=x86-64-v2"] if platform.machine() == "x86_64" else []


def network(model: Decoder, form: type, slots: int = 3, capacity: int = 80) -> Network:
    return Fused(kernel.Weights(model), slots, capacity) if form is Fused else Plain(model, slots, capacity)


def whole(model: Decoder, ids: list[int]) -> Tensor:
    hidden, _ = model(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.int64))
    return model.logits(hidden)[0]


def assert_grown_like_whole(
    model: Decoder, definition: Decoder, form: type, atol: float, prompts: Callable[..., list[list[int]]]
) -> None:
    texts, grown = prompts(80, 80, 80), network(model, form)
    expected = [whole(definition, text) for text in texts]
    errors = []
    for feed in FEEDS:
        starts = {slot: grown.lengths[slot] for slot in feed}
        parts = [texts[slot][starts[slot] : starts[slot] + size] for slot, size in feed.items()]
        every = len(parts) == 2
        logits = grown.feed(list(feed), parts, every=every)
        wanted = [
            expected[slot][starts[slot] + (0 if every else size - 1) : starts[slot] + size]
            for slot, size in feed.items()
        ]
        errors.append(logits - torch.cat(wanted))
    assert torch.cat(errors).abs().max() < atol
    assert torch.cat(errors).abs().mean() < atol / 8
    # What is cut off leaves no trace, and a slot can be used again.
    grown.lengths[:2] = [3, 0]
    logits = grown.feed([1, 0], [texts[2][:9], texts[0][3:5]])
    torch.testing.assert_close(logits, torch.stack([expected[2][8], expected[0][4]]), rtol=0, atol=atol)


ROUNDINGS = ((torch.float32, 1e-4), (torch.bfloat16, 0.6))
CASES = [
    (name, form, *rounding)
    for name in ("qwen3", "llama", "wide", "tiles")
    for form in (Fused, Plain)
    for rounding in ROUNDINGS
]


@pytest.mark.parametrize(
    ("name", "form", "dtype", "atol"),
    [*CASES, ("moe", Plain, *ROUNDINGS[0])],  # in bf16 rounding may lead to another expert
)
def test_logits_are_those_of_the_whole_sequence(
    name: str, form: type, dtype: torch.dtype, atol: float, decoder: Callable[..., Decoder],
    prompts: Callable[..., list[list[int]]],
) -> None:  # fmt: skip
    assert_grown_like_whole(decoder(name, dtype), decoder(name), form, atol, prompts)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["wide", "tiles"])
def test_company_portions_and_threads_change_no_bit(
    name: str, dtype: torch.dtype, decoder: Callable[..., Decoder], prompts: Callable[..., list[list[int]]]
) -> None:
    weights = kernel.Weights(decoder(name, dtype))
    texts = prompts(60, 60, 60, 60, 60, 60, 60, 60)
    one_by_one = []
    for text in texts:
        grown = Fused(weights, 1, 60)
        one_by_one.append(torch.cat([grown.feed([0], [[token]]) for token in text]))
    together = Fused(weights, 8, 60).feed(range(8), texts, every=True).view(8, 60, -1)
    assert together.equal(torch.stack(one_by_one))
    torch.set_num_threads(2)
    assert Fused(weights, 8, 60).feed(range(8), texts, every=True).view(8, 60, -1).equal(together)


@pytest.mark.parametrize(
    "march", [None, *(pytest.param(march, marks=pytest.mark.arm) for march in emulator.PROCESSORS)]
)
def test_quantised_logits_are_those_of_the_rounded_weights(
    march: str | None, decoder: Callable[..., Decoder], prompts: Callable[..., list[list[int]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """All but the rounding of keys and values to bf16."""
    if march is not None:
        library = emulator.Decode(march)
        monkeypatch.setattr(kernel, "library", lambda: library)
    model, rounded = decoder("quantised"), decoder("quantised")
    q8_0 = gguf.GGMLQuantizationType.Q8_0
    for name, parameter in rounded.named_parameters():
        if parameter.ndim > 1 and "embed" not in name:
            parameter.data = torch.from_numpy(gguf.dequantize(gguf.quantize(parameter.numpy(), q8_0), q8_0))
    (text,) = prompts(50)
    logits = Fused(kernel.Weights(model, quantize=True), 1, 50).feed([0], [text], every=True)
    error = (logits - whole(rounded, text)).abs()
    assert error.mean() < 0.2 * (whole(model, text) - whole(rounded, text)).abs().mean() + 0.02
    one_by_one = Fused(kernel.Weights(model, quantize=True), 1, 50)
    assert logits.equal(torch.cat([one_by_one.feed([0], [[token]]) for token in text]))
    with pytest.raises(UserError, match="only dense models on a CPU are quantised"):
        Source(decoder("moe"), quantize=True)


@pytest.mark.parametrize("flag", BUILDS)
def test_builds_for_other_processors_agree(
    flag: str, decoder: Callable[..., Decoder], prompts: Callable[..., list[list[int]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (text,) = prompts(150)
    forms = [("tiles", torch.float32, False), ("tiles", torch.bfloat16, False), ("quantised", torch.float32, True)]
    models = [(decoder(name, dtype), quantize) for name, dtype, quantize in forms]
    built = native.library(Path(kernel.__file__).with_name("decode.c"), flag)

    def logits() -> list[Tensor]:
        return [Fused(kernel.Weights(m, q), 1, 150).feed([0], [text], every=True) for m, q in models]

    here = logits()
    monkeypatch.setattr(kernel, "library", lambda: built)
    for (_, dtype, _), one, other in zip(forms, here, logits(), strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=0.3 if dtype == torch.bfloat16 else 1e-3)


@pytest.mark.arm
@pytest.mark.parametrize("march", emulator.PROCESSORS)
@pytest.mark.parametrize("dtype_and_atol", ROUNDINGS)
@pytest.mark.parametrize("name", ["qwen3", "llama", "wide", "quantised"])
def test_on_arm_logits_are_those_of_the_whole_sequence(
    name: str, dtype_and_atol: tuple[torch.dtype, float], march: str, decoder: Callable[..., Decoder],
    prompts: Callable[..., list[list[int]]], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    dtype, atol = dtype_and_atol
    library = emulator.Decode(march)
    monkeypatch.setattr(kernel, "library", lambda: library)
    assert_grown_like_whole(decoder(name, dtype), decoder(name), Fused, atol, prompts)


def test_the_faster_form_is_taken_where_it_fits(decoder: Callable[..., Decoder]) -> None:
    assert isinstance(Source(decoder()).network(1, 8), Fused)
    assert isinstance(Source(decoder("moe")).network(1, 8), Plain)
