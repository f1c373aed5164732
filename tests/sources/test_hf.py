"""hf:// and modelscope:// against a server that speaks the hubs' endpoints."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from minimind.sources import collection
from minimind.sources.hf import HubSource
from minimind.sources.http import HttpRemote
from minimind.sources.source import FetchError

LINES = b"".join(json.dumps({"text": f"document {number}"}).encode() + b"\n" for number in range(50))


@pytest.fixture
def hubs(upstream: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Both hubs with one data set, and a working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    upstream.files |= {"org/set/sub dir/big.jsonl": LINES, "org/set/small.jsonl": b'{"text": "a"}\n'}
    return upstream


@pytest.mark.parametrize("kind", ["hf", "modelscope"])
def test_files_of_data_sets_arrive_checked(hubs: Any, tmp_path: Path, kind: str) -> None:
    hubs.faults["org/set/sub dir/big.jsonl"] = [("cut", 500), ("status", 502)]
    data: collection.Data = {
        "pretrain": [{"uri": f"{kind}://org/set/sub dir/big.jsonl@v1.0"}, {"uri": f"{kind}://org/set/small.jsonl"}]
    }
    (tmp_path / "raw").mkdir()
    collection.fetch(data, tmp_path / "raw", tmp_path / "own")
    assert (tmp_path / "raw/pretrain/0-big.jsonl").read_bytes() == LINES
    assert (tmp_path / "raw/pretrain/1-small.jsonl").read_bytes() == b'{"text": "a"}\n'
    assert hubs.gets("org/set/sub dir/big.jsonl") == [None, "bytes=500-", "bytes=500-"]
    assert len(list(collection.verify(data, tmp_path / "raw"))) == 3
    hubs.files["org/set/sub dir/big.jsonl"] = LINES.replace(b"9", b"8")  # of the same length
    with pytest.raises(FetchError, match="big.jsonl@v1.0: it has changed upstream .* its SHA-256 was"):
        list(collection.verify(data, tmp_path / "raw"))


@pytest.mark.parametrize("kind", ["hf", "modelscope"])
def test_a_file_that_is_not_what_the_hub_announced_is_refused(hubs: Any, tmp_path: Path, kind: str) -> None:
    located = collection.parse({"uri": f"{kind}://org/set/sub dir/big.jsonl"}, "x").plan()  # type: ignore[attr-defined]
    assert located.remote.sha256 == hashlib.sha256(LINES).hexdigest()
    hubs.files["org/set/sub dir/big.jsonl"] = LINES.replace(b"9", b"8")
    with pytest.raises(FetchError, match="what arrived has the SHA-256 .*, announced was"):
        collection.transfer.bring([located])
    assert not list(tmp_path.rglob("big.jsonl*"))


@pytest.mark.parametrize("kind", ["hf", "modelscope"])
def test_what_is_not_there_is_named(hubs: Any, kind: str) -> None:
    source = collection.parse({"uri": f"{kind}://org/set/sub dir/gone.jsonl"}, "x")
    with pytest.raises(FetchError, match="org/set has no file sub dir/gone.jsonl at (main|master)"):
        source.plan()  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=rf"not of the form {kind}://organisation/name/path@revision"):
        collection.parse({"uri": f"{kind}://org/set"}, "x")


@pytest.mark.parametrize(
    ("kind", "client"), [("hf", "hf download org/set"), ("modelscope", "modelscope download --dataset org/set")]
)
def test_without_a_network_the_hubs_own_client_is_named(
    hubs: Any, monkeypatch: pytest.MonkeyPatch, kind: str, client: str
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # the port of `discard`: nobody listens
    monkeypatch.setenv("MODELSCOPE_DOMAIN", "http://127.0.0.1:9")
    source = collection.parse({"uri": f"{kind}://org/set/small.jsonl"}, "x")
    with pytest.raises(
        FetchError, match=f"2 times in a row: .*Without a network here, run `{client}.*copy small.jsonl to"
    ):
        source.plan()  # type: ignore[attr-defined]


def test_a_token_is_sent_to_the_hub_and_shown_nowhere(hubs: Any) -> None:
    remote = HubSource(uri="hf://org/set/small.jsonl").locate()
    assert isinstance(remote, HttpRemote)
    assert remote.headers["Authorization"] == "Bearer hf_secret"
    assert "secret" not in repr(remote)
