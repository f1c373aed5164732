"""The CPU kernels against the plain PyTorch that they stand in for: values, gradients, and the same bits every time.

They are compiled for bfloat16 and for fp32 on every machine; where the processor lacks bfloat16, its products are
widened in the C file.
"""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from arm import emulator
from torch import Tensor

from minimind import native
from minimind.kernels import cpu
from minimind.losses import IGNORE, cross_entropy_sum
from minimind.model import Decoder, FeedForward, ModelConfig, ResidualNorm
from minimind.objectives.language import Language

DTYPES = [torch.bfloat16, torch.float32]
DOCUMENTS = torch.tensor([[1] * 40 + [2] + [3] * 70 + [0] * 9, [1] * 120, [1] * 3 + [0] * 117])


@pytest.fixture(autouse=True, params=DTYPES, ids=["bfloat16", "float32"])
def dtype(request: pytest.FixtureRequest) -> Iterator[torch.dtype]:
    """The activations'; kernels for them are on for a test, and off behind it."""
    assert cpu.enable(request.param), "the tests need a C compiler"
    yield request.param
    cpu.enable(None)


@pytest.fixture(params=[None, *(pytest.param(name, marks=pytest.mark.arm) for name in emulator.PROCESSORS)])
def processor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernels are compiled for and run on: this machine, then emulated ones."""
    if request.param is not None:
        monkeypatch.setattr(native, "library", lambda source, *flags: emulator.Kernels(request.param, *flags))
        monkeypatch.setattr(cpu, "_library", cpu._library.__wrapped__)


def sides(dtype: torch.dtype) -> Iterator[torch.dtype]:
    """Kernels in `dtype`, plain PyTorch in `dtype`, and plain PyTorch in fp32, each switched on while it is had."""
    for kernels, computed in ((dtype, dtype), (None, dtype), (None, torch.float32)):
        cpu.enable(kernels)
        assert cpu.covers(torch.empty(0, dtype=computed)) == (kernels is not None)
        yield computed


def assert_sides_agree(dtype: torch.dtype, function: Callable[[torch.dtype], Tensor], *leaves: Tensor) -> None:
    """The result and the gradients of the leaves, of all three sides."""
    found = []
    for computed in sides(dtype):
        for leaf in leaves:
            leaf.grad = None
        result = function(computed)
        direction = torch.randn(result.shape, generator=torch.Generator().manual_seed(9))
        (result.float() * direction).sum().backward()
        found.append([result.detach().float(), *(leaf.grad.clone() for leaf in leaves if leaf.grad is not None)])
    assert_as_good(found)


def assert_as_good(found: list[list[Tensor]]) -> None:
    """The kernels are as near to plain fp32 as plain bf16 is, give or take a quarter; in fp32, to a few roundings."""
    for kernel, plain, exact in zip(*found, strict=True):
        assert kernel.shape == exact.shape
        scale = exact.norm() + 1e-12
        rounding = 1e-4 if not plain.equal(exact) else 1e-5
        assert (kernel - exact).norm() / scale <= 1.25 * (plain - exact).norm() / scale + rounding


def leaf(*shape: int, seed: int, scale: float = 1.0) -> Tensor:
    """Random numbers that are exact in bf16, so that all sides begin with the same."""
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale
    return values.bfloat16().float().requires_grad_()


def test_kernels_cover_what_they_were_enabled_for(dtype: torch.dtype) -> None:
    assert [cpu.covers(torch.zeros(1, dtype=other)) for other in DTYPES] == [other == dtype for other in DTYPES]
    assert not cpu.covers(torch.zeros(1, dtype=dtype, device="meta"))
    assert not cpu.enable(torch.float16), "there are none for this"
    assert not cpu.covers(torch.zeros(1, dtype=torch.float16))
    assert not cpu.enable(None)
    assert not any(cpu.covers(torch.zeros(1, dtype=other)) for other in DTYPES)


@pytest.mark.usefixtures("processor")
@pytest.mark.parametrize("width", [96, 50])
@pytest.mark.parametrize("with_branch", [True, False])
def test_norm(dtype: torch.dtype, width: int, with_branch: bool) -> None:
    norm, x, branch = ResidualNorm(width, 1e-6), leaf(3, 120, width, seed=1), leaf(3, 120, width, seed=2)
    with torch.no_grad():
        norm.weight.copy_(leaf(width, seed=3))

    def function(dtype: torch.dtype) -> Tensor:
        return torch.cat(norm(x.to(dtype), branch.to(dtype) if with_branch else None), -1)

    assert_sides_agree(dtype, function, x, norm.weight, *([branch] if with_branch else []))


@pytest.mark.usefixtures("processor")
@pytest.mark.parametrize("inner", [160, 52])
def test_feed_forward(dtype: torch.dtype, inner: int) -> None:
    feed, x = FeedForward(64, inner), leaf(3, 120, 64, seed=1)
    assert_sides_agree(dtype, lambda computed: feed(x.to(computed)), x, *feed.parameters())


@pytest.mark.usefixtures("processor")
@pytest.mark.parametrize("vocabulary", [256, 1001])
def test_cross_entropy_with_positions_that_are_not_learnt(dtype: torch.dtype, vocabulary: int) -> None:
    hidden, weight = leaf(3, 120, 64, seed=1), leaf(vocabulary, 64, seed=2)
    targets = torch.randint(0, vocabulary, (3, 120), generator=torch.Generator().manual_seed(3))
    targets[DOCUMENTS == 0] = IGNORE
    assert_sides_agree(dtype, lambda computed: cross_entropy_sum(hidden.to(computed), weight, targets), hidden, weight)


def test_cross_entropy_of_nothing_and_in_pieces(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, weight = leaf(200, 32, seed=1), leaf(64, 32, seed=2)
    nothing = cross_entropy_sum(hidden.to(dtype), weight, torch.full((200,), IGNORE))
    nothing.backward()
    assert nothing == 0
    assert not hidden.grad.any()  # type: ignore[union-attr]
    targets = torch.arange(200) % 64
    whole = cross_entropy_sum(hidden.to(dtype), weight, targets)
    monkeypatch.setattr(cpu.CrossEntropy, "ROWS", 36)  # pieces are filled up to multiples of 12
    monkeypatch.setattr(cpu.CrossEntropy, "STEP", 12)
    torch.testing.assert_close(cross_entropy_sum(hidden.to(dtype), weight, targets), whole)


def test_filling_the_pieces_up_changes_no_bit(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    targets = torch.arange(200) % 64
    targets[::3] = IGNORE
    results = []
    for step in (1, 128):
        monkeypatch.setattr(cpu.CrossEntropy, "STEP", step)
        hidden, weight = leaf(200, 32, seed=1), leaf(64, 32, seed=2)
        loss = cross_entropy_sum(hidden.to(dtype), weight, targets)
        loss.backward()
        results.append((loss, hidden.grad, weight.grad))
    for one, other in zip(*results, strict=True):
        assert one is not None and one.equal(other)


# Head widths with and without a loop of their own in the C code; grouped heads; with and without norms.
@pytest.mark.usefixtures("processor")
@pytest.mark.parametrize(("heads", "groups", "width"), [(4, 2, 32), (2, 2, 24), (4, 1, 64), (3, 3, 18)])
@pytest.mark.parametrize("qk_norm", [True, False])
def test_attention(dtype: torch.dtype, heads: int, groups: int, width: int, qk_norm: bool) -> None:
    config = ModelConfig(
        64, 1, heads, groups, 64, head_dim=width, qk_norm=qk_norm, qk_norm_init=1.6, vocab_size=90
    )  # fmt: skip
    models = {computed: Decoder(config, computed).initialise(1) for computed in DTYPES}
    x = leaf(3, 120, 64, seed=1)
    attention = models[torch.float32].model.layers[0].self_attn
    real = (DOCUMENTS > 0)[..., None]  # what padding attends to is nobody's business

    def function(dtype: torch.dtype) -> Tensor:
        places = models[dtype]._places(DOCUMENTS, x.to(dtype))
        return attention(x.to(dtype), places, None) * real

    assert_sides_agree(dtype, function, x, *attention.parameters())


def test_segments_are_the_documents() -> None:
    assert cpu.segments(DOCUMENTS).tolist() == [[0, 40], [40, 1], [41, 70], [120, 120], [240, 3]]
    assert cpu.segments(torch.zeros(2, 5, dtype=torch.int64)).shape == (0, 2)


@pytest.mark.usefixtures("processor")
def test_a_whole_model_learns_the_same(dtype: torch.dtype) -> None:
    config = ModelConfig(64, 3, 2, 1, 96, qk_norm_init=1.6, vocab_size=90)
    ids = torch.randint(0, 90, DOCUMENTS.shape, generator=torch.Generator().manual_seed(1))
    targets = ids.roll(-1, 1).masked_fill(DOCUMENTS == 0, IGNORE)
    batch = {"ids": ids, "targets": targets, "documents": DOCUMENTS}
    models = {computed: Decoder(config, computed).initialise(1) for computed in DTYPES}
    found = []
    for computed in sides(dtype):
        model = models[computed]
        model.zero_grad()
        loss, _ = Language()(model, batch)
        (loss / 100).backward()
        found.append([loss.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
    assert_as_good(found)
    assert cpu.enable(dtype)
    padded = models[dtype](ids, torch.zeros_like(DOCUMENTS))[0]
    assert padded.isfinite().all()


def test_recomputed_layers_give_the_same_bits(dtype: torch.dtype) -> None:
    config = ModelConfig(64, 3, 2, 1, 96, vocab_size=90)
    ids = torch.randint(0, 90, DOCUMENTS.shape, generator=torch.Generator().manual_seed(1))
    gradients = []
    for again in (False, True):
        model = Decoder(config, dtype).initialise(1)
        model.checkpoint_activations = again
        model(ids, DOCUMENTS)[0].float().square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    for kept, computed_again in zip(*gradients, strict=True):
        assert (kept is None and computed_again is None) or torch.equal(kept, computed_again)  # type: ignore[arg-type]


def test_a_logit_that_is_no_number_makes_the_loss_none(dtype: torch.dtype) -> None:
    hidden, weight = torch.ones(4, 32, dtype=dtype), torch.ones(50, 32)
    weight[7] = torch.nan
    assert cross_entropy_sum(hidden, weight, torch.tensor([1, 2, 3, 7])).isnan()
    hidden[2, 5] = torch.inf
    assert not cross_entropy_sum(hidden, torch.randn(50, 32), torch.tensor([1, 2, 3, 7])).isfinite()


def test_the_bits_do_not_depend_on_the_number_of_threads(dtype: torch.dtype) -> None:
    """Of the kernels; each count in a process of its own."""
    code = """
import sys, torch
torch.set_num_threads(int(sys.argv[1]))
from minimind.kernels import cpu
dtype = getattr(torch, sys.argv[2])
assert cpu.enable(dtype)
torch.manual_seed(0)
def tensor(*shape): return torch.randn(shape).to(dtype).requires_grad_()
documents = torch.ones(4, 90, dtype=torch.int64)
documents[:, 50:] = 2
cos, sin = torch.rand(90, 16), torch.rand(90, 16)
x, branch, qkv = tensor(4, 90, 96), tensor(4, 90, 96), tensor(4, 90, 256)
weight, gain = torch.ones(96, requires_grad=True), torch.rand(32, requires_grad=True)
outs = [*cpu.Norm.apply(x, branch, weight, 1e-6), cpu.SwiGLU.apply(x)]
outs.append(cpu.Attention.apply(qkv, gain, gain, cos, sin, cpu.segments(documents), 4, 2, 1e-6))
sum(out.float().square().sum() for out in outs).backward()
outs += [x.grad, branch.grad, weight.grad, gain.grad, qkv.grad]
import hashlib
print(hashlib.sha256(b"".join(out.detach().float().numpy().tobytes() for out in outs)).hexdigest())
"""
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    program = [sys.executable, "-c", code]
    digests = {
        subprocess.run(
            [*program, count, str(dtype).removeprefix("torch.")],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for count in ("1", "2", "2", "3")
    }
    assert len(digests) == 1
    assert digests.pop().strip() != hashlib.sha256(b"").hexdigest()


def test_plain_definitions_are_what_they_say() -> None:
    """The plain side itself, against torch."""
    cpu.enable(None)
    hidden, weight = torch.randn(5, 8), torch.randn(11, 8)
    targets = torch.tensor([1, IGNORE, 3, 4, 10])
    expected = F.cross_entropy(hidden @ weight.T, targets, ignore_index=IGNORE, reduction="sum")
    torch.testing.assert_close(cross_entropy_sum(hidden, weight, targets), expected)
