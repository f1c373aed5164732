"""How long the stages of params.yaml will take here, said before the first one begins, and what is slow about it.

The model is simple, and meant to tell minutes from hours:

- Training: a probe times a few eager steps of each model. The forward and backward pass takes time in proportion to the
  tokens, the optimizer the same in each step. Validation is a forward pass, a third of that.
- Answers (teacher, evaluate): each costs as much as ANSWER_TOKENS of training. What a frozen model only reads
  (reference, teacher) costs a third of training on it.
- Data: rates of one core of a server, as measured, times the cores where a stage uses several.
- Each stage costs STAGE_SECONDS besides, for DVC, Python and torch.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from minimind import config, freshness, machine, speed
from minimind.amounts import RECORD_BYTES, TOKENS_PER_BYTE, UNKNOWN, Amount, amount
from minimind.config import Runtime
from minimind.deadline import Child
from minimind.machine import MEND, Abilities, Event, Load
from minimind.progress import words
from minimind.speed import Examine, Findings, Rate

START_SECONDS = 15.0  # in which torch is imported and, for the first time here, the C kernels are compiled
PROBE_SECONDS = 5.0  # after that, for all steps of the probe
STEPS_SHARE = 0.8  # of them is what the probe is told to use
NUM_STEPS = 3  # of the probe, for each model
LONG_SECONDS = 3600.0  # in all: from there on the mend is told

# Stages and answers: what the default took on an EPYC of 2 cores (docs/performance.md). Data: one core, the atlas.
STAGE_SECONDS = 4.0
ANSWER_TOKENS = 30
REPORTS_PER_ITEM = 1.7  # answers and choices that an item of a benchmark asks for
RECORD_SECONDS = 60e-6  # to generate a record
CLEAN_RATE, TOKENIZER_RATE, PACK_RATE = 7e6, 1.2e6, 2.5e6  # bytes/s of a core
DOWNLOAD_RATE = 10e6  # bytes/s, of a usual connection

CHECKPOINTS = {"pretrain": "model", "sft": "model", "dpo": "model", "distill": "student", "control": "student"}
"""What is evaluated, and the section of params.yaml that describes it."""


@dataclass(frozen=True)
class Cost:
    """What a stage will take: seconds, perhaps UNKNOWN, and what it does in them."""

    stage: str
    seconds: float
    work: str = ""
    at_least: bool = False

    def __str__(self) -> str:
        known = f"{'more than' if self.at_least else 'about'} {words(self.seconds)}"
        return f"  {self.stage:<10} {'not known' if math.isnan(self.seconds) else known:<16} {self.work}".rstrip()


@dataclass(frozen=True)
class Outlook:
    """All that the costs follow from. `cores` work at the data; so many `processes` train with a GPU for each."""

    params: dict[str, Any]
    amounts: dict[str, Amount]  # by data set
    rates: dict[str, Rate]  # by section of the model
    stale: set[str]  # stages that will run, by DVC's names
    cores: int
    processes: int = 1

    def costs(self) -> list[Cost]:
        """Of the stages that will run, in the order of the pipeline."""
        texts = [self.amounts[name].num_bytes for name in ("pretrain", "sft", "dpo", "prompts")]
        read = min(sum(texts[:2]), float(self.params["tokenizer"]["max_bytes"]))
        pairs, prompts = self.amounts["dpo"], self.amounts["prompts"].records
        found = [
            self.fetch(),
            Cost("clean", sum(texts) / (CLEAN_RATE * self.cores), megabytes(sum(texts))),
            Cost("tokenizer", read / TOKENIZER_RATE, megabytes(read)),
            Cost("pack", sum(texts[:3]) / (PACK_RATE * self.cores), megabytes(sum(texts[:3]))),
            self.training("pretrain", "model"),
            self.training("sft", "model"),
            self.asking("reference", 0.0, pairs.num_bytes * TOKENS_PER_BYTE, number(pairs.records, "pairs")),
            self.training("dpo", "model"),
            self.asking("teacher", prompts, self.taught, number(prompts, "prompts")),
            self.distillation(),
            Cost("report", 0.0),
        ]
        found = [replace(cost, seconds=cost.seconds + STAGE_SECONDS) for cost in found if cost.stage in self.stale]
        place = len(found) - (found[-1:] == [Cost("report", STAGE_SECONDS)])
        return [*found[:place], *self.evaluation(), *found[place:]]

    @property
    def row_length(self) -> int:
        """Tokens in a row."""
        return int(self.params["pack"]["max_seq_len"])

    @property
    def taught(self) -> float:
        """Tokens that the teacher hands to the student: prompts with its answers, and rows of text."""
        copied = self.params["teacher"]["pretrain_rows"] * self.row_length
        return copied + self.amounts["prompts"].records * 2 * ANSWER_TOKENS

    def rate(self, section: str) -> Rate:
        """Of a model."""
        return self.rates.get(section, Rate(UNKNOWN, UNKNOWN))

    def fetch(self) -> Cost:
        """Of bringing the data here."""
        generated = sum(one.generated for one in self.amounts.values())
        downloaded = sum(one.downloaded for one in self.amounts.values())
        work = [number(generated, "records made here")] * (generated > 0)
        work += [f"download of {megabytes(downloaded)}"] * (downloaded != 0)
        return Cost("fetch", generated * RECORD_SECONDS + downloaded / DOWNLOAD_RATE, ", ".join(work))

    def training(self, stage: str, section: str) -> Cost:
        """Of a stage that trains: its steps, and its validations."""
        values, rate = self.params[stage], self.rate(section)
        data = self.taught if stage == "distill" else self.amounts[stage].num_bytes * TOKENS_PER_BYTE
        share = self.params["teacher" if stage == "distill" else "pack"]["validation_share"]
        steps = num_steps(values, self.row_length, data)
        if not self.params["data"].get("prompts" if stage == "distill" else stage):
            return Cost(stage, 0.0, "nothing to train on")
        tokens = values["batch_size"] * self.row_length
        seconds = rate.seconds(steps * tokens / self.processes, steps)
        measured = seconds > 0 and not rate.at_least  # and known
        per_second = f", {steps * tokens / seconds:,.0f} tokens/s" if measured else ""
        judged = data * share * (steps // values["validate_every"] + 1)
        judging = 0.0 if math.isnan(judged) else rate.seconds(judged / 3)
        work = number(steps, f"steps of {tokens:,} tokens{per_second}")
        return Cost(stage, seconds + judging, work, rate.at_least)

    def distillation(self) -> Cost:
        """Of the student, and of the control, which is trained likewise."""
        cost = self.training("distill", "student")
        if not self.params["distill"]["control"]:
            return cost
        return replace(cost, seconds=2 * cost.seconds, work=f"twice {cost.work}")

    def asking(self, stage: str, answers: float, read: float, work: str) -> Cost:
        """Of a stage in which the model gives answers, and reads so many tokens."""
        rate = self.rate("model")
        return Cost(stage, rate.seconds(answers * ANSWER_TOKENS + read / 3), work, rate.at_least)

    def evaluation(self) -> list[Cost]:
        """Of all checkpoints together; none if there are none."""
        split = self.params["evaluate"]["split"]
        entries = [entry for entry in self.params["data"].get("benchmark") or [] if entry.get("name", split) == split]
        items = amount(entries, "benchmark").records
        asked = [name for name in CHECKPOINTS if f"evaluate@{name}" in self.stale]
        if not self.params["distill"]["control"]:  # nothing is trained then, and nothing asked
            asked = [name for name in asked if name != "control"]
        rates = [self.rate(CHECKPOINTS[name]) for name in asked]
        seconds = sum(STAGE_SECONDS + rate.seconds(items * REPORTS_PER_ITEM * ANSWER_TOKENS) for rate in rates)
        work = f"{', '.join(asked)}: {number(items, 'questions')} each"
        return [Cost("evaluate", seconds, work, any(rate.at_least for rate in rates))] if asked else []


def num_steps(section: dict[str, Any], row_length: int, tokens: float) -> float:
    """Steps of a section that trains, on a data set of so many tokens if it says epochs."""
    if section.get("steps") or not section.get("epochs"):
        return int(section.get("steps", 0))
    return section["epochs"] * tokens / row_length / section["batch_size"]


def megabytes(num_bytes: float) -> str:
    """A size in words."""
    return "a size that is not known yet" if math.isnan(num_bytes) else f"{num_bytes / 1e6:,.1f} MB"


def number(value: float, name: str) -> str:
    """A number of things in words."""
    return f"{name}, their number not known yet" if math.isnan(value) else f"{value:,.0f} {name}"


def report(
    path: Path = config.PARAMS, seconds: float = PROBE_SECONDS, start: float = START_SECONDS,
    examine: Examine = speed.examine,
) -> Iterator[str]:  # fmt: skip
    """A line for each stage that `dvc repro` will run, their sum, and what is slow. Raises ConfigError.

    `examine` is stopped when it has not begun after `start` seconds, or not ended `seconds` after that.
    """
    params, runtime = config.read(path), config.runtime(path)
    load, findings = machine.look(), Findings()
    begin = time.monotonic()
    with Child[Event](examine, path, STEPS_SHARE * seconds, NUM_STEPS, 0.0) as child:
        stale = freshness.stale(Path())  # while torch is imported
        if not stale:
            yield "estimate: nothing to do, every stage is as dvc.lock has it"
            return
        for _ in findings.watch(child, begin + start):
            break
        if findings.abilities is not None:
            for _ in findings.watch(child, time.monotonic() + seconds):
                pass
    costs = outlook(params, runtime, findings, stale).costs()
    total = sum(cost.seconds for cost in costs if not math.isnan(cost.seconds))
    at_least = any(cost.at_least or math.isnan(cost.seconds) for cost in costs)
    yield f"estimate of what runs now, if nothing of it is cached{basis(findings)}:"
    yield from map(str, [*costs, Cost("in all", total, at_least=at_least)])
    if findings.trouble.startswith("slow"):
        yield f"{findings.trouble}. {MEND}"
    elif findings.trouble:
        yield findings.trouble
    elif total > LONG_SECONDS:
        yield f"slow: {words(total)} in all. {MEND}"
    yield f"bottleneck: {bottleneck(load, findings.abilities)}"


def outlook(params: dict[str, Any], runtime: Runtime, findings: Findings, stale: set[str]) -> Outlook:
    """What the costs follow from, in the current folder."""
    raw = None if "fetch" in stale else Path("data/raw")
    amounts = {
        name: amount(params["data"].get(name) or [], name, raw / name if raw is not None else None)
        for name in RECORD_BYTES
    }
    on_gpus = findings.abilities is not None and findings.abilities.device.startswith("cuda")
    cores = runtime.workers or machine.num_cores()
    return Outlook(params, amounts, findings.rates(), stale, cores, runtime.processes if on_gpus else 1)


def basis(findings: Findings) -> str:
    """What was measured, in words."""
    made, abilities = sum(map(len, findings.steps.values())), findings.abilities
    if abilities is None:
        return ""
    steps, threads = (
        f"{made} eager step{'s' * (made != 1)}",
        f"{abilities.threads} thread{'s' * (abilities.threads != 1)}",
    )
    return f" (by {steps} on {abilities.device} in {abilities.dtype} with {threads})"


def bottleneck(load: Load, abilities: Abilities | None) -> str:
    """What holds this machine back most, and the mend."""
    found = machine.slow(load, abilities)
    if found:
        return f"{found[0]}{'; `minimind doctor` names more' * (len(found) > 1)}"
    if abilities is None:
        return "not known, since the probe did not begin"
    if abilities.device.startswith("cpu"):
        return "the matrix products of a CPU: a GPU is faster, and so are more cores"
    return f"the matrix products of {abilities.device}"
