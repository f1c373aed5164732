"""How fast a training step is, ours and others', in one call and in turns: tokens a second, share of the peak, memory.

    python benchmarks/training.py --sizes 5m,26m,64m [--reference CHECKOUT OF MINIMIND]

Every side trains the same architecture on the same text, 4,096 positions a step, data loading left out. A round gives
each side one step, so that whatever else the machine does hits all of them; what is printed are medians over rounds.
"""

import argparse
import gc
import multiprocessing
import resource
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
from minimind import hardware, optim
from minimind.batches import Source, collate
from minimind.config import Runtime
from minimind.distributed import World
from minimind.engines.replicas import Replicas, forward_function
from minimind.kernels import cpu
from minimind.model import Decoder
from minimind.objectives.language import Language
from minimind.rows import Rows
from minimind.train import split

POSITIONS = 4096  # in a step
ROW_LENGTH = 512
RUNTIME = Runtime(device="cpu", compile="off")
GIB = 2**30
PEAK = 2048  # rows and columns of the matrices whose product measures the peak

AUTOCAST = peers.Recipe(5e-4, POSITIONS // ROW_LENGTH, 1, bfloat16=True, packed=True, fused=True)

OURS, PADDED, COMPILED = "ours, AdamW", "ours, AdamW, padded to the longest document", "ours compiled, AdamW"
QWEN = "transformers Qwen3, bf16 autocast, fused AdamW"

Step = Callable[[], None]


def rows_in_a_step(rows: Rows) -> int:
    """As many as hold about POSITIONS positions."""
    return max(1, POSITIONS // rows.row_length)


def own(size: str, rows: Rows, optimizer: optim.OptimizerName, kernels: bool = True, compiled: bool = False) -> Step:
    """A step of our own loop: forward and backward of a batch, gradient clipping, the optimizer."""
    dtype = hardware.setup(RUNTIME)[1]
    cpu.enable(kernels)
    model = Decoder(workload.model(size), dtype).initialise(1)
    optimizers = optim.build(model, optimizer, 1e-3, 1e-2, (0.9, 0.95), 0.95, 0.0)
    runtime = replace(RUNTIME, compile="on" if compiled else "off")
    engine = Replicas(model, forward_function(model, Language(), runtime, 0), optimizers, World())
    batch = collate(Source(rows), np.arange(rows_in_a_step(rows)))
    weight = Language().weight(batch)

    def step() -> None:
        cpu.enable(kernels)
        for part in split(batch, 1):
            loss, _ = engine.forward(part)
            engine.backward(loss / weight, last=True)
        engine.step(0.01, 1.0, None)

    return step


def other(size: str, text: workload.Workload, recipe: peers.Recipe, reference: Path | None) -> Step:
    """A step of a peer: as many rows as ours, its own model and loss."""
    hardware.setup(RUNTIME)
    rows = peers.training_rows(text, recipe)
    recipe = replace(recipe, batch_size=rows_in_a_step(rows), accumulation=1)
    peer = peers.Peer(text, workload.model(size), recipe, 1, reference)

    def step() -> None:
        peer.turn()

    return step


@dataclass(frozen=True)
class Side:
    """One of those that are compared: how to build its step, and the rows it gets."""

    build: Callable[[], Step]
    rows: Rows

    @property
    def positions(self) -> int:
        """In a step."""
        return rows_in_a_step(self.rows) * self.rows.row_length


def sides(
    size: str, text: workload.Workload, uncut: workload.Workload, reference: Path | None, compiled: bool
) -> dict[str, Side]:
    """Every side by name, still to be built."""
    every = {
        OURS: Side(lambda: own(size, text.packed, "adamw"), text.packed),
        "ours, Muon": Side(lambda: own(size, text.packed, "muon"), text.packed),
        "ours without kernels, AdamW": Side(lambda: own(size, text.packed, "adamw", kernels=False), text.packed),
        PADDED: Side(lambda: own(size, uncut.padded, "adamw"), uncut.padded),
        QWEN: Side(lambda: other(size, text, AUTOCAST, None), text.packed),
    }
    if compiled:
        every[COMPILED] = Side(lambda: own(size, text.packed, "adamw", kernels=False, compiled=True), text.packed)
    if reference is not None:
        granted = replace(peers.SHIPPED, bfloat16=True)
        every["MiniMind as shipped: fp32, padded"] = Side(
            lambda: other(size, text, peers.SHIPPED, reference), text.padded
        )
        every["MiniMind, autocast granted"] = Side(lambda: other(size, text, granted, reference), text.padded)
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
    parser.add_argument("--sizes", default="5m,26m,64m", help="of 1m, 5m, 26m, 64m")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--reference", type=Path, help="a checkout of MiniMind, to be measured as shipped")
    parser.add_argument(
        "--compiled", action="store_true", help="our model under torch.compile too, which takes minutes"
    )
    options = parser.parse_args()
    print(f"{ledger.machine()}; {POSITIONS:,} positions a step, {options.rounds} rounds\n")
    if options.reference is None:
        print("MiniMind as shipped is left out: name a checkout of it with --reference.\n")
    with tempfile.TemporaryDirectory() as folder:
        text, uncut = (make(Path(folder) / str(length), length) for length in (workload.PADDED_LENGTH, ROW_LENGTH))
        sizes = {
            size: sides(size, text, uncut, options.reference, options.compiled) for size in options.sizes.split(",")
        }
        # Before anything here has computed: the child of a process with threads can't start its own.
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
