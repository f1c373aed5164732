"""The report as Markdown: what `minimind.report` found, in tables that a terminal and a web page show."""

import re
from collections.abc import Sequence

from minimind.plots import percent
from minimind.report import Curve, Report, Score, method, p_value, sentence, signed


def markdown(report: Report) -> str:
    """The findings as Markdown: scores with intervals, then each comparison with what is real in it."""
    checkpoints = [one.checkpoint for one in report.evaluations]
    parts = ["# Report", about(report)]
    if report.is_scored:
        split = next(one.split for one in report.evaluations if one.scores)
        parts.append(f"Scores in percent on the {split} split, with Wilson 95% intervals.")
    parts += [sentence(comparison) for comparison in report.comparisons]
    rows = []
    for family in report.families:
        counts = {one.scores[family].n for one in report.evaluations if family in one.scores}
        cells = [_cell(one.scores.get(family)) for one in report.evaluations]
        rows.append([family, "/".join(map(str, sorted(counts))), *cells])
    if rows:
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
    if report.places:
        parts += ["## Held-out bits per byte", HELD_OUT, _held_out_table(report)]
    rows = [[curve.name, f"{curve.steps:,}", f"{curve.tokens:,}", _held_out(curve)] for curve in report.curves]
    parts += ["## Training", _table(["stage", "steps", "tokens", "held out, at the end"], rows)]
    parts += ["## How to read this", method(report), *[f"- {note}" for note in report.notes]]
    return "\n\n".join(part for part in parts if part) + "\n"


HELD_OUT = (
    "Of documents that packing kept out of training, the first of each file; the fewer bits, the better they were "
    "predicted. They can be compared across tokenizers."
)


def about(report: Report) -> str:
    """Which profile, seed, parameters and digests the report is about, in a few lines."""
    one = report.provenance
    models = "; ".join(
        f"{evaluation.checkpoint}: {evaluation.parameters:,} parameters, digest {evaluation.digest[:12]}"
        for evaluation in report.evaluations
        if evaluation.digest
    )
    return f"Profile {one.profile}; seed {one.seed}; digest of all params {one.digest}." + (
        f" Models: {models}." if models else ""
    )


def _held_out_table(report: Report) -> str:
    rows = []
    for place in report.places:
        figures = [one.held_out.get(place) for one in report.evaluations]
        known = next(one for one in figures if one)
        cells = [f"{one.bits_per_byte:.3f}" if one else "–" for one in figures]
        rows.append([" / ".join(place), f"{known.documents:,}", f"{known.bytes:,}", *cells])
    names = ["data / file / language", "documents", "bytes", *(one.checkpoint for one in report.evaluations)]
    return _table(names, rows)


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
    return "\n".join(f"| {' | '.join(map(_cell_text, cells))} |" for cells in lines)


def _cell_text(text: str) -> str:
    """The text as part of a table: a name that somebody chose can't end the cell or become HTML."""
    return re.sub(r"[|<>\\`]", r"\\\g<0>", " ".join(text.split()))
