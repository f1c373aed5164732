"""npm: and pypi:, with the registries' own clients and whatever registry this machine is set up for."""

import json
from pathlib import Path

import pytest

from minimind import files
from minimind.sources import collection, npm, wheel
from minimind.sources.source import FetchError

NPM = "mime-db@1.52.0"
INTEGRITY = "sha512-sPU4uV7dYlvtWJxwwxHD0PuihVNiE7TyAbQ5SWxDCB9mUYvOgroQOwYQQOKPJ8CIbE+1ETVlOoK1UC2nU3gYvg=="
PYPI = "jsonschema-specifications==2025.9.1"


@pytest.fixture(autouse=True)
def _working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_files_of_packages_become_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data: collection.Data = {
        "pretrain": [
            {"uri": f"npm:{NPM}", "integrity": INTEGRITY, "files": ["db.json"], "map": {"text": "text/csv.source"}},
            {"uri": f"pypi:{PYPI}", "files": ["**/draft7/*.json", "**/draft4/*.json"], "name": "schemas"},
        ]
    }
    collection.download(data)
    monkeypatch.setenv("PATH", "")  # nothing is asked of a registry again
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    for folder in ("raw", "again"):
        (tmp_path / folder).mkdir()
        collection.fetch(data, tmp_path / folder, tmp_path)
    manifest = files.verify_manifest(tmp_path / "raw/pretrain")
    assert manifest == files.verify_manifest(tmp_path / "again/pretrain")
    assert (tmp_path / "raw/pretrain/0-db.jsonl").read_bytes() == b'{"text":"iana"}\n'
    records = [json.loads(line) for line in (tmp_path / "raw/pretrain/schemas.jsonl").read_bytes().splitlines()]
    assert [record["$schema"][-16:] for record in records] == ["draft-07/schema#", "draft-04/schema#"]
    assert manifest["files"]["0-db.jsonl"]["source"]["file"] == "mime-db-1.52.0.tgz"
    assert [line.partition(": ")[2] for line in collection.verify(data, tmp_path / "raw")] == [
        "2 files are as they were written",
        f"the archive of npm:{NPM} is as it arrived",
        f"the archive of pypi:{PYPI} is as it arrived",
    ]
    archive = next((tmp_path / ".downloads").glob("npm-*/*.tgz"))
    archive.write_bytes(archive.read_bytes()[:-100])
    with pytest.raises(FetchError, match="has the integrity"):
        list(collection.verify(data, tmp_path / "raw"))


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
    archive = npm.package(NPM).parents[1] / "mime-db-1.52.0.tgz"
    archive.write_bytes(archive.read_bytes()[:-100])
    with pytest.raises(FetchError, match="has changed since it was downloaded: delete"):
        npm.package(NPM)
    wrong = collection.downloads.folder(f"npm:{NPM}", collection.downloads.Pins(integrity=INTEGRITY))
    wrong.mkdir(parents=True)
    (wrong / archive.name).write_bytes(archive.read_bytes())  # as someone might copy it
    with pytest.raises(FetchError, match=f"mime-db-1.52.0.tgz has the integrity sha512-.*says {INTEGRITY[:20]}"):
        npm.package(NPM, INTEGRITY)
    with pytest.raises(FetchError, match="no file of the package matches `\\*.csv`"):
        wheel.PypiSource(uri=f"pypi:{PYPI}", files=["*.csv"]).fetch(tmp_path, tmp_path)
