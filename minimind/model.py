"""The decoder-only transformer, dense or mixture-of-experts, in one file.

What it is, from input to output:

- token embedding, shared with the output layer when `tie_word_embeddings`
- per layer, two residual branches, each normalised at its entrance (RMSNorm, arXiv:1910.07467):
    - causal self-attention with grouped key/value heads (GQA, arXiv:2305.13245), rotary positions in
      rotate-half form (RoPE, arXiv:2104.09864) and, with `qk_norm`, RMSNorm on every query and key head
    - SwiGLU feed-forward (arXiv:2002.05202), or, with `use_moe`, several of them behind a softmax router
      that sends each token to its top `num_experts_per_tok`
- no biases, no dropout
- fp32 parameters; each matrix is cast to `dtype` where it is used, so products run in bf16 while
  gradients arrive, and add up, in fp32
- attention never crosses the documents of a packed row: the caller passes the mask

Parameters carry the names that Hugging Face gives them (Llama without `qk_norm`, Qwen3 with it,
Qwen3-MoE with experts), so a state dict is at once a checkpoint those classes load.

Shapes: B batch, T time, S attended time, D width, H heads, G key/value heads, K head width,
E experts, V vocabulary.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class ModelConfig:
    """Everything that determines the function a checkpoint computes. Raises ValueError naming the field."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    intermediate_size: int
    head_dim: int | None = None  # None: hidden_size / num_attention_heads
    max_position_embeddings: int = 1024
    rope_theta: float = 1e4
    rms_norm_eps: float = 1e-6
    qk_norm: bool = True
    qk_norm_init: float = 1.0  # initial gain of the query and key norms; above 1 sharpens early attention
    tie_word_embeddings: bool = True
    use_moe: bool = False
    num_experts: int = 4
    num_experts_per_tok: int = 1
    moe_intermediate_size: int | None = None  # None: intermediate_size
    norm_topk_prob: bool | None = None  # whether a token's weights add up to 1; None: where it visits two or more
    router_aux_loss_coef: float = 5e-4
    vocab_size: int = 0  # 0: not yet known; the tokenizer decides it

    def __post_init__(self) -> None:
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
        """`norm_topk_prob`, resolved."""
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


class Linear(nn.Linear):
    """A matrix without bias, kept in fp32 and cast to the dtype of its input."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype))


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


def rotary_table(config: ModelConfig, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Cosines and sines, each (max_position_embeddings, K/2), fp32: angle = position · theta^(-2i/K)."""
    half = torch.arange(0, config.head_width, 2, device=device).float() / config.head_width
    angles = torch.outer(torch.arange(config.max_position_embeddings, device=device).float(), config.rope_theta**-half)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs (i, i + K/2) of each head by its position's angle. x (B, T, H, K); cos, sin (B, T, 1, K/2)."""
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


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
        if config.qk_norm:
            self.q_norm = RMSNorm(K, config.rms_norm_eps)
            self.k_norm = RMSNorm(K, config.rms_norm_eps)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, bias: Tensor, cache: Cache | None) -> Tensor:
        B, T, _ = x.shape
        fused = torch.cat((self.q_proj.weight, self.k_proj.weight, self.v_proj.weight)).to(x.dtype)
        qkv = F.linear(x, fused).view(B, T, self.heads + 2 * self.groups, -1)
        q, k, v = qkv.split((self.heads, self.groups, self.groups), 2)
        if hasattr(self, "q_norm"):
            q, k = self.q_norm(q), self.k_norm(k)
        q, k, v = rotate(q, cos, sin).transpose(1, 2), rotate(k, cos, sin).transpose(1, 2), v.transpose(1, 2)
        if cache is not None:
            k, v = cache.extend(self.layer, k, v)
        return self.o_proj(attend(q, k, v, bias).transpose(1, 2).reshape(B, T, -1))


class FeedForward(nn.Module):
    """SwiGLU: down(silu(gate x) · up x)."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.gate_proj = Linear(width, inner)
        self.up_proj = Linear(width, inner)
        self.down_proj = Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        fused = torch.cat((self.gate_proj.weight, self.up_proj.weight)).to(x.dtype)
        gate, up = F.linear(x, fused).chunk(2, -1)
        return self.down_proj(F.silu(gate) * up)


class MixtureOfExperts(nn.Module):
    """Several feed-forwards behind a router; each token visits its most probable few.

    The gate works in fp32. Unless told otherwise, weights are normalised over the chosen experts only where there are
    two or more: a single normalised weight is the constant 1 and starves the router of gradient. Imported models may
    have been trained like that.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.top_k, self.normalises_weights = config.num_experts_per_tok, config.normalises_weights
        self.gate = Linear(config.hidden_size, config.num_experts)
        self.experts = nn.ModuleList(
            FeedForward(config.hidden_size, config.expert_width) for _ in range(config.num_experts)
        )

    def forward(self, x: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, T, D); real (B, T) bool, False on padding. Returns (B, T, D) and the balance loss of each row, (B,).

        Balance loss: num_experts · Σ_e (share of visits to e) · (mean probability of e), over the row's real
        tokens; 1 when balanced. Source: Switch Transformer, arXiv:2101.03961, eq. 4.
        """
        B, T, D = x.shape
        probabilities = self.gate(x.float()).softmax(-1)
        weights, chosen = probabilities.topk(self.top_k, -1)
        if self.normalises_weights:
            weights = weights / weights.sum(-1, keepdim=True)
        flat, out = x.reshape(-1, D), torch.zeros(B * T, D, dtype=x.dtype, device=x.device)
        for e, expert in enumerate(self.experts):
            token, slot = torch.where(chosen.view(-1, self.top_k) == e)
            share = weights.view(-1, self.top_k)[token, slot, None].to(x.dtype)
            out = out.index_add(0, token, expert(flat[token]) * share)
        num_experts = len(self.experts)
        tokens = real.sum(1).clamp(min=1)[:, None]
        visits = F.one_hot(chosen, num_experts).sum(2) * real[..., None]
        visited = visits.sum(1) / (tokens * self.top_k)
        expected = (probabilities * real[..., None]).sum(1) / tokens
        return out.view(B, T, D), num_experts * (visited * expected).sum(-1)


class Layer(nn.Module):
    """The parameters of one layer; `Decoder.forward` adds its two branches to the residual stream."""

    def __init__(self, config: ModelConfig, index: int):
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config, index)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp: nn.Module = (
            MixtureOfExperts(config) if config.use_moe else FeedForward(config.hidden_size, config.intermediate_size)
        )


class Stack(nn.Module):
    """What Hugging Face calls `model`: everything but the output layer."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config, i) for i in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


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
    ) -> tuple[Tensor, Tensor]:
        """Hidden states of every position, after the last norm.

        Training: ids (B, T) int64 and documents (B, T), the packed row's document numbers (0 on padding).
        Decoding: ids, positions (B, T) int64, bias (B, 1, T, S) in `dtype`, and the cache, whose S - T
        entries come before these tokens.
        Returns hidden (B, T, D) in `dtype` and the router's balance loss per row, (B,) fp32: the mean over
        layers, 0 for a dense model.
        """
        if documents is not None:
            positions = document_positions(documents)
            allowed = document_mask(documents)[:, None]
            bias = torch.zeros(allowed.shape, dtype=self.dtype, device=ids.device).masked_fill(~allowed, -math.inf)
            real = documents > 0
        else:
            real = torch.ones_like(ids, dtype=torch.bool)
        assert positions is not None and bias is not None, "pass documents, or positions and bias"
        x = Lookup.apply(self.model.embed_tokens.weight, ids).to(self.dtype)
        cos, sin = self.cos[positions, None].to(self.dtype), self.sin[positions, None].to(self.dtype)
        balance = torch.zeros(ids.shape[0], dtype=torch.float32, device=ids.device)
        for layer in self.model.layers:
            assert isinstance(layer, Layer)
            x = x + layer.self_attn(layer.input_layernorm(x), cos, sin, bias, cache)
            h = layer.post_attention_layernorm(x)
            if self.config.use_moe:
                h, loss = layer.mlp(h, real)
                balance = balance + loss / self.config.num_hidden_layers
            else:
                h = layer.mlp(h)
            x = x + h
        if cache is not None:
            cache.length += ids.shape[1]
        return self.model.norm(x), balance

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of the next token. hidden (..., D); returns (..., V) fp32."""
        head = self.model.embed_tokens if self.config.tie_word_embeddings else self.lm_head
        return F.linear(hidden, head.weight.to(hidden.dtype)).float()

    def num_parameters(self, active: bool = False) -> int:
        """Exact number of parameters; with `active`, only those that one token passes through."""
        total = sum(p.numel() for p in self.parameters())
        if active and self.config.use_moe:
            expert = 3 * self.config.hidden_size * self.config.expert_width
            idle = self.config.num_experts - self.config.num_experts_per_tok
            total -= idle * expert * self.config.num_hidden_layers
        return total
