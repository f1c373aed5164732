"""The report as one web page: what `minimind.report` found, drawn by `minimind.plots`, in `minimind.template`.

Everything that a model wrote is escaped by the template, so an answer can't become part of the page.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from minimind import loads, plots
from minimind.families import FAMILIES, LOWER_IS_BETTER
from minimind.markdown import HELD_OUT
from minimind.report import (
    CHECKPOINTS,
    FEW,
    Change,
    Comparison,
    Curve,
    Report,
    method,
    p_value,
    signed,
)
from minimind.style import STYLE
from minimind.template import PAGE

MAX_CHARACTERS = 700  # of one answer; what is cut is counted
MAX_NAMED = 4  # families named on a card
SPARSE = 40  # a curve of fewer points shows each of them
LANGUAGES = {"en": "English", "zh": "Chinese"}
SHARED_CHARTS = (("distill", "control"),)  # curves to see in one picture

# What a column of a curve is, where its name alone doesn't say it.
COLUMNS = {
    "loss": "what training minimises, in nats",
    "bits_per_byte": "whatever the tokenizer",
    "learning_rate": "AdamW's, as scheduled",
    "gradient_norm": "before clipping",
    "accuracy": "share of pairs ordered rightly",
    "margin": "chosen over rejected reward",
    "chosen_reward": "β × log-ratio to the reference",
    "rejected_reward": "β × log-ratio to the reference",
    "preference_loss": "DPO's own, nats per pair",
    "nll": "of chosen answers, nats per token",
    "divergence": "from the teacher, nats per target",
    "router_loss": "weighted as in the loss",
    "router_entropy": "of the experts' probabilities, nats",
}
FIRST_COLUMNS = ("loss", "bits_per_byte", "learning_rate", "gradient_norm")
LOGARITHMIC = frozenset({"loss", "bits_per_byte", "cross_entropy", "divergence", "gradient_norm"})


@dataclass(frozen=True)
class Chart:
    """A picture of training curves with what is written around it."""

    title: str
    note: str
    legend: list[plots.Line]
    picture: Markup


@dataclass(frozen=True)
class Balance:
    """A comparison as pictures: for each family what got worse and what got better, over one axis."""

    comparison: Comparison
    axis: Markup
    rows: list[tuple[Change, Markup]]


def html(report: Report) -> str:
    """The whole page."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {"percent": plots.percent, "signed": signed, "count": "{:,}".format}
    environment.filters |= {"explained": explained, "ink": ink, "pieces": pieces}
    return environment.from_string(PAGE).render(
        report=report,
        style=Markup(STYLE),
        method=method(report),
        descriptions=FAMILIES,
        languages=LANGUAGES,
        lower_is_better=LOWER_IS_BETTER,
        max_named=MAX_NAMED,
        split=", ".join(sorted({one.split for one in report.evaluations if one.scores})),
        few=FEW,
        held_out=HELD_OUT,
        num_answers=max((len(one.correct) for one in report.evaluations), default=0),
        num_scored=sum(bool(one.scores) for one in report.evaluations),
        score_axis=Markup(plots.axis(["0", "25", "50", "75", "100"])),
        strips={family: strip(report, family) for family in report.families},
        changes={one.checkpoint: parent_changes(report, one.checkpoint) for one in report.evaluations},
        balances=[balance(comparison) for comparison in report.comparisons],
        curve_groups=[(group, charts(group)) for group in curve_groups(report)],
        lengths={name: lengths(name, one) for name, one in report.packing.items() if one["train"]["documents"]},
    )


def strip(report: Report, family: str) -> Markup:
    """The scores of one family, every checkpoint."""
    rows = [
        plots.Interval(one.checkpoint, ink(one.checkpoint), score.share, score.low, score.high)
        for one in report.evaluations
        if (score := one.scores.get(family))
    ]
    return Markup(plots.intervals(f"scores of {family}", rows))


def parent_changes(report: Report, checkpoint: str) -> dict[str, Change]:
    """Family → change from the checkpoint's parent; empty if it has none."""
    comparison = report.parent(checkpoint)
    return {change.family: change for change in comparison.changes} if comparison else {}


def balance(comparison: Comparison) -> Balance:
    """The pictures of a comparison, all on the smallest round scale that holds them."""
    largest = max((max(change.gained, change.lost) / change.n for change in comparison.changes), default=0.0)
    limit = next(value for value in (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0) if value >= largest)
    rows = []
    for change in comparison.changes:
        title = f"{change.family}: {change.worsened} items worse, {change.improved} better"
        worse, better = change.worsened / change.n, change.improved / change.n
        picture = plots.balance(title, worse, better, limit, faint=change.verdict == "unclear")
        rows.append((change, Markup(picture)))
    edge = f"{100 * limit:g} %"
    return Balance(comparison, Markup(plots.axis([edge, "0", edge])), rows)


def explained(change: Change) -> str:
    """All numbers of a change, for whoever rests the pointer on it."""
    return (
        f"{plots.percent(change.before)} → {plots.percent(change.after)}: {change.gained} items gained, "
        f"{change.lost} lost of {change.n}; difference {signed(change.difference)} "
        f"[{signed(change.low)}, {signed(change.high)}], p {p_value(change.p)}"
    )


def curve_groups(report: Report) -> list[list[Curve]]:
    """The curves in order, those of SHARED_CHARTS together."""
    by_name = {curve.name: curve for curve in report.curves}
    groups = []
    for name in by_name:
        partners = next((names for names in SHARED_CHARTS if name in names), (name,))
        present = [by_name[partner] for partner in partners if partner in by_name]
        if present[0].name == name:
            groups.append(present)
    return groups


def columns(group: Sequence[Curve]) -> list[str]:
    """What to draw of these curves: a column and the same on held-out data (`validation_…`) share a picture."""
    found = dict.fromkeys(name.removeprefix("validation_") for curve in group for name in curve.columns)
    for name in loads.loads(found):
        del found[name]  # they are many, and have a picture of their own
    return [name for name in FIRST_COLUMNS if name in found] + [name for name in found if name not in FIRST_COLUMNS]


def charts(group: Sequence[Curve]) -> list[Chart]:
    """A picture for each column of these curves, and one of the experts of each."""
    return [chart(group, column) for column in columns(group)] + [
        utilisation(curve) for curve in group if loads.loads(curve.columns)
    ]


def utilisation(curve: Curve) -> Chart:
    """How much each expert was visited at the end, and which are dead."""
    line = {name: curve.columns[name][-1][1] for name in loads.loads(curve.columns)}
    dead = f"; dead: {', '.join(names)}" if (names := loads.dead(line)) else ""
    picture = plots.grid(f"load of the experts of {curve.name}", loads.table(line), ink(curve.name))
    note = f"visits at the end, a row for each layer; half full: an even share{dead}"
    return Chart(f"experts of {curve.name}", note, [], Markup(picture))


def chart(group: Sequence[Curve], column: str) -> Chart:
    """One column of these curves; if it was measured in training and on held-out data, training stays faint."""
    series = []
    for curve in group:
        kinds = {"training": column, "held out": f"validation_{column}"}
        found = {kind: curve.columns[name] for kind, name in kinds.items() if name in curve.columns}
        for kind, points in found.items():
            names = [curve.name] * (len(group) > 1) + [kind] * (len(found) > 1)
            label = " ".join(names) or curve.name
            faint = kind == "training" and len(found) > 1
            series.append(plots.Line(label, ink(curve.name), points, len(points) < SPARSE, faint))
    logarithmic = column in LOGARITHMIC and plots.spans_magnitudes(series)
    trained = any(column in curve.columns for curve in group)
    return Chart(
        title=("" if trained else "held-out ") + column.replace("_", " "),
        note="; ".join(note for note in (COLUMNS.get(column), "logarithmic" if logarithmic else "") if note),
        legend=series if len(series) > 1 else [],
        picture=Markup(plots.lines(column, series, logarithmic)),
    )


def lengths(name: str, statistics: dict[str, Any]) -> Markup:
    """How long the training documents of a packed data set are: one bar for each power of two."""
    bars = [(f"≤{limit}", count) for limit, count in statistics["documents_up_to_length"]["train"].items()]
    return Markup(plots.histogram(f"lengths of {name}", bars, ink(name)))


def pieces(text: str) -> list[tuple[str, str]]:
    """What a model wrote, cut after MAX_CHARACTERS, as (kind, text): "thought", "call" or "said"."""
    num_cut = len(text) - MAX_CHARACTERS
    if num_cut > 0:
        text = f"{text[:MAX_CHARACTERS]} … and {num_cut:,} more characters"
    # A thought or a call that never ends runs to the end; a thought that never begins starts with the answer.
    marked = r"(<think>.*?(?:</think>|$)|^.*?</think>|<tool_call>.*?(?:</tool_call>|$))"
    found = []
    for part in re.split(marked, text, flags=re.DOTALL):
        kind = "call" if part.startswith("<tool_call>") else "thought" if "think>" in part else "said"
        if said := re.sub("</?(?:think|tool_call)>", "", part).strip():
            found.append((kind, said))
    return found


def ink(checkpoint: str) -> str:
    """The name of a checkpoint's colour in the style sheet; those that it doesn't know share one."""
    return checkpoint if checkpoint in CHECKPOINTS else "other"
