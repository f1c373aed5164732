"""Atomic writes, digests and manifests: whole or absent, and noticed when changed."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from minimind import files


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a" / "value.json"
    files.write_json(path, {"b": "国", "a": 1.5})
    assert path.read_text(encoding="utf-8") == '{\n  "b": "国",\n  "a": 1.5\n}\n'
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(path, {"loss": float("nan")})
    with pytest.raises(RuntimeError), files.file(path) as partial:
        partial.write_text("half")
        raise RuntimeError
    with pytest.raises(RuntimeError), files.folder(path.parent) as partial:
        (partial / "half").write_text("half")
        raise RuntimeError
    assert tree(tmp_path) == {"a/value.json": path.read_bytes()}


def test_a_folder_replaces_what_stood_there(tmp_path: Path) -> None:
    path = tmp_path / "models" / "sft"
    for name in ("old", "new"):
        with files.folder(path) as partial:
            (partial / "deep").mkdir()
            (partial / "deep" / name).write_text(name)
    assert tree(tmp_path) == {"models/sft/deep/new": b"new"}


def test_writing_does_not_reach_through_a_hard_link(tmp_path: Path) -> None:
    """An output may be a hard link into DVC's cache."""
    cached, path = tmp_path / "cached", tmp_path / "path"
    cached.write_text("cached")
    os.link(cached, path)
    cached.chmod(0o444)
    files.write_text(path, "new")
    assert (cached.read_text(), path.read_text()) == ("cached", "new")


def test_a_killed_writer_leaves_no_half_file_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    script = (
        "import os, pathlib, signal, sys; from minimind import files\n"
        "with files.folder(pathlib.Path(sys.argv[1])) as partial:\n"
        "    (partial / 'half').write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = tmp_path / "out"
    result = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert result.returncode == -signal.SIGKILL
    assert not path.exists()
    with files.folder(path) as partial:
        (partial / "whole").write_text("whole")
    assert tree(tmp_path) == {"out/whole": b"whole"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with files.folder(tmp_path / "model") as partial:
        (partial / "deep").mkdir()
        (partial / "weights").write_bytes(bytes(range(256)) * 100)
        (partial / "deep" / "config.json").write_text("{}")
        files.write_manifest(partial, {"lineage": {"parent": None}}, {"weights": {"lines": 7}})
    return tmp_path / "model"


def test_a_manifest_holds_the_digest_of_every_file(folder: Path) -> None:
    manifest = files.verify_manifest(folder)
    weights = (folder / "weights").read_bytes()
    digest = hashlib.sha256(weights).hexdigest()
    assert list(manifest) == ["files", "lineage"]
    assert list(manifest["files"]) == ["deep/config.json", "weights"]
    assert manifest["files"]["weights"] == {"sha256": digest, "bytes": len(weights), "lines": 7}
    assert files.sha256(folder / "weights") == digest


def test_every_change_is_noticed_and_the_file_named(folder: Path) -> None:
    weights = folder / "weights"
    whole = weights.read_bytes()
    for change in (whole[:-1], whole + b"x", whole[:500] + b"x" + whole[501:]):
        weights.write_bytes(change)
        with pytest.raises(files.CorruptError, match=r"weights .*dvc checkout"):
            files.verify_manifest(folder)
        files.verify_manifest(folder, only=["deep/config.json"])
    weights.unlink()
    with pytest.raises(files.CorruptError, match="weights is missing"):
        files.verify_manifest(folder)
    weights.write_bytes(whole)
    with pytest.raises(files.CorruptError, match="more is not in"):
        files.verify_manifest(folder, only=["more"])
    for text in ("{", "[]", "{}"):
        (folder / files.MANIFEST).write_text(text)
        with pytest.raises(files.CorruptError, match=r"manifest.json is"):
            files.verify_manifest(folder)
    (folder / files.MANIFEST).unlink()
    with pytest.raises(files.CorruptError, match="is missing, so .* can't be checked"):
        files.verify_manifest(folder)


def test_jsonl_is_read_whole_and_bad_lines_are_named(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    records = [{"a": "x\u2028y"}, {"b": "国"}]  # a line separator that is none in JSON lines
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    assert files.read_jsonl(path) == records
    for line in ("{", "[1]"):
        path.write_text('{"a": 1}\n' + line)
        with pytest.raises(files.CorruptError, match="items.jsonl:2 is no"):
            files.read_jsonl(path)


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"sha256": "0"}, "does not say `bytes` and `sha256` of weights"),
        ({"bytes": 1}, "does not say `bytes` and `sha256` of weights"),
        ({"bytes": "1", "sha256": "0"}, "does not say"),
        ({"bytes": True, "sha256": "0"}, "does not say"),
        (None, "does not say"),
    ],
)
def test_a_manifest_that_says_too_little_is_named(tmp_path: Path, entry: object, says: str) -> None:
    (tmp_path / files.MANIFEST).write_text(json.dumps({"files": {"weights": entry}}))
    with pytest.raises(files.CorruptError, match=says):
        files.verify_manifest(tmp_path)


@pytest.mark.parametrize("name", ["../outside", "a/../../outside", "/outside"])
def test_a_manifest_does_not_reach_outside(tmp_path: Path, name: str) -> None:
    (tmp_path / files.MANIFEST).write_text(json.dumps({"files": {name: {"bytes": 1, "sha256": "0"}}}))
    with pytest.raises(files.CorruptError, match="not in its folder"):
        files.verify_manifest(tmp_path)


def test_a_folder_that_is_not_there_is_made_by_the_pipeline(tmp_path: Path) -> None:
    with pytest.raises(files.CorruptError, match="there is no folder .*dpo: `dvc repro` makes"):
        files.verify_manifest(tmp_path / "dpo")
