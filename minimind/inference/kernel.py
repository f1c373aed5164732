"""The decoder as one call for CPUs: decode.c, compiled at first use, with packed weights and the cache it works on.

Nothing here is needed to understand decoding or to decode: without a C compiler, with experts, and on a GPU
`network.Plain` does the same through `model.py`.
"""

import contextlib
import ctypes
import mmap
from enum import IntEnum
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from minimind import native
from minimind.errors import UserError
from minimind.model import Decoder, Layer

LANES, BLOCK, GROUP, HEADS, SIDE = 16, 64, 32, 4, 16  # as in decode.c
HUGE_PAGE, ALIGNMENT = 2 << 20, 64  # bytes


class Kind(IntEnum):
    """How matrices are kept: in fp32, in bf16, or in Q8_0 of llama.cpp, bytes with a scale for every 32."""

    FLOAT = 0
    BF16 = 1
    Q8_0 = 2


@cache
def library() -> ctypes.CDLL | None:
    """decode.c, compiled for this machine; None where that can't be done."""
    return native.library(Path(__file__).with_name("decode.c"))


class _Layer(ctypes.Structure):
    """`Layer` in decode.c."""

    _fields_ = [
        (name, ctypes.c_void_p)
        for name in (
            "input_norm", "q_norm", "k_norm", "post_norm", "qkv", "out", "gate_up", "down", "keys", "values",
        )
    ]  # fmt: skip


class _Model(ctypes.Structure):
    """`Model` in decode.c."""

    _fields_ = [
        *((name, ctypes.c_long) for name in ("num_layers", "D", "H", "G", "K", "I", "V", "S", "kind", "half")),
        ("eps", ctypes.c_float),
        *((name, ctypes.c_void_p) for name in ("cosine", "sine", "norm", "output")),
        ("layers", ctypes.POINTER(_Layer)),
    ]


class _Scratch(ctypes.Structure):
    """`Scratch` in decode.c."""

    _fields_ = [("input", ctypes.c_void_p), ("output", ctypes.c_void_p)]


def covers(model: Decoder) -> bool:
    """Whether this decoder can be run here: dense, of even widths, on the CPU, and the library is there."""
    even = model.config.hidden_size % 2 == model.config.intermediate_size % 2 == 0  # bf16 is packed in pairs
    return model.cos.device.type == "cpu" and not model.config.use_moe and even and library() is not None


class Weights:
    """A decoder's matrices, packed for decode.c. They can be shared by any number of caches.

    In `model.dtype`, or with `quantize` in Q8_0, all but the embedding's rows on the way in. Raises UserError where
    a row is no whole number of groups.
    """

    def __init__(self, model: Decoder, quantize: bool = False):
        assert covers(model)
        self.model = model
        self.kind = kind = Kind.Q8_0 if quantize else Kind.BF16 if model.dtype == torch.bfloat16 else Kind.FLOAT
        embedding = model.model.embed_tokens.weight.detach()
        self.embedding = embedding.to(torch.bfloat16 if kind == Kind.BF16 else torch.float32)
        self.cosine, self.sine = model.cos.float().contiguous(), model.sin.float().contiguous()
        self.norm = model.model.norm.weight.detach().float()
        head = embedding if model.config.tie_word_embeddings else model.lm_head.weight.detach()
        self.output = pack(head, kind)
        self.layers: list[dict[str, Tensor]] = []
        for layer in model.model.layers:
            assert isinstance(layer, Layer)
            attention, mlp = layer.self_attn, layer.mlp
            tensors = {
                "input_norm": layer.input_layernorm.weight.detach().float(),
                "post_norm": layer.post_attention_layernorm.weight.detach().float(),
                "qkv": pack(_joined(attention.q_proj, attention.k_proj, attention.v_proj), kind),
                "out": pack(attention.o_proj.weight.detach(), kind),
                "gate_up": pack(_joined(mlp.gate_proj, mlp.up_proj), kind),
                "down": pack(_joined(mlp.down_proj), kind),
            }
            if model.config.qk_norm:
                tensors["q_norm"] = attention.q_norm.weight.detach().float()
                tensors["k_norm"] = attention.k_norm.weight.detach().float()
            self.layers.append(tensors)
        packed = [(tensors, name) for tensors in self.layers for name in ("qkv", "out", "gate_up", "down")]
        self.output, *settled = _settle([self.output, *(tensors[name] for tensors, name in packed)])
        for (tensors, name), matrix in zip(packed, settled, strict=True):
            tensors[name] = matrix


def _settle(tensors: list[Tensor]) -> list[Tensor]:
    """The same tensors in one stretch of memory of huge pages, where the system has them.

    A step reads every weight once. Looking up a small page costs as long again as reading it: 100 MB took 5.9 ms in
    pages of 4 KiB, and 3.6 ms in those of 2 MiB.
    """
    starts = [0]
    for tensor in tensors:
        starts.append(starts[-1] + tensor.nbytes + -tensor.nbytes % ALIGNMENT)
    memory = mmap.mmap(-1, starts[-1] + HUGE_PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them has small ones
            memory.madvise(mmap.MADV_HUGEPAGE)
    region = torch.frombuffer(memory, dtype=torch.uint8)
    region = region[-region.data_ptr() % HUGE_PAGE :]
    settled = []
    for start, tensor in zip(starts, tensors, strict=False):
        place = region[start : start + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
        settled.append(place.copy_(tensor))
    return settled


def _joined(*modules: object) -> Tensor:
    """Their matrices below each other."""
    return torch.cat([module.weight.detach() for module in modules])  # type: ignore[attr-defined]


def pack(matrix: Tensor, kind: Kind) -> Tensor:
    """A matrix (outputs, inputs) as decode.c reads it: (blocks, inputs, 64), or (blocks, inputs / 2, 64, 2) in bf16.

    In Q8_0 bytes (blocks, groups, 64 · 2 + 32 · 64): fp16 scales, then the values, (32, 64).
    """
    outputs, inputs = matrix.shape
    blocks = F.pad(matrix.float(), (0, 0, 0, -outputs % BLOCK)).view(-1, BLOCK, inputs)
    if kind == Kind.FLOAT:
        return blocks.transpose(1, 2).contiguous()
    if kind == Kind.BF16:
        return blocks.to(torch.bfloat16).view(-1, BLOCK, inputs // 2, 2).transpose(1, 2).contiguous()
    if inputs % GROUP:
        raise UserError(f"a matrix has rows of {inputs}, which Q8_0 can't hold: it takes multiples of {GROUP}")
    groups = blocks.view(-1, BLOCK, inputs // GROUP, GROUP).permute(0, 2, 3, 1)
    scales = groups.abs().amax(2) / 127
    values = (groups * torch.where(scales > 0, 1 / scales, 0)[:, :, None]).round().to(torch.int8)
    return torch.cat((scales.half().view(torch.uint8), values.flatten(2).view(torch.uint8)), 2).contiguous()


class Sequences:
    """Keys and values of `slots` sequences of up to `capacity` tokens each, and the call that makes them longer."""

    def __init__(self, weights: Weights, slots: int, capacity: int):
        config = weights.model.config
        D, H, G, K = config.hidden_size, config.num_attention_heads, config.num_key_value_heads, config.head_width
        S = capacity + -capacity % LANES
        self.weights, self.capacity = weights, S
        dtype = torch.float32 if weights.kind == Kind.FLOAT else torch.bfloat16
        keys = [torch.zeros(slots, G, S // LANES, K, LANES, dtype=dtype) for _ in weights.layers]
        values = [torch.zeros(slots, G, S, K + -K % LANES, dtype=dtype) for _ in weights.layers]
        layers = (_Layer * len(weights.layers))(
            *(
                _Layer(keys=key.data_ptr(), values=value.data_ptr(), **{n: t.data_ptr() for n, t in tensors.items()})
                for tensors, key, value in zip(weights.layers, keys, values, strict=True)
            )
        )
        self._model = _Model(
            num_layers=len(weights.layers), D=D, H=H, G=G, K=K, I=config.intermediate_size, V=config.vocab_size, S=S,
            kind=weights.kind, half=dtype == torch.bfloat16, eps=config.rms_norm_eps, cosine=weights.cosine.data_ptr(),
            sine=weights.sine.data_ptr(), norm=weights.norm.data_ptr(), output=weights.output.data_ptr(), layers=layers,
        )  # fmt: skip
        self._alive = (keys, values, layers)  # the library knows them by address only
        self._input_width = max(D, H * K, config.intermediate_size)
        self._output_width = max(_padded(n) for n in (D, (H + 2 * G) * K, 2 * config.intermediate_size))
        self._scores = torch.empty(torch.get_num_threads(), HEADS, S)
        self._room = 0
        self._reserve(slots)

    def _reserve(self, num_tokens: int) -> None:
        if num_tokens > self._room:
            self._room = num_tokens
            self._input = torch.zeros(num_tokens + -num_tokens % SIDE, self._input_width)
            self._output = torch.empty(num_tokens, self._output_width)
            self._scratch = _Scratch(self._input.data_ptr(), self._output.data_ptr())

    def forward(self, ids: Tensor, slots: Tensor, positions: Tensor, wanted: Tensor) -> Tensor:
        """Enter N tokens, each at its position of its slot; all int64 (N,). Returns the logits of those `wanted`.

        wanted int64 (R,) are indices of tokens. Returns (R, V) fp32.
        """
        library_ = library()
        assert library_ is not None
        config = self.weights.model.config
        self._reserve(len(ids))
        x = F.pad(F.embedding(ids, self.weights.embedding).float(), (0, -config.hidden_size % BLOCK)).contiguous()
        logits = torch.empty(len(wanted), _padded(config.vocab_size))
        library_.forward(
            ctypes.byref(self._model), ctypes.c_long(len(ids)), _at(x), _at(slots), _at(positions),
            ctypes.c_long(len(wanted)), _at(wanted), _at(logits), ctypes.byref(self._scratch), _at(self._scores),
            ctypes.c_long(len(self._scores)),
        )  # fmt: skip
        return logits[:, : config.vocab_size]


def _padded(n: int) -> int:
    return n + -n % BLOCK


def _at(tensor: Tensor) -> ctypes.c_void_p:
    assert tensor.is_contiguous()
    return ctypes.c_void_p(tensor.data_ptr())
