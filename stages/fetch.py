"""Stage fetch: the sources named in params.yaml → raw data sets."""

from dataclasses import asdict, dataclass
from pathlib import Path

from minimind import config, files, process
from minimind.sources import collection


@dataclass(frozen=True)
class DataSets:
    """Every data set of the pipeline; each is a list of sources. Without one, what needs it is left out."""

    pretrain: list[collection.Entry] | None = None
    sft: list[collection.Entry] | None = None
    dpo: list[collection.Entry] | None = None
    prompts: list[collection.Entry] | None = None
    benchmark: list[collection.Entry] | None = None


@dataclass(frozen=True)
class Params:
    data: DataSets


def main(own: Path, out: Path) -> None:
    params = config.load(Params)
    process.claim("fetch")
    with files.folder(out) as folder:
        collection.fetch(asdict(params.data), folder, watched=own)


if __name__ == "__main__":
    process.run(main)
