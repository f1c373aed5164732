"""Stage pack: clean data sets → rows of tokens."""

import os
from dataclasses import dataclass
from pathlib import Path

from minimind import config, files, pool, process, prompts
from minimind.packing import PackConfig, forget, pack


@dataclass(frozen=True)
class Params:
    pack: PackConfig


def main(pretrain: Path, sft: Path, dpo: Path, asked: Path, tokenizer: Path, out: Path, metrics: Path) -> None:
    """`asked` are the prompts, which are not packed: those that can't be read are told now, not after training."""
    params, runtime = config.load(Params), config.runtime()
    process.claim("pack")
    files.verify(pretrain, sft, dpo, asked, tokenizer)
    prompts.inspect(asked).check("pack.max_quarantine_share", params.pack.max_quarantine_share)
    scratch = Path(os.environ.get("DVC_ROOT", ".")) / ".resume" / "pack"  # outlives what `dvc exp run --temp` works in
    statistics = {}
    with pool.choose(runtime) as workers, files.folder(out) as folder:
        for raw in (pretrain, sft, dpo):
            kept = scratch / f"{raw.name}.quarantine.jsonl"
            statistics[raw.name] = pack(raw, tokenizer, params.pack, folder / raw.name, workers, scratch, kept)
    files.write_json(metrics, statistics)
    for name, counts in statistics.items():
        if counts["answers"]:
            noted = ", ".join(f"{number} {what}" for what, number in counts["answers"].items())
            print(f"{name}: answers that are context only, or speak of calls: {noted}")
    for data_set in statistics:  # all is packed: nothing to be resumed
        forget(scratch, data_set)


if __name__ == "__main__":
    process.run(main)
