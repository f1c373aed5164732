"""Stage report: every metric → scores for DVC to compare, a summary, a table in Markdown, a page."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from minimind import config, files, markdown, page, process, provenance, report, tracking
from minimind.limits import Seed

Section = dict[str, Any]


@dataclass(frozen=True)
class Params:
    """Every section but `runtime`, to be shown."""

    seed: Seed
    base: bool
    data: Section
    clean: Section
    tokenizer: Section
    pack: Section
    model: Section
    student: Section
    pretrain: Section
    sft: Section
    dpo: Section
    teacher: Section
    distill: Section
    evaluate: Section


def main(
    profiles: Path, benchmark: Path, cleaning: Path, tokenizer: Path, packing: Path, curves: Path, evaluations: Path,
    scores: Path, summary: Path, table: Path, html: Path,
) -> None:  # fmt: skip
    process.claim("report")
    files.verify(benchmark, *sorted(packing.iterdir()))
    about = provenance.of(asdict(config.load(Params)), profiles)
    findings = report.read(about, benchmark, cleaning, tokenizer, packing, curves, evaluations)
    with files.folder(scores) as folder:
        for evaluation in findings.evaluations:
            files.write_json(folder / f"{evaluation.checkpoint}.json", report.shares(evaluation))
    files.write_json(summary, report.summary(findings))
    files.write_text(table, markdown.markdown(findings))
    files.write_text(html, page.html(findings))
    with tracking.start("report", {}) as run:
        run.artifact(table)
        run.artifact(html)
    for comparison in findings.comparisons:
        print(report.sentence(comparison))


if __name__ == "__main__":
    process.run(main)
