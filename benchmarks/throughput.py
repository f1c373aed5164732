"""How fast a card trains: sides that take turns, for `benchmarks.cuda`.

Every side trains on the same made-up rows, data loading left out. A round gives each side a turn of several steps, so
that whatever else the machine does hits all of them; what is reported are medians over rounds.
"""

import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import median, quantiles
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import peers
from benchmarks.agreement import moved
from minimind import optim
from minimind.batches import Batch
from minimind.capability import native_bfloat16, native_dtype
from minimind.determinism import repeat
from minimind.engines.replicas import Forward, Replicas, bound
from minimind.losses import IGNORE
from minimind.model import Decoder, ModelConfig
from minimind.objectives.language import Language

# The presets minimind2-small, minimind-3, minimind2 and minimind-3-moe, which are YAML, and so can't be read here.
_COMMON: dict[str, Any] = {"max_position_embeddings": 32768, "rope_theta": 1e6, "vocab_size": 6400}
_64M = ModelConfig(768, 8, 8, 4, 2432, rms_norm_eps=1e-6, qk_norm=True, **_COMMON)
SHAPES = {
    "26m": ModelConfig(512, 8, 8, 2, 1408, rms_norm_eps=1e-5, qk_norm=False, **_COMMON),
    "64m": _64M,
    "104m": ModelConfig(768, 16, 8, 2, 2048, rms_norm_eps=1e-5, qk_norm=False, **_COMMON),
    "MoE": replace(_64M, use_moe=True, num_experts=4, num_experts_per_tok=1),
}
_TOY: dict[str, Any] = {"max_position_embeddings": 128, "vocab_size": 64}
TOY_SHAPES = {
    "26m": ModelConfig(16, 1, 2, 1, 32, qk_norm=False, **_TOY),
    "64m": ModelConfig(32, 1, 2, 1, 48, **_TOY),
    "104m": ModelConfig(32, 2, 2, 1, 48, qk_norm=False, **_TOY),
    "MoE": ModelConfig(32, 1, 2, 1, 48, use_moe=True, num_experts=4, num_experts_per_tok=1, **_TOY),
}

DENSE_BF16 = {  # FLOP/s without sparsity, by the maker's data sheets; the first name that fits
    "H100 PCIe": 756e12, "H100 NVL": 835e12, "H100": 989e12, "GH200": 989e12, "H200": 989e12, "B200": 2250e12,
    "A100": 312e12, "A800": 312e12, "H800": 989e12, "L40S": 362e12, "L40": 181e12, "L4": 121e12, "A10G": 70e12,
    "A10": 125e12, "A40": 150e12, "A6000": 155e12, "RTX 5090": 209.5e12, "RTX 4090": 165.2e12, "RTX 4080": 97.5e12,
    "RTX 3090": 71e12, "RTX 3080": 59.5e12,
}  # fmt: skip

ROW_LENGTH, TOY_ROW_LENGTH = 768, 32  # the first is that of the profile minimind-3-mini
DOCUMENT = (20, 390)  # tokens, at least and at most: 205 on average
GAIN = 1.03  # of the rate, for which the micro-batch is doubled once more
TURN_SECONDS, TOY_TURN_SECONDS = 0.4, 0.02
GIB = 2**30

OURS, LOOSE, MUON = "ours, AdamW", "ours, AdamW, not deterministic", "ours, Muon"
QWEN, COMPILED_QWEN = "transformers Qwen3", "transformers Qwen3, compiled"

Step = Callable[[], object]


def maker_peak(name: str) -> float | None:
    """FLOP/s of dense bf16 products that the maker of a card of this name states; None for one that isn't listed."""
    return next((peak for card, peak in DENSE_BF16.items() if card in name), None)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def seconds_of(device: torch.device, work: Callable[[], object]) -> float:
    """That pass until the device has done the work."""
    synchronize(device)
    begin = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - begin


def measured_peak(device: torch.device, dtype: torch.dtype, size: int, times: int = 7) -> float:
    """FLOP/s of products of random square matrices of `size`: the median of several measurements, of five each."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)

    def work() -> None:
        for _ in range(5):
            torch.mm(a, b, out=out)

    work()
    return 5 * 2 * size**3 / median(seconds_of(device, work) for _ in range(times))


def made_rows(rows: int, length: int, vocab_size: int) -> tuple[Batch, int]:
    """Packed rows of random tokens in documents of random length, and the most documents in one of them."""
    generator = torch.Generator().manual_seed(1)
    least, most = (max(2, size * length // ROW_LENGTH) for size in DOCUMENT)
    documents = torch.zeros(rows, length, dtype=torch.int64)
    for row in documents:
        start, number = 0, 1
        while start + least <= length:
            size = int(torch.randint(least, most + 1, (), generator=generator))
            row[start : start + size] = number
            start, number = start + size, number + 1
    ids = torch.randint(0, vocab_size, (rows, length), generator=generator)
    targets = torch.full_like(ids, IGNORE)
    follows = (documents[:, 1:] == documents[:, :-1]) & (documents[:, 1:] > 0)
    targets[:, :-1] = torch.where(follows, ids[:, 1:], IGNORE)
    return {"ids": ids, "targets": targets, "documents": documents}, int(documents.max())


@dataclass
class Side:
    """One of those that take turns."""

    size: str
    name: str
    rows: int  # in a step, which is one micro-batch
    positions: int  # likewise
    parameters: int
    active: int  # parameters that a token meets
    step: Step
    deterministic: bool
    memory: float | None  # bytes that it takes beside the others, None where the device doesn't tell
    building: float  # seconds, compilation included
    once: float  # seconds of a single step, by which the length of a turn is chosen
    seconds: list[float] = field(default_factory=list)  # of a step, by round

    @property
    def rate(self) -> float:
        """Positions a second, the median over rounds."""
        return self.positions / median(self.seconds)

    def turn(self, device: torch.device, seconds: float) -> None:
        """As many steps as take about so many seconds, timed together."""
        repeat(device, self.deterministic)
        number = max(1, round(seconds / self.once))
        taken = seconds_of(device, lambda: [self.step() for _ in range(number)])
        self.seconds.append(taken / number)

    def told(self) -> dict[str, Any]:
        """For the report; a rate's quartiles too."""
        low, _, high = quantiles(self.seconds, n=4) if len(self.seconds) > 1 else self.seconds * 3
        values = {name: value for name, value in self.__dict__.items() if name not in ("step", "once")}
        quartiles = [self.positions / high, self.positions / low]
        return values | {"tokens_per_second": self.rate, "quartiles": quartiles, "flops": 6 * self.active * self.rate}


@dataclass(frozen=True)
class Search:
    """How the micro-batch was found."""

    rows: int
    trail: list[tuple[int, float]]  # rows, positions a second
    ended: str  # why it went no further


def search(rate: Callable[[int], float], first: int, most: int) -> Search:
    """Double the rows while `rate` grows by GAIN; it raises torch.OutOfMemoryError where they don't fit.

    Raises that error itself if not even the first do.
    """
    trail: list[tuple[int, float]] = []
    rows = first
    while rows <= most:
        try:
            found = rate(rows)
        except torch.OutOfMemoryError:
            if not trail:
                raise
            return Search(trail[-1][0], trail, f"{rows} rows don't fit into memory")
        if trail and found < GAIN * trail[-1][1]:
            best = rows if found > trail[-1][1] else trail[-1][0]
            return Search(best, [*trail, (rows, found)], f"{rows} rows are not {GAIN - 1:.0%} faster than {rows // 2}")
        trail.append((rows, found))
        rows *= 2
    return Search(trail[-1][0], trail, f"more than {most} rows were not tried")


class Track:
    """Builds sides on a device and lets them take turns."""

    def __init__(self, device: torch.device, toy: bool, compiles: bool):
        self.device, self.toy, self.compiles = device, toy, compiles
        self.shapes = TOY_SHAPES if toy else SHAPES
        self.row_length = TOY_ROW_LENGTH if toy else ROW_LENGTH
        self.dtype = native_dtype(device)
        self.turn_seconds = TOY_TURN_SECONDS if toy else TURN_SECONDS

    def batch(self, size: str, rows: int) -> tuple[Batch, int]:
        """Made-up rows on the device, and the most documents in one."""
        batch, most = made_rows(rows, self.row_length, self.shapes[size].vocab_size)
        return moved(batch, self.device), most

    def model(self, size: str, most: int) -> Decoder:
        """A fresh one of ours."""
        model = Decoder(self.shapes[size], self.dtype).initialise(1).to(self.device)
        model.max_documents = most
        return model

    def micro_batch(self, size: str, report: Callable[[str], object]) -> Search:
        """Rows of a step that is not compiled, since compiling anew for each would take minutes."""

        def measure(rows: int) -> float:
            step, _ = self.own_step(size, rows, "adamw", compiled=False)
            for _ in range(2):
                step()
            return rows * self.row_length / median(seconds_of(self.device, step) for _ in range(3))

        def rate(rows: int) -> float:
            self.release()
            found = measure(rows)
            report(f"{size}, {rows} rows, not compiled: {found:,.0f} tokens/s")
            return found

        repeat(self.device, True)
        return search(rate, 1 if self.toy else 8, 4 if self.toy else 512)

    def own_step(self, size: str, rows: int, optimizer: optim.OptimizerName, compiled: bool) -> tuple[Step, Decoder]:
        """A step of ours, and its model."""
        batch, most = self.batch(size, rows)
        model = self.model(size, most)
        return self.driven(model, bound(model, Language(), compiled), optimizer, batch), model

    def driven(self, model: Decoder, forward: Forward, optimizer: optim.OptimizerName, batch: Batch) -> Step:
        """Forward and backward pass, clipping, the optimizer."""
        engine = Replicas(model, forward, optim.build(model, optimizer, 1e-4, 1e-4, (0.9, 0.95), 0.95, 0.0))
        weight = Language().weight(batch)

        def step() -> Tensor:
            loss, _ = engine.forward(batch)
            engine.backward(loss / weight)
            return engine.step(0.01, 1.0, None)

        return step

    def own(
        self,
        size: str,
        rows: int,
        name: str = OURS,
        optimizer: optim.OptimizerName = "adamw",
        deterministic: bool = True,
    ) -> Side:
        """A side of ours, compiled where this device compiles."""
        make = partial(self.own_step, size, rows, optimizer, self.compiles)
        return self.built(size, name, rows, deterministic, make)

    def qwen(self, size: str, rows: int, compiled: bool) -> Side:
        """transformers' Qwen3 of these widths with attention across the documents of a row; at 64m the same model.

        Raises ImportError where there is no transformers.
        """

        def make() -> tuple[Step, nn.Module]:
            batch, _ = self.batch(size, rows)
            model = peers.build(self.shapes[size], 1, None)
            fast = importlib.util.find_spec("flash_attn") is not None and self.dtype == torch.bfloat16
            model.set_attn_implementation("flash_attention_2" if fast else "sdpa")  # type: ignore[operator]
            model = model.to(self.device)
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
            bfloat16 = self.dtype == torch.bfloat16

            def loss(ids: Tensor, targets: Tensor) -> Tensor:
                with torch.autocast(self.device.type, torch.bfloat16, enabled=bfloat16):
                    logits = model(input_ids=ids).logits
                return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORE)

            forward = torch.compile(loss, dynamic=False) if compiled else loss

            def step() -> None:
                forward(batch["ids"], batch["targets"]).backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)

            return step, model

        return self.built(size, COMPILED_QWEN if compiled else QWEN, rows, False, make)

    def built(
        self, size: str, name: str, rows: int, deterministic: bool, make: Callable[[], tuple[Step, nn.Module]]
    ) -> Side:
        """A side that is warm, with the memory that it takes."""
        repeat(self.device, deterministic)
        begin = time.perf_counter()
        cuda = self.device.type == "cuda"
        before = torch.cuda.memory_allocated(self.device) if cuda else 0
        step, model = make()
        for _ in range(2):
            step()
        synchronize(self.device)
        building = time.perf_counter() - begin
        if cuda:
            torch.cuda.reset_peak_memory_stats(self.device)
        once = seconds_of(self.device, step)
        memory = float(torch.cuda.max_memory_allocated(self.device) - before) if cuda else None
        parameters = sum(parameter.numel() for parameter in model.parameters())
        active = model.num_parameters(active=True) if isinstance(model, Decoder) else parameters
        positions = rows * self.row_length
        return Side(size, name, rows, positions, parameters, active, step, deterministic, memory, building, once)

    def release(self) -> None:
        """Give memory back that nothing holds any more."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        elif self.device.type == "mps":
            torch.mps.empty_cache()


def description(device: torch.device) -> dict[str, Any]:
    """What is measured on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    described: dict[str, Any] = {"device": name, "torch": torch.__version__, "bfloat16": native_bfloat16(device)}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        described |= {"memory": properties.total_memory, "cuda": torch.version.cuda}
    return described
