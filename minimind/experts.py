"""Tensor maths of a mixture of experts: all experts' products at once, and what their router is told.

Tokens are sorted by expert, so that each expert's rows lie together; one grouped product then serves all experts.
No shape depends on the routing, so all of it compiles; nothing waits for a GPU; and every gradient is a gather by a
permutation, so that threads have nothing to add up in an order of their own.

Shapes: B batch, T time, N tokens, D width, E experts, K experts per token, L layers.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Permute(torch.autograd.Function):
    """x[order // copies]: rows, each `copies` times, in another order. The gradient goes back by `inverse`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor, inverse: Tensor, copies: int) -> Tensor:
        """x (N, D); order, inverse (N · copies,) int64, permutations that undo each other. Returns (N · copies, D)."""
        ctx.save_for_backward(inverse)
        ctx.copies = copies
        return x[order // copies]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        """gradient (N · copies, D). Returns that of x, (N, D)."""
        (inverse,) = ctx.saved_tensors
        return gradient[inverse].unflatten(0, (-1, ctx.copies)).sum(1), None, None, None


class Stack(torch.autograd.Function):
    """Matrices of one shape, cast and laid behind each other in a single pass over them."""

    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, *matrices: Tensor) -> Tensor:
        """matrices (rows, columns), fp32. Returns (number, rows, columns) in `dtype`."""
        stacked = torch.empty(len(matrices), *matrices[0].shape, dtype=dtype, device=matrices[0].device)
        for place, matrix in zip(stacked, matrices, strict=True):
            place.copy_(matrix)
        return stacked

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """gradient (number, rows, columns). Returns the matrices', fp32."""
        return None, *(part.float() for part in gradient)


@torch.library.custom_op("minimind::grouped_product", mutates_args=())
def grouped_product(rows: Tensor, matrices: Tensor, ends: Tensor) -> Tensor:
    """Each row times the matrix of its group. rows (N, inputs), group by group; matrices (E, outputs, inputs).

    ends (E,) int32: where each group ends. Returns (N, outputs). An operator of its own, because torch's takes one
    number format and one device to be compiled for, and on a CPU copies what it multiplies.
    """
    if fits_grouped_mm(rows, rows.shape[1], matrices.shape[1]):
        return F.grouped_mm(rows, matrices.mT, offs=ends)
    out = rows.new_empty(rows.shape[0], matrices.shape[1])
    for group, matrix in zip(groups(ends), matrices, strict=True):
        torch.mm(rows[group], matrix.T, out=out[group])
    return out


@torch.library.custom_op("minimind::grouped_outer", mutates_args=())
def grouped_outer(left: Tensor, right: Tensor, ends: Tensor) -> Tensor:
    """Sum of the outer products of each group's rows. left (N, outputs); right (N, inputs); ends as above.

    Returns (E, outputs, inputs), 0 for an empty group.
    """
    if fits_grouped_mm(left, left.shape[1], right.shape[1]):
        return F.grouped_mm(left.mT, right, offs=ends)
    out = left.new_empty(len(ends), left.shape[1], right.shape[1])
    for group, place in zip(groups(ends), out, strict=True):
        torch.mm(left[group].T, right[group], out=place)
    return out


def fits_grouped_mm(x: Tensor, *widths: int) -> bool:
    """Whether torch's own grouped product takes x: bf16 on CUDA, with rows of whole 16 bytes."""
    return x.is_cuda and x.dtype == torch.bfloat16 and all(width % 8 == 0 for width in widths)


def groups(ends: Tensor) -> list[slice]:
    """Where each group lies. The one place that waits for the device to say so."""
    borders = [0, *ends.tolist()]
    return [slice(start, end) for start, end in pairwise(borders)]


@grouped_product.register_fake
def _(rows: Tensor, matrices: Tensor, ends: Tensor) -> Tensor:
    return rows.new_empty(rows.shape[0], matrices.shape[1])


@grouped_outer.register_fake
def _(left: Tensor, right: Tensor, ends: Tensor) -> Tensor:
    return left.new_empty(ends.shape[0], left.shape[1], right.shape[1])


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
    rows, matrices, ends = ctx.saved_tensors
    gradient = gradient.contiguous()
    return grouped_product(gradient, matrices.mT, ends), grouped_outer(gradient, rows, ends), None


grouped_product.register_autograd(_differentiate, setup_context=_keep)


def swiglu(
    x: Tensor,
    chosen: Tensor,
    gated: Callable[[Tensor], Tensor],
    gates: list[Tensor],
    ups: list[Tensor],
    downs: list[Tensor],
) -> Tensor:
    """What each token's chosen experts, SwiGLU feed-forwards, make of it.

    x (N, D); chosen (N, K) int64; `gated` makes silu(gate) · up, (…, inner), of both side by side; gates and ups
    E × (inner, D), downs E × (D, inner), fp32. Returns (N, K, D).
    """
    N, K = chosen.shape
    experts, order = chosen.flatten().sort(stable=True)
    inverse = order.argsort()
    numbers = torch.arange(len(gates), device=x.device)
    ends = torch.searchsorted(experts, numbers, right=True).int()  # where each expert's rows end
    inward = Stack.apply(x.dtype, *(matrix for pair in zip(gates, ups, strict=True) for matrix in pair))
    rows = Permute.apply(x, order, inverse, K)
    gate_up = grouped_product(rows, inward.view(len(gates), -1, x.shape[1]), ends)
    made = grouped_product(gated(gate_up), Stack.apply(x.dtype, *downs), ends)
    return Permute.apply(made, inverse, order, 1).view(N, K, -1)


class Routing(NamedTuple):
    """What the routers did with the real tokens of each row.

    loss (B,): what the routers are to minimise, weighted by its coefficients, mean over layers
    entropy (B,): of the gates' probabilities, in nats, mean over tokens and layers; ln E where they don't care
    load (B, L, E): each expert's share of its layer's visits, times E; 1 where all are visited alike
    """

    loss: Tensor
    entropy: Tensor
    load: Tensor

    @staticmethod
    def over_layers(routings: "list[Routing]") -> "Routing":
        """Of a whole model, from those of its layers, whose loads are (B, E)."""
        losses, entropies, loads = zip(*routings, strict=True)
        return Routing(torch.stack(losses).mean(0), torch.stack(entropies).mean(0), torch.stack(loads, 1))

    def summed(self, units: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and metrics of an objective with so many loss units in each row, (B,): each row counts so often.

        The load of each expert is a metric of its own, load_<layer>_<expert>.
        """
        counts = units.float()
        loss, load = self.loss @ counts, (self.load * counts[:, None, None]).sum(0)
        metrics = {"router_loss": loss.detach(), "router_entropy": self.entropy @ counts}
        for layer, loads in enumerate(load):
            metrics |= {f"load_{layer}_{expert}": value for expert, value in enumerate(loads)}
        return loss, metrics


def balance_loss(probabilities: Tensor, visits: Tensor, real: Tensor, per: str) -> Tensor:
    """E · Σ_e (share of the visits to e) · (mean probability of e) over real tokens; 1 when balanced.

    probabilities, visits (B, T, E): the gate's, and 1 where the token visits the expert; real (B, T) bool.
    Returns (B,): each row's own, or, `per` batch, the whole batch's for every row.
    Sources: Switch Transformer, arXiv:2101.03961, eq. 4; by the sequence: DeepSeek-V3, arXiv:2412.19437, eq. 17.
    """
    visited = (visits * real[..., None]).sum(1)
    expected = (probabilities * real[..., None]).sum(1)
    if per == "batch":
        visited, expected = visited.sum(0, keepdim=True), expected.sum(0, keepdim=True)
    loss = visits.shape[-1] * (shares(visited) * shares(expected)).sum(-1)
    return loss.expand(real.shape[0])


def shares(amounts: Tensor) -> Tensor:
    """Parts of the whole over the last axis; 0 where there is nothing to share."""
    whole = amounts.sum(-1, keepdim=True)
    return amounts / torch.where(whole > 0, whole, 1)


def row_means(values: Tensor, real: Tensor) -> Tensor:
    """Mean over each row's real tokens, 0 in a row without. values, real (B, T); returns (B,)."""
    return (values * real).sum(1) / real.sum(1).clamp(min=1)


def entropy(probabilities: Tensor) -> Tensor:
    """In nats, over the last axis."""
    return torch.special.entr(probabilities).sum(-1)


def steer(bias: Tensor, load: Tensor, rate: float) -> Tensor:
    """Selection biases after a step: `rate` up for experts with less than an even load, down for those with more.

    bias, load (..., E); an even load is the mean. Source: DeepSeek-V3, arXiv:2412.19437, section 2.1.2.
    """
    return bias + rate * torch.sign(load.mean(-1, keepdim=True) - load)
