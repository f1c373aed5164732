"""Stage clean: raw data sets → the same without what the rules remove, a funnel of counts, a page to read."""

import os
from dataclasses import dataclass
from pathlib import Path

from minimind import config, files, process
from minimind.cleaning import collection, page
from minimind.cleaning.settings import CleanConfig


@dataclass(frozen=True)
class Params:
    clean: CleanConfig


def main(
    pretrain: Path, sft: Path, dpo: Path, prompts: Path, benchmark: Path, out: Path, metrics: Path, html: Path
) -> None:
    params, runtime = config.load(Params), config.runtime()
    process.claim("clean")
    files.verify(pretrain, sft, dpo, prompts, benchmark)
    workers = runtime.workers or os.cpu_count() or 1
    # What a failure leaves outlives the copy that `dvc exp run --temp` works in.
    scratch, raws = Path(os.environ.get("DVC_ROOT", ".")) / ".resume" / "clean", [pretrain, sft, dpo, prompts]
    with files.folder(out) as folder:
        cleaned = collection.clean(raws, benchmark, params.clean, workers, folder, scratch)
        files.write_json(metrics, cleaned.report())
        files.write_text(html, page.html(cleaned))
        for name, funnel in cleaned.funnels.items():
            removed = ", ".join(f"{count} {rule}" for rule, count in funnel.removed.most_common()) or "nothing removed"
            print(f"{name}: {funnel.kept:,} of {funnel.documents:,} kept; {removed}", flush=True)
        collection.check(cleaned, folder, scratch, html)
    collection.forget(raws, scratch)


if __name__ == "__main__":
    process.run(main)
