"""Data sets → rows of one length on disk.

A row holds whole documents, best fit: each goes where it leaves the least room. Boundaries are kept, so attention,
positions and targets never cross from one document to the next.

| data set | a document                  | what is learned         | when it is longer than a row                    |
|----------|-----------------------------|-------------------------|-------------------------------------------------|
| pretrain | BOS text EOS                | all but BOS             | goes on in further documents, each with a BOS   |
| sft      | a conversation              | the assistant's answers | loses its end, if an answer is left             |
| dpo      | two conversations, together | their last answers      | the longer one loses its end, if answers remain |

The split is decided by the content, so equal documents never stand on both sides.

The work is done in shards of the files (`shards`), on any pool of workers; here their rows are put behind each other,
and the documents that they leave over into common rows. What is in memory is one shard and the rows still open.
"""

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import orjson

from minimind import corpus, files, limits, mixture, pointless, shards
from minimind import scratch as scratches
from minimind.errors import UserError
from minimind.fitting import BestFit, Tokens
from minimind.limits import Limits, Share
from minimind.mixture import Mixture
from minimind.pool import Pool
from minimind.progress import Progress
from minimind.rows import MAX_ROW_LENGTH, RowWriter
from minimind.shards import SPLITS, TRUNCATED, Documents, Recipe, Shard

NUM_EXAMPLES = 3  # bad lines quoted when a stage fails


@dataclass(frozen=True)
class PackConfig:
    """Section `pack` of params.yaml. Raises ValueError naming the field."""

    max_seq_len: Annotated[int, Limits(8, MAX_ROW_LENGTH)]  # tokens in a row
    validation_share: Share  # of the documents is kept for validation
    max_quarantine_share: Share  # of the lines may be bad; more fail the stage
    thinking_off_share: Share  # of the conversations without a thought is shown with thinking switched off
    mixture: Mixture = field(default_factory=Mixture)  # how often each source is read

    def __post_init__(self) -> None:
        limits.check(self, "pack")


class PackError(UserError):
    """A data set that can't be packed as it is; the message says what is wrong with it and where to look."""


class Quarantine:
    """Collects bad lines in a file."""

    def __init__(self, path: Path):
        self.path, self.stream = path, path.open("wb")
        self.reasons: Counter[str] = Counter()
        self.examples: list[str] = []

    def add(self, entry: dict[str, Any]) -> None:
        """Note a bad line: {"file", "line", "reason", "detail", "excerpt"}."""
        self.reasons[entry["reason"]] += 1
        if len(self.examples) < NUM_EXAMPLES:
            self.examples.append("{file}:{line}: {reason}: {detail}".format(**entry))
        self.stream.write(orjson.dumps(entry) + b"\n")

    def close(self, name: str, num_lines: int, config: PackConfig, kept: Path) -> None:
        """Raises PackError, with a copy of the file in `kept`, if all lines are bad, or more than the allowed share."""
        self.stream.close()
        bad = self.reasons.total()
        if bad <= config.max_quarantine_share * num_lines and not 0 < bad == num_lines:
            return
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.path, kept)
        counts = ", ".join(f"{number} {reason}" for reason, number in self.reasons.most_common())
        ways = [f"mend the data (`map` of its source in data.{name} says where a record's texts stand)"]
        if self.reasons.most_common(1)[0][0] == TRUNCATED:
            ways = [f"raise pack.max_seq_len, which is {config.max_seq_len}"]
        limit = ""
        if bad < num_lines:
            limit = f", more than pack.max_quarantine_share {config.max_quarantine_share} allows"
            ways.append("raise the share")
        raise PackError(
            f"{name}: {bad} of {num_lines} lines can't be used ({counts}){limit}. The first: "
            f"{'; '.join(self.examples)}. All of them, with reasons, are in {kept}: {', or '.join(ways)}"
        )


def pack(
    raw: Path, tokenizer: Path, config: PackConfig, out: Path, pool: Pool, scratch: Path, kept: Path
) -> dict[str, Any]:
    """Pack the data set `raw`, named as in `corpus.PARSERS`, into the new folder `out`; return its statistics.

    Without files in `raw`, which stands for a data set that params.yaml doesn't have, the rows are none.
    Finished shards are left in the folder `scratch`, where an interrupted run finds them again.
    Raises PackError if nothing is left to train on, or if more than `max_quarantine_share` of the lines are bad;
    their list is then copied to the file `kept`, since `out` doesn't outlive a failed stage. Raises UserError if the
    mixture doesn't fit the files, PointlessError if rows are so short that no answer has an end.
    """
    sources = sorted(raw.glob("*.jsonl"))
    portions = config.mixture.of(raw.name, [path.stem for path in sources])
    recipe = Recipe(tokenizer.resolve(), config.max_seq_len, config.validation_share, config.thinking_off_share)
    folder = scratches.claim(scratch.resolve() / raw.name, _key(recipe, sources))
    work = [shard for path in sources for shard in shards.cut(path.resolve(), folder, recipe)]
    tokens = Counter({path.stem: 1 for path in sources})  # matter only where there are weights
    if any(portion.weight for portion in portions.values()):
        tokens = Counter({path.stem: 0 for path in sources})
        for shard, number in zip(
            work, _watched(pool, shards.count_shard, work, work, f"{raw.name}: count"), strict=True
        ):
            tokens[shard.path.stem] += number
    epochs = mixture.epochs(portions, tokens)
    out.mkdir()
    merge = Merge(out, tokenizer, config)
    tasks = [(shard, epochs[shard.path.stem]) for shard in work]
    with merge:
        for shard, result in zip(work, _watched(pool, shards.pack_shard, tasks, work, raw.name), strict=True):
            merge.add(shard, *shards.load(result))
        merge.quarantine.close(raw.name, merge.lines.total() - merge.blank, config, kept)
        if sources:
            merge.check(raw.name)
    statistics = merge.statistics(epochs)
    lengths = {split: _by_length(tally) for split, tally in merge.tallies.items()}
    files.write_json(out / "statistics.json", {**statistics, "documents_up_to_length": lengths})
    files.write_manifest(out)
    return statistics


def _watched(pool: Pool, function: Any, tasks: Sequence[Any], work: Sequence[Shard], name: str) -> Any:
    """The results, while the bytes are shown."""
    with Progress(name, sum(shard.end - shard.start for shard in work), "B") as bar:
        for shard, result in zip(work, pool.run(function, tasks), strict=True):
            yield result
            bar.update(shard.end - shard.start)


def _key(recipe: Recipe, sources: Sequence[Path]) -> str:
    """Digest of all that the results of shards depend on: files, recipe, tokenizer, code."""
    read = [recipe.tokenizer / name for name in ("tokenizer.json", "tokenizer_config.json")]
    return scratches.key(str(recipe), sources, read, Path(shards.__file__), ("tokenizers", "tiktoken"))


def forget(scratch: Path, data_set: str) -> None:
    """Remove the shards of a data set that this process has left in `scratch`; those of other processes stay."""
    scratches.forget(scratch.resolve() / data_set)


class Merge:
    """Puts the results of shards, in order, into the files of a data set. A context manager, as RowWriter."""

    def __init__(self, out: Path, tokenizer: Path, config: PackConfig):
        self.config, self.row_length = config, config.max_seq_len
        vocab_size = len(json.loads((tokenizer / "tokenizer.json").read_bytes())["model"]["vocab"])
        self.quarantine = Quarantine(out / "quarantine.jsonl")
        self.writers = {split: RowWriter(out / f"{split}.arrow", self.row_length, vocab_size) for split in SPLITS}
        self.fits = {split: BestFit(writer) for split, writer in self.writers.items()}
        self.lines: Counter[str] = Counter()  # by file, blank ones among them
        self.blank = 0
        self.tallies: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
        self.sources: dict[str, Counter[str]] = {}  # what is trained on, by source
        self.answers: Counter[str] = Counter()  # by what was noted of them
        self._stack = ExitStack()

    def add(self, shard: Shard, notes: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Take in what `shards.pack_shard` made of the next shard."""
        name = shard.path.name
        for entry in notes["bad"]:
            if entry["reason"] == corpus.BLANK:
                self.blank += 1
                continue
            self.quarantine.add({**entry, "line": entry["line"] + self.lines[name]})
        self.lines[name] += notes["lines"]
        self.answers.update(notes["answers"])
        for split in SPLITS:
            if split not in notes:
                continue
            counts = notes[split]["tally"]
            lengths = {f"up to {length}": number for length, number in counts.pop("lengths").items()}
            self.tallies[split].update(counts | lengths)
            if split == "train":
                self.sources.setdefault(shard.path.stem, Counter()).update(counts)
            writer = self.writers[split]
            columns = {column: arrays[f"{split}.rows.{column}"] for column in writer.dtypes}
            writer.extend(columns, **notes[split]["rows"])
            left = Documents(*(arrays[f"{split}.left.{field}"] for field in Documents._fields))
            self._fit(split, left)

    def _fit(self, split: str, left: Documents) -> None:
        ends = left.lengths.cumsum().tolist()
        sides = zip([0, *ends], ends, left.num_bytes.tolist(), strict=False)
        # Copies, or an open row would hold all documents of its shard.
        documents = (Tokens(left.ids[a:b].copy(), left.learn[a:b].copy(), size) for a, b, size in sides)
        for number in left.groups.tolist():
            self.fits[split].add([next(documents) for _ in range(number)])

    def __enter__(self) -> "Merge":
        for writer in self.writers.values():
            self._stack.enter_context(writer)
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            if kind is None:
                for fit in self.fits.values():
                    fit.finish()
        finally:
            self._stack.__exit__(kind, error, trace)

    def check(self, name: str) -> None:
        """Raises PackError if nothing is left to train on, PointlessError if no answer has its end; warns if few do."""
        train, held_out = self.tallies["train"], self.tallies["validation"]["documents"]
        if not train["documents"]:
            mend = f"data.{name} in params.yaml has to bring some, and `clean` to leave some (metrics/clean.html)"
            if held_out:
                mend = f"pack.validation_share {self.config.validation_share} takes all {held_out} documents: lower it"
            elif self.lines.total():
                mend = "pack.mixture reads none of the documents: raise their epochs"
            raise PackError(f"{name}: {self.lines.total()} lines leave nothing to train on: {mend}")
        if not held_out:
            share = self.config.validation_share
            pointless.warn(f"{name}: no document is left to measure on. Raise pack.validation_share, which is {share}")
        if name != "pretrain":
            pointless.check(
                f"{name}: texts that end with what a model has to learn to stop by", train["ends"],
                train["ends"] + train["truncated"],
                f"The others are longer than a row: raise pack.max_seq_len, which is {self.row_length}",
            )  # fmt: skip

    def statistics(self, epochs: dict[str, float]) -> dict[str, Any]:
        """The counts, and what follows from them. epochs: of each source."""
        total = max(1, self.tallies["train"]["tokens"])
        return {
            "lines": self.lines.total(),
            "blank": self.blank,
            "quarantined": self.quarantine.reasons.total(),
            "quarantined_because": dict(sorted(self.quarantine.reasons.items())),
            "answers": dict(sorted(self.answers.items())),
            **{split: self._report(split) for split in SPLITS},
            "sources": {
                source: {
                    "epochs": round(epochs[source], 4),
                    "documents": counts["documents"],
                    "tokens": counts["tokens"],
                    "share": round(counts["tokens"] / total, 4),
                }
                for source, counts in self.sources.items()
            },
        }

    def _report(self, split: str) -> dict[str, Any]:
        counts, num_rows = self.tallies[split], self.writers[split].num_rows
        return {
            "rows": num_rows,
            **{name: counts[name] for name in ("documents", "tokens", "target_tokens", "target_bytes")},
            "bytes_per_target_token": round(counts["target_bytes"] / max(1, counts["target_tokens"]), 4),
            "fill": round(counts["tokens"] / max(1, num_rows * self.row_length), 4),
            **{name: counts[name] for name in ("truncated", "split", "ends")},
        }


def _by_length(tally: Counter[str]) -> dict[int, int]:
    """Documents by the power of two that their length reaches up to."""
    prefix = "up to "
    return dict(sorted((int(key.removeprefix(prefix)), n) for key, n in tally.items() if key.startswith(prefix)))
