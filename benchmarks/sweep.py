"""Learning rates of the product's loop: which are best, by how much, and whether they carry over between widths.

    python benchmarks/sweep.py --widths 128,192,256            # how rates transfer
    python benchmarks/sweep.py --size 5m --tokens 300000       # rates for a size

Three tables in Markdown: Muon's rate for hidden matrices, beside it AdamW's rate for embeddings and norms (at the
matrix rate that was best), and AdamW's rate where it trains everything. A cell is the validation bits per byte of
finished runs, the mean over the seeds and half of their spread; a model's best value is bold.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from benchmarks import ledger, trial, workload
from benchmarks.ledger import Ledger
from benchmarks.workload import Workload
from minimind import hardware
from minimind.config import Runtime
from minimind.errors import UserError
from minimind.model import ModelConfig
from minimind.optim import OptimizerName
from minimind.train import TrainConfig

MATRIX_RATES = (0.005, 0.01, 0.02, 0.04, 0.08)
RATES = (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2)
BESIDE_MUON = 4e-3  # AdamW's rate while Muon's is swept
HEAD_WIDTH, LAYERS = 32, 4  # of the models that differ in width only

Cells = dict[str, dict[float, list[float]]]
"""Bits per byte: model → rate → one value per seed."""


class Sweep:
    """Runs on one text, each of them once: what the ledger holds isn't run again."""

    def __init__(
        self, text: Workload, dtype: torch.dtype, runtime: Runtime, batch_size: int, num_tokens: int,
        seeds: Sequence[int], results: Ledger,
    ):  # fmt: skip
        self.text, self.dtype, self.runtime, self.batch_size = text, dtype, runtime, batch_size
        self.num_tokens, self.seeds, self.results = num_tokens, seeds, results

    def bits(self, model: ModelConfig, optimizer: OptimizerName, rate: float, matrix_rate: float) -> list[float]:
        """Of each seed."""
        return [self._bits(model, optimizer, rate, matrix_rate, seed) for seed in self.seeds]

    def _bits(self, model: ModelConfig, optimizer: OptimizerName, rate: float, matrix_rate: float, seed: int) -> float:
        steps = trial.steps(self.text, self.batch_size, self.num_tokens)
        config = TrainConfig(
            batch_size=self.batch_size, steps=steps, optimizer=optimizer, learning_rate=rate,
            matrix_learning_rate=matrix_rate, warmup_steps=min(20, steps // 10), decay_share=0.5, log_every=steps,
            validate_every=steps, save_every=steps,
        )  # fmt: skip
        key = {"model": asdict(model), "config": asdict(config), "seed": seed}
        record = self.results.find(key)
        if record is None:
            done = trial.run(self.text, model, self.dtype, config, seed, self.runtime)
            record = self.results.add({**key, "bits": done.bits, "seconds": done.seconds})
            print(
                f"width {model.hidden_size}, {optimizer}, {rate:g} and {matrix_rate:g}, seed {seed}: "
                f"{done.bits:.4f} bits per byte, {done.seconds:.0f} s",
                file=sys.stderr,
            )
        return float(record["bits"])


def of_width(width: int) -> ModelConfig:
    """A small model of this width; depth and width of a head are the same for all. Raises UserError."""
    if width % (2 * HEAD_WIDTH):
        raise UserError(f"--widths {width}: it must be a multiple of {2 * HEAD_WIDTH}")
    heads = width // HEAD_WIDTH
    inner = 64 * round(width * 10 / 3 / 64)
    return ModelConfig(width, LAYERS, heads, heads // 2, inner, qk_norm=True, vocab_size=workload.VOCAB_SIZE)


def best(values: Mapping[float, list[float]]) -> float:
    """The rate whose mean is the lowest; runs that came to no number lose."""
    return min(values, key=lambda rate: statistics.mean(values[rate]) if _sound(values[rate]) else float("inf"))


def table(title: str, cells: Cells) -> str:
    """A row per model, a column per rate, in Markdown."""
    rates = list(next(iter(cells.values())))
    lines = [f"| {title} | {' | '.join(f'{rate:g}' for rate in rates)} |", "|---" * (len(rates) + 1) + "|"]
    for name, values in cells.items():
        shown = []
        for rate in rates:
            found = values[rate]
            text = f"{statistics.mean(found):.3f} ± {(max(found) - min(found)) / 2:.3f}"
            if not _sound(found):
                text = "diverged"
            shown.append(f"**{text}**" if rate == best(values) else text)
        lines.append(f"| {name} | {' | '.join(shown)} |")
    return "\n".join(lines)


def _sound(values: Sequence[float]) -> bool:
    return all(value == value for value in values)


def run(options: argparse.Namespace) -> None:
    """The sweep of the command line."""
    runtime = Runtime(device="cpu", compile=options.compile)
    _, dtype = hardware.setup(runtime)
    if options.size:
        models = {options.size: workload.model(options.size)}
    else:
        models = {f"width {width}": of_width(int(width)) for width in options.widths.split(",")}
    models = {name: replace(model, qk_norm_init=options.qk_norm_init) for name, model in models.items()}
    with tempfile.TemporaryDirectory() as folder:
        text = workload.build(Path(folder), options.tokens, options.row_length)
        settings = {"benchmark": "sweep", "text": text.digest, "code": ledger.code(), "compile": options.compile}
        seeds = range(1, options.seeds + 1)
        results = Ledger(options.out, settings)
        sweep = Sweep(text, dtype, runtime, options.batch_size, options.tokens, seeds, results)
        print(
            f"{options.tokens:,} tokens, {options.batch_size} rows of {options.row_length} a step, {options.seeds} "
            f"seeds, {ledger.machine()}\n"
        )
        matrices: Cells = {}
        for name, model in models.items():
            matrices[name] = {rate: sweep.bits(model, "muon", BESIDE_MUON, rate) for rate in MATRIX_RATES}
        print(table(f"Muon, matrix rate (beside it {BESIDE_MUON:g})", matrices), end="\n\n", flush=True)
        beside: Cells = {}
        for name, model in models.items():
            matrix_rate = best(matrices[name])
            label = f"{name}, matrices {matrix_rate:g}"
            beside[label] = {rate: sweep.bits(model, "muon", rate, matrix_rate) for rate in RATES}
        print(table("AdamW beside Muon, rate", beside), end="\n\n", flush=True)
        alone: Cells = {}
        for name, model in models.items():
            alone[name] = {rate: sweep.bits(model, "adamw", rate, BESIDE_MUON) for rate in RATES}
        print(table("AdamW alone, rate", alone))


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and sweep."""
    description = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--widths", default="128,192,256", help="of small models that differ in nothing else")
    parser.add_argument("--size", choices=list(workload.SHAPES), help="instead of --widths: one of MiniMind's sizes")
    parser.add_argument("--tokens", type=int, default=100_000, help="of a run")
    parser.add_argument("--batch-size", type=int, default=4, help="rows per step")
    parser.add_argument("--row-length", type=int, default=512, help="tokens in a row")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--qk-norm-init", type=float, default=1.6, help="initial gain of query and key norms")
    parser.add_argument("--compile", choices=["auto", "on", "off"], default="off")
    parser.add_argument("--out", type=Path, default=Path(".benchmarks/sweep.jsonl"), help="JSON lines")
    try:
        run(parser.parse_args(arguments))
    except UserError as error:
        sys.exit(f"sweep: {error}")


if __name__ == "__main__":
    main()
