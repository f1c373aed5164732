"""The decoder-only transformer, dense or mixture-of-experts, in one file.

What it is, from input to output:

- token embedding, shared with the output layer when `tie_word_embeddings`
- per layer, two residual branches, each normalised at its entrance (RMSNorm, arXiv:1910.07467):
    - causal self-attention with grouped key/value heads (GQA, arXiv:2305.13245), rotary positions in
      rotate-half form (RoPE, arXiv:2104.09864) and, with `qk_norm`, RMSNorm on every query and key head
    - SwiGLU feed-forward (arXiv:2002.05202), or, with `use_moe`, several of them behind a softmax router
      that sends each token to its top `num_experts_per_tok`, beside `num_shared_experts` that every token visits
- rotary positions stretched beyond the training length where `rope_scaling` says so (YaRN, arXiv:2309.00071)
- no biases, no dropout
- fp32 parameters; each matrix is cast to `dtype` where it is used, so products run in bf16 while
  gradients arrive, and add up, in fp32
- attention never crosses the documents of a packed row

Everything is plain PyTorch. Where a line says `cpu.covers`, a kernel of `kernels/cpu.py` computes the same on CPUs
in fewer passes over memory; the code below it is the definition.

Parameters carry the names that Hugging Face gives them (Llama without `qk_norm`, Qwen3 with it,
Qwen3-MoE with experts), so a state dict is at once a checkpoint those classes load.

Shapes: B batch, T time, S attended time, D width, H heads, G key/value heads, K head width,
E experts, V vocabulary.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from minimind import experts, limits
from minimind.experts import Routing
from minimind.kernels import cpu
from minimind.limits import Limits, Share

Size = Annotated[int, Limits(1, 10**6)]
Length = Annotated[int, Limits(1, 10**8)]  # tokens
Coefficient = Annotated[float, Limits(0, 100)]
Factor = Annotated[float, Limits(0, 100, above=True)]
Turns = Annotated[float, Limits(0, 10**4, above=True)]
Experts = Annotated[int, Limits(0, 10**4)]


@dataclass(frozen=True)
class RopeScaling:
    """How rotary positions reach further than training did: YaRN, arXiv:2309.00071. Raises ValueError."""

    factor: Annotated[float, Limits(1, 10**4)]  # how many times as far
    original_max_position_embeddings: Length  # the length of training, in tokens
    beta_fast: Turns = 32.0  # turns over that length from which on a pair keeps its wavelength
    beta_slow: Turns = 1.0  # turns up to which a pair's wavelength grows by the whole factor
    attention_factor: Factor | None = None  # of cosines and sines; None: 0.1 · ln(factor) + 1

    def __post_init__(self) -> None:
        limits.check(self, "rope_scaling")
        if not self.beta_fast > self.beta_slow:
            raise ValueError(f"rope_scaling.beta_fast {self.beta_fast} must be above beta_slow {self.beta_slow}")


@dataclass(frozen=True)
class ModelConfig:
    """Everything that determines the function a checkpoint computes. Raises ValueError naming the field."""

    hidden_size: Size
    num_hidden_layers: Annotated[int, Limits(1, 1000)]
    num_attention_heads: Annotated[int, Limits(1, 10**4)]
    num_key_value_heads: Annotated[int, Limits(1, 10**4)]
    intermediate_size: Size
    head_dim: Annotated[int, Limits(2, 10**4)] | None = None  # None: hidden_size / num_attention_heads
    max_position_embeddings: Length = 1024
    rope_theta: Annotated[float, Limits(1, 10**10)] = 1e4
    rope_scaling: RopeScaling | None = None
    rms_norm_eps: Annotated[float, Limits(0, 1, above=True)] = 1e-6
    qk_norm: bool = True
    qk_norm_init: Factor = 1.0  # initial gain of the query and key norms; above 1 sharpens early attention
    tie_word_embeddings: bool = True
    use_moe: bool = False
    num_experts: Annotated[int, Limits(1, 10**4)] = 4
    num_experts_per_tok: Annotated[int, Limits(1, 10**4)] = 1
    num_shared_experts: Experts = 0  # that every token visits besides; their weights lie together as one wider expert
    moe_intermediate_size: Size | None = None  # of one expert; None: intermediate_size
    norm_topk_prob: bool | None = None  # whether a token's weights add up to 1; None: where it visits two or more
    router_aux_loss_coef: Coefficient = 5e-4
    router_aux_loss_per: Literal["sequence", "batch"] = "sequence"  # what is to be balanced within itself
    router_z_loss_coef: Coefficient = 0.0  # of the squared log-sum of the gate's exponentials
    router_bias_rate: Share = 0.0  # above 0: biases that only choose experts move so far every step
    vocab_size: Annotated[int, Limits(0, 2**24)] = 0  # 0: not yet known; the tokenizer decides it

    def __post_init__(self) -> None:
        limits.check(self, "model")
        if self.head_dim is None:
            if self.hidden_size % self.num_attention_heads:
                raise ValueError(
                    f"model.hidden_size {self.hidden_size} is not a multiple of model.num_attention_heads "
                    f"{self.num_attention_heads}: change one of them, or set model.head_dim"
                )
            object.__setattr__(self, "head_dim", self.hidden_size // self.num_attention_heads)
        if self.moe_intermediate_size is None:
            object.__setattr__(self, "moe_intermediate_size", self.intermediate_size)
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"model.num_attention_heads {self.num_attention_heads} is not a multiple of "
                f"model.num_key_value_heads {self.num_key_value_heads}: each key/value head serves a whole "
                "number of query heads"
            )
        if self.head_width % 2:
            raise ValueError(f"model.head_dim {self.head_width} is odd: rotary positions turn pairs, use an even one")
        if self.use_moe and self.num_experts_per_tok > self.num_experts:
            raise ValueError(
                f"model.num_experts_per_tok {self.num_experts_per_tok} exceeds model.num_experts "
                f"{self.num_experts}: a token can't visit more experts than there are"
            )

    def with_vocabulary(self, size: int) -> "ModelConfig":
        """The same for a vocabulary of `size` tokens. Raises ValueError where it says another."""
        if self.vocab_size not in (0, size):
            raise ValueError(
                f"model.vocab_size is {self.vocab_size}, but the tokenizer has {size} tokens: leave the key out"
            )
        return replace(self, vocab_size=size)

    @property
    def head_width(self) -> int:
        """`head_dim`, resolved."""
        assert self.head_dim is not None
        return self.head_dim

    @property
    def expert_width(self) -> int:
        """`moe_intermediate_size`, resolved."""
        assert self.moe_intermediate_size is not None
        return self.moe_intermediate_size

    @property
    def normalises_weights(self) -> bool:
        """`norm_topk_prob`, resolved: where a token visits one expert, its normalised weight would be the constant 1,
        and starve the router of gradient; imported models may have been trained like that.
        """
        return self.num_experts_per_tok > 1 if self.norm_topk_prob is None else self.norm_topk_prob


def document_mask(documents: Tensor) -> Tensor:
    """Who may attend to whom in packed rows: the same document, not later.

    documents (B, T) integers, 0 for padding. Returns bool (B, T, T), true where query t may read key s;
    padding reads only padding, so no row of the mask is empty.
    """
    T = documents.shape[1]
    same = documents[:, :, None] == documents[:, None, :]
    return same & torch.ones(T, T, dtype=torch.bool, device=documents.device).tril()


def document_positions(documents: Tensor) -> Tensor:
    """Position of each token within its document. documents (B, T) integers; returns int64 (B, T)."""
    T = documents.shape[1]
    index = torch.arange(T, device=documents.device).expand_as(documents)
    starts = torch.ones_like(documents, dtype=torch.bool)
    starts[:, 1:] = documents[:, 1:] != documents[:, :-1]
    return index - torch.where(starts, index, 0).cummax(1).values


class Cache:
    """Keys and values of every layer, at a fixed capacity, for decoding token by token.

    keys[i], values[i]: (B, G, capacity, K). `length` is the number of filled slots, the same for all rows.
    """

    def __init__(self, config: ModelConfig, batch: int, capacity: int, dtype: torch.dtype, device: torch.device | str):
        shape = (batch, config.num_key_value_heads, capacity, config.head_width)
        self.keys = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(config.num_hidden_layers)]
        self.values = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(config.num_hidden_layers)]
        self.length = 0

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write T new entries behind the filled ones; return views of all, (B, G, length + T, K)."""
        end = self.length + keys.shape[2]
        self.keys[layer][:, :, self.length : end] = keys
        self.values[layer][:, :, self.length : end] = values
        return self.keys[layer][:, :, :end], self.values[layer][:, :, :end]

    def keep(self, rows: Tensor) -> None:
        """Drop all rows but these (int64 indices): finished sequences leave the batch."""
        self.keys = [k[rows] for k in self.keys]
        self.values = [v[rows] for v in self.values]


def document_ends(documents: Tensor, max_documents: int) -> Tensor:
    """Where the documents of packed rows end, as cumulative lengths for a variable-length kernel, without a look at
    the values by the host: every row has max_documents + 1 pieces, the last one padding, and any of them may be empty.

    documents (B, T) integers that rise from 1, then 0 on padding. Returns int32 (B · (max_documents + 1) + 1,), from 0.
    Raises RuntimeError where they don't, since tokens would then attend to others' documents and nothing would tell;
    on CUDA it comes later, as an assertion of the device, because nothing here waits for it.
    """
    B, T = documents.shape
    numbers = torch.arange(1, max_documents + 2, device=documents.device).expand(B, -1).contiguous()
    ordered = torch.where(documents > 0, documents, max_documents + 1).contiguous()
    # Once a pass, a few small operators, and nothing waits. Compiled steps go without: their rows are the writer's,
    # which numbers them so, and the compiler leaves assertions out of its kernels.
    if not torch.compiler.is_compiling():
        rises = (ordered.diff() >= 0).all() & (documents <= max_documents).all()
        torch._assert_async(rises, f"documents of a row must rise from 1 to {max_documents} at most, then be 0")
    ends = torch.searchsorted(ordered, numbers, right=True) + T * torch.arange(B, device=documents.device)[:, None]
    return F.pad(ends.flatten(), (1, 0)).to(torch.int32)


def most_documents(documents: Tensor) -> int:
    """The most documents in any of the packed rows (B, T), at least 1; it waits for the device to say so.

    A compiled pass can't wait, and takes as many as there is room for. That is correct and slow: the kernel keeps room
    for 128 tokens for each piece, and it can't be started for more than 65,535 of them.
    """
    return documents.shape[1] if torch.compiler.is_compiling() else max(1, int(documents.max()))


@dataclass(frozen=True)
class Places:
    """Where the tokens of a batch stand, and whom each may attend to. One of the last three says the latter."""

    cos: Tensor  # (B, T, 1, K/2) in the dtype of computation
    sin: Tensor
    bias: Tensor | None = None  # (B, 1, T, S) in the dtype of computation: 0 where allowed, -inf elsewhere
    ends: Tensor | None = None  # of `document_ends`
    segments: Tensor | None = None  # of `cpu.segments`


def linear(x: Tensor, *matrices: Tensor) -> Tensor:
    """x (..., K) times one or several matrices (N_i, K), kept in fp32 and cast to the dtype of x: (..., ΣN_i)."""
    if cpu.covers(x) and matrices[0].dtype == torch.float32:
        return cpu.Linear.apply(x, *matrices)
    return F.linear(x, (matrices[0] if len(matrices) == 1 else torch.cat(matrices)).to(x.dtype))


class Linear(nn.Linear):
    """A matrix without bias."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight)


@torch.library.custom_op("minimind::embedding_gradient", mutates_args=())
def embedding_gradient(gradient: Tensor, ids: Tensor, vocab_size: int) -> Tensor:
    """Sum of the gradients (B, T, D) of each token's places, (V, D), in an order that does not vary.

    An operator of its own, because torch.compile would otherwise add up with atomics, in the order in which threads
    happen to arrive, and no two runs would end in the same bits.
    """
    return torch.ops.aten.embedding_dense_backward(gradient, ids, vocab_size, -1, False)


@embedding_gradient.register_fake
def _(gradient: Tensor, ids: Tensor, vocab_size: int) -> Tensor:
    return gradient.new_empty(vocab_size, gradient.shape[-1])


class Lookup(torch.autograd.Function):
    """Rows of the embedding, weight[ids], whose gradient is `embedding_gradient`."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor) -> Tensor:
        """weight (V, D); ids (B, T) int64. Returns (B, T, D)."""
        ctx.save_for_backward(ids)
        ctx.vocab_size = weight.shape[0]
        return F.embedding(ids, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """gradient (B, T, D). Returns the weight's, (V, D)."""
        (ids,) = ctx.saved_tensors
        return embedding_gradient(gradient.contiguous(), ids, ctx.vocab_size), None


class RMSNorm(nn.Module):
    """x / sqrt(mean(x²) + eps) · weight over the last axis, computed in fp32."""

    def __init__(self, width: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), self.weight.shape, self.weight, self.eps).to(x.dtype)


class ResidualNorm(RMSNorm):
    """RMSNorm of the residual stream, after the branch before it, if there is one, has been added to the stream."""

    def forward(self, x: Tensor, branch: Tensor | None = None) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """x, branch (..., D). Returns the norm of x + branch, and x + branch."""
        if cpu.covers(x):
            return cpu.Norm.apply(x, branch, self.weight, self.eps)
        x = x if branch is None else x + branch
        return super().forward(x), x


def rotary_table(config: ModelConfig, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Cosines and sines, each (max_position_embeddings, K/2), fp32: angle = position · theta^(-2i/K).

    With `rope_scaling`, slow pairs turn `factor` times more slowly, so that the furthest position has an angle that
    training has seen, fast ones as before, and those between in proportion; and cosines and sines are scaled, which
    sharpens attention. Source: YaRN, arXiv:2309.00071, sections 3.2 to 3.4.
    """
    half = torch.arange(0, config.head_width, 2, device=device).float() / config.head_width
    frequencies = config.rope_theta**-half
    scale = 1.0
    if (scaling := config.rope_scaling) is not None:

        def pair(turns: float) -> float:
            """The pair, as a real number, that turns so often within the length of training."""
            wavelength = scaling.original_max_position_embeddings / (turns * 2 * math.pi)
            return config.head_width * math.log(wavelength) / (2 * math.log(config.rope_theta))

        first = max(math.floor(pair(scaling.beta_fast)), 0)
        last = min(math.ceil(pair(scaling.beta_slow)), config.head_width - 1)
        # The width of the ramp is never 0, and its ends are whole pairs, as in every other implementation.
        slow = (torch.arange(half.numel(), device=device).float() - first) / (last - first or 0.001)
        frequencies = frequencies * (1 - slow.clamp(0, 1) * (1 - 1 / scaling.factor))
        given = scaling.attention_factor
        scale = 0.1 * math.log(scaling.factor) + 1 if given is None else given
    angles = torch.outer(torch.arange(config.max_position_embeddings, device=device).float(), frequencies)
    return angles.cos() * scale, angles.sin() * scale


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs (i, i + K/2) of each head by its position's angle. x (B, T, H, K); cos, sin (B, T, 1, K/2)."""
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


def takes_lengths(x: Tensor) -> bool:
    """Whether attention over packed hidden states like x is that of torch's variable-length kernel."""
    return x.is_cuda and x.dtype == torch.bfloat16


# torch 2.11 takes fewer key/value heads than query heads without being told, and doesn't know the word.
GROUPED: dict[str, Any] = {"enable_gqa": True} if torch.__version__ >= "2.12" else {}


def attend_documents(q: Tensor, k: Tensor, v: Tensor, ends: Tensor, longest: int) -> Tensor:
    """Causal softmax attention of grouped heads within documents that lie behind each other.

    q (N, H, K); k, v (N, G, K); ends of `document_ends`, of documents of at most `longest` tokens. Returns (N, H, K).
    """
    from torch.nn.attention.varlen import varlen_attn  # brings the compiler in, a second for every process

    mixed = varlen_attn(q, k, v, ends, ends, longest, longest, window_size=(-1, 0), **GROUPED)
    assert isinstance(mixed, Tensor)
    return mixed


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Softmax attention of grouped heads, written out.

    q (B, H, T, K); k, v (B, G, S, K); bias (B, 1, T, S), 0 where allowed and -inf elsewhere, in q's dtype.
    Returns (B, H, T, K). The fused kernel computes the same, and is faster on CUDA and for a single query.
    """
    B, H, T, K = q.shape
    G, S = k.shape[1], k.shape[2]
    if q.is_cuda or T == 1:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, enable_gqa=True)
    # The query heads of a group stand below each other, so that keys and values are read in place.
    rows = (q * K**-0.5).reshape(B * G, H // G * T, K)
    masks = bias.expand(B, H, T, S).reshape(B * G, H // G * T, S)
    scores = torch.baddbmm(masks, rows, k.reshape(B * G, S, K).transpose(1, 2))
    return torch.bmm(scores.softmax(-1), v.reshape(B * G, S, K)).view(B, H, T, K)


class Attention(nn.Module):
    """Causal self-attention of grouped heads with rotary positions, over this sequence or a cache before it."""

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__()
        D, K = config.hidden_size, config.head_width
        self.layer, self.heads, self.groups = layer, config.num_attention_heads, config.num_key_value_heads
        self.q_proj = Linear(D, self.heads * K)
        self.k_proj = Linear(D, self.groups * K)
        self.v_proj = Linear(D, self.groups * K)
        self.o_proj = Linear(self.heads * K, D)
        self.qk_norm, self.eps = config.qk_norm, config.rms_norm_eps
        if config.qk_norm:
            self.q_norm = RMSNorm(K, config.rms_norm_eps)
            self.k_norm = RMSNorm(K, config.rms_norm_eps)

    def forward(self, x: Tensor, places: Places, cache: Cache | None) -> Tensor:
        B, T, _ = x.shape
        qkv = linear(x, self.q_proj.weight, self.k_proj.weight, self.v_proj.weight)
        if places.segments is not None:
            gains = (self.q_norm.weight, self.k_norm.weight) if self.qk_norm else (None, None)
            mixed = cpu.Attention.apply(
                qkv, *gains, places.cos, places.sin, places.segments, self.heads, self.groups, self.eps
            )
            return self.o_proj(mixed)
        q, k, v = qkv.view(B, T, self.heads + 2 * self.groups, -1).split((self.heads, self.groups, self.groups), 2)
        if self.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = rotate(q, places.cos, places.sin), rotate(k, places.cos, places.sin)
        if places.ends is not None:
            mixed = attend_documents(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), places.ends, T)
            return self.o_proj(mixed.view(B, T, -1))
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        if cache is not None:
            k, v = cache.extend(self.layer, k, v)
        assert places.bias is not None
        return self.o_proj(attend(q, k, v, places.bias).transpose(1, 2).reshape(B, T, -1))


PROJECTIONS = ("gate_proj", "up_proj", "down_proj")


def gated(gate_up: Tensor) -> Tensor:
    """silu(gate) · up of gate_up (..., 2I), gate before up: (..., I)."""
    if cpu.covers(gate_up):
        return cpu.SwiGLU.apply(gate_up)
    gate, up = gate_up.chunk(2, -1)
    return F.silu(gate) * up


class FeedForward(nn.Module):
    """SwiGLU: down(silu(gate x) · up x)."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.gate_proj = Linear(width, inner)
        self.up_proj = Linear(width, inner)
        self.down_proj = Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(gated(linear(x, self.gate_proj.weight, self.up_proj.weight)))


class MixtureOfExperts(nn.Module):
    """Several feed-forwards behind a router; each token visits its most probable few, and the shared ones.

    The gate works in fp32. With `router_bias_rate` a bias is added to the probabilities to choose by, and to nothing
    else; `Decoder.rebalance` moves it. Source: DeepSeek-V3, arXiv:2412.19437, section 2.1.2, there with sigmoids.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.gate = Linear(config.hidden_size, config.num_experts)
        if config.router_bias_rate:
            self.gate.register_buffer("e_score_correction_bias", torch.zeros(config.num_experts))
        self.experts = nn.ModuleList(
            FeedForward(config.hidden_size, config.expert_width) for _ in range(config.num_experts)
        )
        if config.num_shared_experts:
            self.shared_experts = FeedForward(config.hidden_size, config.num_shared_experts * config.expert_width)

    def forward(self, x: Tensor, real: Tensor) -> tuple[Tensor, Routing]:
        """x (B, T, D); real (B, T) bool, False on padding. Returns (B, T, D) and what this layer's router did.

        The router's loss is `experts.balance_loss` and the square of log Σ exp of the gate, which keeps it from
        growing (ST-MoE, arXiv:2202.08906, eq. 5), each times its coefficient.
        """
        config = self.config
        scores = self.gate(x.float())
        probabilities = scores.softmax(-1)
        preferences = probabilities
        if config.router_bias_rate:
            preferences = probabilities.detach() + self.gate.e_score_correction_bias
        chosen = preferences.topk(config.num_experts_per_tok, -1).indices
        weights = probabilities.gather(-1, chosen)
        if config.normalises_weights:
            weights = weights / weights.sum(-1, keepdim=True)
        made = self.visit(x.flatten(0, 1), chosen.flatten(0, 1))
        out = (made * weights.flatten(0, 1)[..., None].to(x.dtype)).sum(1).view(x.shape)
        if config.num_shared_experts:
            out = out + self.shared_experts(x)
        visits = torch.zeros_like(probabilities).scatter(-1, chosen, 1.0)
        balance = experts.balance_loss(probabilities, visits, real, config.router_aux_loss_per)
        size = experts.row_means(scores.logsumexp(-1).square(), real)
        routing = Routing(
            loss=config.router_aux_loss_coef * balance + config.router_z_loss_coef * size,
            entropy=experts.row_means(experts.entropy(probabilities.detach()), real),
            load=config.num_experts * experts.shares((visits * real[..., None]).sum(1)),
        )
        return out, routing

    def visit(self, x: Tensor, chosen: Tensor) -> Tensor:
        """What the chosen experts make of each token. x (N, D); chosen (N, K) int64. Returns (N, K, D)."""
        parts = [[getattr(expert, name).weight for expert in self.experts] for name in PROJECTIONS]
        return experts.swiglu(x, chosen, gated, *parts)


class Layer(nn.Module):
    """One layer: attention and feed-forward, each a branch of the residual stream."""

    def __init__(self, config: ModelConfig, index: int):
        super().__init__()
        self.input_layernorm = ResidualNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config, index)
        self.post_attention_layernorm = ResidualNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp: nn.Module = (
            MixtureOfExperts(config) if config.use_moe else FeedForward(config.hidden_size, config.intermediate_size)
        )

    def forward(
        self, x: Tensor, branch: Tensor | None, places: Places, real: Tensor, cache: Cache | None
    ) -> tuple[Tensor, Tensor, Routing | None]:
        """The stream x (B, T, D) with the branch that is still to be added to it; `real` (B, T) is False on padding.

        Returns the same two after this layer, and what the router of a mixture of experts did.
        """
        h, x = self.input_layernorm(x, branch)
        h, x = self.post_attention_layernorm(x, self.self_attn(h, places, cache))
        if isinstance(self.mlp, MixtureOfExperts):
            branch, routing = self.mlp(h, real)
            return x, branch, routing
        return x, self.mlp(h), None


class Stack(nn.Module):
    """What Hugging Face calls `model`: everything but the output layer."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config, i) for i in range(config.num_hidden_layers))
        self.norm = ResidualNorm(config.hidden_size, config.rms_norm_eps)


class Decoder(nn.Module):
    """Token ids → hidden states; `logits` turns those into scores of the next token.

    `dtype` is the dtype of computation; parameters are fp32 whatever it is. Freshly built, the weights
    are uninitialised: call `initialise`, or load a checkpoint. Raises ValueError without a vocabulary size.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, config: ModelConfig, dtype: torch.dtype = torch.float32):
        super().__init__()
        if config.vocab_size <= 0:
            raise ValueError("model.vocab_size is not set: take it from the tokenizer or the packed rows")
        self.config, self.dtype = config, dtype
        self.max_documents: int | None = None  # in a packed row, where that is known: saves kernels empty pieces
        self.checkpoint_activations = False  # compute each layer again in the backward pass: less memory, more time
        self.model = Stack(config)
        if not config.tie_word_embeddings:
            self.lm_head = Linear(config.hidden_size, config.vocab_size)
        cos, sin = rotary_table(config)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    @torch.no_grad()
    def initialise(self, seed: int) -> "Decoder":
        """Draw fresh weights; the same seed gives the same bits on every machine.

        | parameter                         | start                                          |
        |-----------------------------------|------------------------------------------------|
        | embedding, output layer           | N(0, 0.02²)                                    |
        | matrices into a branch            | N(0, 0.5 / inputs)                             |
        | matrices back to the residual     | the same / (2 · layers), GPT-2's damping       |
        | norms                             | 1; query and key norms `qk_norm_init`          |
        """
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 1:
                parameter.fill_(self.config.qk_norm_init if ".q_norm." in name or ".k_norm." in name else 1.0)
                continue
            std = 0.02 if "embed_tokens" in name or "lm_head" in name else (0.5 / parameter.shape[1]) ** 0.5
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                std /= (2 * self.config.num_hidden_layers) ** 0.5
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)
        return self

    def forward(
        self,
        ids: Tensor,
        documents: Tensor | None = None,
        *,
        positions: Tensor | None = None,
        bias: Tensor | None = None,
        cache: Cache | None = None,
    ) -> tuple[Tensor, Routing | None]:
        """Hidden states of every position, after the last norm.

        Training, and texts side by side: ids (B, T) int64 and documents (B, T), the packed row's document numbers,
        which rise from 1 and are 0 on padding, to the right of them.
        Decoding: ids, positions (B, T) int64, bias (B, 1, T, S) in `dtype`, and the cache, whose S - T
        entries come before these tokens.
        Returns hidden (B, T, D) in `dtype` and what the routers did, None for a dense model.
        """
        x = Lookup.apply(self.model.embed_tokens.weight, ids).to(self.dtype)
        if documents is not None:
            places, real = self._places(documents, x), documents > 0
        else:
            assert positions is not None and bias is not None, "pass documents, or positions and bias"
            places, real = Places(*self._turns(positions), bias), torch.ones_like(ids, dtype=torch.bool)
        branch: Tensor | None = None
        routings: list[Routing] = []
        for layer in self.model.layers:
            if self.checkpoint_activations and torch.is_grad_enabled():
                x, branch, routing = checkpoint(layer, x, branch, places, real, cache, use_reentrant=False)
            else:
                x, branch, routing = layer(x, branch, places, real, cache)
            if routing is not None:
                routings.append(routing)
        if cache is not None:
            cache.length += ids.shape[1]
        return self.model.norm(x, branch)[0], Routing.over_layers(routings) if routings else None

    def _places(self, documents: Tensor, x: Tensor) -> Places:
        """Of packed rows, in the form that attention takes for hidden states like x."""
        if cpu.covers(x):
            return Places(self.cos, self.sin, segments=cpu.segments(documents))
        turns = self._turns(document_positions(documents))
        if takes_lengths(x):
            return Places(*turns, ends=document_ends(documents, self.max_documents or most_documents(documents)))
        allowed = document_mask(documents)[:, None]
        return Places(*turns, torch.zeros_like(allowed, dtype=self.dtype).masked_fill(~allowed, -math.inf))

    def _turns(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines of positions (B, T), each (B, T, 1, K/2)."""
        return self.cos[positions, None].to(self.dtype), self.sin[positions, None].to(self.dtype)

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of the next token. hidden (..., D); returns (..., V) fp32."""
        return linear(hidden, self.output_weight).float()

    @property
    def output_weight(self) -> Tensor:
        """The output layer's matrix, (V, D)."""
        return (self.model.embed_tokens if self.config.tie_word_embeddings else self.lm_head).weight

    @torch.no_grad()
    def rebalance(self, loads: Mapping[str, Tensor]) -> None:
        """Move the biases that choose experts against the loads of the last step, named load_<layer>_<expert>."""
        for number, layer in enumerate(self.model.layers):
            assert isinstance(layer, Layer) and isinstance(layer.mlp, MixtureOfExperts)
            bias = layer.mlp.gate.e_score_correction_bias
            assert isinstance(bias, Tensor)
            load = torch.stack([loads[f"load_{number}_{expert}"] for expert in range(self.config.num_experts)])
            bias.copy_(experts.steer(bias, load, self.config.router_bias_rate))

    def cut_vocabulary(self, size: int) -> "Decoder":
        """Drop the rows of embedding and output layer from `size` on, in place.

        Imported models have more rows than their tokenizer has tokens, to make matrices a rounder size. What no token
        stands for must never be said.
        """
        if size < self.config.vocab_size:
            self.config = replace(self.config, vocab_size=size)
            for layer in (self.model.embed_tokens, *(() if self.config.tie_word_embeddings else (self.lm_head,))):
                layer.weight = nn.Parameter(layer.weight.detach()[:size].clone())
        return self

    def rescale(self, scaling: RopeScaling | None) -> "Decoder":
        """Let positions reach `factor` times as far as training did (None: as far as it did), in place."""
        reach = self.config.max_position_embeddings
        if scaling is not None:
            reach = max(reach, int(scaling.factor * scaling.original_max_position_embeddings))
        self.config = replace(self.config, rope_scaling=scaling, max_position_embeddings=reach)
        self.cos, self.sin = rotary_table(self.config, self.cos.device)
        return self

    def num_parameters(self, active: bool = False) -> int:
        """Exact number of parameters; with `active`, only those that one token passes through."""
        total = sum(p.numel() for p in self.parameters())
        if active and self.config.use_moe:
            expert = 3 * self.config.hidden_size * self.config.expert_width
            idle = self.config.num_experts - self.config.num_experts_per_tok
            total -= idle * expert * self.config.num_hidden_layers
        return total

    def flops_per_token(self, seq_len: int, training: bool = True) -> float:
        """Floating-point operations of matrix products for one token of a document of `seq_len` tokens.

        A product costs two operations for each weight that the token meets; looking up an embedding is none, the
        output layer is one. Attention meets (seq_len + 1) / 2 positions on average, in scores and in values.
        Training costs three times the forward pass: the gradients of inputs and of weights are a product each.
        """
        config = self.config
        norms = sum(p.numel() for p in self.parameters() if p.ndim == 1)
        weights = self.num_parameters(active=True) - norms
        if not config.tie_word_embeddings:
            weights -= self.model.embed_tokens.weight.numel()
        attended = config.num_hidden_layers * config.num_attention_heads * config.head_width * (seq_len + 1) / 2
        return (2 * weights + 4 * attended) * (3 if training else 1)
