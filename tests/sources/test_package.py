"""npm: and pypi:, with the registries' own clients and whatever registry this machine is set up for."""

import json
import os
import shutil
import socket
from pathlib import Path

import pytest

from minimind import files, process
from minimind.sources import collection, downloads, npm, package, wheel
from minimind.sources.source import FetchError

NPM = "mime-db@1.52.0"
INTEGRITY = "sha512-sPU4uV7dYlvtWJxwwxHD0PuihVNiE7TyAbQ5SWxDCB9mUYvOgroQOwYQQOKPJ8CIbE+1ETVlOoK1UC2nU3gYvg=="
PYPI = "jsonschema-specifications==2025.9.1"


@pytest.fixture(autouse=True)
def _working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_files_of_packages_become_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data: collection.Data = {
        "benchmark": [
            {"uri": f"npm:{NPM}", "integrity": INTEGRITY, "files": ["db.json"], "map": {"text": "text/csv.source"}},
            {"uri": f"pypi:{PYPI}", "files": ["**/draft7/*.json", "**/draft4/*.json"], "name": "schemas"},
        ]
    }
    collection.download(data)
    assert process.locked(tmp_path / ".downloads/lock")
    monkeypatch.setenv("PATH", "")  # nothing is asked of a registry again
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    for folder in ("raw", "again"):
        (tmp_path / folder).mkdir()
        collection.fetch(data, tmp_path / folder, tmp_path)
    manifest = files.verify_manifest(tmp_path / "raw/benchmark")
    assert manifest == files.verify_manifest(tmp_path / "again/benchmark")
    assert (tmp_path / "raw/benchmark/db.jsonl").read_bytes() == b'{"text":"iana"}\n'
    records = [json.loads(line) for line in (tmp_path / "raw/benchmark/schemas.jsonl").read_bytes().splitlines()]
    assert [record["$schema"][-16:] for record in records] == ["draft-07/schema#", "draft-04/schema#"]
    assert manifest["files"]["db.jsonl"]["source"]["file"] == "mime-db-1.52.0.tgz"
    assert [line.partition(": ")[2] for line in collection.verify(data, tmp_path / "raw")] == [
        "2 files are as they were written",
        f"npm:{NPM} has not changed, as far as can be told",
        f"pypi:{PYPI} has not changed, as far as can be told",
    ]
    archive = next((tmp_path / ".downloads").glob("npm-*/*.tgz"))
    archive.write_bytes(archive.read_bytes()[:-100])
    with pytest.raises(FetchError, match="has the integrity"):
        list(collection.verify(data, tmp_path / "raw"))
    shutil.copy(archive, tmp_path)
    shutil.rmtree(archive.parent)
    archive.parent.mkdir()
    shutil.move(tmp_path / archive.name, archive)  # as somebody might copy it
    unpinned: collection.Data = {"benchmark": [{"uri": f"npm:{NPM}", "files": ["db.json"]}]}
    with pytest.raises(FetchError, match=rf"the SHA-256 of its archive was .*, now .*delete \S+/{archive.parent.name}"):
        list(collection.verify(unpinned, tmp_path / "raw"))


def test_what_a_client_or_a_digest_refuses_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        FetchError, match="npm:mime-db@1.52 is no|expected npm:<package>@<version> with a whole version"
    ):
        npm.package("mime-db@latest")
    with pytest.raises(FetchError, match="`integrity` is 'md5-x', expected sha512-"):
        npm.package(NPM, "md5-x")
    with pytest.raises(FetchError, match="No matching version.*run `npm pack mime-db@0.0.999 .*copy the \\*.tgz to "):
        npm.package("mime-db@0.0.999")
    with pytest.raises(FetchError, match="No matching distribution.*copy the \\*.whl to "):
        wheel.package("jsonschema-specifications==0.0.999")
    with pytest.raises(
        FetchError, match="pypi:docopt==0.6.2 has no wheel .* only source.*`pip download .*docopt==0.6.2`"
    ):
        wheel.package("docopt==0.6.2")
    archive = npm.package(NPM).parents[1] / "mime-db-1.52.0.tgz"
    archive.write_bytes(archive.read_bytes()[:-100])
    with pytest.raises(FetchError, match="has changed since it was downloaded: delete"):
        npm.package(NPM)
    with pytest.raises(FetchError, match=f"mime-db-1.52.0.tgz has the integrity sha512-.*says {INTEGRITY[:20]}"):
        npm.package(NPM, INTEGRITY)
    with pytest.raises(FetchError, match="no file of the package matches `\\*.csv`"):
        wheel.PypiSource(uri=f"pypi:{PYPI}", files=["*.csv"]).fetch(tmp_path, tmp_path)


def test_a_wrong_archive_is_not_kept(tmp_path: Path) -> None:
    other = "sha512-" + "A" * 86 + "=="
    with pytest.raises(FetchError, match=f"has the integrity sha512-.*`integrity` says {other}"):
        npm.package(NPM, other)
    assert not list(tmp_path.rglob("*.tgz"))
    assert npm.package(NPM, INTEGRITY).is_dir()


def test_without_a_client_or_a_registry_it_soon_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def advice(client: str, suffix: str, uri: str) -> str:
        return f"Without a network here, run `{client} .*` elsewhere and copy the .{suffix} to {downloads.folder(uri)}/"

    by_npm = advice(f"npm pack {NPM}", ".tgz", f"npm:{NPM}")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9")  # the port of `discard`: nobody listens
    with pytest.raises(FetchError, match=advice(r"python\S* -m pip download", ".whl", f"pypi:{PYPI}")):
        wheel.archive(PYPI)
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")
    with pytest.raises(FetchError, match=f"could not be fetched: .*{by_npm}"):
        npm.archive(NPM)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(package, "ASK_SECONDS", 2)
        with pytest.raises(FetchError, match=f"`npm` took more than 2 s. {by_npm}"):
            npm.archive(NPM)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FetchError, match=f"`npm`, which fetches it, is not installed here. {by_npm}"):
        npm.archive(NPM)
