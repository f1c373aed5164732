"""Kill a training run at random moments, again and again: it must end in the bits of a run that nobody disturbed.

    python benchmarks/resume.py --kills 50 [--load] [--compile]

A small model is trained by the product's loop, with the product's states on disk, in a child process that gets
SIGKILL: most times at a random step and moment within it, be it in the middle of a save, else while it starts and
reads its state. After some of the kills the newest state is cut short as well, as by a power failure, so that the
one before must serve. The moments come from a seed. Exits with status 1 if the weights, the curve or the metrics
differ from the undisturbed run's.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.trial import Listener
from minimind import files, hardware
from minimind.batches import Batches, Source
from minimind.config import Runtime
from minimind.errors import UserError
from minimind.model import Decoder, ModelConfig
from minimind.objectives.language import Language
from minimind.resume import Resume
from minimind.rows import Rows, RowWriter
from minimind.train import TrainConfig, train

ROOT = Path(__file__).parents[1]
MODEL = ModelConfig(64, 2, 4, 2, 128, qk_norm_init=1.6, vocab_size=512)
ROW_LENGTH, NUM_ROWS = 64, 256
SAVE_EVERY = 10
STEPS_PER_KILL = 40  # a busy machine may let the child run on for a second before the kill comes
START_SHARE = 0.2  # of the kills come while the child starts
PATIENCE = 600.0  # seconds without a further step after which a child counts as hung

# What the child leaves in its workspace.
DIGEST, CURVE, METRICS, TRACE = "weights.sha256", "curve.tsv", "metrics.json", "trace"


def prepare(workspace: Path) -> None:
    """Make the files of a stage `pretrain`, so that the states belong to an exact task as they do under DVC."""
    data = workspace / "data" / "packed"
    data.mkdir(parents=True)
    generator = np.random.default_rng(0)
    with RowWriter(data / "train.arrow", ROW_LENGTH, MODEL.vocab_size) as writer:
        for _ in range(NUM_ROWS):
            documents = []
            for length in (int(generator.integers(8, 32)), int(generator.integers(8, 32))):
                start = int(generator.integers(0, MODEL.vocab_size - length))
                documents.append((np.arange(start, start + length), [0] + [1] * (length - 1), length - 1))
            writer.add(documents)
    files.write_manifest(data)
    stage = {"cmd": "python -m stages.pretrain data/packed", "deps": ["data/packed"], "params": ["seed"]}
    # JSON is YAML too.
    (workspace / "dvc.yaml").write_text(json.dumps({"stages": {"pretrain": stage}}), encoding="utf-8")
    (workspace / "params.yaml").write_text("seed: 1\n", encoding="utf-8")


def child(steps: int, compiled: bool) -> None:
    """The training run, in the current folder; its trace has a line per step that any process has done."""
    runtime = Runtime(device="cpu", micro_batch_size=4, compile="on" if compiled else "off")
    _, dtype = hardware.setup(runtime)
    model = Decoder(MODEL, dtype).initialise(1)
    batches = Batches([Source(Rows.open(Path("data/packed"), "train"))], 8, 1)
    config = TrainConfig(batch_size=8, steps=steps, log_every=1, validate_every=50, save_every=SAVE_EVERY)
    with open(TRACE, "a", buffering=1, encoding="utf-8") as trace, Resume("pretrain") as resume:
        print("begin", file=trace)

        def hear(step: int, metrics: Mapping[str, float]) -> None:
            print(step, file=trace)

        final = train(
            model, Language(), batches, config, validate=lambda model: {"bias": float(model.model.norm.weight.sum())},
            resume=resume, run=Listener(hear), runtime=runtime, curve=Path(CURVE),
        )  # fmt: skip
    files.write_json(Path(METRICS), final)
    files.write_text(Path(DIGEST), digest(model) + "\n")


def digest(model: torch.nn.Module) -> str:
    """SHA-256 of all master weights, names included."""
    total = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        total.update(name.encode() + value.contiguous().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def outcome(workspace: Path) -> dict[str, str]:
    """Digests of what a finished run has left."""
    return {name: files.sha256(workspace / name) for name in (DIGEST, CURVE, METRICS)}


@dataclass
class Count:
    """What the kills did."""

    kills: int = 0
    starting: int = 0  # of them, before the first step of their process
    saving: int = 0  # of them, with a half-written state left behind
    torn: int = 0  # states that were cut short
    recovered: int = 0  # of them, passed over for the one before
    repeated: int = 0  # steps that were done more than once


def lives(workspace: Path) -> list[list[int]]:
    """The steps that each process did, in order. A last line that a kill has torn doesn't count."""
    path = workspace / TRACE
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    found: list[list[int]] = []
    for line in text.splitlines(keepends=True):
        if line == "begin\n":
            found.append([])
        elif line.endswith("\n"):
            found[-1].append(int(line))
    return found


class Child:
    """One process of the run in `workspace`."""

    def __init__(self, workspace: Path, steps: int, compiled: bool):
        self.workspace = workspace
        self.log = (workspace / "log").open("ab")
        command = [sys.executable, str(Path(__file__).resolve()), "--child", str(steps)]
        self.process = subprocess.Popen(
            [*command, *(["--compile"] if compiled else [])], cwd=workspace, stdout=self.log, stderr=self.log,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        )  # fmt: skip

    def wait_for(self, step: int) -> bool:
        """Wait until `step` is done, by this process or one before; False if the process has ended first.

        Raises UserError if it hangs.
        """
        size, since = -1, time.monotonic()
        while self.process.poll() is None:
            path = self.workspace / TRACE
            if path.exists() and path.stat().st_size != size:
                size, since = path.stat().st_size, time.monotonic()
                done = [number for life in lives(self.workspace) for number in life]
                if done and max(done) >= step:
                    return True
            if time.monotonic() - since > PATIENCE:
                self.kill()
                raise UserError(f"no further step in {PATIENCE:.0f} seconds, waiting for step {step}: see its log")
            time.sleep(0.002)
        return False

    def finish(self) -> None:
        """Wait for the end. Raises UserError if that isn't a good one."""
        status = self.process.wait()
        self.log.close()
        if status:
            tail = (self.workspace / "log").read_text(encoding="utf-8", errors="replace")[-2000:]
            raise UserError(f"the training run ended with status {status}:\n{tail}")

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.log.close()


def states(workspace: Path) -> list[Path]:
    """Whole states on disk, the newest first."""
    return sorted((workspace / ".resume").rglob("*.pt"), key=lambda path: path.name, reverse=True)


def partials(workspace: Path) -> set[tuple[str, int]]:
    """Half-written states, by name and time."""
    found = {path for path in (workspace / ".resume").rglob("*partial*") if path.is_file()}
    return {(path.name, path.stat().st_mtime_ns) for path in found}


def disturb(workspace: Path, steps: int, kills: int, tears: int, seed: int, compiled: bool) -> Count:
    """The run to its end, killed `kills` times; after `tears` of the kills the newest state is cut short too."""
    draw = random.Random(seed)
    count = Count()
    goals = sorted(draw.randint(1, round(0.9 * steps)) for _ in range(kills))
    ended = f"the run ended before all kills: raise --steps above {steps}"
    tearing = set(draw.sample(range(kills), tears))
    start_seconds = step_seconds = 0.0
    for number, goal in enumerate(goals):
        before = partials(workspace)
        begin = time.monotonic()
        process = Child(workspace, steps, compiled)
        if start_seconds and draw.random() < START_SHARE:
            time.sleep(draw.uniform(0, 1.2 * start_seconds))
            count.starting += 1
        else:
            if not process.wait_for(1 if not number else _newest(workspace) + 1):
                process.finish()
                raise UserError(ended)
            start_seconds = time.monotonic() - begin
            since, from_step = time.monotonic(), _newest(workspace)
            if not process.wait_for(goal):
                process.finish()
                raise UserError(ended)
            passed = _newest(workspace) - from_step
            step_seconds = (time.monotonic() - since) / passed if passed > 0 else step_seconds
            time.sleep(draw.uniform(0, 2 * step_seconds))
        process.kill()
        count.kills += 1
        count.saving += bool(partials(workspace) - before)
        present = states(workspace)
        if number in tearing and len(present) > 1:
            content = present[0].read_bytes()
            present[0].write_bytes(content[: draw.randrange(len(content))])
            count.torn += 1
        print(f"\rkill {number + 1} of {kills}, at step {_newest(workspace)} of {steps}", end="", file=sys.stderr)
    print(file=sys.stderr)
    Child(workspace, steps, compiled).finish()
    log = (workspace / "log").read_text(encoding="utf-8", errors="replace")
    count.recovered = len({line for line in log.splitlines() if "is torn" in line})
    count.repeated = sum(map(len, lives(workspace))) - steps
    return count


def _newest(workspace: Path) -> int:
    """The furthest step that was done, 0 before the first."""
    return max((step for life in lives(workspace) for step in life), default=0)


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, run twice, compare."""
    description = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--tears", type=int, default=5, help="kills after which the newest state is cut short as well")
    parser.add_argument("--steps", type=int, default=0, help=f"of the run; 0: {STEPS_PER_KILL} for each kill")
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    parser.add_argument("--load", action="store_true", help="with a second process that keeps the machine busy")
    parser.add_argument("--compile", action="store_true", help="the compiled path; every start takes longer")
    parser.add_argument("--child", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        child(options.child, options.compile)
        return
    try:
        sys.exit(compare(options))
    except UserError as error:
        sys.exit(f"resume: {error}")


def compare(options: argparse.Namespace) -> int:
    """Both runs; prints the result and returns the exit status."""
    steps = options.steps or max(50, STEPS_PER_KILL * options.kills)
    if not 0 <= options.tears <= options.kills:
        raise UserError(f"--tears {options.tears}: a state is torn after a kill, so it lies between 0 and --kills")
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        quiet, disturbed = Path(folder, "quiet"), Path(folder, "disturbed")
        for workspace in (quiet, disturbed):
            prepare(workspace)
        Child(quiet, steps, options.compile).finish()
        wanted = outcome(quiet)
        if options.load:
            load = subprocess.Popen([sys.executable, "-c", "while True: pow(3, 100_000)"])
            stack.callback(load.wait)
            stack.callback(load.kill)
        count = disturb(disturbed, steps, options.kills, options.tears, options.seed, options.compile)
        found = outcome(disturbed)
    print(
        f"{steps} steps, a state every {SAVE_EVERY}; {count.kills} kills: {count.starting} while starting, "
        f"{count.saving} in the middle of a save\n"
        f"{count.repeated} steps were repeated, {count.repeated / max(1, count.kills):.1f} for each kill\n"
        f"{count.torn} states were cut short; {count.recovered} times a torn state was passed over\n"
        f"{time.monotonic() - begin:.0f} seconds"
    )
    for name, value in wanted.items():
        equal = found[name] == value
        print(f"{name:16} {value[:16]} undisturbed, {found[name][:16]} killed: {'equal' if equal else 'DIFFERENT'}")
    return int(found != wanted)


if __name__ == "__main__":
    main()
