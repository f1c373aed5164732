"""Items as people write them, and what is said of those that can't be run."""

import json
from pathlib import Path
from typing import Any

import pytest

from minimind import benchmark
from minimind.benchmark import BenchmarkError

Item = dict[str, Any]

ASKED = [{"role": "user", "content": "What is 12 + 7?"}]
CALL = {"name": "calculator", "arguments": {"expression": "12 + 7"}}
SAMPLED = {"family": "clean", "verify": {"kind": "exact", "value": "19"}}
CHOICE = {"id": "c", "family": "know", "kind": "choice", "context": "It is", "choices": [" wet", " dry"], "answer": 0}
GENERATE = {
    "id": "g", "family": "sum", "kind": "generate", "messages": ASKED, "verify": {"kind": "number", "value": 19},
    "refusals": ["No idea"], "sampled": SAMPLED, "note": "ours",
}  # fmt: skip
TOOL = GENERATE | {"id": "t", "kind": "tool", "tools": [{"name": "calculator"}], "call": CALL, "result": "19"}


def write(folder: Path, *lines: str) -> None:
    (folder / "exam.jsonl").write_text("\n".join(lines), encoding="utf-8")


def test_items_are_read_as_they_stand(tmp_path: Path) -> None:
    items = [CHOICE, GENERATE, TOOL]
    write(tmp_path, "\ufeff" + json.dumps(CHOICE), "", json.dumps(GENERATE), "  ", json.dumps(TOOL), "")
    assert benchmark.read(tmp_path, "exam") == items


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (GENERATE | {"kind": "poem"}, "`kind` is 'poem', expected one of choice, generate, tool"),
        (GENERATE | {"kind": ["choice"]}, "`kind` is"),
        (GENERATE | {"kind": "choice"}, "`context` is missing, text: choice wants context, choices, answer"),
        ({"kind": "choice"}, "`id` is missing"),
        (CHOICE | {"choices": ["a", ""]}, "`choices` has one that is empty"),
        (CHOICE | {"answer": 2}, "`answer` is 2, but there are 2 choices, from 0"),
        (CHOICE | {"answer": "wet"}, "`answer` is 'wet', expected a whole number"),
        (CHOICE | {"answer": True}, "`answer` is True"),
        (GENERATE | {"messages": "hello"}, "`messages` is 'hello', expected a list"),
        (GENERATE | {"messages": []}, "the messages are no list, or an empty one"),
        (GENERATE | {"messages": [{"role": "poet", "content": ""}]}, "message 1: the role is 'poet'"),
        (GENERATE | {"verify": {"kind": "magic"}}, "verify.kind is 'magic'"),
        (GENERATE | {"verify": {"kind": "exact", "value": "x", "ignroe": []}}, "verify.ignroe is no key"),
        (GENERATE | {"sampled": ["clean"]}, "`sampled` is ['clean'], expected an object"),
        (GENERATE | {"sampled": {"family": "clean"}}, "verify is None"),
        (GENERATE | {"refusals": "No"}, "expected a list of phrases"),
        (TOOL | {"call": {"name": "calculator"}}, "expected an object with a name and arguments"),
        (GENERATE | {"id": "c"}, "the id c stands there twice, in line 1"),
    ],
)
def test_a_bad_item_is_named(tmp_path: Path, item: Item, message: str) -> None:
    write(tmp_path, json.dumps(CHOICE), "", json.dumps(item))
    with pytest.raises(BenchmarkError, match="exam.jsonl:3: ") as caught:
        benchmark.read(tmp_path, "exam")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"), [("{", "is not JSON"), ("[1]", "is no JSON object"), ("[" * 9999, "is no")]
)
def test_a_line_that_is_no_item_is_named(tmp_path: Path, line: str, message: str) -> None:
    write(tmp_path, json.dumps(CHOICE), line)
    with pytest.raises(BenchmarkError, match=f"exam.jsonl:2: {message}"):
        benchmark.read(tmp_path, "exam")


def test_a_missing_split_is_named(tmp_path: Path) -> None:
    write(tmp_path, "")
    with pytest.raises(BenchmarkError, match=r"test.jsonl is missing: set evaluate.split to .*\(exam\)"):
        benchmark.read(tmp_path, "test")
