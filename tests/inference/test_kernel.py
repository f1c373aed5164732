"""Compiling and packing; what the library computes is tested in test_network.py."""

from collections.abc import Callable
from pathlib import Path

import gguf
import pytest
import torch

from minimind.errors import UserError
from minimind.inference import kernel
from minimind.inference.kernel import Kind
from minimind.model import Decoder


@pytest.mark.parametrize("kind", [Kind.FLOAT, Kind.BF16])
def test_a_packed_matrix_holds_every_element_once(kind: Kind) -> None:
    matrix = torch.arange(70 * 6).reshape(70, 6).float() % 251  # exact in bf16
    packed = kernel.pack(matrix, kind)
    per_step = 1 if kind == Kind.FLOAT else 2
    assert packed.is_contiguous() and packed.dtype == (torch.float32 if kind == Kind.FLOAT else torch.bfloat16)
    for output in range(128):
        for inputs in range(6):
            block, row = divmod(output, kernel.BLOCK)
            step, half = divmod(inputs, per_step)
            value = packed.view(2, 6 // per_step, kernel.BLOCK, per_step)[block, step, row, half]
            assert value == (matrix[output, inputs] if output < 70 else 0)


def test_quantised_matrices_hold_llama_cpp_s_numbers() -> None:
    matrix = torch.randn(70, 96, generator=torch.Generator().manual_seed(0))
    matrix[3, 32:64] = 0
    packed = kernel.pack(matrix, Kind.Q8_0)
    scales = packed[..., :128].contiguous().view(torch.float16).float()
    values = packed[..., 128:].contiguous().view(torch.int8).view(2, 3, 32, 64) * scales[:, :, None]
    theirs = gguf.dequantize(
        gguf.quantize(matrix.numpy(), gguf.GGMLQuantizationType.Q8_0), gguf.GGMLQuantizationType.Q8_0
    )
    assert values.permute(0, 3, 1, 2).reshape(128, 96)[:70].equal(torch.from_numpy(theirs))
    with pytest.raises(UserError, match="rows of 40"):
        kernel.pack(matrix[:, :40], Kind.Q8_0)


def test_numbers_agree_with_the_source() -> None:
    source = Path(kernel.__file__).with_name("decode.c").read_text()
    assert f"#define LANES {kernel.LANES}\n" in source
    assert f"#define BLOCK {kernel.BLOCK} " in source
    assert f"#define GROUP {kernel.GROUP} " in source
    assert f"#define HEADS {kernel.HEADS} " in source
    assert f"#define SIDE {kernel.SIDE} " in source
    assert f"enum {{ {', '.join(kind.name for kind in Kind)} }};" in source


def test_without_the_library_plain_pytorch_decodes(
    monkeypatch: pytest.MonkeyPatch, decoder: Callable[..., Decoder]
) -> None:
    assert kernel.covers(decoder())
    monkeypatch.setattr(kernel, "library", lambda: None)
    assert not kernel.covers(decoder())
