"""Stage pack: raw data sets → rows of tokens."""

import os
from dataclasses import dataclass
from pathlib import Path

from minimind import config, files, process
from minimind.chat import Chat
from minimind.packing import PackConfig, pack


@dataclass(frozen=True)
class Params:
    pack: PackConfig


def main(pretrain: Path, sft: Path, dpo: Path, tokenizer: Path, out: Path, metrics: Path) -> None:
    params, runtime = config.load(Params), config.runtime()
    process.claim("pack")
    os.environ.setdefault("RAYON_NUM_THREADS", str(runtime.workers))  # read by `tokenizers` when it first encodes
    chat = Chat(tokenizer)
    root = Path(os.environ.get("DVC_ROOT", "."))  # outlives the copy that `dvc exp run --temp` works in
    statistics = {}
    with files.folder(out) as folder:
        for raw in (pretrain, sft, dpo):
            kept = root / ".resume" / "pack" / f"{raw.name}.quarantine.jsonl"
            statistics[raw.name] = pack(raw, chat, params.pack, folder / raw.name, kept)
    files.write_json(metrics, statistics)


if __name__ == "__main__":
    process.run(main)
