"""Whether a card trains right, and how fast: one call, at most 8 minutes.

    python -m benchmarks.cuda                      # on CUDA, else MPS, else the CPU; 8 minutes
    python -m benchmarks.cuda --toy                # the same at toy size, to see it work on any machine; a minute
    python -m benchmarks.cuda --device cuda --out DIR --seconds 465 --compile on

It needs torch from 2.11 on, numpy, pyarrow, tokenizers and safetensors, and no installation: run it from the root of
the repository. transformers' Qwen3 is measured beside ours where it can be imported.

First come checks: every form of attention, the log-likelihoods, decoding, the objectives, repetition and resumption
(`benchmarks.agreement`). Then speed (`benchmarks.throughput`) at MiniMind's sizes. Each section has a share of the
time; what doesn't fit is named. It writes cuda.json and cuda.md into DIR after every section, prints the latter, and
exits with status 1 if a check failed. What the device doesn't have counts as neither passed nor failed.
"""

# Of a script that is run by its path, as in `python benchmarks/training.py`, this folder is the first on Python's path;
# and torch looks for NVIDIA's package `cuda`.
if __name__ == "cuda":
    raise ModuleNotFoundError("NVIDIA's package cuda is not installed", name="cuda")

import argparse
import json
import math
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from benchmarks import throughput
from benchmarks.agreement import AbsentError, Bench, Check, DisagreementError, LeftOutError, word
from benchmarks.throughput import COMPILED_QWEN, GIB, LOOSE, MUON, OURS, QWEN, Side, Track
from minimind import files
from minimind.determinism import repeat
from minimind.kernels import cpu

PASSED, FAILED, ABSENT, LEFT_OUT = "passed", "FAILED", "not on this device", "left out"
ROUNDS, LEAST_ROUNDS = 7, 3

# Of the seconds that there are, in the order in which they are spent; what a section leaves goes to the next.
SHARES = {"checks": 70, "compiled checks": 110, "64m": 200, "104m": 55, "26m": 40}

MINI_TOKENS = 0.56e9  # of the data of the profile minimind-3-mini, one pass over each file
CARD = "H100"  # that the targets are for
SHARE, RATIO, MINUTES = 0.45, 1.3, 10.0


class OutOfTime(BaseException):
    """A section's time is over. It is no Exception, so that nothing on the way, a compiler say, takes it for one."""


@contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Raises OutOfTime after so many seconds, where the system has alarms and this is the main thread."""
    if math.isinf(seconds) or not hasattr(signal, "setitimer") or threading.current_thread() != threading.main_thread():
        yield
        return

    def ring(number: int, frame: FrameType | None) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@dataclass
class Report:
    """What was found."""

    where: dict[str, Any]
    toy: bool
    peaks: dict[str, float | None] = field(default_factory=dict)  # FLOP/s, measured and the maker's
    checks: list[dict[str, str]] = field(default_factory=list)  # name, state, detail
    searches: dict[str, dict[str, Any]] = field(default_factory=dict)
    sides: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)  # of the speeds
    targets: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    def judge(self, name: str, state: str, detail: str) -> None:
        """Take in what became of a check."""
        self.checks.append({"name": name, "state": state, "detail": detail})

    def failed(self) -> bool:
        """Whether a check has failed."""
        return any(check["state"] == FAILED for check in self.checks)

    def side(self, size: str, name: str) -> dict[str, Any] | None:
        """The figures of a side, if it was measured."""
        return next((side for side in self.sides if (side["size"], side["name"]) == (size, name)), None)

    def write(self, out: Path) -> None:
        """cuda.json and cuda.md."""
        out.mkdir(parents=True, exist_ok=True)
        files.write_text(out / "cuda.json", json.dumps(asdict(self), indent=1) + "\n")
        files.write_text(out / "cuda.md", markdown(self))


def targets(report: Report) -> list[dict[str, Any]]:
    """The three targets for an H100: what was found, what is wanted, and whether it was reached."""
    ours, mixture = report.side("64m", OURS), report.side("MoE", OURS)
    peak = report.peaks.get("maker")
    share = ours["flops"] / peak if ours and peak else None
    ratio = None
    if ours and mixture:
        ratio = ours["tokens_per_second"] / mixture["tokens_per_second"]
    minutes = MINI_TOKENS / ours["tokens_per_second"] / 60 if ours else None
    card = CARD in report.where["device"] and not report.toy

    def target(name: str, found: float | None, wanted: float, reached: bool) -> dict[str, Any]:
        state = "not measured" if found is None else "reached" if reached else "missed"
        if found is not None and not card:
            state = f"no measure: it is for an {CARD} at full size"
        return {"name": name, "found": found, "wanted": wanted, "state": state}

    return [
        target("64m, share of the maker's peak, at least", share, SHARE, share is not None and share >= SHARE),
        target("a step of the MoE, times one of 64m, at most", ratio, RATIO, ratio is not None and ratio <= RATIO),
        target("the 0.56G tokens of minimind-3-mini once through 64m by arithmetic, minutes, at most", minutes, MINUTES,
               minutes is not None and minutes <= MINUTES),
    ]  # fmt: skip


def markdown(report: Report) -> str:
    """The report as it is to be read."""
    counts = {state: sum(c["state"] == state for c in report.checks) for state in (PASSED, FAILED, ABSENT, LEFT_OUT)}
    where = report.where
    lines = [
        f"## {where['device']}, torch {where['torch']}{', toy size' if report.toy else ''}, {report.seconds:.0f} s",
        "",
        "Checks: " + ", ".join(f"{count} {state}" for state, count in counts.items()) + ".",
        "",
        "| check | | found |",
        "| :-- | :-- | :-- |",
        *(f"| {check['name']} | {check['state']} | {check['detail']} |" for check in report.checks),
    ]
    if report.peaks:
        measured, stated = (f"{peak / 1e12:,.3g} TFLOP/s" if peak else "" for peak in report.peaks.values())
        lines += [
            "",
            f"Large products of {where['dtype']} reach {measured}; "
            + (f"by its maker the device reaches {stated}." if stated else "what its maker says is not known here."),
            "A share of a peak is 6 · parameters that a token meets · tokens/s over it. A step is one micro-batch and",
            f"an update, data loading left out. Ours is {'' if where['compiled'] else 'not '}compiled, and",
            "`deterministic` unless a line says otherwise. Qwen3 norms queries and keys, ours at 26m and 104m don't.",
            "",
            "| size | side | rows a step | tokens/s | quartiles | of measured peak | of the maker's | GiB | × Qwen3 |",
            "| :-- | :-- | --: | --: | --: | --: | --: | --: | --: |",
        ]
        lines += [line(report, side) for side in report.sides]
    for size, found in report.searches.items():
        trail = ", ".join(f"{rows}: {rate:,.0f}" for rows, rate in found["trail"])
        lines += [
            "",
            f"Micro-batch of {size}, rows and tokens/s of steps that aren't compiled: {trail}; {found['ended']}.",
        ]
    if report.left_out:
        lines += ["", "Not measured:", "", *(f"- {what}" for what in report.left_out)]
    if report.targets:
        lines += ["", "| target | wanted | found | |", "| :-- | --: | --: | :-- |"]
        for target in report.targets:
            value = "" if target["found"] is None else f"{target['found']:.3g}"
            lines.append(f"| {target['name']} | {target['wanted']:g} | {value} | {target['state']} |")
    return "\n".join(lines) + "\n"


def line(report: Report, side: dict[str, Any]) -> str:
    """A row of the table of speeds."""
    qwen = report.side(side["size"], QWEN)
    low, high = side["quartiles"]
    shares = [f"{side['flops'] / peak:.1%}" if peak else "" for peak in report.peaks.values()]
    cells = [
        side["size"], side["name"], str(side["rows"]), f"{side['tokens_per_second']:,.0f}", f"{low:,.0f}–{high:,.0f}",
        *shares, "" if side["memory"] is None else f"{side['memory'] / GIB:.2f}",
        f"{side['tokens_per_second'] / qwen['tokens_per_second']:.2f}" if qwen else "",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


class Session:
    """One call: its clock, its device, its report."""

    def __init__(self, device: torch.device, toy: bool, compiles: bool, seconds: float, out: Path):
        self.device, self.toy, self.compiles, self.out = device, toy, compiles, out
        self.begin, self.total = time.monotonic(), seconds
        self.spent_share = 0
        self.track = Track(device, toy, compiles)
        where = {**throughput.description(device), "dtype": word(self.track.dtype), "compiled": compiles}
        self.report = Report(where, toy)

    def say(self, text: str) -> None:
        """A line of progress."""
        print(f"{time.monotonic() - self.begin:5.0f} s  {text}", file=sys.stderr, flush=True)

    def leave_out(self, what: str) -> None:
        """Name a speed that isn't measured, and why."""
        self.report.left_out.append(what)
        self.say(f"{LEFT_OUT}: {what}")

    def section(self, name: str, work: Callable[[float], None]) -> None:
        """Do the work until its time is over; it is told when, on the clock of time.monotonic."""
        self.spent_share += SHARES[name]
        end = self.begin + self.total * self.spent_share / sum(SHARES.values())
        try:
            with limit(end - time.monotonic()):
                work(end)
        except OutOfTime:
            self.leave_out(f"{name}: what was still to come when its time was over")
        except Exception as error:
            self.report.judge(f"{name}: measuring", FAILED, told(error))
            self.say(f"{FAILED}: {name}: {told(error)}")
        self.report.seconds = time.monotonic() - self.begin
        self.report.targets = targets(self.report)
        self.report.write(self.out)

    def check(self, checks: Iterable[Check], end: float) -> None:
        """Make the checks one by one; those for which no time is left are named."""
        for name, made in checks:
            try:
                with limit(end - time.monotonic()):
                    state, detail = PASSED, made()
            except DisagreementError as error:
                state, detail = FAILED, str(error)
            except AbsentError as error:
                state, detail = ABSENT, str(error)
            except LeftOutError as error:
                state, detail = LEFT_OUT, str(error)
            except OutOfTime:
                state, detail = LEFT_OUT, "its time was over"
            except Exception as error:
                state, detail = FAILED, told(error)
            self.report.judge(name, state, detail)
            self.say(f"{state}: {name}: {detail}")

    def speed(self, size: str, mixture: bool, end: float) -> None:
        """Build the sides of a size, the most important first, as long as time is left, and let them take turns."""
        track = self.track
        sides: list[Side] = []
        if self.compiles:
            torch.compiler.reset()
        found = track.micro_batch(size, self.say)
        self.report.searches[size] = asdict(found)
        plans: dict[str, Callable[[int], Side]] = {f"{size}, {OURS}": lambda rows: track.own(size, rows)}
        if mixture:
            plans[f"MoE, {OURS}"] = lambda rows: track.own("MoE", rows)
        plans[f"{size}, {QWEN}"] = lambda rows: track.qwen(size, rows, compiled=False)
        if self.device.type == "cuda":
            plans[f"{size}, {LOOSE}"] = lambda rows: track.own(size, rows, LOOSE, deterministic=False)
        else:
            self.leave_out(f"{size}, {LOOSE}: {ABSENT}: the switch is one of CUDA's")
        if self.compiles:
            plans[f"{size}, {COMPILED_QWEN}"] = lambda rows: track.qwen(size, rows, compiled=True)
        if mixture:
            plans[f"{size}, {MUON}"] = lambda rows: track.own(size, rows, MUON, "muon")
        if mixture and self.device.type == "cuda":
            plans[f"MoE, {LOOSE}"] = lambda rows: track.own("MoE", rows, LOOSE, deterministic=False)
        for name, build in plans.items():
            turns = LEAST_ROUNDS * track.turn_seconds * (len(sides) + 1)
            slowest = max((side.building for side in sides), default=0.0)
            if sides and time.monotonic() + slowest + turns > end:
                self.leave_out(f"{name}: no time was left to build it")
                continue
            try:
                sides.append(self.fitting(name, build, found.rows))
                self.say(f"{name}: built in {sides[-1].building:.1f} s")
            except ImportError as error:
                self.leave_out(f"{name}: {told(error)}")
            except Exception as error:
                self.report.judge(f"{name}: building", FAILED, told(error))
                self.say(f"{FAILED}: {name}: {told(error)}")
        try:
            for number in range(LEAST_ROUNDS if self.toy else ROUNDS):
                if number >= LEAST_ROUNDS and time.monotonic() + track.turn_seconds * len(sides) > end:
                    break
                for side in sides:
                    side.turn(self.device, track.turn_seconds)
        finally:
            self.report.sides += [side.told() for side in sides if side.seconds]
            for side in sides:
                if side.seconds:
                    self.say(f"{side.size}, {side.name}: {side.rate:,.0f} tokens/s")

    def fitting(self, name: str, build: Callable[[int], Side], rows: int) -> Side:
        """The side with so many rows a step, or with half as many as often as it takes to fit beside the others."""
        while True:
            self.track.release()
            try:
                return build(rows)
            except torch.OutOfMemoryError:
                if rows == 1:
                    raise
            rows //= 2
            self.say(f"{name}: out of memory, {rows} rows a step are tried")

    def run(self) -> Report:
        """All sections."""
        repeat(self.device, True)
        with tempfile.TemporaryDirectory() as scratch:
            bench = Bench(self.device, self.toy, self.compiles, Path(scratch))
            self.section("checks", lambda end: self.check(bench.checks(), end))
            self.section("compiled checks", lambda end: self.check(bench.compiled_checks(), end))
        for size in ("64m", "104m", "26m"):
            self.section(size, lambda end, size=size: self.measure(size, end))  # type: ignore[misc]
        repeat(self.device, False)
        return self.report

    def measure(self, size: str, end: float) -> None:
        """The speeds of a size, after those of products if they aren't known yet."""
        if not self.report.peaks:
            side = 512 if self.toy else 8192 if self.device.type == "cuda" else 2048
            measured = throughput.measured_peak(self.device, self.track.dtype, side)
            stated = throughput.maker_peak(self.report.where["device"]) if self.track.dtype == torch.bfloat16 else None
            self.report.peaks = {"measured": measured, "maker": stated}
            self.say(f"products reach {measured / 1e12:,.3g} TFLOP/s")
        self.speed(size, size == "64m", end)


def told(error: Exception) -> str:
    """An error in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}{': ' + lines[0][:300] if lines else ''}".replace("|", "¦")


def chosen(name: str) -> torch.device | None:
    """The device of this name, or the best there is for `auto`; None if it isn't there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    found = next(kind for kind, present in there.items() if present) if name == "auto" else name
    return torch.device(found) if there[found] else None


def main(arguments: list[str] | None = None) -> None:
    """Check, measure, write and print; exits with status 1 if a check failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toy", action="store_true", help="toy models, on whatever device is there")
    parser.add_argument("--device", choices=["auto", "cuda", "mps", "cpu"], default="auto")
    parser.add_argument("--compile", choices=["auto", "on", "off"], default="auto", help="auto: on CUDA")
    parser.add_argument("--seconds", type=float, help="in all; 465, and as long as it takes with --toy")
    parser.add_argument("--out", type=Path, default=Path(".benchmarks"), help="folder of cuda.json and cuda.md")
    options = parser.parse_args(arguments)
    device = chosen(options.device)
    if device is None:
        parser.error(f"--device {options.device}: this machine or this torch has none")
    compiles = options.compile == "on" or (options.compile == "auto" and device.type == "cuda")
    if compiles and device.type == "mps":
        parser.error("--compile on: training is not compiled on mps")
    cpu.enable(None)  # the definition is the plain model
    seconds = options.seconds or (math.inf if options.toy else 465.0)
    report = Session(device, options.toy, compiles, seconds, options.out).run()
    print(markdown(report))
    sys.exit(int(report.failed()))


if __name__ == "__main__":
    main()
