"""Variable-length attention as torch's kernel for CUDA defines it, written out, for tests without a GPU."""

from typing import Any

import torch
from torch import Tensor


def by_pieces(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    *,
    window_size: tuple[int, int],
    **_: Any,
) -> Tensor:
    """Stands where `torch.nn.attention.varlen.varlen_attn` does: causal attention within each piece, query by query.

    query (N, H, K); key, value (N, G, K); cu_seq_q and cu_seq_k alike, int32 from 0 up to N. Returns (N, H, K).
    """
    assert window_size == (-1, 0) and cu_seq_q.dtype == torch.int32 and cu_seq_q.equal(cu_seq_k)
    borders = cu_seq_q.tolist()
    assert borders[0] == 0 and borders[-1] == len(query) and max_q == max_k
    out = torch.full_like(query, torch.nan)
    copies = query.shape[1] // key.shape[1]
    for start, end in zip(borders[:-1], borders[1:], strict=True):
        assert 0 <= end - start <= max_q
        for place in range(start, end):
            for head in range(query.shape[1]):
                group = head // copies
                scores = key[start : place + 1, group] @ query[place, head] * query.shape[-1] ** -0.5
                out[place, head] = scores.softmax(0) @ value[start : place + 1, group]
    return out
