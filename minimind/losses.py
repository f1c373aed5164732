"""Log-probabilities of packed rows: the pure tensor functions that several objectives share.

What belongs to one objective stands in its file, because editing a file reruns every stage that imports it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from minimind.kernels import cpu

IGNORE = -100
"""The target of a position at which nothing is learnt."""


def token_logprobs(logits: Tensor, targets: Tensor) -> Tensor:
    """Log-probability of every target, in nats; 0 where the target is IGNORE.

    logits (..., V); targets (...), int64. Returns (...), fp32.
    """
    losses = F.cross_entropy(logits.float().flatten(0, -2), targets.flatten(), ignore_index=IGNORE, reduction="none")
    return -losses.view(targets.shape)


def cross_entropy_sum(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of the targets, in nats, summed, under the logits hidden · weightᵀ.

    hidden (..., D); weight (V, D) fp32, cast to hidden's dtype; targets (...), int64, IGNORE where nothing is learnt.
    Returns (), fp32.
    """
    if cpu.covers(hidden):
        weight = weight if torch.is_grad_enabled() else weight.detach()  # the kernel computes gradients on its way
        return cpu.CrossEntropy.apply(hidden.flatten(0, -2), weight, targets.flatten())
    logits = F.linear(hidden, weight.to(hidden.dtype)).float()
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten(), ignore_index=IGNORE, reduction="sum")


def document_sums(values: Tensor, documents: Tensor, max_documents: int) -> Tensor:
    """Sum of `values` over each document of a packed row, in an order that does not vary.

    values (B, T); documents (B, T), numbers from 1, 0 on padding. Returns (B, max_documents), 0 for a number that
    the row lacks; column 0 is document 1.
    """
    numbers = torch.arange(1, max_documents + 1, device=documents.device)
    return torch.where(documents[..., None] == numbers, values[..., None], 0).sum(1)


def sequence_logprobs(logits: Tensor, targets: Tensor, documents: Tensor, max_documents: int) -> Tensor:
    """Log-probability of each document of packed rows, in nats, summed over its targets.

    logits (B, T, V); targets (B, T), IGNORE where nothing is learnt; documents (B, T). Returns (B, max_documents),
    fp32. Source: DPO, arXiv:2305.18290, eq. 7, where it is log π(y | x).
    """
    return document_sums(token_logprobs(logits, targets), documents, max_documents)
