"""Stage fetch: the sources named in params.yaml → raw data sets."""

from dataclasses import asdict, dataclass
from pathlib import Path

from minimind import config, files, process
from minimind.sources import collection


@dataclass(frozen=True)
class Params:
    data: collection.DataSets


def main(own: Path, out: Path) -> None:
    params = config.load(Params)
    process.claim("fetch")
    with files.folder(out) as folder:
        collection.fetch(asdict(params.data), folder, watched=own)


if __name__ == "__main__":
    process.run(main)
