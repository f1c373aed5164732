"""s3:// against moto's server, which speaks S3."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import s3fs
from botocore.exceptions import ConnectionClosedError
from moto.server import ThreadedMotoServer

from minimind.sources import collection, s3, transfer
from minimind.sources.s3 import S3Source
from minimind.sources.source import FetchError

LINES = b"".join(b'{"text": "%d"}\n' % number for number in range(5000))


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a bucket's server; the bucket holds corpus/data.jsonl."""
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    client = boto3.client("s3")
    client.create_bucket(Bucket="bucket")
    client.put_object(Bucket="bucket", Key="corpus/data.jsonl", Body=LINES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(s3, "BLOCK_BYTES", 10_000)
    monkeypatch.setattr(transfer, "PAUSE_SECONDS", 0.01)
    s3fs.S3FileSystem.clear_instance_cache()
    yield address
    server.stop()
    s3fs.S3FileSystem.clear_instance_cache()


def test_an_object_arrives_and_a_part_goes_on(bucket: str, tmp_path: Path) -> None:
    source = S3Source(uri="s3://bucket/corpus/data.jsonl")
    plan = source.plan()
    assert plan is not None and plan.remote.size == len(LINES)
    plan.part.parent.mkdir(parents=True)
    plan.part.write_bytes(LINES[:30_000])
    collection.downloads.write_record(plan.part, {"etag": plan.remote.etag})
    positions = [position for position, _ in plan.remote.blocks(30_000, plan.remote.etag)]
    assert positions[0] == 30_000 and len(positions) == -(-(len(LINES) - 30_000) // 10_000)
    (tmp_path / "raw").mkdir()
    data: collection.Data = {"pretrain": [{"uri": source.uri}]}
    collection.fetch(data, tmp_path / "raw", tmp_path)
    assert (tmp_path / "raw/pretrain/0-data.jsonl").read_bytes() == LINES
    boto3.client("s3").put_object(Bucket="bucket", Key="corpus/data.jsonl", Body=LINES.replace(b"7", b"8"))
    with pytest.raises(FetchError, match="it has changed upstream since it was fetched: its ETag"):
        list(collection.verify(data, tmp_path / "raw"))


def test_a_connection_that_is_lost_at_the_very_end_is_made_again(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = S3Source(uri="s3://bucket/corpus/data.jsonl")
    plan = source.plan()
    assert plan is not None
    answers = [ConnectionClosedError(endpoint_url=bucket), {"ETag": plan.remote.etag}]

    def info(uri: str, anonymous: bool) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(s3, "_info", info)
    transfer.bring([plan])
    assert source.path.read_bytes() == LINES and answers == []


def test_what_is_not_there_and_nobody_there_are_told_apart(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FetchError, match="there is no such object"):
        S3Source(uri="s3://bucket/corpus/gone.jsonl").plan()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(FetchError, match="Without a network here, run `aws s3 cp 's3://bucket/corpus/data.jsonl' .`"):
        S3Source(uri="s3://bucket/corpus/data.jsonl").plan()
