"""What the metrics on disk say together: scores with intervals, what really changed, a table, a summary for DVC.

`minimind.page` shows the same findings as a web page.
"""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from minimind import files, loads, samples, statistics
from minimind.errors import UserError
from minimind.families import LOWER_IS_BETTER, in_order
from minimind.plots import percent
from minimind.provenance import Provenance
from minimind.samples import Answer, Sample

FEW = 30  # items; with fewer a share is anything
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


class Place(NamedTuple):
    """Where held-out documents come from."""

    data_set: str
    source: str
    language: str


class Figures(NamedTuple):
    """Bits per byte of held-out documents, the bytes that were predicted, and how many documents they are."""

    bits_per_byte: float
    bytes: int
    documents: int


@dataclass(frozen=True)
class Evaluation:
    """One checkpoint on one split of the benchmark. `correct` and `answers` by (family, id)."""

    checkpoint: str
    split: str
    scores: dict[str, Score]
    correct: dict[tuple[str, str], bool]
    answers: dict[tuple[str, str], Answer]
    held_out: dict[Place, Figures] = field(default_factory=dict)
    parameters: int = 0
    digest: str = ""
    reason: str = ""  # why it was not trained

    @property
    def num_cut(self) -> int:
        """Answers that reached the limit of tokens."""
        return sum(answer.cut for answer in self.answers.values())


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
class Report:
    """All that is to be shown."""

    evaluations: list[Evaluation]
    comparisons: list[Comparison]
    curves: list[Curve]
    tokenizer: dict[str, Any]
    packing: dict[str, Any]
    samples: list[Sample]
    provenance: Provenance
    notes: list[str] = field(default_factory=list)  # whether the data was decontaminated; what is missing, and why

    @property
    def families(self) -> list[str]:
        """Every family that any checkpoint was scored on: those known here in their order, then others."""
        return in_order(family for evaluation in self.evaluations for family in evaluation.scores)

    @property
    def places(self) -> list[Place]:
        """Wherever held-out documents of any checkpoint come from."""
        return list(dict.fromkeys(place for one in self.evaluations for place in one.held_out))

    @property
    def is_scored(self) -> bool:
        """Whether there was a benchmark."""
        return any(one.scores for one in self.evaluations)

    def evaluation(self, checkpoint: str) -> Evaluation | None:
        """The evaluation of a checkpoint, if there is one."""
        return next((one for one in self.evaluations if one.checkpoint == checkpoint), None)

    def parent(self, checkpoint: str) -> Comparison | None:
        """The comparison with a checkpoint's parent, if there is one."""
        return next((one for one in self.comparisons if one.after == checkpoint), None)


def read(
    provenance: Provenance, benchmark: Path, cleaning: Path, tokenizer: Path, packing: Path, curves: Path,
    evaluations: Path,
) -> Report:  # fmt: skip
    """Read all metrics: the folder of the benchmark, two files, the folders of packed rows, curves and evaluations.

    Raises ReportError or files.CorruptError.
    """
    read_evaluations = [read_evaluation(path) for path in sorted(evaluations.glob("*.json"))]
    if not read_evaluations:
        raise ReportError(f"{evaluations} holds no evaluation: run `dvc repro evaluate`")
    shown = _by_checkpoint({one.checkpoint: one for one in read_evaluations if one.scores or one.held_out})
    by_name = {one.checkpoint: one for one in shown if one.scores}
    splits = {one.split for one in by_name.values()}
    if len(splits) > 1:
        raise ReportError(f"{evaluations} mixes the splits {', '.join(sorted(splits))}: run `dvc repro` again")
    notes = [files.read_json(cleaning)["decontaminated"]["note"]]
    if not by_name:
        notes.append("There is no benchmark, so there are no scores: data.benchmark in params.yaml names one.")
    notes += _few(by_name.values())
    notes += [
        f"{one.checkpoint} was not trained in this run, so it has no scores{': ' * bool(one.reason)}{one.reason}."
        for one in read_evaluations
        if not one.digest and not one.scores
    ]
    comparisons = []
    for after, before, reason in COMPARISONS:
        if after in by_name and before in by_name:
            comparisons.append(compare(by_name[before], by_name[after], reason))
        elif after in by_name:
            notes.append(f"{after} can't be compared with {before}, {reason}: there are no scores of {before}.")
    notes += [
        f"{one.num_cut:,} of {len(one.answers):,} answers of {one.checkpoint} were cut off at evaluate.max_new_tokens, "
        "which makes them wrong."
        for one in by_name.values()
        if one.num_cut
    ]
    read_curves = {path.stem: read_curve(path) for path in sorted(curves.glob("*.tsv"))}
    for name, curve in read_curves.items():
        last = {column: curve.columns[column][-1][1] for column in loads.loads(curve.columns)}
        notes += [f"{expert} of {name} is dead: hardly any token visits it." for expert in loads.dead(last)]
    first = next(iter(by_name.values()), None)
    families = in_order(name for name in first.scores if name not in LOWER_IS_BETTER) if first else []
    answers = {name: one.answers for name, one in by_name.items()}
    return Report(
        evaluations=shown,
        comparisons=comparisons,
        curves=[curve for curve in _by_checkpoint(read_curves) if curve.columns],
        tokenizer=files.read_json(tokenizer),
        packing={path.parent.name: files.read_json(path) for path in sorted(packing.glob("*/statistics.json"))},
        samples=samples.choose(families, answers, samples.read_items(benchmark)),
        provenance=provenance,
        notes=notes,
    )


def _few(evaluations: Iterable[Evaluation]) -> list[str]:
    """What is to be said of families that are too small to say anything."""
    counts = {family: score.n for one in evaluations for family, score in one.scores.items()}
    few = [family for family in in_order(counts) if counts[family] < FEW]
    if not few:
        return []
    if len(few) == len(counts):
        return [f"The scores mean nothing: no family has {FEW} items. They show that the pipeline works, no more."]
    names = ", ".join(f"{family} ({counts[family]})" for family in few)
    return [f"The scores mean nothing where n is below {FEW}: {names}."]


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
    answers = {
        (record["family"], record["id"]): Answer(bool(record["correct"]), record["output"], record.get("cut", False))
        for record in records
    }
    held_out = {
        Place(data_set, source, language): Figures(**figures)
        for data_set, sources in document.get("held_out", {}).items()
        for source, languages in sources.items()
        for language, figures in languages.items()
    }
    for family, score in scores.items():
        values = [value for (name, _), value in correct.items() if name == family]
        if len(values) != score.n or round(score.share * score.n) != sum(values):
            raise ReportError(
                f"{path} says {percent(score.share)} of {score.n} items of {family}, {path_of_items.name} has "
                f"{sum(values)} of {len(values)}: run `dvc repro -f evaluate@{path.stem}`"
            )
    return Evaluation(
        document["checkpoint"], document["split"], scores, correct, answers, held_out,
        document.get("parameters", 0), document.get("digest", ""), document.get("reason", ""),
    )  # fmt: skip


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


def _by_checkpoint(values: Mapping[str, T]) -> list[T]:
    """The values in the order of CHECKPOINTS, then those of other names."""
    names = [name for name in CHECKPOINTS if name in values] + [name for name in values if name not in CHECKPOINTS]
    return [values[name] for name in names]
