"""Files of records in every format and packing, and the maps from other schemas to ours."""

import gzip
import json
import subprocess
import sys
import zipfile
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from minimind.corpus import Pair, parse_pair
from minimind.sources.file import FileSource
from minimind.sources.records import RecordSource
from minimind.sources.source import FetchError

RECORDS = [{"text": 'one\n"two"', "n": 1}, {"text": "法国 \U0001f600", "n": 2}]
ROOT = Path(__file__).parents[2]
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


def written(table: pyarrow.Table, format: str) -> bytes:
    """The table as a file of parquet, or of Arrow's stream or file format."""
    sink = pyarrow.BufferOutputStream()
    if format == "parquet":
        pyarrow.parquet.write_table(table, sink)
    else:
        new = pyarrow.ipc.new_stream if format == "arrow" else pyarrow.ipc.new_file
        with new(sink, table.schema) as writer:
            writer.write_table(table)
    return sink.getvalue().to_pybytes()


def packed(format: str) -> bytes:
    lines = b"".join(json.dumps(record).encode() + b"\n" for record in RECORDS)
    if format == "csv":
        return ('\ufefftext,n\r\n"one\n""two""",1\r\n法国 \U0001f600,2\r\n').encode()
    if format in ("parquet", "arrow"):
        return written(pyarrow.Table.from_pylist(RECORDS), format)
    return json.dumps(RECORDS, indent=1).encode() if format == "json" else lines


@pytest.mark.parametrize("packing", ["", ".gz", ".zst", ".zip"])
@pytest.mark.parametrize("format", ["jsonl", "json", "csv", "parquet", "arrow"])
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


ODD = {
    "moment": pyarrow.array([1, None], pyarrow.timestamp("ns")),
    "far": pyarrow.array([2**62, 1], pyarrow.timestamp("s")),
    "span": pyarrow.array([1, 2], pyarrow.duration("ns")), "price": [Decimal("1.10"), None],
    "bytes": [b"\xff\xfe", b"ok"], "nan": [float("nan"), float("inf")], "day": [date(2020, 1, 2)] * 2,
    "nested": [{"when": datetime(2020, 1, 1), "d": Decimal("2.50"), "b": b"\xfe", "l": [float("nan")]}] * 2,
    "huge": [Decimal("12345678901234567890123")] * 2, "category": pyarrow.array(["x", "y"]).dictionary_encode(),
    "moments": pyarrow.array([[2**62], [1]], pyarrow.list_(pyarrow.timestamp("s"))), "none": pyarrow.nulls(2),
    "interval": pyarrow.array([(1, 2, 3), None], pyarrow.month_day_nano_interval()),
}  # fmt: skip


@pytest.mark.parametrize("format", ["parquet", "arrow", "feather"])
@pytest.mark.parametrize("map", [{}, {"text": "text"}])
def test_columns_that_nobody_uses_do_no_harm(tmp_path: Path, format: str, map: dict[str, str]) -> None:
    table = pyarrow.table({"text": ["a", "b"], **ODD})
    if format == "parquet":
        table = table.drop(["far", "moments", "interval"])  # parquet has no place for these
    content = written(table, format)
    records = convert(tmp_path, "data", content, map=map, format="parquet" if format == "parquet" else "arrow")
    assert [record["text"] for record in records] == ["a", "b"]
    if not map:
        assert records[0]["moment"].startswith("1970-01-01 00:00:00.000000001")
        assert records[0]["day"] == "2020-01-02" and records[1]["bytes"] == "ok" and "bytes" not in records[0]
        line = (tmp_path / "out/data.jsonl").read_bytes().splitlines()[0]
        assert b'"price":1.10' in line and b'"huge":12345678901234567890123,' in line and b'"d":2.50' in line


@pytest.mark.parametrize("literal", ["NaN", "-Infinity", "1e999", "12345678901234567890123456", "1.10", '"\\ud83d"'])
@pytest.mark.parametrize("name", ["data.json", "data.jsonl", "data.jsonl.gz"])
@pytest.mark.parametrize("map", [{}, {"text": "text"}])
def test_odd_values_beside_the_text_stop_nothing(tmp_path: Path, name: str, literal: str, map: dict[str, str]) -> None:
    """And half a surrogate pair is left to the quarantine, whatever the format."""
    lines = [b'{"text":"a"}', b'{"text":"b","x":%s}' % literal.encode(), b'{"text":"c"}']
    content = b"[" + b",\n".join(lines) + b"]" if name == "data.json" else b"\n".join(lines) + b"\n"
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    FileSource(uri="file:x", map=map).write({tmp_path / name: name}, out)
    written = (out / "data.jsonl").read_bytes().splitlines()
    kept = b'{"text":"b"}' if map and "ud83d" not in literal else lines[1]
    assert written == [lines[0], kept, lines[2]]


@pytest.mark.parametrize("name", ["data.json", "data.jsonl", "data.csv"])
def test_numbers_in_a_map_stay_to_the_digit(tmp_path: Path, name: str) -> None:
    record = b'{"id": 12345678901234567890123, "price": 1.10, "e": 1E-7, "list": [1.0, {"a": null}]}'
    content = b'id,price,e,list\n12345678901234567890123,1.10,1E-7,"[1.0, {""a"": null}]"\n'
    map = {"text": "{id} costs {price}, {e} {list}"}
    [made] = convert(tmp_path, name, content if name == "data.csv" else record, map=map)
    assert made == {"text": '12345678901234567890123 costs 1.10, 1E-7 [1.0, {"a": null}]'}


def test_a_map_fits_what_a_table_lacks_in_some_rows_and_a_slip_in_it_is_named(tmp_path: Path) -> None:
    table = pyarrow.table({"title": [None, "t"], "body": ["a", "b"], "none": pyarrow.nulls(2)})
    (tmp_path / "one").mkdir()
    records = convert(
        tmp_path / "one", "data.parquet", written(table, "parquet"), map={"text": "{title}\n{body}{none}"}
    )
    assert records == [{"text": "a"}, {"text": "t\nb"}]
    with pytest.raises(FetchError, match="`map` names `titel`, which no record has; the first has title, body, none"):
        convert(tmp_path, "data.parquet", written(table, "parquet"), map={"text": "{titel}\n{body}"})


def test_the_map_of_roles_alone_is_of_conversations(tmp_path: Path) -> None:
    said = {"conversations": [{"who": "human", "what": "Hi?"}, {"who": "gpt", "what": "Yes."}]}
    records = convert(tmp_path, "data.jsonl", json.dumps(said).encode(), map={"role": "who", "content": "what"})
    assert records == [{"conversations": CONVERSATION}]


LIMITED = """
import resource, sys
from pathlib import Path
from minimind.sources import recognition
from minimind.sources.file import FileSource
from minimind.sources.source import FetchError
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
for path in map(Path, sys.argv[1:]):
    out = path.with_suffix(".out")
    out.mkdir()
    try:
        FileSource(uri="file:x").write({path: path.name}, out)
        for file in out.iterdir():
            if noted := recognition.convert(file, "sft", "file:x"):
                print(recognition.told(noted))
    except FetchError as error:
        print(error)
    print(path.name, "ended")
"""


def test_depth_takes_no_memory(tmp_path: Path) -> None:
    v1, cut_off, one = b"history,q,a\n%s,a,b\n[],a,b\n", "ends in the middle", "1 MiniMind V1, 1 not recognised"
    cases = {
        "open.json": (b"[" * 100_000, cut_off),
        "object.json": (b'{"a":' * 100_000, cut_off),
        "wrapped.json": (b'{"data": [{"a":' + b"[" * 100_000, cut_off),
        "closed.json": (b'[{"conversations": ' + b"[" * 20_000 + b"]" * 20_000 + b"}]", ""),
        "minus.csv": (v1 % (b"-" * 100_000), one),
        "bracket.csv": (v1 % (b"[" * 100_000), one),
        "not.csv": (v1 % (b"not " * 50_000), one),
        "cell.csv": (
            b"messages\n" + b"[{" * 100_000 + b"\n\"[{'role': 'user', 'content': 'a'}]\"\n",
            "messages in text",
        ),
        "line.jsonl": (b'{"x":' * 100_000 + b'\n{"conversations": []}\n', ""),
    }
    for name, (content, _) in cases.items():
        (tmp_path / name).write_bytes(content)
    command = [sys.executable, "-c", LIMITED, *(str(tmp_path / name) for name in cases)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=120)
    rest = done.stdout
    for name, (_, says) in cases.items():
        told, ended, rest = rest.partition(f"{name} ended\n")
        assert ended, done.stderr
        assert says in told


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("data.json", b'[{"text": 1}, {"text"', {}, r"data.json can't be read as json after 1 records"),
        ("data.csv", b"text,n\na,1\nb\n", {}, "after 1 records: line 3 has other columns"),
        ("data.parquet", b"PAR1", {}, "can't be read as parquet"),
        ("data.json", b'[{"text": 1} {"text": 2}]', {}, "after 1 records: expected ,"),
        ("data.json", b'{"text": 1} {"text": 2} x', {}, "after 2 records: .*say `format: jsonl`"),
        ("data.arrow", b"ARROW1", {}, "can't be read as arrow"),
        ("data.jsonl.gz", gzip.compress(b"{}\n" * 99, mtime=0)[:-9], {}, "can't be read as jsonl"),
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
