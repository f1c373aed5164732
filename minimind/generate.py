"""Decoding: greedy or sampled continuations of many prompts, and log-probabilities of given ones.

Prompts of like length are decoded side by side over one key/value cache, padded on the left, so that all rows
append at the same slot; texts to be scored are padded on the right, as packed rows are. Positions and masks are exact,
and a row's result does not depend on its company beyond the rounding of its dtype. Sampling draws from a stream of its
own for each prompt, by counter, not by state.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minimind.model import Cache, Decoder, document_mask

BATCH_SIZE = 256
Report = Callable[[int], object]


@torch.inference_mode()
def generate(
    model: Decoder,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    stop: int,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
    report: Report = lambda _: None,
) -> list[list[int]]:
    """Continue every prompt until `stop` or for `max_new_tokens`; returns the new ids, without `stop`.

    temperature 0 takes the most probable token; above, tokens are drawn from softmax(logits / temperature), cut to
    the `top_k` most probable (0: all) and then to the smallest set that holds `top_p` of the rest (nucleus
    sampling, arXiv:1904.09751). The draws for prompt i depend on (seed, i) and nothing else. `report` is told the
    number of prompts that have finished, batch by batch.
    Raises ValueError for an empty prompt, or one that leaves too few positions for the new tokens.
    """
    if temperature < 0 or top_k < 0 or not 0 < top_p <= 1:
        raise ValueError(f"temperature {temperature} and top_k {top_k} must be 0 or more, top_p {top_p} in (0, 1]")
    _check_room(model, [len(prompt) for prompt in prompts], max_new_tokens)
    model = cast(model)
    outputs: list[list[int]] = [[] for _ in prompts]
    for indices in _by_length(prompts, batch_size):
        ids, real = _left_padded([prompts[i] for i in indices], model.cos.device)
        streams = torch.tensor(indices, device=ids.device)

        def choose(logits: Tensor, rows: Tensor, step: int, streams: Tensor = streams) -> Tensor:
            if temperature == 0:
                return logits.max(-1).indices  # argmax is three times as slow on a CPU
            return sample(logits / temperature, uniform(seed, streams[rows], step), top_k, top_p)

        for i, row in zip(indices, _decode(model, ids, real, max_new_tokens, stop, choose).tolist(), strict=True):
            outputs[i] = row[: row.index(stop)] if stop in row else row
        report(len(indices))
    return outputs


def _decode(
    model: Decoder,
    ids: Tensor,
    real: Tensor,
    max_new_tokens: int,
    stop: int,
    choose: Callable[[Tensor, Tensor, int], Tensor],
) -> Tensor:
    """Decode one batch: ids (B, T) int64, real (B, T) bool, False on the padding at the left.

    choose(logits (R, V), rows (R,), step) gives the next tokens (R,) of the R ≤ B rows that are still decoded.
    Returns (B, max_new_tokens) int64; a row that stops is filled up with `stop`.
    """
    B, T = ids.shape
    tokens = torch.full((B, max_new_tokens), stop, device=ids.device)
    rows = torch.arange(B, device=ids.device)
    running = torch.ones_like(rows, dtype=torch.bool)
    cache = Cache(model.config, B, T + max_new_tokens, model.dtype, ids.device)
    positions = (real.cumsum(1) - 1).clamp(min=0)
    hidden, _ = model(ids, positions=positions, bias=_bias(document_mask(real.long()), model.dtype), cache=cache)
    bias = _bias(F.pad(real, (0, max_new_tokens), value=True)[:, None], model.dtype)
    positions = positions[:, -1:]
    for step in range(max_new_tokens):
        chosen = choose(model.logits(hidden[:, -1]), rows, step)
        tokens[rows, step] = chosen.where(running, stop)
        running = running & (chosen != stop)
        num_running = int(running.sum())
        if num_running == 0 or step + 1 == max_new_tokens:
            break
        # Leaving copies the cache, so those that finish wait until they are a quarter of the batch.
        if num_running <= 0.75 * len(rows):
            stay = running.nonzero()[:, 0]
            cache.keep(stay)
            chosen, positions, bias = chosen[stay], positions[stay], bias[stay]
            rows, running = rows[stay], running[stay]
        positions = positions + 1
        hidden, _ = model(chosen[:, None], positions=positions, bias=bias[..., : cache.length + 1], cache=cache)
    return tokens


def sample(logits: Tensor, uniforms: Tensor, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """Draw a token per row, by inverting its distribution function at `uniforms`.

    logits (B, V) fp32; uniforms (B,) fp32 in [0, 1). Returns (B,) int64.
    """
    probabilities = logits.softmax(-1)
    if top_k == 0 and top_p == 1:
        return _invert(probabilities, uniforms)
    probabilities, order = probabilities.topk(min(top_k or logits.shape[-1], logits.shape[-1]), -1)
    before = probabilities.cumsum(-1) - probabilities
    probabilities = probabilities.where(before < top_p * probabilities.sum(-1, keepdim=True), 0)
    return order.gather(1, _invert(probabilities, uniforms)[:, None])[:, 0]


def _invert(weights: Tensor, uniforms: Tensor) -> Tensor:
    """The first index at which the running sum of a row exceeds its share `uniforms`; never one of weight 0."""
    sums = weights.cumsum(-1)
    return torch.searchsorted(sums, uniforms[:, None] * sums[:, -1:], right=True)[:, 0]


def uniform(seed: int, streams: Tensor, step: int | Tensor) -> Tensor:
    """A number in [0, 1) per stream, a function of (seed, stream, step). streams int64; returns fp32 of that shape."""
    key = _mix(torch.tensor(seed, device=streams.device))
    return _shift(_mix(_mix(key + streams) + step), 40).float() / 2**24


def _mix(x: Tensor) -> Tensor:
    """One output of SplitMix64 from the state x, int64 with wrap-around (Steele, Lea, Flood: OOPSLA 2014)."""
    x = x + (0x9E3779B97F4A7C15 - 2**64)
    x = (x ^ _shift(x, 30)) * (0xBF58476D1CE4E5B9 - 2**64)
    x = (x ^ _shift(x, 27)) * (0x94D049BB133111EB - 2**64)
    return x ^ _shift(x, 31)


def _shift(x: Tensor, bits: int) -> Tensor:
    """x >> bits with zeros moving in, as for unsigned numbers."""
    return (x >> bits) & (2 ** (64 - bits) - 1)


@torch.inference_mode()
def loglikelihood(
    model: Decoder,
    contexts: Sequence[Sequence[int]],
    continuations: Sequence[Sequence[int]],
    *,
    batch_size: int = BATCH_SIZE,
    report: Report = lambda _: None,
) -> list[tuple[float, int]]:
    """For each pair, log p(continuation | context) in nats, summed, and the number of tokens of the continuation.

    Raises ValueError for an empty context or continuation, or a pair that is longer than the model's positions.
    """
    texts = [[*context, *continuation] for context, continuation in zip(contexts, continuations, strict=True)]
    if not all(continuations):
        raise ValueError(f"continuation {[len(c) for c in continuations].index(0)} is empty: nothing to score")
    _check_room(model, [len(context) for context in contexts], [len(c) for c in continuations])
    model = cast(model)
    results: list[tuple[float, int]] = [(0.0, 0)] * len(texts)
    for indices in _by_length(texts, batch_size):
        # To the right, as in packed rows: attention by document takes no other padding.
        ids, real = _right_padded([texts[i] for i in indices], model.cos.device)
        hidden, _ = model(ids, real.long())
        lengths = torch.tensor([[len(continuations[i])] for i in indices], device=ids.device)
        # The position of a text's last token predicts nothing.
        ends = real.sum(1, keepdim=True) - 1
        places = torch.arange(ids.shape[1] - 1, device=ids.device)
        target = (ends - lengths <= places) & (places < ends)
        # Only what is asked for goes through the output layer.
        losses = F.cross_entropy(model.logits(hidden[:, :-1][target]), ids[:, 1:][target], reduction="none")
        sums = torch.zeros(target.shape, device=ids.device).masked_scatter(target, losses).sum(1)
        for i, total in zip(indices, sums.tolist(), strict=True):
            results[i] = (-total, len(continuations[i]))
        report(len(indices))
    return results


def _check_room(model: Decoder, lengths: Sequence[int], new: int | Sequence[int]) -> None:
    limit = model.config.max_position_embeddings
    for i, length in enumerate(lengths):
        more = new if isinstance(new, int) else new[i]
        if length == 0:
            raise ValueError(f"prompt {i} is empty: begin it with the token that begins every text")
        if length + more > limit:
            raise ValueError(
                f"prompt {i} has {length} tokens, which with {more} more exceeds the model's {limit} positions "
                "(model.max_position_embeddings): shorten it or ask for fewer"
            )


def _by_length(texts: Sequence[Sequence[int]], batch_size: int) -> Iterator[list[int]]:
    """Indices of the texts in batches of like lengths. Longest first: what does not fit into memory fails at once."""
    order = sorted(range(len(texts)), key=lambda i: (-len(texts[i]), i))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def _left_padded(texts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """The ids, int64 (B, T), each row ending in its text, and bool (B, T), False on the padding before it."""
    T = max(len(text) for text in texts)
    ids = torch.tensor([[0] * (T - len(text)) + list(text) for text in texts])
    lengths = torch.tensor([len(text) for text in texts])
    real = torch.arange(T) >= T - lengths[:, None]
    return ids.to(device), real.to(device)


def _right_padded(texts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """The ids, int64 (B, T), each row beginning with its text, and bool (B, T), False on the padding after it."""
    T = max(len(text) for text in texts)
    ids = torch.tensor([list(text) + [0] * (T - len(text)) for text in texts])
    lengths = torch.tensor([len(text) for text in texts])
    real = torch.arange(T) < lengths[:, None]
    return ids.to(device), real.to(device)


def _bias(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """What to add to scores: 0 where allowed, else -inf. bool (B, T, S) → (B, 1, T, S) in `dtype`."""
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill(~allowed, -math.inf)[:, None]


def cast(model: Decoder) -> Decoder:
    """The same function with its matrices rounded to `model.dtype` beforehand instead of in every step."""
    if model.dtype == torch.float32:
        return model
    # The router works in fp32, whatever the dtype.
    cast = {
        id(p): nn.Parameter(p.to(model.dtype), requires_grad=False)
        for name, p in model.named_parameters()
        if p.ndim > 1 and not name.endswith("mlp.gate.weight")
    }
    return copy.deepcopy(model, cast)
