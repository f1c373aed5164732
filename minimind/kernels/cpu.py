"""What a training step does between matrix products on a CPU: cpu.c, compiled at first use, in bfloat16 and in fp32.

Each function computes what the plain PyTorch beside its call in `model.py` or `losses.py` does, within rounding: fewer
intermediate results are rounded to bf16. Nothing here is needed to understand the model, or to run it; without a C
compiler, on a GPU and inside torch.compile the plain code runs.
"""

import ctypes
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minimind import native

DEFINITIONS = {torch.float32: (), torch.bfloat16: ("-DBF16",)}
"""Activations that cpu.c is compiled for, and the compiler's flags for each."""

_dtype: torch.dtype | None = None


def enable(dtype: torch.dtype | None) -> bool:
    """Use the kernels for activations of this dtype from now on, where they can be had, or (None) for none.

    Returns whether they are used.
    """
    global _dtype
    _dtype = dtype if dtype in DEFINITIONS and _library(dtype) is not None else None
    return _dtype is not None


def covers(x: Tensor) -> bool:
    """Whether the kernels are in use for tensors like x."""
    return x.dtype == _dtype and x.device.type == "cpu" and not torch.compiler.is_compiling()


@cache
def _library(dtype: torch.dtype) -> ctypes.CDLL | None:
    # Neither errno nor traps are looked at. Sums may change their order only where the C says so, which -ffast-math
    # would allow everywhere; it would also let a loss that is not a number become one.
    flags = ("-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", *DEFINITIONS[dtype])
    return native.library(Path(__file__).with_name("cpu.c"), *flags)


class _Attention(ctypes.Structure):
    """`Attention` in cpu.c."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("qkv", "q_weight", "k_weight", "cosine", "sine", "segments")),
        *((name, ctypes.c_long) for name in ("num_segments", "num_tokens", "heads", "groups", "width")),
        ("eps", ctypes.c_float),
    ]


def _call(name: str, activations: Tensor, *arguments: Any) -> None:
    library = _library(activations.dtype)
    assert library is not None
    getattr(library, name)(*arguments)


def _at(x: Tensor | None) -> ctypes.c_void_p:
    assert x is None or x.is_contiguous()
    return ctypes.c_void_p(None if x is None else x.data_ptr())


def _long(number: int) -> ctypes.c_long:
    return ctypes.c_long(number)


def join(weights: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """Matrices of equal width below each other in `dtype`: one pass over each, none if they are that already.

    Not differentiable.
    """
    if len(weights) == 1 and weights[0].dtype == dtype:
        return weights[0]
    joined = torch.empty(sum(w.shape[0] for w in weights), weights[0].shape[1], dtype=dtype)
    for part, weight in zip(joined.split([w.shape[0] for w in weights]), weights, strict=True):
        part.copy_(weight)
    return joined


class Linear(torch.autograd.Function):
    """x (…, K) times the matrices (N_i, K) fp32 below each other: (…, ΣN_i), in the dtype of x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *weights: Tensor) -> Tensor:
        joined = join([w.detach() for w in weights], x.dtype)
        ctx.save_for_backward(x, joined)
        ctx.sizes = [w.shape[0] for w in weights]
        return torch.nn.functional.linear(x, joined)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, joined = ctx.saved_tensors
        dy = dy.contiguous().view(-1, joined.shape[0])
        dx = torch.mm(dy, joined).view(x.shape) if ctx.needs_input_grad[0] else None
        if not any(ctx.needs_input_grad[1:]):
            return (dx, *(None for _ in ctx.sizes))
        return dx, *torch.mm(dy.mT, x.reshape(-1, x.shape[-1])).float().split(ctx.sizes)


class Norm(torch.autograd.Function):
    """RMSNorm of x (…, D), or of x + branch: returns (norm, x + branch), or (norm, x)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, branch: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        x, width = x.contiguous(), x.shape[-1]
        branch = None if branch is None else branch.to(x.dtype).contiguous()
        n = x.numel() // width
        y, total = torch.empty_like(x), x if branch is None else torch.empty_like(x)
        scales = torch.empty(n, dtype=torch.float32)
        _call(
            "norm_forward", x, _at(x), _at(branch), _at(weight), ctypes.c_float(eps), _long(n), _long(width),
            _at(total), _at(y), _at(scales),
        )  # fmt: skip
        ctx.save_for_backward(total, scales, weight)
        ctx.has_branch = branch is not None
        return y, total

    @staticmethod
    def backward(ctx: Any, dy: Tensor, dtotal: Tensor) -> tuple[Tensor, Tensor | None, Tensor, None]:
        total, scales, weight = ctx.saved_tensors
        dx, dweight = torch.empty_like(total), torch.empty_like(weight)
        dy, dtotal = (gradient.to(total.dtype).contiguous() for gradient in (dy, dtotal))
        _call(
            "norm_backward", total, _at(dy), _at(dtotal), _at(total), _at(scales), _at(weight), _long(scales.numel()),
            _long(weight.numel()), _at(dx), _at(dweight),
        )  # fmt: skip
        return dx, dx if ctx.has_branch else None, dweight, None


class SwiGLU(torch.autograd.Function):
    """silu(gate) · up of gate_up (…, 2I), gate before up: (…, I)."""

    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        gate_up, width = gate_up.contiguous(), gate_up.shape[-1] // 2
        ctx.save_for_backward(gate_up)
        y = gate_up.new_empty(*gate_up.shape[:-1], width)
        _call("swiglu_forward", gate_up, _at(gate_up), _long(y.numel() // width), _long(width), _at(y))
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        (gate_up,) = ctx.saved_tensors
        dy, width, dgate_up = dy.to(gate_up.dtype).contiguous(), dy.shape[-1], torch.empty_like(gate_up)
        _call(
            "swiglu_backward", dy, _at(dy), _at(gate_up), _long(dy.numel() // width), _long(width), _at(dgate_up)
        )  # fmt: skip
        return dgate_up


def segments(documents: Tensor) -> Tensor:
    """First token and length of each document. documents (B, T), 0 on padding; returns (S, 2) int32 over B · T tokens.

    A document ends where its number changes, and at the end of its row.
    """
    changes = torch.ones_like(documents, dtype=torch.bool)
    changes[:, 1:] = documents[:, 1:] != documents[:, :-1]
    starts = changes.view(-1).nonzero()[:, 0]
    lengths = torch.diff(starts, append=torch.tensor([documents.numel()]))
    real = documents.reshape(-1)[starts] > 0
    return torch.stack((starts[real], lengths[real]), 1).to(torch.int32)


class Attention(torch.autograd.Function):
    """Causal attention within documents, from the joined projections qkv (B, T, (H + 2G) K) to (B, T, H K).

    Queries and keys are normalised if there are weights (K,), and turned to their positions, which count from the
    start of each document; cosine and sine (positions, K / 2). Padding, which no segment holds, gets 0.
    """

    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, q_weight: Tensor | None, k_weight: Tensor | None, cosine: Tensor, sine: Tensor,
        segments: Tensor, heads: int, groups: int, eps: float,
    ) -> Tensor:  # fmt: skip
        qkv, width = qkv.contiguous(), qkv.shape[-1] // (heads + 2 * groups)
        out = qkv.new_empty(*qkv.shape[:-1], heads * width)
        logsums = torch.empty(out.numel() // width, dtype=torch.float32)
        tensors = (qkv, q_weight, k_weight, cosine, sine, segments)
        numbers = (len(segments), qkv.numel() // qkv.shape[-1], heads, groups, width, eps)
        problem = _Attention(*(_at(x).value for x in tensors), *numbers)
        _call("attention_forward", qkv, ctypes.byref(problem), _at(out), _at(logsums))
        ctx.save_for_backward(*tensors, logsums)
        ctx.numbers = numbers
        return out

    @staticmethod
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        *tensors, logsums = ctx.saved_tensors
        qkv, q_weight, k_weight, *_ = tensors
        dout, dqkv = dout.to(qkv.dtype).contiguous(), torch.empty_like(qkv)
        dq = None if q_weight is None else torch.zeros_like(q_weight)
        dk = None if k_weight is None else torch.zeros_like(k_weight)
        problem = _Attention(*(_at(x).value for x in tensors), *ctx.numbers)
        _call("attention_backward", qkv, ctypes.byref(problem), _at(dout), _at(logsums), _at(dqkv), _at(dq), _at(dk))
        return dqkv, dq, dk, None, None, None, None, None, None


def _padded(rows: int) -> int:
    return rows + -rows % CrossEntropy.STEP


class CrossEntropy(torch.autograd.Function):
    """Cross-entropy, summed, of targets (N,) under the logits hidden (N, D) · weight (V, D) fp32; also its gradients.

    Tokens whose target is negative don't pass through the output layer. Logits of `ROWS` tokens exist at a time, and
    turn into their own gradient in place. Rows of zeros fill their number up to a multiple of `STEP`, which changes no
    bit, and memory is taken for all N: oneDNN keeps code for every shape that it has met, and blocks of ever other
    sizes leave gaps in the heap (9 GB in all, after 5,000 steps of a model of 4M parameters). The weights' gradient is
    a sum over the tokens, whose last bits would change, and goes without.
    """

    ROWS, STEP = 4096, 128  # the first a multiple of the second

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        learnt = (targets >= 0).nonzero()[:, 0]
        ctx.learnt, ctx.shape = learnt, hidden.shape
        room = hidden.new_zeros(_padded(len(hidden)), hidden.shape[1])
        torch.index_select(hidden, 0, learnt, out=room[: len(learnt)])
        hidden, targets = room, targets.index_select(0, learnt)
        matrix = join([weight.detach()], hidden.dtype)
        losses = torch.empty(len(targets), dtype=torch.float32)
        scores = hidden.new_empty(min(len(hidden), CrossEntropy.ROWS), len(matrix))
        dhidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        dweight = torch.zeros(weight.shape) if ctx.needs_input_grad[1] else None
        for start in range(0, len(targets), CrossEntropy.ROWS):
            rows = slice(start, min(start + CrossEntropy.ROWS, len(targets)))
            wide = slice(start, start + _padded(rows.stop - start))
            logits = torch.mm(hidden[wide], matrix.mT, out=scores[: wide.stop - start])
            filled = logits[: rows.stop - start]
            _call(
                "cross_entropy", filled, _at(filled), _at(targets[rows]), _long(len(filled)), _long(len(matrix)),
                _at(losses[rows]),
            )  # fmt: skip
            if dhidden is not None:
                torch.mm(logits, matrix, out=dhidden[wide])
            if dweight is not None:
                dweight += filled.mT @ hidden[rows]
        ctx.save_for_backward(None if dhidden is None else dhidden[: len(learnt)], dweight)
        return losses.sum()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        dhidden, dweight = ctx.saved_tensors
        if dhidden is not None:
            dhidden = dhidden.new_zeros(ctx.shape).index_copy_(0, ctx.learnt, dhidden).mul_(gradient)
        return (
            dhidden,
            None if dweight is None else dweight * gradient,
            None,
        )
