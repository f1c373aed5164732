"""Stage report: every metric → a summary for DVC, a table in Markdown, a page."""

import sys
from pathlib import Path

from minimind import files, page, report, tracking


def main(
    benchmark: Path, tokenizer: Path, packing: Path, curves: Path, evaluations: Path,
    summary: Path, table: Path, html: Path,
) -> None:  # fmt: skip
    findings = report.read(benchmark, tokenizer, packing, curves, evaluations)
    files.write_json(summary, report.summary(findings))
    files.write_text(table, report.markdown(findings))
    files.write_text(html, page.html(findings))
    with tracking.start("report", {}) as run:
        run.artifact(table)
        run.artifact(html)
    for comparison in findings.comparisons:
        print(report.sentence(comparison))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
