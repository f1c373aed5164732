"""All data sets: shards handed to processes, what they return put together in order.

What depends on other documents, duplicates, is decided here, one document after the other. So the files are the same
whatever the number of processes.
"""

import shutil
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import IO, Any

import orjson
import psutil

from minimind import corpus, files
from minimind import scratch as scratches
from minimind.cleaning import duplicates, shards
from minimind.cleaning.funnel import DUPLICATE, Counts, Funnel, Removed
from minimind.cleaning.record import Record
from minimind.cleaning.settings import CleanConfig
from minimind.cleaning.shards import Outcome, Recipe, Shard
from minimind.errors import UserError
from minimind.pool import Local, Pool
from minimind.progress import Progress

REMOVED = "removed"  # folder of the lists of what was removed
AFTERWARDS = frozenset(["exact_duplicates", "similarity", "max_removed_share"])  # settings that no shard depends on
PACKAGES = (
    "lxml",
    "numpy",
    "orjson",
    "phonenumbers",
    "py3langid",
    "python-stdnum",
    "rensa",
)  # whose versions may change what rules find
BYTES_A_DOCUMENT = 1500  # of memory, where near duplicates are looked for


class CleanError(UserError):
    """More was removed than the settings allow, or memory won't suffice; the message says what to do."""


@dataclass
class Cleaned:
    """What became of all data sets.

    num_items: of the benchmark that documents were compared with; num_short: those that are shorter than an n-gram.
    """

    config: CleanConfig
    num_items: int
    num_short: int
    funnels: dict[str, Funnel] = field(default_factory=dict)

    def report(self) -> dict[str, Any]:
        """As it is written to metrics/clean.json."""
        compared = [name for name in self.funnels if self.config.on("decontaminate", name)]
        return {
            "decontaminated": {"data_sets": compared, "items": self.num_items, "note": self.note},
            "data_sets": {name: funnel.report() for name, funnel in self.funnels.items()},
        }

    @property
    def note(self) -> str:
        """One line for whoever reads the scores."""
        left_out = [name for name in self.funnels if not self.config.on("decontaminate", name)]
        if not left_out and self.num_items == 0:
            return "Not decontaminated: the benchmark has no items that the training data could be compared with."
        if not left_out:
            short = (
                f" {self.num_short} of them are shorter than that, and count where all that they say stands in a row, "
                "or is a line, a message or a document."
            )
            return (
                f"The training data was compared with all {self.num_items} items of the benchmark: what shared "
                f"{self.config.ngram_words} words or {self.config.ngram_han} Chinese characters in a row is gone, as "
                "is what says all that an item says beside the wording that items share."
            ) + (short if self.num_short else "")
        return (
            f"Not decontaminated: {', '.join(left_out)} {'was' if len(left_out) == 1 else 'were'} not compared with "
            "the benchmark (clean.decontaminate), so nothing but how the data was made keeps its items out."
        )


def clean(
    raws: Sequence[Path], benchmark: Path, config: CleanConfig, workers: int, out: Path, scratch: Path
) -> Cleaned:
    """Clean the data sets `raws`, folders with the names of DATA_SETS, into folders of those names within `out`.

    Files keep their names. `out`/removed/<data set>.jsonl lists every removed line: file and line of the raw data,
    rule, detail, bytes, excerpt. Finished shards are left in the folder `scratch`, where an interrupted run finds them
    again, until `forget`. Raises CleanError beforehand if near duplicates need more memory than is free.
    """
    _check_memory(raws, config)
    compares = any(config.on("decontaminate", raw.name) for raw in raws)
    recipe = Recipe(config, benchmark.resolve() if compares else None)
    index = shards.cleaner(recipe).index
    cleaned = Cleaned(config, len(index.names) if index else 0, index.num_short if index else 0)
    (out / REMOVED).mkdir(parents=True)
    total = corpus.size(raws)
    with (
        Local(workers if total > corpus.SHARD_BYTES else 1) as pool,
        Progress("clean", total, "B") as bar,
    ):
        for raw in raws:
            cleaned.funnels[raw.name] = _clean_one(raw, recipe, pool, out, scratch, bar)
    return cleaned


def forget(raws: Sequence[Path], scratch: Path) -> None:
    """Remove what `clean` has left in `scratch`."""
    for raw in raws:
        scratches.forget(scratch.resolve() / raw.name)


def _clean_one(raw: Path, recipe: Recipe, pool: Pool, out: Path, scratch: Path, bar: Progress) -> Funnel:
    # Whole paths, since a worker's current folder may be another.
    paths = sorted(raw.resolve().glob("*.jsonl"))
    parts = scratches.claim(scratch.resolve() / raw.name, _key(recipe, paths))
    batches = {path.name: shards.cut(raw.name, path, parts, recipe) for path in paths}
    outcomes = pool.run(shards.clean_shard, list(chain.from_iterable(batches.values())))
    (out / raw.name).mkdir()
    with (out / REMOVED / f"{raw.name}.jsonl").open("wb") as removed:
        merge = _Merge(raw.name, recipe.config, removed)
        for name, batch in batches.items():
            merge.open(name)
            with (out / raw.name / name).open("wb") as stream:
                for shard in batch:
                    merge.add(shard, next(outcomes), stream)
                    bar.update(shard.end - shard.start)
    num_lines = {name: {"lines": counts.kept} for name, counts in merge.funnel.sources.items()}
    files.write_manifest(out / raw.name, details=num_lines)
    return merge.funnel


def _key(recipe: Recipe, sources: Sequence[Path]) -> str:
    """Digest of all that the results of shards depend on, which duplicates and the limit are not part of."""
    settings = {name: value for name, value in asdict(recipe.config).items() if name not in AFTERWARDS}
    read = sorted(recipe.benchmark.glob("*.jsonl")) if recipe.benchmark else []
    return scratches.key(settings, sources, read, Path(shards.__file__), PACKAGES)


class _Merge:
    """Puts the parts of a data set together, without duplicates."""

    def __init__(self, data_set: str, config: CleanConfig, removed: IO[bytes]):
        self.data_set, self.removed, self.funnel = data_set, removed, Funnel()
        self.exact = duplicates.Exact() if config.on("exact_duplicates", data_set) else None
        self.near = duplicates.Near(config.similarity) if config.on("near_duplicates", data_set) else None
        self.names: list[str] = []  # of files
        self.begins: list[int] = []  # how many lines of the data set come before each file

    def open(self, name: str) -> None:
        """The next shards are of this file."""
        self.names.append(name)
        self.begins.append(self.funnel.lines)
        self.funnel.sources[name] = Counts()

    def add(self, shard: Shard, outcome: Outcome, stream: IO[bytes]) -> None:
        """Append what stays of a shard to `stream` and what does not to the list."""
        funnel, before = self.funnel, self.funnel.lines
        with shard.removed.open("rb") as entries:
            for line in entries:
                entry = orjson.loads(line)
                self._remove(before + entry["line"], entry)
        with shard.part.open("rb") as part:
            for place, size in enumerate(outcome.sizes):
                number = before + outcome.numbers[place]
                key = outcome.digests[place]
                line = part.read(size)
                if key is not None and (entry := self._duplicate(number, key, outcome.signatures[place])):
                    entry |= {"bytes": size, "excerpt": self._excerpt(line)}
                    self._remove(number, entry)
                    continue
                stream.write(line)
                funnel.stay(shard.path.name, size)
                if key is not None and funnel.wants(key.hex()):
                    file, row = self._place(number)
                    funnel.keep({"file": file, "line": row, "excerpt": self._excerpt(line)}, key.hex())
        funnel.read(shard.path.name, outcome)

    def _duplicate(self, number: int, key: bytes, signature: Any) -> Removed | None:
        if self.exact and (first := self.exact.find(number, key)) is not None:
            return {"rule": DUPLICATE, "detail": "of {}:{}".format(*self._place(first))}
        if self.near and signature is not None and (found := self.near.find(number, signature)):
            other, estimate = found
            file, line = self._place(other)
            return {"rule": "near duplicate", "detail": f"of {file}:{line}, similarity about {estimate:.2f}"}
        return None

    def _remove(self, number: int, entry: Removed) -> None:
        file, line = self._place(number)
        shown = {"file": file, "line": line, **{name: value for name, value in entry.items() if name != "line"}}
        self.removed.write(orjson.dumps(shown) + b"\n")
        self.funnel.remove(shown, blake2b(shown["excerpt"].encode(), digest_size=16).hexdigest())

    def _excerpt(self, line: bytes) -> str:
        record = Record.of(line, self.data_set)
        assert record is not None
        return shards.excerpt(record)

    def _place(self, number: int) -> tuple[str, int]:
        """File and line of the raw data for a line of the data set, both from 1 up."""
        file = bisect_right(self.begins, number - 1) - 1
        return self.names[file], number - self.begins[file]


def _check_memory(raws: Sequence[Path], config: CleanConfig) -> None:
    free = psutil.virtual_memory().available
    for raw in raws:
        if config.on("near_duplicates", raw.name) and (raw / files.MANIFEST).is_file():
            lines = sum(entry.get("lines", 0) for entry in files.read_manifest(raw)["files"].values())
            if (needed := lines * BYTES_A_DOCUMENT) > free:
                raise CleanError(
                    f"{raw.name}: to find near duplicates among {lines:,} documents takes about {needed / 1e9:.1f} GB "
                    f"of memory, and {free / 1e9:.1f} GB are free: leave {raw.name} out of clean.near_duplicates, or "
                    "clean on a larger machine"
                )


def check(cleaned: Cleaned, out: Path, evidence: Path, page: Path) -> None:
    """Raise CleanError if a rule removes more than max_removed_share of a data set; honest duplicates do not count.

    The lists of what was removed and the file `page`, which shows samples, are then copied into the folder
    `evidence`, since `out` does not outlive a failed stage.
    """
    limit, told = cleaned.config.max_removed_share, []
    for name, funnel in cleaned.funnels.items():
        removed, different = funnel.judged
        if removed > limit * different:
            evidence.mkdir(parents=True, exist_ok=True)
            kept = evidence / f"{name}.removed.jsonl"
            shutil.copyfile(out / REMOVED / f"{name}.jsonl", kept)
            counts = ", ".join(f"{count} {rule}" for rule, count in funnel.removed.most_common() if rule != DUPLICATE)
            told.append(
                f"{name}: {removed} of {different} different documents were removed ({counts}; all of them: {kept})"
            )
    if told:
        shown = shutil.copyfile(page, evidence / page.name)
        raise CleanError(
            f"{'; '.join(told)}: more than clean.max_removed_share {limit} allows. Samples are in {shown}: switch off "
            "the rule that is wrong for this data, or raise the share; what is cleaned by now is not cleaned again"
        )
