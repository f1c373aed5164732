"""The data sets of params.yaml, brought into one folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from minimind import config, files
from minimind.sources.atlas import AtlasSource
from minimind.sources.file import FileSource
from minimind.sources.npm import NpmSource
from minimind.sources.poetry import PoetrySource
from minimind.sources.pypi import PypiSource
from minimind.sources.source import FetchError, Source

KINDS: dict[str, type[Source]] = {
    "atlas": AtlasSource,
    "file": FileSource,
    "npm": NpmSource,
    "poetry": PoetrySource,
    "pypi": PypiSource,
}

Entry = dict[str, object]  # of params.yaml: `uri`, and the options of its kind


def parse(entry: Entry, key: str, path: Path = config.PARAMS) -> Source:
    """The source that the entry at `key` of the file `path` describes. Raises config.ConfigError."""
    uri = entry.get("uri")
    kind = uri.partition(":")[0] if isinstance(uri, str) else None
    if kind not in KINDS:
        known = ", ".join(f"{name}:…" for name in KINDS)
        raise config.ConfigError(f"{path}: `{key}.uri` is {uri!r}, expected one of {known}")
    return config.parse(KINDS[kind], entry, path, key)


def fetch(data: Mapping[str, Sequence[Entry]], folder: Path, watched: Path) -> None:
    """Bring every source of every data set to `folder/<data set>/`, each with a `manifest.json`.

    A source's file is called `<name>.jsonl` where the entry has a name, else `<n>-<its own name>`, n being the
    number of the source in its data set. The manifest holds sha256, bytes and lines of each file.
    Raises config.ConfigError before anything is fetched, and FetchError.
    """
    sources = {
        name: [parse(entry, f"data.{name}[{number}]") for number, entry in enumerate(entries)]
        for name, entries in data.items()
    }
    for name, members in sources.items():
        data_set = folder / name
        data_set.mkdir()
        paths = [
            path for number, source in enumerate(members) for path in _fetch_one(source, number, data_set, watched)
        ]
        # One manifest a data set, so that a stage that reads one does not depend on the others.
        files.write_manifest(data_set, details={path.name: {"lines": _num_lines(path)} for path in paths})


def _fetch_one(source: Source, number: int, data_set: Path, watched: Path) -> list[Path]:
    """Bring the files of one source into the folder of its data set; return them."""
    arrivals = data_set / "arrivals"
    arrivals.mkdir()
    source.fetch(arrivals, watched)
    fetched = sorted(arrivals.iterdir())
    if source.name is not None and len(fetched) > 1:
        raise FetchError(f"{source.uri}: it has {len(fetched)} files, so `name` can't name them: leave it out")
    paths = []
    for path in fetched:
        target = data_set / (f"{source.name}.jsonl" if source.name is not None else f"{number}-{path.name}")
        if target.exists():
            raise FetchError(f"{source.uri}: {data_set.name} has a file {target.name} already: choose another `name`")
        paths.append(path.rename(target))
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
