"""A decoder with a place for each of several sequences, which grow by any number of tokens at a time.

Two forms with one face: `Fused` runs decode.c on the CPU, `Plain` runs model.py on any device. A `Source` takes the
faster one that fits.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from minimind.errors import UserError
from minimind.generate import cast
from minimind.inference import kernel
from minimind.model import Cache, Decoder, ModelConfig


class Network(Protocol):
    """`lengths` holds the number of tokens in each slot; a slot has room for `capacity`. Set a length to cut back."""

    lengths: list[int]
    capacity: int
    vocab_size: int

    def feed(self, slots: Sequence[int], ids: Sequence[Sequence[int]], every: bool = False) -> Tensor:
        """Lengthen the sequences in `slots` by `ids`, none of them empty.

        Returns the logits behind the last token of each, (R, V) fp32, or with `every` those behind each token, one
        sequence after the other.
        """
        ...


class Source:
    """A decoder, prepared once for any number of networks."""

    def __init__(self, model: Decoder, quantize: bool = False):
        """With `quantize` in Q8_0. Raises UserError where that can't be."""
        self.config = config = model.config
        if quantize and not kernel.covers(model):
            raise UserError(
                "only dense models on a CPU are quantised, and a C compiler is needed: leave `quantize` out, or export "
                "the checkpoint to GGUF"
            )
        if quantize:
            width = config.num_attention_heads * config.head_width
            for name, size in (
                ("hidden_size", config.hidden_size), ("heads times head_dim", width),
                ("intermediate_size", config.intermediate_size),
            ):  # fmt: skip
                if size % kernel.GROUP:
                    raise UserError(
                        f"{name} is {size}, and Q8_0 takes rows of multiples of {kernel.GROUP}: leave `quantize` out "
                        "(dtype='bfloat16' halves the memory), or export to GGUF, which keeps such rows in fp16"
                    )
        self.weights = kernel.Weights(model, quantize) if kernel.covers(model) else None
        self.model = model if self.weights else cast(model)

    @property
    def precision(self) -> str:
        """What most matrices are kept in, in words."""
        if self.weights is not None and self.weights.kind == kernel.Kind.Q8_0:
            return "Q8_0"
        return str(self.model.dtype).removeprefix("torch.")

    def network(self, slots: int, capacity: int) -> Network:
        """Room for `slots` sequences of `capacity` tokens."""
        if self.weights is not None:
            return Fused(self.weights, slots, capacity)
        return Plain(self.model, slots, capacity)


class Fused:
    """By decode.c. A token's logits are the same bits in whatever company and portions it is fed."""

    def __init__(self, weights: kernel.Weights, slots: int, capacity: int):
        self.sequences = kernel.Sequences(weights, slots, capacity)
        self.lengths = [0] * slots
        self.capacity, self.vocab_size = capacity, weights.model.config.vocab_size

    @torch.inference_mode()
    def feed(self, slots: Sequence[int], ids: Sequence[Sequence[int]], every: bool = False) -> Tensor:
        """See `Network`."""
        tokens: list[int] = []
        positions: list[int] = []
        rows, last = [], []
        for slot, part in zip(slots, ids, strict=True):
            length = self.lengths[slot]
            assert part and length + len(part) <= self.capacity
            tokens += part
            rows += [slot] * len(part)
            positions += range(length, length + len(part))
            last.append(len(tokens) - 1)
            self.lengths[slot] += len(part)
        wanted = range(len(tokens)) if every else last
        return self.sequences.forward(*(torch.tensor(list(numbers)) for numbers in (tokens, rows, positions, wanted)))


class Plain:
    """By model.py. The parts of a call are padded on the right; what padding writes is overwritten before it counts."""

    def __init__(self, model: Decoder, slots: int, capacity: int):
        self.model = model
        self.cache = _Slots(model.config, slots, capacity + 1, model.dtype, model.cos.device)  # the last is for padding
        self.lengths = [0] * slots
        self.capacity, self.vocab_size = capacity, model.config.vocab_size

    @torch.inference_mode()
    def feed(self, slots: Sequence[int], ids: Sequence[Sequence[int]], every: bool = False) -> Tensor:
        """See `Network`."""
        device, sizes = self.model.cos.device, [len(part) for part in ids]
        T, starts = max(sizes), [self.lengths[slot] for slot in slots]
        for slot, size in zip(slots, sizes, strict=True):
            assert size and self.lengths[slot] + size <= self.capacity
            self.lengths[slot] += size
        tokens = torch.tensor([[*part] + [0] * (T - len(part)) for part in ids], device=device)
        places = torch.tensor(starts, device=device)[:, None] + torch.arange(T, device=device)
        places = places.clamp(max=self.capacity)
        self.cache.select(slots, places)
        seen = torch.arange(self.cache.length_seen, device=device) <= places[..., None]
        bias = torch.zeros(seen.shape, dtype=self.model.dtype, device=device).masked_fill(~seen, -torch.inf)[:, None]
        positions = places.clamp(max=len(self.model.cos) - 1)
        hidden, _ = self.model(tokens, positions=positions, bias=bias, cache=self.cache)
        ends = torch.tensor(sizes, device=device)[:, None]
        index = torch.arange(T, device=device)
        return self.model.logits(hidden[index < ends if every else index == ends - 1])


class _Slots(Cache):
    """A cache whose rows have lengths of their own."""

    def __init__(self, config: ModelConfig, slots: int, capacity: int, dtype: torch.dtype, device: torch.device | str):
        super().__init__(config, slots, capacity, dtype, device)
        self.length_seen = 0

    def select(self, slots: Sequence[int], places: Tensor) -> None:
        """What the next forward pass writes: R slots, and the place of every token in its slot, (R, T)."""
        self.slots, self.places = torch.tensor(slots, device=places.device), places
        self.whole = list(slots) == list(range(len(self.keys[0])))
        self.length_seen = int(places.max()) + 1

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write the keys and values (R, G, T, K); return those of the selected slots, (R, G, longest, K)."""
        for cache, new in ((self.keys[layer], keys), (self.values[layer], values)):
            cache[self.slots[:, None], :, self.places] = new.transpose(1, 2)
        keys, values = self.keys[layer][:, :, : self.length_seen], self.values[layer][:, :, : self.length_seen]
        return (keys, values) if self.whole else (keys[self.slots], values[self.slots])
