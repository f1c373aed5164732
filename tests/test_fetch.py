"""Stage fetch and the kinds of sources: what arrives, under which name, and what is refused."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from minimind import files
from minimind.atlas import world
from minimind.config import ConfigError
from minimind.sources import collection
from minimind.sources.source import FetchError
from stages import fetch

LINES = b'{"text": "a"}\n{"text": "b"}\n'


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository's root, as the working folder, with files of the user in data/own and elsewhere."""
    for name in ("data/own/poems/one.jsonl", "data/own/poems/two.jsonl", "elsewhere/three.jsonl"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(LINES)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def bring(root: Path, *entries: collection.Entry) -> dict[str, bytes]:
    """Fetch one data set of these entries; return its files, without the manifest."""
    with files.folder(root / "raw") as folder:
        collection.fetch({"sft": entries}, folder, Path("data/own"))
    manifest = files.verify_manifest(root / "raw" / "sft")
    found = {path.name: path.read_bytes() for path in (root / "raw" / "sft").iterdir() if path.name != files.MANIFEST}
    assert set(manifest["files"]) == set(found)
    return found


def test_atlas_writes_what_the_generator_yields(root: Path) -> None:
    entry: collection.Entry = {"uri": "atlas:sft", "count": 20, "seed": 5}
    found = bring(root, entry)
    assert list(found) == ["0-sft.jsonl"]
    assert [json.loads(line) for line in found["0-sft.jsonl"].splitlines()] == list(world.generate("sft", 20, 5))
    assert bring(root, entry) == found
    assert bring(root, {**entry, "seed": 6}) != found
    with pytest.raises(FetchError, match="atlas:stf with count 20: .*sft"):
        bring(root, {**entry, "uri": "atlas:stf"})


def test_files_are_copied_under_numbered_or_given_names(root: Path) -> None:
    found = bring(
        root,
        {"uri": "file:data/own/poems/*.jsonl"},
        {"uri": f"file:{root}/data/own/poems/one.jsonl"},
        {"uri": f"file://{root}/data/own/poems/one.jsonl", "name": "dev"},
    )
    assert found == dict.fromkeys(["0-one.jsonl", "0-two.jsonl", "1-one.jsonl", "dev.jsonl"], LINES)
    entry = files.read_manifest(root / "raw" / "sft")["files"]["dev.jsonl"]
    assert entry == {"sha256": hashlib.sha256(LINES).hexdigest(), "bytes": len(LINES), "lines": 2}


def test_a_last_line_without_an_end_counts(root: Path) -> None:
    (root / "data/own/poems/two.jsonl").write_bytes(LINES + b"{}")
    (root / "data/own/poems/one.jsonl").write_bytes(b"")
    bring(root, {"uri": "file:data/own/poems/*.jsonl"})
    entries = files.read_manifest(root / "raw" / "sft")["files"]
    assert {name: entry["lines"] for name, entry in entries.items()} == {"0-one.jsonl": 0, "0-two.jsonl": 3}


def test_the_users_file_is_neither_linked_nor_changed(root: Path) -> None:
    """DVC makes what it caches read-only; a hard link would pass that on to the user's file."""
    own = root / "data/own/poems/one.jsonl"
    bring(root, {"uri": "file:data/own/poems/one.jsonl"})
    assert os.stat(own).st_nlink == 1
    (root / "raw/sft/0-one.jsonl").write_bytes(b"changed")
    assert own.read_bytes() == LINES


def test_a_file_that_dvc_does_not_watch_must_be_pinned(root: Path) -> None:
    digest = hashlib.sha256(LINES).hexdigest()
    entry: collection.Entry = {"uri": "file:elsewhere/three.jsonl"}
    (root / "data/own/linked").symlink_to(root / "elsewhere")  # DVC doesn't look into it
    for place in ("elsewhere", "data/own/../../elsewhere", "data/own/linked"):
        with pytest.raises(FetchError, match=f"DVC would not see .*data/own.*sha256: {digest}"):
            bring(root, {"uri": f"file:{place}/three.jsonl"})
    (root / "data/own/three.jsonl").symlink_to(root / "elsewhere/three.jsonl")  # DVC sees what it leads to
    assert bring(root, {"uri": "file:data/own/three.jsonl"}) == {"0-three.jsonl": LINES}
    assert bring(root, {**entry, "sha256": digest}) == {"0-three.jsonl": LINES}
    (root / "elsewhere/three.jsonl").write_bytes(LINES * 2)
    with pytest.raises(FetchError, match=f"params.yaml says {digest}"):
        bring(root, {**entry, "sha256": digest})
    assert not (root / "raw").exists() or files.verify_manifest(root / "raw" / "sft")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"uri": "file:data/own/none.jsonl"}, "there is no such file"),
        ({"uri": "file:data/own/notes.txt"}, r"no \.jsonl file"),
        ({"uri": "file:data/own/**/*.jsonl"}, "two files called one.jsonl"),
        ({"uri": "file:data/own/poems/*.jsonl", "name": "x"}, "it has 2 files, so `name` can't name them"),
    ],
)
def test_ambiguities_are_refused(root: Path, entry: collection.Entry, message: str) -> None:
    (root / "data/own/notes.txt").write_text("notes")
    (root / "data/own/one.jsonl").write_bytes(LINES)
    with pytest.raises(FetchError, match=message):
        bring(root, entry)
    assert not (root / "raw").exists()
    assert not list(root.glob(".*.partial"))


def test_two_sources_may_not_share_a_name(root: Path) -> None:
    entry: collection.Entry = {"uri": "file:data/own/poems/one.jsonl", "name": "dev"}
    with pytest.raises(FetchError, match="has a file dev.jsonl already"):
        bring(root, entry, entry)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({}, r"`data.sft\[1\].uri` is None, expected one of atlas:…, file:…"),
        ({"uri": "ftp:x"}, r"`data.sft\[1\].uri` is 'ftp:x'"),
        ({"uri": "atlas:sft", "count": 3}, r"`data.sft\[1\].seed` is missing"),
        ({"uri": "atlas:sft", "cuont": 3}, "did you mean `count`"),
        ({"uri": "atlas:sft", "count": "3", "seed": 1}, r"`data.sft\[1\].count` is '3' \(a string\)"),
        ({"uri": "file:x", "count": 3}, r"`data.sft\[1\].count` is not a known key"),
    ],
)
def test_options_are_checked_before_anything_is_fetched(root: Path, entry: collection.Entry, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        bring(root, {"uri": "file:data/own/none.jsonl"}, entry)


def test_the_stage_brings_every_data_set(root: Path) -> None:
    sets = ("pretrain", "sft", "dpo", "prompts", "benchmark")
    entries = "".join(f"  {name}: [{{uri: 'file:data/own/poems/*.jsonl'}}]\n" for name in sets)
    (root / "params.yaml").write_text(f"data:\n{entries}")
    fetch.main(Path("data/own"), Path("data/raw"))
    assert {path.name for path in Path("data/raw").iterdir()} == set(sets)
    (root / "params.yaml").write_text(f"data:\n{entries}  pretrian: []\n")
    with pytest.raises(ConfigError, match=r"`data.pretrian` is not a known key; did you mean `pretrain`"):
        fetch.main(Path("data/own"), Path("data/raw"))
