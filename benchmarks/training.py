"""How fast a training step is, ours and others', in one call and in turns: tokens a second, share of the peak, memory.

    python benchmarks/training.py --sizes 5m,26m,64m [--reference CHECKOUT OF MINIMIND] [--isa avx2]

Every side trains the same architecture on the same text, as many positions a step, data loading left out. A round gives
each side one step, so that whatever else the machine does hits all of them; what is printed are medians over rounds.
With --isa this machine takes itself for one that has no more than those instructions.
"""

import argparse
import gc
import importlib
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
from tqdm import tqdm

from benchmarks import ledger, peers, workload
from minimind import capability, hardware, optim
from minimind.batches import Source, collate
from minimind.config import Runtime
from minimind.distributed import World
from minimind.engines.replicas import Replicas, forward_function
from minimind.errors import UserError
from minimind.kernels import cpu
from minimind.model import Decoder
from minimind.objectives.language import Language
from minimind.rows import Rows
from minimind.train import split

ROW_LENGTH = 512
RUNTIME = Runtime(device="cpu", compile="off")
GIB = 2**30
PEAK = 2048  # rows and columns of the matrices whose product measures the peak

OURS, PADDED, COMPILED = "ours, AdamW", "ours, AdamW, padded to the longest document", "ours compiled, AdamW"
PLAIN = "ours without kernels, AdamW"
BFLOAT16 = capability.native_bfloat16("cpu")  # else everybody computes in fp32
QWEN = f"transformers Qwen3, {'bf16 autocast' if BFLOAT16 else 'fp32'}, fused AdamW"
FAIR = peers.Recipe(5e-4, 1, 1, bfloat16=BFLOAT16, packed=True, fused=True)

Step = Callable[[], None]


def own(
    size: str, rows: Rows, count: int, optimizer: optim.OptimizerName, kernels: bool = True, compiled: bool = False
) -> Step:
    """A step of our own loop on `count` rows: forward and backward, gradient clipping, the optimizer."""
    dtype = hardware.setup(RUNTIME)[1]
    covered = dtype if kernels else None
    cpu.enable(covered)
    model = Decoder(workload.model(size), dtype).initialise(1)
    optimizers = optim.build(model, optimizer, 1e-3, 1e-2, (0.9, 0.95), 0.95, 0.0)
    runtime = replace(RUNTIME, compile="on" if compiled else "off")
    engine = Replicas(model, forward_function(model, Language(), runtime, 0), optimizers, World())
    batch = collate(Source(rows), np.arange(count))
    weight = Language().weight(batch)

    def step() -> None:
        cpu.enable(covered)
        for part in split(batch, 1):
            loss, _ = engine.forward(part)
            engine.backward(loss / weight)
        engine.step(0.01, 1.0, None)

    return step


def other(size: str, text: workload.Workload, recipe: peers.Recipe, count: int, reference: Path | None) -> Step:
    """A step of a peer on `count` rows: its own model and loss."""
    hardware.setup(RUNTIME)
    recipe = replace(recipe, batch_size=count, accumulation=1)
    peer = peers.Peer(text, workload.model(size), recipe, 1, reference)
    (batch,) = peer.micro_batches(0)

    def step() -> None:
        peer.accumulate(batch)
        peer.update(0.01)

    return step


@dataclass(frozen=True)
class Side:
    """One of those that are compared: its rows, how many a step gets, and how to build the step."""

    rows: Rows
    count: int
    make: Callable[[Rows, int], Step]

    def build(self) -> Step:
        """The step."""
        return self.make(self.rows, self.count)

    @property
    def positions(self) -> int:
        """In a step."""
        return self.count * self.rows.row_length


def sides(
    size: str, text: workload.Workload, uncut: workload.Workload, positions: int, reference: Path | None, compiled: bool
) -> dict[str, Side]:
    """Every side by name, still to be built, with about so many positions a step."""

    def side(rows: Rows, make: Callable[[Rows, int], Step]) -> Side:
        return Side(rows, max(1, positions // rows.row_length), make)

    every = {
        OURS: side(text.packed, lambda rows, count: own(size, rows, count, "adamw")),
        "ours, Muon": side(text.packed, lambda rows, count: own(size, rows, count, "muon")),
        PLAIN: side(text.packed, lambda rows, count: own(size, rows, count, "adamw", kernels=False)),
        PADDED: side(uncut.padded, lambda rows, count: own(size, rows, count, "adamw")),
        QWEN: side(text.packed, lambda rows, count: other(size, text, FAIR, count, None)),
    }
    if compiled:
        every[COMPILED] = side(
            text.packed, lambda rows, count: own(size, rows, count, "adamw", kernels=False, compiled=True)
        )
    if reference is not None:
        granted = replace(peers.SHIPPED, bfloat16=True)
        every["MiniMind as shipped: fp32, padded"] = side(
            text.padded, lambda rows, count: other(size, text, peers.SHIPPED, count, reference)
        )
        if BFLOAT16:
            every["MiniMind, autocast granted"] = side(
                text.padded, lambda rows, count: other(size, text, granted, count, reference)
            )
    return every


def matrix_product() -> float:
    """FLOP/s of one large product in the dtype of computation."""
    matrix = torch.randn(PEAK, PEAK).to(hardware.setup(RUNTIME)[1])
    begin = time.perf_counter()
    _ = matrix @ matrix
    return 2 * PEAK**3 / (time.perf_counter() - begin)


def peak_memory(build: Callable[[], Step], result: "multiprocessing.Queue[float]") -> None:
    """In a process of its own: bytes that building a side and three steps add to what the process holds at most."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step = build()
    for _ in range(3):
        step()
    result.put((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024.0)


def memory(build: Callable[[], Step]) -> float:
    """`peak_memory`, measured."""
    context = multiprocessing.get_context("fork")
    result: multiprocessing.Queue[float] = context.Queue()
    process = context.Process(target=peak_memory, args=(build, result))
    process.start()
    value = result.get()
    process.join()
    return value


def measure(size: str, every: dict[str, Side], taken: dict[str, float], rounds: int) -> list[str]:
    """The table of one size, in Markdown; `taken` is memory by side, in bytes."""
    steps = {name: side.build() for name, side in every.items()}
    for step in steps.values():
        step()
    gc.freeze()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    peaks = []
    for _ in tqdm(range(rounds), desc=size, unit="round", disable=None):
        for name, step in steps.items():
            begin = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - begin)
        peaks.append(matrix_product())
    peak = median(peaks)
    parameters = Decoder(workload.model(size)).num_parameters()
    rates = {name: side.positions / median(seconds[name]) for name, side in every.items()}
    useful = {name: rates[name] * workload.fill(side.rows) for name, side in every.items()}
    lines = [
        f"### {size}: {parameters:,} parameters; matrix products reach {peak / 1e9:.0f} GFLOP/s",
        "",
        "| side | tokens/s | quartiles | share of peak | useful tokens/s | GiB | × transformers |",
        "| :-- | --: | --: | --: | --: | --: | --: |",
    ]
    for name, side in every.items():
        low, high = (side.positions / np.quantile(seconds[name], share) for share in (0.75, 0.25))
        lines.append(
            f"| {name} | {rates[name]:,.0f} | {low:,.0f}–{high:,.0f} | {6 * parameters * rates[name] / peak:.0%} "
            f"| {useful[name]:,.0f} | {f'{taken[name] / GIB:.2f}' if name in taken else ''} "
            f"| {rates[name] / rates[QWEN]:.2f} |"
        )
    lines += [
        "",
        f"Useful tokens, packed against padded to the longest document: {useful[OURS] / useful[PADDED]:.2f}×. "
        f"Memory against transformers: {taken[OURS] / taken[QWEN]:.2f}×.",
        "",
    ]
    return lines


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="5m,26m,64m", help="of 1m, 2m (the default), 5m, 26m, 64m")
    parser.add_argument("--positions", type=int, default=4096, help="in a step")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--reference", type=Path, help="a checkout of MiniMind, to be measured as shipped")
    parser.add_argument(
        "--compiled", action="store_true", help="our model under torch.compile too, which takes minutes"
    )
    parser.add_argument("--isa", choices=capability.X86, help="use these instructions and no wider ones")
    options = parser.parse_args()
    if options.isa is not None and capability.isa() != options.isa:
        if capability.isa() not in capability.X86 or capability.X86.index(capability.isa()) < capability.X86.index(
            options.isa
        ):
            raise UserError(f"--isa {options.isa}: this machine has {capability.isa()}, which it can't be widened to")
        environment = os.environ | capability.restriction(options.isa)  # torch reads it as it starts
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks.training", *sys.argv[1:]], environment)
    print(f"{ledger.machine()}, {capability.isa()}; {options.positions:,} positions a step, {options.rounds} rounds\n")
    if options.reference is None:
        print("MiniMind as shipped is left out: name a checkout of it with --reference.\n")
    with tempfile.TemporaryDirectory() as folder:
        text, uncut = (make(Path(folder) / str(length), length) for length in (workload.PADDED_LENGTH, ROW_LENGTH))
        sizes = {
            size: sides(size, text, uncut, options.positions, options.reference, options.compiled)
            for size in options.sizes.split(",")
        }
        # Before anything here has computed: the child of a process with threads can't start its own. What the peers
        # import is no part of what training takes.
        importlib.import_module("transformers.models.qwen3.modeling_qwen3")
        taken = {
            size: {name: memory(side.build) for name, side in every.items() if name != COMPILED}
            for size, every in sizes.items()
        }
        for size, every in sizes.items():
            print("\n".join(measure(size, every, taken[size], options.rounds)), flush=True)


def make(folder: Path, longest: int) -> workload.Workload:
    """The text, its documents cut to `longest` tokens."""
    folder.mkdir()
    return workload.build(folder, 200_000, ROW_LENGTH, longest)


if __name__ == "__main__":
    main()
