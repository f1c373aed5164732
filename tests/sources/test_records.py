"""Files of records in every format and packing, and the maps from other schemas to ours."""

import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from minimind.corpus import Pair, parse_dialogue, parse_pair
from minimind.sources.file import FileSource
from minimind.sources.records import RecordSource
from minimind.sources.source import FetchError

RECORDS = [{"text": 'one\n"two"', "n": 1}, {"text": "法国 \U0001f600", "n": 2}]
CONVERSATION = [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Yes."}]


def convert(folder: Path, name: str, content: bytes, **options: Any) -> list[Any]:
    """The records that come of a file with this name and content."""
    path = folder / name
    path.write_bytes(content)
    out = folder / "out"
    out.mkdir()
    source: RecordSource = FileSource(uri=f"file:{path}", **options)
    source.write({path: name}, out)
    [written] = out.iterdir()
    assert written.name == f"{name.partition('.')[0]}.jsonl"
    return [json.loads(line) for line in written.read_bytes().splitlines()]


def packed(format: str) -> bytes:
    lines = b"".join(json.dumps(record).encode() + b"\n" for record in RECORDS)
    if format == "csv":
        return ('\ufefftext,n\r\n"one\n""two""",1\r\n法国 \U0001f600,2\r\n').encode()
    if format == "parquet":
        sink = pyarrow.BufferOutputStream()
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(RECORDS), sink)
        return sink.getvalue().to_pybytes()
    return json.dumps(RECORDS, indent=1).encode() if format == "json" else lines


@pytest.mark.parametrize("packing", ["", ".gz", ".zst", ".zip"])
@pytest.mark.parametrize("format", ["jsonl", "json", "csv", "parquet"])
def test_every_format_is_read_in_every_packing(tmp_path: Path, format: str, packing: str) -> None:
    content = packed(format)
    if packing == ".gz":
        content = gzip.compress(content[:9]) + gzip.compress(content[9:])  # members one after the other are legal
    elif packing == ".zst":
        content = pyarrow.Codec("zstd").compress(content, asbytes=True)
    elif packing == ".zip":
        with zipfile.ZipFile(tmp_path / "made.zip", "w") as zipped:
            zipped.writestr(f"folder/data.{format}", content)
        content = (tmp_path / "made.zip").read_bytes()
    wanted = [{**record, "n": str(record["n"])} for record in RECORDS] if format == "csv" else RECORDS
    assert convert(tmp_path, f"data.{format}{packing}", content) == wanted


def test_a_zip_of_several_files_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "made.zip", "w") as zipped:
        zipped.writestr("b.jsonl", '{"text": "b"}')
        zipped.writestr("a.json", '{"text": "a"} {"text": "a2"}')
    records = convert(tmp_path, "data.zip", (tmp_path / "made.zip").read_bytes())
    assert [record["text"] for record in records] == ["a", "a2", "b"]


def test_columns_without_a_value_are_keys_that_are_not_there(tmp_path: Path) -> None:
    rows = [{"conversations": [{"role": "user", "content": "x", "tool_calls": None}]},
            {"conversations": [{"role": "assistant", "content": "y", "tool_calls": "[]"}]}]  # fmt: skip
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
    first, _ = convert(tmp_path, "data.parquet", sink.getvalue().to_pybytes())
    assert first == {"conversations": [{"role": "user", "content": "x"}]}


def test_json_lines_pass_byte_for_byte_and_nothing_is_dropped(tmp_path: Path) -> None:
    content = b'{"text":  "a"}\n\nnot JSON\n{"body": 3}\n{"text": "b"}'
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "data.jsonl").write_bytes(content)
    FileSource(uri="file:x").write({tmp_path / "data.jsonl": "data.jsonl"}, out)
    assert (out / "data.jsonl").read_bytes() == content
    (out / "data.jsonl").unlink()
    FileSource(uri="file:x", map={"text": "text"}).write({tmp_path / "data.jsonl": "data.jsonl"}, out)
    assert (out / "data.jsonl").read_bytes() == b'{"text":"a"}\n\nnot JSON\n{"body":3}\n{"text":"b"}\n'


@pytest.mark.parametrize(
    ("map", "record", "wanted"),
    [
        ({"text": "body.0.x"}, {"body": {"0": {"x": "a"}}}, {"text": "a"}),
        ({"text": "{title}\n{lines}"}, {"title": "t", "lines": ["a", "b"]}, {"text": "t\na\nb"}),
        (
            {"system": "s", "user": "{i} {x}", "assistant": "o"},
            {"s": "Be kind.", "i": "Hi", "x": "there?", "o": "Yes."},
            {"conversations": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi there?"},
                               {"role": "assistant", "content": "Yes."}]},
        ),
        (
            {"conversations": "turns", "role": "from", "content": "value"},
            {"turns": [{"from": "human", "value": "Hi?"}, {"from": "gpt", "value": "Yes."}]},
            {"conversations": CONVERSATION},
        ),
        (
            {"user": "q", "chosen": "good", "rejected": "bad"},
            {"q": "Hi?", "good": "Yes.", "bad": "No."},
            {"chosen": CONVERSATION, "rejected": [CONVERSATION[0], {"role": "assistant", "content": "No."}]},
        ),
        (
            {"conversations": "m"},
            {"m": CONVERSATION, "tools": "[]", "n": 1},
            {"conversations": CONVERSATION, "tools": "[]"},
        ),
        (
            {"conversations": "m", "tools": "t"},
            {"m": CONVERSATION, "t": []},
            {"conversations": CONVERSATION, "tools": []},
        ),
    ],
)  # fmt: skip
def test_a_map_makes_our_schema(tmp_path: Path, map: dict[str, str], record: Any, wanted: Any) -> None:
    assert convert(tmp_path, "data.jsonl", json.dumps(record).encode(), map=map) == [wanted]
    if "chosen" in wanted:
        assert isinstance(parse_pair(wanted), Pair)


def test_the_csv_files_of_minimind_v1_need_no_map(tmp_path: Path) -> None:
    rows = 'history,q,a\r\n[],Hi?,Yes.\r\n"[[\'Who?\', ""It\'s me.""]]",Hi?,Yes.\r\n'
    first, second = convert(tmp_path, "sft_data_multi.csv", rows.encode())
    assert first == {"conversations": CONVERSATION}
    past = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "It's me."}]
    assert second == {"conversations": [*past, *CONVERSATION]}
    assert parse_dialogue(second).conversation.messages == [*past, *CONVERSATION]


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("data.json", b'[{"text": 1}, {"text"', {}, r"data.json can't be read as json after 1 records"),
        ("data.csv", b"text,n\na,1\nb\n", {}, "after 1 records: line 3 has other columns"),
        ("data.parquet", b"PAR1", {}, "can't be read as parquet"),
        ("data.json", b'[{"text": 99999999999999999999999}]', {}, "can't be read as json"),
        ("data.jsonl.gz", gzip.compress(b"{}\n" * 99)[:-9], {}, "can't be read as jsonl"),
        ("data.jsonl.zip", b"PK", {}, "can't be read as jsonl"),
        (
            "data.jsonl",
            b'{"body": 1}\n',
            {"map": {"text": "txt"}},
            r"`map` fits no record of .*txt is missing in {body}",
        ),
        ("data.jsonl", b"[" + b"0," * (9 << 20), {"map": {"text": "text"}}, "a line is longer than .* `format:`, json"),
    ],
)
def test_what_can_not_be_read_is_named(tmp_path: Path, name: str, content: bytes, options: Any, message: str) -> None:
    with pytest.raises(FetchError, match=message):
        convert(tmp_path, name, content, **options)
    with pytest.raises(ValueError, match="`map` has txet, known are text"):
        FileSource(uri="file:x", map={"txet": "a"})
