"""How fast lines of JSON become packed rows, and how fast rows become batches.

    python -m benchmarks.packing [--megabytes 16] [--rounds 3] [--memory 0,500,2000]

Sides, one after the other in every round, on the same text with the same tokenizer: `encode`, tokenizers.encode_batch
on texts that are in memory already, and nothing else; `ours`, files to packed rows; `datasets`, the same job (read,
tokenise, pack, save) by datasets.map(batched=True, num_proc=workers), which joins texts and cuts them into rows.
Reported are medians, and ratios within a round; exit status 1 if bytes depend on the number of workers. `--memory`
packs files of so many megabytes and reports the largest resident memory of every process at once.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from tokenizers import Tokenizer

from benchmarks import workload
from minimind import files, tokenizer
from minimind.batches import Batches, Source
from minimind.packing import PackConfig, pack
from minimind.pool import Local
from minimind.rows import Rows
from minimind.tokenizer import BOS, EOS, TokenizerConfig

ROW_LENGTH = 512
TRAINER = 20_000  # tokens per second of the default model on 2 cores
CONFIG = PackConfig(ROW_LENGTH, 0.0, 0.0, 0.0)


def write_texts(path: Path, texts: list[str], megabytes: float) -> None:
    """The texts again and again, until the file is so large; the number before each makes every line another one."""
    path.parent.mkdir(parents=True)
    written = number = 0
    with path.open("wb") as stream:
        while written < megabytes * 1e6:
            line = json.dumps({"text": f"{number} {texts[number % len(texts)]}"}, ensure_ascii=False).encode() + b"\n"
            written, number = written + stream.write(line), number + 1


def ours(raw: Path, vocabulary: Path, workers: int, out: Path) -> dict[str, Any]:
    """Packs the folder `raw`; returns the statistics."""
    with Local(workers) as pool:
        return pack(raw, vocabulary, CONFIG, out, pool, out.with_suffix(".scratch"), out.with_suffix(".kept"))


def theirs(raw: Path, vocabulary: Path, workers: int, out: Path) -> None:
    """The usual recipe: tokenise in batches, join the texts, cut them into rows, save."""
    import datasets

    plain = tokenizer.plain(tokenizer.load(vocabulary))

    def rows(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        encodings = plain.encode_batch_fast(batch["text"])
        ids = list(chain.from_iterable([BOS, *encoding.ids, EOS] for encoding in encodings))
        return {"input_ids": [ids[start : start + ROW_LENGTH] for start in range(0, len(ids), ROW_LENGTH)]}

    datasets.disable_progress_bars()
    paths = [str(path) for path in raw.glob("*.jsonl")]
    loaded = datasets.load_dataset("json", data_files=paths, split="train", cache_dir=str(out.with_suffix(".cache")))
    packed = loaded.map(rows, batched=True, num_proc=workers, remove_columns=["text"], load_from_cache_file=False)
    packed.save_to_disk(out)


def peak_memory(command: list[str]) -> tuple[float, list[float]]:
    """Runs a command; MB of resident memory, summed over it and all that it started: at most, and once a second."""
    process = psutil.Popen(command)
    curve = []
    while process.poll() is None:
        resident = 0
        for member in [process, *process.children(recursive=True)]:
            try:
                resident += member.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        curve.append(resident / 1e6)
        time.sleep(1)
    assert process.returncode == 0, f"{command} failed"
    return max(curve), curve


def loader(rows: Rows, seconds: float = 3.0) -> float:
    """Tokens per second of shuffled batches of 20 rows."""
    batches = Batches([Source(rows)], 20, seed=1)
    batches.at(0)
    start, step = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        step += 1
        batches.at(step)
    return step * 20 * rows.row_length / (time.perf_counter() - start)


def main(arguments: list[str] | None = None) -> None:
    """Measure, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=16.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--memory", default="", help="sizes in MB, with commas between them")
    parser.add_argument("--one", type=Path, nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        raw, vocabulary, out = options.one
        ours(raw, vocabulary, options.workers, out)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = list(workload.texts(6000, workload.SEED))
        vocabulary = folder / "tokenizer"
        vocabulary.mkdir()
        config = TokenizerConfig(workload.VOCAB_SIZE, isolate=False, max_bytes=1 << 23, held_out_share=0.02)
        tokenizer.save(tokenizer.train(texts[: workload.TOKENIZER_DOCUMENTS], config), vocabulary)
        raw = folder / "pretrain"
        write_texts(raw / "0.jsonl", texts, options.megabytes)
        compare(folder, raw, vocabulary, options.rounds, options.workers)
        for size in [float(size) for size in options.memory.split(",") if size]:
            large = folder / f"{size:g}"
            write_texts(large / "pretrain" / "0.jsonl", texts, size)
            command = [sys.executable, "-m", "benchmarks.packing", "--workers", str(options.workers), "--one"]
            peak, curve = peak_memory([*command, *map(str, (large / "pretrain", vocabulary, large / "packed"))])
            tenths = [round(max(part)) for part in np.array_split(curve, min(10, len(curve)))]
            print(f"{size:g} MB: {peak:.0f} MB resident at most; over the tenths of the run {tenths}", flush=True)
            shutil.rmtree(large)


def compare(folder: Path, raw: Path, vocabulary: Path, rounds: int, workers: int) -> None:
    """All sides in turn, and the loader on what was packed."""
    texts = [json.loads(line)["text"] for line in (raw / "0.jsonl").open(encoding="utf-8")]
    plain: Tokenizer = tokenizer.plain(tokenizer.load(vocabulary))
    report: dict[str, Any] = {}
    sides: dict[str, Callable[[Path], object]] = {
        "encode": lambda out: plain.encode_batch(texts),
        "ours": lambda out: report.update(ours(raw, vocabulary, workers, out)),
        "datasets": lambda out: theirs(raw, vocabulary, workers, out),
    }
    megabytes = (raw / "0.jsonl").stat().st_size / 1e6
    rates: dict[str, list[float]] = {side: [] for side in sides}
    digests = set()
    for number in range(rounds):
        for side, run in sides.items():
            out = folder / f"{side}-{number}"
            start = time.perf_counter()
            run(out)
            rates[side].append(megabytes / (time.perf_counter() - start))
        digests.add(files.sha256(folder / f"ours-{number}" / files.MANIFEST))
    ours(raw, vocabulary, 1, folder / "single")
    digests.add(files.sha256(folder / "single" / files.MANIFEST))
    print(f"{megabytes:.1f} MB, {workers} workers, {rounds} rounds\n")
    print("| side | MB/s | ours in ratio |\n| :-- | --: | --: |")
    for side, values in rates.items():
        ratio = statistics.median(mine / other for mine, other in zip(rates["ours"], values, strict=True))
        print(f"| {side} | {statistics.median(values):.2f} | {ratio:.2f} |")
    rows = Rows.open(folder / "ours-0", "train")
    speed = loader(rows)
    print(f"\nfill {report['train']['fill']}; bytes equal for 1 and {workers} workers: {len(digests) == 1}")
    print(f"loader: {speed:,.0f} tokens/s, {speed / TRAINER:.0f} times the {TRAINER:,} that training takes", flush=True)
    if len(digests) > 1:
        sys.exit("the number of workers changed bytes, or two rounds did")


if __name__ == "__main__":
    main()
