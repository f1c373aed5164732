"""Stage report: every metric → scores for DVC to compare, a summary, a table in Markdown, a page."""

from pathlib import Path

from minimind import files, page, process, report, tracking


def main(
    benchmark: Path, cleaning: Path, tokenizer: Path, packing: Path, curves: Path, evaluations: Path,
    scores: Path, summary: Path, table: Path, html: Path,
) -> None:  # fmt: skip
    process.claim("report")
    files.verify(benchmark, *sorted(packing.iterdir()))
    findings = report.read(benchmark, cleaning, tokenizer, packing, curves, evaluations)
    with files.folder(scores) as folder:
        for evaluation in findings.evaluations:
            files.write_json(folder / f"{evaluation.checkpoint}.json", report.shares(evaluation))
    files.write_json(summary, report.summary(findings))
    files.write_text(table, report.markdown(findings))
    files.write_text(html, page.html(findings))
    with tracking.start("report", {}) as run:
        run.artifact(table)
        run.artifact(html)
    for comparison in findings.comparisons:
        print(report.sentence(comparison))


if __name__ == "__main__":
    process.run(main)
