"""Stage pack: raw data sets → rows of tokens. Data sets that the profile doesn't fetch are left out."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from minimind import config, corpus, files, process
from minimind.chat import Chat
from minimind.packing import PackConfig, pack


@dataclass(frozen=True)
class Params:
    pack: PackConfig


def main(raw: Path, tokenizer: Path, out: Path, metrics: Path) -> None:
    params, runtime = config.load(Params), config.runtime()
    process.claim("pack")
    os.environ.setdefault("RAYON_NUM_THREADS", str(runtime.workers))  # read by `tokenizers` when it first encodes
    chat = Chat(tokenizer)
    root = Path(os.environ.get("DVC_ROOT", "."))  # outlives the copy that `dvc exp run --temp` works in
    statistics = {}
    with files.folder(out) as folder:
        for name in corpus.PARSERS:
            if any((raw / name).glob("*.jsonl")):
                kept = root / ".resume" / "pack" / f"{name}.quarantine.jsonl"
                statistics[name] = pack(raw / name, chat, params.pack, folder / name, kept)
    files.write_json(metrics, statistics)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
