"""The decoder against transformers, and its own promises: isolation of documents, caching, seeds, counts."""

import math
from dataclasses import replace

import pytest
import torch
from toy.attention import by_pieces
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)
from transformers.models.qwen3.modeling_qwen3 import Qwen3RotaryEmbedding

from minimind import model as definition
from minimind.model import (
    Cache,
    Decoder,
    ModelConfig,
    RopeScaling,
    attend,
    attend_documents,
    document_ends,
    document_mask,
    document_positions,
    rotary_table,
)

DENSE = ModelConfig(
    hidden_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=80,
    qk_norm_init=1.6, vocab_size=97,
)  # fmt: skip
MIXTURE = replace(DENSE, use_moe=True, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32)
CONFIGS = {"qwen3": DENSE, "llama": replace(DENSE, qk_norm=False), "untied": replace(DENSE, tie_word_embeddings=False)}


def reference(model: Decoder) -> torch.nn.Module:
    """The transformers model with the same weights."""
    c = model.config
    shared = {
        "vocab_size": c.vocab_size, "hidden_size": c.hidden_size, "intermediate_size": c.intermediate_size,
        "num_hidden_layers": c.num_hidden_layers, "num_attention_heads": c.num_attention_heads,
        "num_key_value_heads": c.num_key_value_heads, "head_dim": c.head_dim, "rms_norm_eps": c.rms_norm_eps,
        "rope_parameters": {"rope_type": "default", "rope_theta": c.rope_theta},
        "tie_word_embeddings": c.tie_word_embeddings, "max_position_embeddings": c.max_position_embeddings,
    }  # fmt: skip
    if c.use_moe:
        moe = {"num_experts": c.num_experts, "num_experts_per_tok": c.num_experts_per_tok, "norm_topk_prob": True}
        theirs = Qwen3MoeForCausalLM(Qwen3MoeConfig(**shared, **moe, moe_intermediate_size=c.expert_width))
        state = stack_experts(model.state_dict(), c)
    else:
        theirs = (
            Qwen3ForCausalLM(Qwen3Config(**shared)) if c.qk_norm else LlamaForCausalLM(LlamaConfig(**shared))
        )  # fmt: skip
        state = model.state_dict()
    missing, unexpected = theirs.load_state_dict(state, strict=False)
    assert not unexpected
    assert set(missing) <= {"lm_head.weight"}
    theirs.tie_weights()
    return theirs.eval()


def stack_experts(state: dict[str, torch.Tensor], config: ModelConfig) -> dict[str, torch.Tensor]:
    """One tensor for all experts of a layer, as transformers 5 keeps them in memory."""
    stacked = {name: value for name, value in state.items() if ".experts." not in name}
    for i in range(config.num_hidden_layers):
        prefix = f"model.layers.{i}.mlp.experts."
        parts = {
            kind: torch.stack([state[f"{prefix}{e}.{kind}_proj.weight"] for e in range(config.num_experts)])
            for kind in ("gate", "up", "down")
        }
        stacked[prefix + "gate_up_proj"] = torch.cat((parts["gate"], parts["up"]), 1)
        stacked[prefix + "down_proj"] = parts["down"]
    return stacked


def randomised(config: ModelConfig) -> Decoder:
    """A model whose every parameter, the norms' too, differs from its start, so that a mix-up shows."""
    model = Decoder(config).initialise(1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model


@pytest.mark.parametrize("config", [*CONFIGS.values(), MIXTURE], ids=[*CONFIGS, "moe"])
def test_logits_and_gradients_equal_transformers(config: ModelConfig) -> None:
    model, ids = randomised(config), torch.randint(0, 97, (3, 40), generator=torch.Generator().manual_seed(3))
    theirs = reference(model)
    hidden, _ = model(ids, torch.ones_like(ids))
    logits, expected = model.logits(hidden), theirs(ids).logits
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
    logits.logsumexp(-1).sum().backward()
    expected.logsumexp(-1).sum().backward()
    named = dict(theirs.named_parameters())
    for name in ("model.embed_tokens.weight", "model.layers.1.self_attn.k_proj.weight", "model.norm.weight"):
        torch.testing.assert_close(dict(model.named_parameters())[name].grad, named[name].grad, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize(
    "scaling",
    [RopeScaling(16.0, 64), RopeScaling(4.0, 256, 8.0, 2.0), RopeScaling(2.0, 64, attention_factor=0.7)],
    ids=str,
)
def test_yarn_equals_transformers(scaling: RopeScaling) -> None:
    """Cosines, sines, and what a model makes of them."""
    config = replace(DENSE, head_dim=32, rope_theta=1e6, rope_scaling=scaling)
    given = {} if scaling.attention_factor is None else {"attention_factor": scaling.attention_factor}
    theirs = Qwen3Config(
        hidden_size=48, num_attention_heads=4, num_key_value_heads=2, head_dim=32, num_hidden_layers=2,
        intermediate_size=80, vocab_size=97, rms_norm_eps=1e-6, tie_word_embeddings=True,
        max_position_embeddings=1024,
        rope_parameters={
            "rope_type": "yarn", "rope_theta": 1e6, "factor": scaling.factor,
            "original_max_position_embeddings": scaling.original_max_position_embeddings,
            "beta_fast": scaling.beta_fast, "beta_slow": scaling.beta_slow, **given,
        },
    )  # fmt: skip
    positions = torch.arange(1024)[None]
    for ours, expected in zip(
        rotary_table(config), Qwen3RotaryEmbedding(theirs)(torch.zeros(1), positions), strict=True
    ):
        torch.testing.assert_close(torch.cat((ours, ours), -1)[None], expected, atol=1e-4, rtol=1e-4)
    model, reference = randomised(config), Qwen3ForCausalLM(theirs).eval()
    reference.load_state_dict(model.state_dict(), strict=False)
    reference.tie_weights()
    ids = torch.randint(0, 97, (1, 200), generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(
        model.logits(model(ids, torch.ones_like(ids))[0]), reference(ids).logits, atol=1e-3, rtol=1e-4
    )


def test_a_scaling_can_be_put_on_and_taken_off() -> None:
    model, scaling = randomised(DENSE), RopeScaling(16.0, 128)
    before, weights = model.cos.clone(), model.state_dict()
    model.rescale(scaling)
    assert model.config.rope_scaling == scaling and model.config.max_position_embeddings == 2048
    assert model.cos.shape == (2048, 6) and "cos" not in weights
    assert torch.equal(model.rescale(None).cos[:1024], before)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"factor": 0.5}, "rope_scaling.factor is 0.5"),
        ({"original_max_position_embeddings": 0}, "rope_scaling.original_max_position_embeddings is 0"),
        ({"beta_fast": 1.0}, "rope_scaling.beta_fast 1.0"),
    ],
)
def test_an_impossible_scaling_is_refused_by_name(change: dict[str, float], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        RopeScaling(**({"factor": 4.0, "original_max_position_embeddings": 128} | change))  # type: ignore[arg-type]


@pytest.mark.parametrize("config", [DENSE, MIXTURE], ids=["dense", "moe"])
def test_documents_of_a_row_do_not_see_each_other(config: ModelConfig) -> None:
    model, lengths = randomised(config), [7, 1, 20]
    ids = torch.randint(0, 97, (1, 32), generator=torch.Generator().manual_seed(4))
    documents = torch.tensor([[1] * 7 + [2] + [3] * 20 + [0] * 4])
    packed, _ = model(ids, documents)
    start = 0
    for length in lengths:
        part = ids[:, start : start + length]
        alone, _ = model(part, torch.ones_like(part))
        torch.testing.assert_close(packed[:, start : start + length], alone, atol=1e-5, rtol=1e-5)
        start += length
    assert packed.isfinite().all()


def test_positions_restart_and_mask_is_causal_within_documents() -> None:
    documents = torch.tensor([[1, 1, 2, 2, 2, 0, 0]])
    assert document_positions(documents).tolist() == [[0, 1, 0, 1, 2, 0, 1]]
    mask = document_mask(documents)[0]
    assert mask.diagonal().all()
    assert [row.nonzero().flatten().tolist() for row in mask] == [[0], [0, 1], [2], [2, 3], [2, 3, 4], [5], [5, 6]]


def test_cached_decoding_equals_one_pass() -> None:
    model, ids = randomised(DENSE), torch.randint(0, 97, (2, 12), generator=torch.Generator().manual_seed(5))
    whole, _ = model(ids, torch.ones_like(ids))
    cache = Cache(DENSE, 2, 12, torch.float32, "cpu")
    pieces = []
    for start, end in [(0, 5), (5, 6), (6, 12)]:
        T = end - start
        bias = torch.full((T, end), float("-inf")).triu(start + 1).expand(2, 1, T, end)
        positions = torch.arange(start, end).expand(2, T)
        pieces.append(model(ids[:, start:end], positions=positions, bias=bias, cache=cache)[0])
    torch.testing.assert_close(torch.cat(pieces, 1), whole, atol=1e-5, rtol=1e-5)


def test_a_seed_gives_the_same_weights_and_another_seed_others() -> None:
    first, again, other = (Decoder(DENSE).initialise(seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["model.embed_tokens.weight"], other["model.embed_tokens.weight"])


def test_counts_are_those_of_minimind() -> None:
    """The published sizes of the family, to the unit (dense and mixture of experts)."""
    with torch.device("meta"):
        dense = ModelConfig(768, 8, 8, 4, 2432, vocab_size=6400)
        assert Decoder(dense).num_parameters() == 63_912_192
        mixture = Decoder(replace(dense, use_moe=True, num_experts=4, num_experts_per_tok=1))
    assert mixture.num_parameters() == 198_416_640
    assert mixture.num_parameters(active=True) == 63_936_768


def test_balance_loss_is_one_when_balanced_and_ignores_padding() -> None:
    model = randomised(MIXTURE)
    for layer in model.model.layers:
        torch.nn.init.zeros_(layer.mlp.gate.weight)  # type: ignore[union-attr]
    ids = torch.randint(0, 97, (1, 16), generator=torch.Generator().manual_seed(6))
    _, balanced = model(ids, torch.ones_like(ids))
    torch.testing.assert_close(balanced.loss, torch.full((1,), MIXTURE.router_aux_loss_coef))
    skewed = randomised(MIXTURE)
    documents = torch.tensor([[1] * 10 + [0] * 6])
    _, padded = skewed(ids, documents)
    _, alone = skewed(ids[:, :10], documents[:, :10])
    for part, expected in zip(padded, alone, strict=True):
        torch.testing.assert_close(part, expected)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"hidden_size": 50}, "model.hidden_size 50"),
        ({"num_key_value_heads": 3}, "model.num_key_value_heads"),
        ({"head_dim": 7}, "model.head_dim 7"),
        ({"use_moe": True, "num_experts_per_tok": 9}, "model.num_experts_per_tok 9"),
        ({"num_shared_experts": -1}, "model.num_shared_experts is -1"),
    ],
)
def test_impossible_shapes_are_refused_by_name(change: dict[str, int], named: str) -> None:
    fields = {**{name: getattr(DENSE, name) for name in DENSE.__dataclass_fields__}, "head_dim": None}
    with pytest.raises(ValueError, match=named):
        ModelConfig(**{**fields, **change})


def test_the_tokenizer_decides_the_vocabulary() -> None:
    config = ModelConfig(32, 1, 2, 2, 64)
    assert config.with_vocabulary(300).vocab_size == 300
    assert replace(config, vocab_size=300).with_vocabulary(300).vocab_size == 300
    with pytest.raises(ValueError, match=r"model.vocab_size is 299, but the tokenizer has 300 tokens"):
        replace(config, vocab_size=299).with_vocabulary(300)


def test_document_ends_cut_packed_rows_where_documents_end() -> None:
    documents = torch.tensor([[1, 1, 2, 2, 2, 0, 0], [1, 2, 3, 3, 3, 3, 3], [0, 0, 0, 0, 0, 0, 0]])
    ends = document_ends(documents, 3)
    assert ends.dtype == torch.int32
    assert ends.tolist() == [0, 2, 5, 5, 7, 8, 9, 14, 14, 14, 14, 14, 21]
    lengths = ends.diff()
    assert [length for length in lengths.tolist() if length] == [2, 3, 2, 1, 1, 5, 7], "padding is a piece of its own"


PADDED = {
    "right": [[1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1, 1], [1, 0, 0, 0, 0, 0, 0]],
    "several documents": [[1, 1, 2, 2, 2, 0, 0], [1, 2, 3, 3, 3, 3, 3], [0, 0, 0, 0, 0, 0, 0]],
    "left": [[0, 0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0, 1]],
}


@pytest.mark.parametrize("name", PADDED)
def test_attention_by_pieces_equals_masked_attention_or_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What CUDA does in bf16, imitated: a kernel for pieces of a row can only be right where the pieces are."""
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", by_pieces)
    documents = torch.tensor(PADDED[name])
    B, T, H, G, K = *documents.shape, 4, 2, 6
    generator = torch.Generator().manual_seed(7)
    q, k, v = (torch.randn(B, heads, T, K, generator=generator) for heads in (H, G, G))
    mask = document_mask(documents)[:, None]
    expected = attend(q, k, v, torch.zeros(mask.shape).masked_fill(~mask, -math.inf)).transpose(1, 2)

    def by_document(ends: torch.Tensor) -> torch.Tensor:
        rows = (x.transpose(1, 2).flatten(0, 1) for x in (q, k, v))
        return attend_documents(*rows, ends, T).view(B, T, H, K)

    if name == "left":
        with pytest.raises(RuntimeError, match="rise from 1 to 3 at most, then be 0"):
            document_ends(documents, 3)
        monkeypatch.setattr(torch, "_assert_async", lambda *_: None)
        wrong = by_document(document_ends(documents, 3))
        assert not torch.allclose(wrong[documents > 0], expected[documents > 0], atol=1e-2)
        return
    torch.testing.assert_close(by_document(document_ends(documents, 3)), expected)


@pytest.mark.parametrize("documents", [[[2, 1]], [[1, 4]], [[1, 0, 1]]], ids=["falls", "too many", "padding between"])
def test_documents_that_do_not_rise_are_refused(documents: list[list[int]]) -> None:
    with pytest.raises(RuntimeError, match="rise from 1 to 3 at most"):
        document_ends(torch.tensor(documents), 3)


@pytest.mark.parametrize("config", [DENSE, MIXTURE], ids=["dense", "moe"])
def test_a_pass_by_pieces_equals_a_masked_pass(config: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    model = randomised(config)
    ids = torch.randint(0, 97, (3, 7), generator=torch.Generator().manual_seed(8))
    documents = torch.tensor(PADDED["several documents"])
    expected, _ = model(ids, documents)
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", by_pieces)
    monkeypatch.setattr(definition, "takes_lengths", lambda x: True)
    for most in (None, 3, 7):
        model.max_documents = most
        torch.testing.assert_close(model(ids, documents)[0], expected, atol=1e-5, rtol=1e-5)
    model.max_documents = 2
    with pytest.raises(RuntimeError, match="rise from 1 to 2 at most"):
        model(ids, documents)
