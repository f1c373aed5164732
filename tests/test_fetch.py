"""Stage fetch and the kinds of sources: what arrives, under which name, and what is refused."""

import hashlib
import json
import os
import re
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from minimind import cli, files, process
from minimind.atlas import world
from minimind.config import ConfigError
from minimind.sources import collection, downloads, transfer
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


def bring(root: Path, *entries: collection.Entry, data_set: str = "benchmark") -> dict[str, bytes]:
    """Fetch a data set from these entries; return its files, without the manifest.

    Nothing is looked into unless it is for training.
    """
    with files.folder(root / "raw") as folder:
        collection.fetch({data_set: entries}, folder, Path("data/own"))
    manifest = files.verify_manifest(root / "raw" / data_set)
    found = {
        path.name: path.read_bytes() for path in (root / "raw" / data_set).iterdir() if path.name != files.MANIFEST
    }
    assert set(manifest["files"]) == set(found)
    return found


def test_atlas_writes_what_the_generator_yields(root: Path) -> None:
    entry: collection.Entry = {"uri": "atlas:sft", "count": 20, "seed": 5}
    found = bring(root, entry)
    assert list(found) == ["sft.jsonl"]
    assert [json.loads(line) for line in found["sft.jsonl"].splitlines()] == list(world.generate("sft", 20, 5))
    assert bring(root, entry) == found
    assert bring(root, {**entry, "seed": 6}) != found
    with pytest.raises(ConfigError, match="atlas:stf: there is no data set 'stf': use one of .*sft"):
        bring(root, {**entry, "uri": "atlas:stf"})
    assert not (root / ".downloads").exists()


def test_files_are_copied_under_numbered_or_given_names(root: Path) -> None:
    found = bring(
        root,
        {"uri": "file:data/own/poems/*.jsonl"},
        {"uri": f"file:{root}/data/own/poems/one.jsonl"},
        {"uri": f"file://{root}/data/own/poems/one.jsonl", "name": "dev"},
        data_set="pretrain",
    )
    assert found == dict.fromkeys(["0-one.jsonl", "0-two.jsonl", "1-one.jsonl", "dev.jsonl"], LINES)
    entry = files.read_manifest(root / "raw" / "pretrain")["files"]["dev.jsonl"]
    assert entry == {"sha256": hashlib.sha256(LINES).hexdigest(), "bytes": len(LINES), "lines": 2}


def test_a_last_line_without_an_end_counts(root: Path) -> None:
    (root / "data/own/poems/two.jsonl").write_bytes(LINES + b"{}")
    (root / "data/own/poems/one.jsonl").write_bytes(b"")
    bring(root, {"uri": "file:data/own/poems/*.jsonl"})
    entries = files.read_manifest(root / "raw" / "benchmark")["files"]
    assert {name: entry["lines"] for name, entry in entries.items()} == {"one.jsonl": 0, "two.jsonl": 3}


def test_the_users_file_is_neither_linked_nor_changed(root: Path) -> None:
    """DVC makes what it caches read-only; a hard link would pass that on to the user's file."""
    own = root / "data/own/poems/one.jsonl"
    bring(root, {"uri": "file:data/own/poems/one.jsonl"})
    assert os.stat(own).st_nlink == 1
    (root / "raw/benchmark/0-one.jsonl").write_bytes(b"changed")
    assert own.read_bytes() == LINES


def test_a_file_that_dvc_does_not_watch_must_be_pinned(root: Path) -> None:
    digest = hashlib.sha256(LINES).hexdigest()
    entry: collection.Entry = {"uri": "file:elsewhere/three.jsonl"}
    (root / "data/own/linked").symlink_to(root / "elsewhere")  # DVC doesn't look into it
    for place in ("elsewhere", "data/own/../../elsewhere", "data/own/linked"):
        with pytest.raises(FetchError, match=f"DVC would not see .*data/own.*sha256: {digest}"):
            bring(root, {"uri": f"file:{place}/three.jsonl"})
    (root / "data/own/three.jsonl").symlink_to(root / "elsewhere/three.jsonl")  # DVC sees what it leads to
    assert bring(root, {"uri": "file:data/own/three.jsonl"}) == {"three.jsonl": LINES}
    assert bring(root, {**entry, "sha256": digest}) == {"three.jsonl": LINES}
    (root / "elsewhere/three.jsonl").write_bytes(LINES * 2)
    with pytest.raises(FetchError, match=f"`sha256` says {digest}: .*else put the old file back"):
        bring(root, {**entry, "sha256": digest})
    assert not (root / "raw").exists() or files.verify_manifest(root / "raw" / "benchmark")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"uri": "file:data/own/none.jsonl"}, "there is no such file"),
        ({"uri": "file:data/own/notes.pdf"}, r"notes.pdf is no \.jsonl, .*say which with `format:`"),
        ({"uri": "file:data/own/**/*.jsonl"}, "two files called one.jsonl"),
        ({"uri": "file:data/own/poems/*.jsonl", "sha256": "0" * 64}, "2 files, which can't be pinned"),
    ],
)
def test_ambiguities_are_refused(root: Path, entry: collection.Entry, message: str) -> None:
    (root / "data/own/notes.pdf").write_text("notes")
    (root / "data/own/one.jsonl").write_bytes(LINES)
    with pytest.raises(FetchError, match=message):
        bring(root, entry)
    assert not (root / "raw").exists()
    assert not list(root.glob(".*.partial"))


def test_a_name_joins_files(root: Path) -> None:
    (root / "data/own/poems/one.jsonl").write_bytes(LINES.rstrip())
    assert bring(root, {"uri": "file:data/own/poems/*.jsonl", "name": "all"}) == {"all.jsonl": LINES * 2}


def test_two_sources_may_not_share_a_name(root: Path) -> None:
    entry: collection.Entry = {"uri": "file:data/own/poems/one.jsonl", "name": "dev"}
    with pytest.raises(FetchError, match="has a file dev.jsonl already"):
        bring(root, entry, entry)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({}, r"`data.benchmark\[1\].uri` is None, expected one of atlas:…, file:…, hf:…"),
        ({"uri": "ftp:x"}, r"`data.benchmark\[1\].uri` is 'ftp:x'"),
        ({"uri": "atlas:sft", "count": 3}, r"`data.benchmark\[1\].seed` is missing"),
        ({"uri": "atlas:sft", "cuont": 3}, "did you mean `count`"),
        ({"uri": "atlas:sft", "count": "3", "seed": 1}, r"`data.benchmark\[1\].count` is '3' \(a string\)"),
        ({"uri": "file:x", "count": 3}, r"`data.benchmark\[1\].count` is not a known key"),
    ],
)
def test_options_are_checked_before_anything_is_fetched(root: Path, entry: collection.Entry, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        bring(root, {"uri": "file:data/own/none.jsonl"}, entry)


def test_the_stage_brings_every_data_set(root: Path) -> None:
    asked = {"role": "user", "content": "a"}
    chosen, rejected = ([asked, {"role": "assistant", "content": said}] for said in "bc")
    sets: dict[str, dict[str, Any]] = {
        "pretrain": {"text": "a"}, "sft": {"conversations": chosen}, "prompts": {"prompt": "a"},
        "dpo": {"chosen": chosen, "rejected": rejected}, "benchmark": {},
    }  # fmt: skip
    for name, line in sets.items():
        Path(f"data/own/{name}.jsonl").write_text(json.dumps(line))
    entries = "".join(f"  {name}: [{{uri: 'file:data/own/{name}.jsonl'}}]\n" for name in sets)
    (root / "params.yaml").write_text(f"data:\n{entries}")
    fetch.main(Path("data/own"), Path("data/raw"))
    assert {path.name for path in Path("data/raw").iterdir()} == set(sets)
    (root / "params.yaml").write_text(f"data:\n{entries}  pretrian: []\n")
    with pytest.raises(ConfigError, match=r"`data.pretrian` is not a known key; did you mean `pretrain`"):
        fetch.main(Path("data/own"), Path("data/raw"))


@pytest.fixture
def remote(root: Path, upstream: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A server with a file of a few blocks, and a working folder."""
    upstream.files["big.jsonl"] = b"".join(b'{"text": "%d"}\n' % number for number in range(200_000))
    upstream.files["small.jsonl"] = LINES
    return upstream


def entry(remote: Any, name: str = "big.jsonl", **options: object) -> collection.Entry:
    return {"uri": f"{remote.address}/files/{name}", **options}


def pinned(remote: Any, name: str = "big.jsonl") -> collection.Entry:
    return entry(remote, name, sha256=hashlib.sha256(remote.files[name]).hexdigest(), size=len(remote.files[name]))


@pytest.mark.parametrize(
    ("faults", "ranges"),
    [
        ([("cut", 1_000_000), ("cut", 1_500_000)], [None, "bytes=1000000-", "bytes=2500000-"]),
        ([("cut", 1_000_000), ("whole", None)], [None, "bytes=1000000-"]),  # a server without Range begins again
        ([("status", 503), ("status", (429, {"Retry-After": "0"})), ("cut", 0)], [None] * 4),
        ([("lie", 1000)], [None, "all"]),  # announces more than there is
        ([("lie", -1000)], [None, "rest"]),  # less
    ],
)
def test_a_broken_download_goes_on(root: Path, remote: Any, faults: list[Any], ranges: list[str | None]) -> None:
    content = remote.files["big.jsonl"]
    remote.faults["big.jsonl"] = list(faults)
    assert bring(root, pinned(remote)) == {"big.jsonl": content}
    words = {"all": f"bytes={len(content)}-", "rest": f"bytes={len(content) - 1000}-"}
    assert remote.gets("big.jsonl") == [words.get(asked or "", asked) for asked in ranges]
    noted = files.read_manifest(root / "raw/benchmark")["files"]["big.jsonl"]["source"]
    assert noted == {"uri": pinned(remote)["uri"], "file": "big.jsonl", "bytes": len(content),
                     "sha256": hashlib.sha256(content).hexdigest()}  # fmt: skip


def test_the_next_run_goes_on_where_one_gave_up_and_downloads_nothing_twice(root: Path, remote: Any) -> None:
    remote.faults["big.jsonl"] = [("cut", 1_000_000)] + [("status", 500)] * transfer.ATTEMPTS
    with pytest.raises(FetchError, match=r"big.jsonl could not be fetched, 6 times in a row: 127.0.0.1 answers 500"):
        bring(root, entry(remote))
    assert not (root / "raw").exists()
    found = bring(root, entry(remote))
    assert remote.gets("big.jsonl")[-1] == "bytes=1000000-"
    asked = len(remote.gets("big.jsonl"))
    assert bring(root, entry(remote)) == found == {"big.jsonl": remote.files["big.jsonl"]}
    assert len(remote.gets("big.jsonl")) == asked


@pytest.fixture
def untagged(remote: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The server, which sends no ETags."""
    handler = remote.RequestHandlerClass
    send = handler.send_header
    monkeypatch.setattr(handler, "send_header", lambda self, name, value: name == "ETag" or send(self, name, value))
    return remote


def test_without_an_etag_only_what_a_digest_vouches_for_goes_on(root: Path, untagged: Any) -> None:
    content = untagged.files["big.jsonl"]
    untagged.faults["big.jsonl"] = [("cut", 1_000_000), ("cut", 1_500_000)]
    assert bring(root, pinned(untagged)) == {"big.jsonl": content}
    assert untagged.gets("big.jsonl") == [None, "bytes=1000000-", "bytes=2500000-"]
    untagged.files["other.jsonl"] = content
    untagged.faults["other.jsonl"] = [("cut", 1_000_000)]
    assert bring(root, entry(untagged, "other.jsonl")) == {"other.jsonl": content}
    assert untagged.gets("other.jsonl") == [None, None]


@pytest.mark.parametrize("length", [1.0, 0.1])
def test_parts_of_different_files_are_told_by_the_digest_and_fetched_once_more(
    root: Path, untagged: Any, length: float
) -> None:
    old = untagged.files["big.jsonl"]
    untagged.faults["big.jsonl"] = [("cut", 1_000_000)] + [("status", 500)] * transfer.ATTEMPTS
    with pytest.raises(FetchError, match="6 times in a row"):
        bring(root, pinned(untagged))
    untagged.files["big.jsonl"] = old.replace(b"text", b"Text")[: int(length * len(old))]
    untagged.faults.clear()
    asked = len(untagged.gets("big.jsonl"))
    assert bring(root, pinned(untagged)) == {"big.jsonl": untagged.files["big.jsonl"]}
    assert untagged.gets("big.jsonl")[asked:] == ["bytes=1000000-", None]


def test_a_digest_that_nothing_has_ends_after_the_second_time(root: Path, untagged: Any) -> None:
    untagged.faults["big.jsonl"] = [("cut", 1_000_000)]
    with pytest.raises(FetchError, match="`sha256` says 0000"):
        bring(root, entry(untagged, sha256="0" * 64))
    assert untagged.gets("big.jsonl") == [None, "bytes=1000000-", None]


def test_a_busy_server_is_left_alone_for_as_long_as_it_says(
    root: Path, remote: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    times: list[float] = []
    serve = remote.RequestHandlerClass.serve

    def timed(self: Any, name: str) -> None:
        times.append(time.monotonic())
        serve(self, name)

    monkeypatch.setattr(remote.RequestHandlerClass, "serve", timed)
    remote.faults["small.jsonl"] = [("status", (503, {"Retry-After": "1"}))]
    assert bring(root, entry(remote, "small.jsonl")) == {"small.jsonl": LINES}
    assert times[-1] - times[-2] >= 1.0


def test_a_part_of_what_has_changed_since_is_thrown_away(root: Path, remote: Any) -> None:
    remote.faults["big.jsonl"] = [("cut", 1_000_000)] + [("status", 500)] * transfer.ATTEMPTS
    with pytest.raises(FetchError):
        bring(root, entry(remote))
    remote.files["big.jsonl"] = remote.files["big.jsonl"].replace(b"text", b"Text")
    assert bring(root, entry(remote)) == {"big.jsonl": remote.files["big.jsonl"]}


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (("status", 403), r"refuses it \(403\).*token"),
        (("status", 404), r"has no such file \(404\)"),
        (("status", (429, {"Retry-After": "86400"})), "wants 86400 seconds to pass"),
        (("page", "text/html; charset=utf-8"), "a web page came in place of data"),
        (("page", "application/octet-stream"), "a web page came in place of data"),
    ],
)
def test_what_no_patience_mends_is_said_at_once(root: Path, remote: Any, fault: Any, message: str) -> None:
    remote.faults["small.jsonl"] = [fault] * 9
    with pytest.raises(FetchError, match=message):
        bring(root, entry(remote, "small.jsonl"))
    assert len(remote.gets("small.jsonl")) == 1
    assert not (root / "raw").exists()


def test_wrong_contents_are_refused_and_named(root: Path, remote: Any) -> None:
    right = pinned(remote, "small.jsonl")
    remote.files["small.jsonl"] = LINES.replace(b"a", b"x")
    with pytest.raises(
        FetchError, match=f"small.jsonl.*the SHA-256 of .* is [0-9a-f]+, `sha256` says {right['sha256']}"
    ):
        bring(root, right)
    assert not list((root / ".downloads").rglob("small.jsonl*"))
    remote.files["small.jsonl"] = LINES + b"{}"
    with pytest.raises(FetchError, match=r"has 30 bytes now, `size` says 28"):
        bring(root, right)
    with pytest.raises(ConfigError, match="`sha256` is 'abc', expected 64 hexadecimal digits"):
        bring(root, entry(remote, sha256="abc"))


def test_a_change_upstream_is_noticed(root: Path, remote: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bring(root, entry(remote, "small.jsonl"), pinned(remote))
    data: collection.Data = {"benchmark": [entry(remote, "small.jsonl"), pinned(remote)]}
    assert [line.split()[-1] for line in collection.verify(data, root / "raw")] == ["written", "told", "told"]
    remote.files["small.jsonl"] = LINES.replace(b"a", b"x")
    with pytest.raises(FetchError, match="small.jsonl: it has changed upstream since it was fetched: its ETag was"):
        list(collection.verify(data, root / "raw"))
    with pytest.raises(FetchError, match="If the new contents are meant, delete .*; if the old are, pin them with"):
        bring(root, entry(remote, "small.jsonl"))
    asked = len(remote.asked)
    old = {**entry(remote, "small.jsonl"), "sha256": hashlib.sha256(LINES).hexdigest()}
    assert bring(root, old) == {"small.jsonl": LINES}, "what was downloaded is what is pinned now"
    assert len(remote.asked) == asked
    with pytest.raises(FetchError, match=r"`sha256` says .*: if this file is meant.*else delete \S+ and fetch again"):
        bring(root, pinned(remote, "small.jsonl"))
    (root / "raw/benchmark/small.jsonl").chmod(0o644)
    (root / "raw/benchmark/small.jsonl").write_bytes(LINES.replace(b"b", b"c"))
    with pytest.raises(files.CorruptError, match="small.jsonl has other contents"):
        list(collection.verify(data, root / "raw"))


def test_what_has_gone_upstream_can_be_pinned(root: Path, remote: Any) -> None:
    bring(root, entry(remote, "small.jsonl"))
    del remote.files["small.jsonl"]
    with pytest.raises(FetchError, match="404.*Contents of before are in .*: to keep them, pin them with `sha256: "):
        bring(root, entry(remote, "small.jsonl"))
    kept = {**entry(remote, "small.jsonl"), "sha256": hashlib.sha256(LINES).hexdigest()}
    assert bring(root, kept) == {"small.jsonl": LINES}


def test_without_a_network_it_says_what_to_do_and_a_copied_file_is_taken(root: Path, remote: Any) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as closed:
        port = closed.server_address[1]
    nowhere: collection.Entry = {"uri": f"http://127.0.0.1:{port}/data/small.jsonl"}
    with pytest.raises(FetchError, match=r"Without a network here, run `curl .*` elsewhere and copy") as caught:
        bring(root, nowhere)
    folder = Path(re.search(r"copy small.jsonl to (\S+)/", str(caught.value))[1])  # type: ignore[index]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "small.jsonl").write_bytes(LINES)
    assert bring(root, nowhere) == {"small.jsonl": LINES}


def test_what_will_not_fit_is_not_begun(root: Path, remote: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    free = len(remote.files["big.jsonl"]) + 1000  # for the download, not for its records as well
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    with pytest.raises(FetchError, match=r"the sources need 0.0 GB in .*where 0.0 GB are free: make room"):
        bring(root, entry(remote))
    assert remote.gets("big.jsonl") == []


def test_a_pinned_size_counts_where_the_server_tells_none(
    root: Path, remote: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote.RequestHandlerClass, "do_HEAD", lambda self: self.answer(b"", 405))
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(FetchError, match=r"the sources need 0.0 GB in .*: make room"):
        bring(root, pinned(remote))
    assert remote.gets("big.jsonl") == []


def test_what_is_brought_from_elsewhere_is_brought_by_one_process_at_a_time(root: Path, remote: Any) -> None:
    bring(root, entry(remote, "small.jsonl"))
    assert process.locked(root / ".downloads/lock")


def test_the_command_downloads_ahead_and_verifies(root: Path, remote: Any, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "params.yaml").write_text(
        "data:\n  sft: []\n  dpo: []\n  prompts: []\n  benchmark: []\n"
        f"  pretrain: [{{uri: '{remote.address}/files/small.jsonl'}}]\n"
    )
    assert cli.main(["fetch"]) == 0
    asked = len(remote.gets("small.jsonl"))
    fetch.main(Path("data/own"), Path("data/raw"))
    assert len(remote.gets("small.jsonl")) == asked == 1
    assert cli.main(["fetch", "--verify"]) == 0
    assert "small.jsonl has not changed, as far as can be told" in capsys.readouterr().out
    remote.files["small.jsonl"] += b"{}"
    assert cli.main(["fetch", "--verify"]) == 1
    assert "its number of bytes was 28, now it is 30" in capsys.readouterr().err
