"""A race: how much wall-clock a model needs to equal validation bits per byte, against MiniMind's recipe.

    python benchmarks/time_to_quality.py --size 26m [--reference PATH]

| side    | recipe                                                                                             |
|---------|----------------------------------------------------------------------------------------------------|
| shipped | MiniMind as it is on a CPU: fp32, 32 × 8 sequences padded to 340, AdamW 5e-4, cosine, no warm-up   |
| fair    | the same in bf16 if the CPU has it, packed, fused AdamW, our batch size, the best rate of a sweep  |
| ours    | the product's loop: Muon with AdamW, WSD, packed, documents isolated, rates from a sweep           |

A target is what a peer has reached at the end of its budget of tokens, its schedule finished. Ours has a ladder of
budgets; each rung is a run of its own with a finished schedule, and the one that reaches the target of the same
seed, while the rung below it does not, counts. Both sweeps use a seed that is not among those reported, and widen
until the best value has a worse neighbour on either side.

How many steps a run needs depends on no clock. Seconds per step are measured apart, all sides taking turns in this
process, as medians; wall-clock is their product. What passed in the runs themselves, compilation included, is
printed beside it. The peers profit from our process's settings too (allocator, denormals).
"""

import argparse
import math
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import ledger, peers, trial, workload
from benchmarks.ledger import Ledger, Record
from benchmarks.peers import SHIPPED, Peer, Recipe
from benchmarks.workload import Workload
from minimind import capability, files, hardware
from minimind.config import Runtime
from minimind.errors import UserError
from minimind.model import ModelConfig
from minimind.train import TrainConfig

SWEEP_SEED = 0
QK_NORM_INIT = 1.6  # of ours, as in profiles/atlas.yaml
FAIR_RATES = (5e-4, 1e-3, 2e-3, 4e-3, 8e-3)
MATRIX_RATES = (0.005, 0.01, 0.02, 0.04)
RATES = (2e-3, 4e-3, 8e-3)
TARGETS = {"shipped": 10.0, "fair": 2.0}  # how many times as fast ours is meant to be
DEFAULTS = {"5m": (500_000, 4), "26m": (200_000, 8)}  # tokens of a peer, our rows per step
TIMED_STEPS = 12  # of ours, for each length of run
SHIPPED_EVERY = 6  # of ours to one micro-batch of the slowest side
POINTS = 8  # of a curve


@dataclass(frozen=True)
class Race:
    """All that stays the same during a call."""

    text: Workload
    model: ModelConfig
    dtype: torch.dtype
    runtime: Runtime
    batch_size: int  # rows per step, of ours and of the fair peer
    num_tokens: int  # of a peer
    sweep_tokens: int  # of a run in the sweep of ours
    ratio: float  # from one rung of the ladder to the next
    reference: Path | None
    results: Ledger

    def peer(self, side: str, recipe: Recipe, seed: int) -> Record:
        """A finished run of a peer, from the ledger if it is there."""
        key = {"side": side, "seed": seed, "recipe": asdict(recipe)}
        if (found := self.results.find(key)) is not None:
            return found
        steps = peers.steps(self.text, recipe, self.num_tokens)
        curve, seconds = Peer(self.text, self.model, recipe, seed, self.reference).train(steps, POINTS)
        return self._add({**key, "steps": steps, "seconds": seconds, "bits": curve[-1][1], "curve": curve})

    def ours(self, seed: int, num_tokens: int, rate: float, matrix_rate: float) -> Record:
        """A finished run of ours, from the ledger if it is there."""
        key = {"side": "ours", "seed": seed, "tokens": num_tokens, "rate": rate, "matrix_rate": matrix_rate}
        if (found := self.results.find(key)) is not None:
            return found
        config = self.config(trial.steps(self.text, self.batch_size, num_tokens), rate, matrix_rate)
        model = replace(self.model, qk_norm_init=QK_NORM_INIT)
        done = trial.run(self.text, model, self.dtype, config, seed, self.runtime)
        return self._add({**key, "steps": done.steps, "seconds": done.seconds, "bits": done.bits, "curve": done.curve})

    def config(self, steps: int, rate: float, matrix_rate: float) -> TrainConfig:
        """Our recipe for a run of so many steps."""
        every = max(1, steps // POINTS)
        return TrainConfig(
            batch_size=self.batch_size, steps=steps, learning_rate=rate, matrix_learning_rate=matrix_rate,
            warmup_steps=min(20, steps // 10), decay_share=0.5, log_every=every, validate_every=every,
            save_every=steps,
        )  # fmt: skip

    def rungs(self) -> list[int]:
        """Budgets of tokens, from a 64th of the peers' to all of it, `ratio` apart; no two of as many steps."""
        count = math.ceil(math.log(64) / math.log(self.ratio))
        budgets = [round(self.num_tokens * self.ratio**-number) for number in range(count, -1, -1)]
        return list({trial.steps(self.text, self.batch_size, budget): budget for budget in budgets}.values())

    def climb(self, seed: int, target: float, rate: float, matrix_rate: float, start: int) -> Record | None:
        """The run on the rung that reaches `target` while the rung below does not; None if no rung reaches it.

        The search begins at the highest rung of at most `start` tokens.
        """

        def run(num_tokens: int) -> Record:
            return self.ours(seed, num_tokens, rate, matrix_rate)

        found = boundary(self.rungs(), start, lambda num_tokens: run(num_tokens)["bits"] <= target)
        return None if found is None else run(found)

    def _add(self, record: Record) -> Record:
        print(
            f"{record['side']}, seed {record['seed']}: {record['bits']:.4f} bits per byte after {record['steps']} "
            f"steps, {record['seconds']:.0f} s",
            flush=True,
        )
        return self.results.add(record)


def search(values: Sequence[float], bits: Callable[[float], float]) -> tuple[float, dict[float, float]]:
    """The value with the fewest bits, and all that were tried: `values`, ascending, then their range widened by
    factors of 2 until the best one is not at its edge, or three times."""
    tried = {value: bits(value) for value in values}
    for _ in range(3):
        best = min(tried, key=lambda value: tried[value] if math.isfinite(tried[value]) else math.inf)
        if best not in (min(tried), max(tried)):
            break
        wider = best / 2 if best == min(tried) else best * 2
        tried[wider] = bits(wider)
    best = min(tried, key=lambda value: tried[value] if math.isfinite(tried[value]) else math.inf)
    return best, dict(sorted(tried.items()))


def boundary(values: Sequence[int], start: int, holds: Callable[[int], bool]) -> int | None:
    """Of ascending `values` the one that holds while the value below it does not; None if it never holds.

    The search goes up or down from the largest value of at most `start`, and asks for no value twice.
    """
    number = max(sum(value <= start for value in values) - 1, 0)
    if holds(values[number]):
        while number and holds(values[number - 1]):
            number -= 1
        return values[number]
    return next((value for value in values[number + 1 :] if holds(value)), None)


def measure(race: Race, fair: Recipe, configs: Sequence[TrainConfig]) -> dict[str, Any]:
    """Median seconds per step of each side, all taking turns: {"shipped": s, "fair": s, "ours": {steps: s}}."""
    sides = {
        "shipped": Peer(race.text, race.model, SHIPPED, SWEEP_SEED, race.reference),
        "fair": Peer(race.text, race.model, fair, SWEEP_SEED, race.reference),
    }
    turns: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for peer in sides.values():
        peer.turn()
    calls = 0

    def between() -> None:
        nonlocal calls
        turns["fair"].append(sides["fair"].turn())
        if calls % SHIPPED_EVERY == 0:
            turns["shipped"].append(sides["shipped"].turn())
        calls += 1

    model = replace(race.model, qk_norm_init=QK_NORM_INIT)
    ours = {}
    for config in configs:
        # Whether to compile depends on the length of the whole run, so that is what is started, and left early.
        steps = max(config.steps, trial.WARM_UP_STEPS + TIMED_STEPS)
        heard = replace(config, steps=steps, log_every=1, validate_every=steps)
        samples = trial.step_seconds(race.text, model, race.dtype, heard, race.runtime, TIMED_STEPS, between)
        ours[str(config.steps)] = statistics.median(samples)
    seconds: dict[str, Any] = {"ours": ours}
    for name, peer in sides.items():
        micro_batch, update = (statistics.median(values) for values in zip(*turns[name], strict=True))
        seconds[name] = micro_batch * peer.recipe.accumulation + update
    return seconds


def sweep_table(title: str, tried: dict[float, float]) -> str:
    """Bits per byte by value, in Markdown."""
    lines = [f"| {title} | bits per byte |", "|---|---|"]
    return "\n".join([*lines, *(f"| {value:g} | {bits:.4f} |" for value, bits in tried.items())])


def result_table(peer: str, pairs: dict[int, tuple[Record, Record | None]], seconds: dict[str, Any]) -> str:
    """Ours against `peer` by seed, in Markdown; pairs are the peer's run and ours."""
    lines = [
        f"| seed | bits per byte | {peer}: steps × s | = s | ours: tokens | steps × s | = s | ratio | as it passed |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    ratios = []
    for seed, (theirs, ours) in pairs.items():
        slow = theirs["steps"] * seconds[peer]
        start = f"| {seed} | {theirs['bits']:.4f} | {theirs['steps']} × {seconds[peer]:.3f} | {slow:.0f} |"
        if ours is None:
            lines.append(f"{start} not reached within the peer's budget | | | | |")
            continue
        step = seconds["ours"][str(ours["steps"])]
        fast = ours["steps"] * step
        ratios.append(slow / fast)
        lines.append(
            f"{start} {ours['tokens']:,} | {ours['steps']} × {step:.3f} | {fast:.1f} | {slow / fast:.1f} | "
            f"{theirs['seconds']:.0f} s / {ours['seconds']:.0f} s = {theirs['seconds'] / ours['seconds']:.1f} |"
        )
    if len(ratios) < len(pairs):
        verdict = "missed: a target was not reached"
    else:
        wanted = TARGETS[peer]
        verdict = f"median {statistics.median(ratios):.1f}, least {min(ratios):.1f}; wanted {wanted:g}"
    return "\n".join([*lines, "", f"ours against {peer}: {verdict}"])


def draw(path: Path, title: str, runs: Sequence[Record], seconds: dict[str, Any]) -> None:
    """Bits per byte over seconds: the whole curve of each run, with a dot at its end."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5))
    colours = {"shipped": "tab:red", "fair": "tab:orange", "ours": "tab:blue"}
    named = set()
    for record in runs:
        side = record["side"]
        step = seconds["ours"][str(record["steps"])] if side == "ours" else seconds[side]
        times, bits = zip(*((number * step, value) for number, value in record["curve"]), strict=True)
        axes.plot(times, bits, color=colours[side], linewidth=1, label=None if side in named else side)
        axes.plot(times[-1], bits[-1], "o", color=colours[side], markersize=5)
        named.add(side)
    axes.set(xscale="log", xlabel="seconds (steps × median seconds per step)", ylabel="validation bits per byte")
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, bbox_inches="tight", metadata={"Software": None})


def run(options: argparse.Namespace) -> None:
    """The race of the command line."""
    tokens, rows = DEFAULTS[options.size]
    num_tokens, batch_size = options.tokens or tokens, options.batch_size or rows
    if options.seeds < 1 or options.ladder <= 1:
        raise UserError("--seeds counts from 1, and --ladder is a ratio above 1")
    runtime = Runtime(device="cpu", compile=options.compile)
    _, dtype = hardware.setup(runtime)
    reference = options.reference and files.sha256(peers.source(options.reference))
    with tempfile.TemporaryDirectory() as folder:
        text = workload.build(Path(folder), num_tokens, options.row_length)
        settings = {
            "benchmark": "time_to_quality", "size": options.size, "tokens": num_tokens, "batch_size": batch_size,
            "text": text.digest, "reference": reference, "code": ledger.code(), "compile": options.compile,
            "machine": ledger.machine(),
        }  # fmt: skip
        out = options.out or Path(".benchmarks") / f"time_to_quality_{options.size}.jsonl"
        race = Race(
            text, workload.model(options.size), dtype, runtime, batch_size, num_tokens,
            options.sweep_tokens or num_tokens // 4, options.ladder, options.reference, Ledger(out, settings),
        )  # fmt: skip
        print(f"{ledger.machine()}; results in {out}")
        whose = "MiniMind's own class" if options.reference else "transformers' Qwen3, since --reference is not given"
        print(
            f"peers: {whose}; {num_tokens:,} tokens each. Padded rows are {workload.fill(text.padded):.1%} full, "
            f"packed rows of {options.row_length} {workload.fill(text.packed):.1%}\n",
            flush=True,
        )

        def recipe(rate: float) -> Recipe:
            bfloat16 = capability.native_bfloat16("cpu")
            return Recipe(rate, batch_size, accumulation=1, bfloat16=bfloat16, packed=True, fused=True)

        best, tried = search(FAIR_RATES, lambda rate: race.peer("fair", recipe(rate), SWEEP_SEED)["bits"])
        fair = recipe(best)
        fair_sweep = sweep_table("fair: learning rate", tried)

        def ours(rate: float, matrix_rate: float) -> float:
            return race.ours(SWEEP_SEED, race.sweep_tokens, rate, matrix_rate)["bits"]

        matrix_rate, tried = search(MATRIX_RATES, lambda value: ours(RATES[1], value))
        matrix_sweep = sweep_table(f"ours: matrix learning rate, at a learning rate of {RATES[1]:g}", tried)
        rate, tried = search(RATES, lambda value: ours(value, matrix_rate))
        rate_sweep = sweep_table(f"ours: learning rate, at a matrix learning rate of {matrix_rate:g}", tried)
        print("", fair_sweep, "", matrix_sweep, "", rate_sweep, "", sep="\n", flush=True)

        pairs: dict[str, dict[int, tuple[Record, Record | None]]] = {"shipped": {}, "fair": {}}
        for side, its in (("shipped", SHIPPED), ("fair", fair)):
            start = round(num_tokens / TARGETS[side])
            for seed in range(1, options.seeds + 1):
                theirs = race.peer(side, its, seed)
                reached = race.climb(seed, theirs["bits"], rate, matrix_rate, start)
                pairs[side][seed] = theirs, reached
                start = reached["tokens"] if reached else start

        lengths = sorted({run["steps"] for side in pairs.values() for _, run in side.values() if run is not None})
        seconds = measure(race, fair, [race.config(steps, rate, matrix_rate) for steps in lengths])
        race.results.add({"kind": "seconds per step", **seconds})
        for side, its_pairs in pairs.items():
            print("", result_table(side, its_pairs, seconds), sep="\n")

        runs = [run for its_pairs in pairs.values() for pair in its_pairs.values() for run in pair if run is not None]
        title = f"{options.size}, {num_tokens:,} tokens for a peer, {options.seeds} seeds\n{ledger.machine()}"
        draw(options.plot or Path("docs") / f"time_to_quality_{options.size}.png", title, runs, seconds)


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and race."""
    description = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--size", choices=list(DEFAULTS), default="5m")
    parser.add_argument("--reference", type=Path, help="checkout of MiniMind; without it its recipe runs on Qwen3")
    parser.add_argument("--seeds", type=int, default=3, help="that are reported; one more is used for the sweeps")
    parser.add_argument("--tokens", type=int, default=0, help="of a peer's run; 0: 500,000 at 5m, 200,000 at 26m")
    parser.add_argument("--sweep-tokens", type=int, default=0, help="of a run in our sweep; 0: a quarter of --tokens")
    parser.add_argument("--batch-size", type=int, default=0, help="rows of ours and fair; 0: 4 at 5m, 8 at 26m")
    parser.add_argument("--row-length", type=int, default=512, help="tokens in a packed row")
    parser.add_argument("--ladder", type=float, default=1.25, help="ratio of neighbouring budgets of ours")
    parser.add_argument("--compile", choices=["auto", "on", "off"], default="auto", help="ours")
    parser.add_argument("--out", type=Path, help="JSON lines; default .benchmarks/time_to_quality_SIZE.jsonl")
    parser.add_argument("--plot", type=Path, help="default docs/time_to_quality_SIZE.png")
    try:
        run(parser.parse_args(arguments))
    except UserError as error:
        sys.exit(f"time_to_quality: {error}")


if __name__ == "__main__":
    main()
