"""What the metrics on disk say together: scores with intervals, what really changed, a table, a summary for DVC.

`minimind.page` shows the same findings as a web page.
"""

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from minimind import files, loads, statistics
from minimind.errors import UserError
from minimind.families import LOWER_IS_BETTER, in_order
from minimind.plots import percent

ALPHA = 0.05  # per comparison, over all its families together

# Checkpoint, what it is compared with, and why that one. The first of a checkpoint counts as its parent.
COMPARISONS = (
    ("sft", "pretrain", "its parent"),
    ("dpo", "sft", "its parent"),
    ("distill", "control", "the same student, start, steps and prompts without the teacher's logits"),
    ("distill", "dpo", "its teacher"),
    ("control", "dpo", "its teacher"),
)
CHECKPOINTS = ("pretrain", "sft", "dpo", "distill", "control")  # in this order; others follow by name

Verdict = Literal["better", "worse", "unclear"]

T = TypeVar("T")


class ReportError(UserError):
    """Metrics that don't fit together; the message names the file and the mend."""


@dataclass(frozen=True)
class Score:
    """A share within 0…1 and its Wilson interval, of n items."""

    share: float
    n: int
    low: float
    high: float


@dataclass(frozen=True)
class Evaluation:
    """One checkpoint on one split of the benchmark. `items` and `outputs` by (family, id)."""

    checkpoint: str
    split: str
    scores: dict[str, Score]
    correct: dict[tuple[str, str], bool]
    outputs: dict[tuple[str, str], str]
    reason: str = ""  # why there are no scores


@dataclass(frozen=True)
class Change:
    """One family, item by item. `difference` and its interval are in the score, whichever direction is better."""

    family: str
    n: int
    before: float
    after: float
    gained: int  # items with a point in the second only: for a family where lower is better, mistakes made anew
    lost: int
    difference: float
    low: float
    high: float
    p: float  # McNemar, raised by Holm over the families of the comparison
    verdict: Verdict

    @property
    def improved(self) -> int:
        """Items that got better, whichever direction that is."""
        return self.lost if self.family in LOWER_IS_BETTER else self.gained

    @property
    def worsened(self) -> int:
        """Items that got worse."""
        return self.gained if self.family in LOWER_IS_BETTER else self.lost


@dataclass(frozen=True)
class Comparison:
    """A checkpoint beside another on the same items."""

    after: str
    before: str
    reason: str
    changes: list[Change]

    def families(self, verdict: Verdict) -> list[str]:
        """The families with this verdict."""
        return [change.family for change in self.changes if change.verdict == verdict]

    def ranked(self, verdict: Verdict) -> list[Change]:
        """The changes with this verdict, the largest first."""
        changes = [change for change in self.changes if change.verdict == verdict]
        return sorted(changes, key=lambda change: -abs(change.difference))


@dataclass(frozen=True)
class Curve:
    """A training curve: column → (step, value) where there is one."""

    name: str
    steps: int
    tokens: int
    columns: dict[str, list[tuple[float, float]]]


@dataclass(frozen=True)
class Sample:
    """One item of the benchmark and each checkpoint's answer: checkpoint → (correct, output)."""

    family: str
    id: str
    language: str
    messages: list[tuple[str, str]]  # (role, text)
    answers: dict[str, tuple[bool, str]]


@dataclass(frozen=True)
class Report:
    """All that is to be shown."""

    evaluations: list[Evaluation]
    comparisons: list[Comparison]
    curves: list[Curve]
    tokenizer: dict[str, Any]
    packing: dict[str, Any]
    samples: list[Sample]
    notes: list[str] = field(default_factory=list)  # whether the data was decontaminated; what is missing, and why

    @property
    def families(self) -> list[str]:
        """Every family that any checkpoint was scored on: those known here in their order, then others."""
        return in_order(family for evaluation in self.evaluations for family in evaluation.scores)

    def evaluation(self, checkpoint: str) -> Evaluation | None:
        """The evaluation of a checkpoint, if there is one."""
        return next((one for one in self.evaluations if one.checkpoint == checkpoint), None)

    def parent(self, checkpoint: str) -> Comparison | None:
        """The comparison with a checkpoint's parent, if there is one."""
        return next((one for one in self.comparisons if one.after == checkpoint), None)


def read(benchmark: Path, cleaning: Path, tokenizer: Path, packing: Path, curves: Path, evaluations: Path) -> Report:
    """Read all metrics: the folder of the benchmark, two files, the folders of packed rows, curves and evaluations.

    Raises ReportError or files.CorruptError.
    """
    read_evaluations = [read_evaluation(path) for path in sorted(evaluations.glob("*.json"))]
    if not read_evaluations:
        raise ReportError(f"{evaluations} holds no evaluation: run `dvc repro evaluate`")
    scored = _by_checkpoint({one.checkpoint: one for one in read_evaluations if one.scores})
    splits = {one.split for one in scored}
    if len(splits) > 1:
        raise ReportError(f"{evaluations} mixes the splits {', '.join(sorted(splits))}: run `dvc repro` again")
    notes = [files.read_json(cleaning)["decontaminated"]["note"]]
    notes += [
        f"{one.checkpoint} has no scores: {one.reason or 'it was not trained in this run'}."
        for one in read_evaluations
        if not one.scores
    ]
    by_name = {one.checkpoint: one for one in scored}
    comparisons = []
    for after, before, reason in COMPARISONS:
        if after in by_name and before in by_name:
            comparisons.append(compare(by_name[before], by_name[after], reason))
        elif after in by_name:
            notes.append(f"{after} can't be compared with {before}, {reason}: there are no scores of {before}.")
    read_curves = {path.stem: read_curve(path) for path in sorted(curves.glob("*.tsv"))}
    for name, curve in read_curves.items():
        last = {column: curve.columns[column][-1][1] for column in loads.loads(curve.columns)}
        notes += [f"{expert} of {name} is dead: hardly any token visits it." for expert in loads.dead(last)]
    return Report(
        evaluations=scored,
        comparisons=comparisons,
        curves=[curve for curve in _by_checkpoint(read_curves) if curve.columns],
        tokenizer=files.read_json(tokenizer),
        packing={path.parent.name: files.read_json(path) for path in sorted(packing.glob("*/statistics.json"))},
        samples=choose_samples(scored, read_items(benchmark)),
        notes=notes,
    )


def read_evaluation(path: Path) -> Evaluation:
    """One `<checkpoint>.json` with the `<checkpoint>.items.jsonl` beside it. Raises ReportError if they disagree."""
    document = files.read_json(path)
    scores = {
        family: Score(value["score"], value["n"], value["low"], value["high"])
        for family, value in document["families"].items()
    }
    path_of_items = path.with_suffix(".items.jsonl")
    records = files.read_jsonl(path_of_items) if scores else []
    correct = {(record["family"], record["id"]): bool(record["correct"]) for record in records}
    outputs = {(record["family"], record["id"]): record["output"] for record in records}
    for family, score in scores.items():
        values = [value for (name, _), value in correct.items() if name == family]
        if len(values) != score.n or round(score.share * score.n) != sum(values):
            raise ReportError(
                f"{path} says {percent(score.share)} of {score.n} items of {family}, {path_of_items.name} has "
                f"{sum(values)} of {len(values)}: run `dvc repro -f evaluate@{path.stem}`"
            )
    return Evaluation(document["checkpoint"], document["split"], scores, correct, outputs, document.get("reason", ""))


def read_curve(path: Path) -> Curve:
    """A training curve as `train` writes it: tab-separated, empty where a line has no value."""
    columns: dict[str, list[tuple[float, float]]] = {}
    steps = tokens = 0
    with path.open(encoding="utf-8", newline="") as stream:
        for line in csv.DictReader(stream, delimiter="\t"):
            steps, tokens = int(float(line.pop("step"))), int(float(line.pop("tokens")))
            for name, text in line.items():
                if text:
                    columns.setdefault(name, []).append((steps, float(text)))
    return Curve(path.stem, steps, tokens, columns)


def read_items(benchmark: Path) -> dict[str, dict[str, Any]]:
    """The items of every file of the benchmark, by id."""
    return {item["id"]: item for path in sorted(benchmark.glob("*.jsonl")) for item in files.read_jsonl(path)}


def compare(before: Evaluation, after: Evaluation, reason: str) -> Comparison:
    """Two checkpoints item by item, over the families that both have. Raises ReportError if the items differ."""
    tests, counts = {}, {}
    for family in in_order(name for name in after.scores if name in before.scores):
        ids = [id for name, id in after.correct if name == family]
        if {id for name, id in before.correct if name == family} != set(ids):
            raise ReportError(
                f"{before.checkpoint} and {after.checkpoint} answered different items of {family}: "
                "run `dvc repro` to score both on the same benchmark"
            )
        tests[family] = statistics.mcnemar(
            [before.correct[family, id] for id in ids], [after.correct[family, id] for id in ids]
        )
        counts[family] = len(ids)
    adjusted = statistics.holm({family: test.p for family, test in tests.items()})
    changes = []
    for family, test in tests.items():
        n = counts[family]
        low, high = statistics.paired_difference(test.gained, test.lost, n)
        verdict: Verdict = "unclear"
        if adjusted[family] <= ALPHA:
            verdict = "better" if (test.gained > test.lost) != (family in LOWER_IS_BETTER) else "worse"
        change = Change(
            family, n, before.scores[family].share, after.scores[family].share, test.gained, test.lost,
            (test.gained - test.lost) / n, low, high, adjusted[family], verdict,
        )  # fmt: skip
        changes.append(change)
    return Comparison(after.checkpoint, before.checkpoint, reason, changes)


def choose_samples(evaluations: Sequence[Evaluation], items: Mapping[str, dict[str, Any]]) -> list[Sample]:
    """One item of each family, the languages by turns, drawn by a hash of its id: neither by hand nor by score."""
    samples = []
    families = in_order(name for one in evaluations[:1] for name in one.scores if name not in LOWER_IS_BETTER)
    for turn, family in enumerate(families):
        shared = [id for name, id in evaluations[0].outputs if name == family and id in items]
        languages = sorted({items[id].get("language", "") for id in shared})
        drawn = [id for id in shared if items[id].get("language", "") == languages[turn % len(languages)]]
        if not drawn:
            continue
        id = min(drawn, key=lambda id: hashlib.sha256(id.encode()).digest())
        answers = {
            one.checkpoint: (one.correct[family, id], one.outputs[family, id])
            for one in evaluations
            if (family, id) in one.outputs
        }
        samples.append(Sample(family, id, items[id].get("language", ""), _messages(items[id]), answers))
    return samples


def shares(evaluation: Evaluation) -> dict[str, float]:
    """The score of each family, from 0 to 1."""
    return {family: round(evaluation.scores[family].share, 4) for family in in_order(evaluation.scores)}


def summary(report: Report) -> dict[str, dict[str, float]]:
    """For each checkpoint its scores, and how many families really changed."""
    values = {evaluation.checkpoint: shares(evaluation) for evaluation in report.evaluations}
    for comparison in report.comparisons:
        values[f"{comparison.after}_against_{comparison.before}"] = {
            "better": len(comparison.families("better")),
            "worse": len(comparison.families("worse")),
        }
    return values


def markdown(report: Report) -> str:
    """The findings as Markdown: scores with intervals, then each comparison with what is real in it."""
    checkpoints = [one.checkpoint for one in report.evaluations]
    split = report.evaluations[0].split if report.evaluations else "no"
    parts = ["# Report", f"Scores in percent on the {split} split, with Wilson 95% intervals.", ""]
    parts += [sentence(comparison) for comparison in report.comparisons]
    rows = []
    for family in report.families:
        counts = {one.scores[family].n for one in report.evaluations if family in one.scores}
        cells = [_cell(one.scores.get(family)) for one in report.evaluations]
        rows.append([family, "/".join(map(str, sorted(counts))), *cells])
    parts += ["## Scores", _table(["family", "n", *checkpoints], rows)]
    for comparison in report.comparisons:
        rows = [
            [
                change.family, str(change.n), percent(change.before), percent(change.after), str(change.gained),
                str(change.lost), f"{signed(change.difference)} [{signed(change.low)}, {signed(change.high)}]",
                p_value(change.p), "" if change.verdict == "unclear" else f"**{change.verdict}**",
            ]
            for change in comparison.changes
        ]  # fmt: skip
        names = ["family", "n", comparison.before, comparison.after, "gained", "lost", "difference", "p", "real"]
        parts += [f"## {comparison.after} against {comparison.before}", _table(names, rows)]
    rows = [[curve.name, f"{curve.steps:,}", f"{curve.tokens:,}", _held_out(curve)] for curve in report.curves]
    parts += ["## Training", _table(["stage", "steps", "tokens", "held out, at the end"], rows)]
    parts += ["## How to read this", method(report), *[f"- {note}" for note in report.notes]]
    return "\n\n".join(part for part in parts if part) + "\n"


METHOD = (
    "Every checkpoint answers the same items, so two of them are compared item by item: an item is gained if only the "
    "second gets it, lost if only the first does. The difference comes with a 95% interval for paired shares (Bonett "
    "and Price). A difference is called real if the exact McNemar test stays at or below 0.05 after Holm's correction "
    "over the families of the comparison: of all comparisons with no true difference in any family, at most one in "
    "twenty shows one. The intervals speak of the items, not of training: another seed would move the scores further."
)


def method(report: Report) -> str:
    """How to read the figures."""
    lower = [name for name in report.families if name in LOWER_IS_BETTER]
    return " ".join([METHOD, *(f"In {name}, lower is better." for name in lower)])


def sentence(comparison: Comparison) -> str:
    """A comparison in one sentence of plain text, losses included."""
    changes = {change.family: change for change in comparison.changes}

    def named(verdict: Verdict) -> str:
        families = comparison.families(verdict)
        return ", ".join(f"{name} ({signed(changes[name].difference)})" for name in families) or "nothing"

    unclear = len(comparison.families("unclear"))
    return (
        f"{comparison.after} against {comparison.before}, {comparison.reason}: really better in {named('better')}; "
        f"really worse in {named('worse')}; no real difference in {unclear} of {len(changes)} families."
    )


def signed(share: float) -> str:
    """A difference of shares in points with its sign: +12.5, −3.0, 0.0."""
    points = round(100 * share, 1)
    return f"{'+' if points > 0 else '−' if points < 0 else ''}{abs(points):.1f}"


def p_value(p: float) -> str:
    """A p value for reading: two digits that matter, and no false precision far out."""
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"


def _messages(item: dict[str, Any]) -> list[tuple[str, str]]:
    """What the model was given, as (role, text)."""
    if item["kind"] == "choice":
        choices = " | ".join(choice.strip() for choice in item["choices"])
        return [("text", item["context"]), ("choices", choices)]
    messages = []
    for message in item["messages"]:
        text = message.get("content") or ""
        if calls := message.get("tool_calls"):
            text += calls if isinstance(calls, str) else json.dumps(calls, ensure_ascii=False)
        messages.append((message["role"], text))
    return messages


def _by_checkpoint(values: Mapping[str, T]) -> list[T]:
    """The values in the order of CHECKPOINTS, then those of other names."""
    names = [name for name in CHECKPOINTS if name in values] + [name for name in values if name not in CHECKPOINTS]
    return [values[name] for name in names]


def _held_out(curve: Curve) -> str:
    """The last held-out values worth quoting."""
    values = {name.removeprefix("validation_"): points[-1][1] for name, points in curve.columns.items()}
    named = [f"{values[name]:.4g} {name.replace('_', ' ')}" for name in ("bits_per_byte", "accuracy") if name in values]
    return ", ".join(named) or "–"


def _cell(score: Score | None) -> str:
    return f"{percent(score.share)} [{percent(score.low)}, {percent(score.high)}]" if score else "–"


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    lines = [names, [":--", *["--:"] * (len(names) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
