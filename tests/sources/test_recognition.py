"""Files in the schemas of others: rewritten at fetch, said so, or refused with the map to write."""

import json
from pathlib import Path
from typing import Any

import pytest

from minimind import corpus, files
from minimind.sources import collection, recognition
from minimind.sources.source import FetchError

ASKED, SAID = {"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}
OURS = b'{"conversations":  [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}], "n": 1.10}'
BROKEN = [b"", b"{broken", b"[1]", b'{"text": "\xff"}', b'{"x": "\\ud83d"}', b'{"x":' + b"[" * 251 + b"]" * 251 + b"}"]


def fetch(
    root: Path, monkeypatch: pytest.MonkeyPatch, data_set: str, name: str, content: bytes, **options: Any
) -> Path:
    """The folder of the data set that one file makes."""
    monkeypatch.chdir(root)
    (root / "own").mkdir(exist_ok=True)
    (root / "own" / name).write_bytes(content)
    (root / "raw").mkdir()
    collection.fetch({data_set: [{"uri": f"file:own/{name}"}]}, root / "raw", Path("own"))
    return root / "raw" / data_set


def test_what_is_in_our_schema_stays_to_the_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    content = b"\n".join([*BROKEN, OURS, b"\xef\xbb\xbf" + OURS + b"\r", *BROKEN, OURS])
    folder = fetch(tmp_path, monkeypatch, "sft", "a.jsonl", content)
    assert (folder / "0-a.jsonl").read_bytes() == content
    assert "schemas" not in files.read_manifest(folder)["files"]["0-a.jsonl"]
    assert capsys.readouterr().out == ""


def test_each_line_is_read_by_its_own_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    alpaca = b'{"instruction": "Q", "input": null, "output": "A", "n": 1.10, "id": 12345678901234567890123}'
    lines = [*BROKEN, OURS, alpaca, b'{"other": 1}', b'{"messages": %s}' % json.dumps([ASKED, SAID]).encode(), *BROKEN]
    folder = fetch(tmp_path, monkeypatch, "sft", "a.jsonl", b"\n".join(lines))
    written = (folder / "0-a.jsonl").read_bytes().split(b"\n")
    talk = b'{"conversations":[{"role":"user","content":"Q"},{"role":"assistant","content":"A"}]'
    changed = {7: talk + b',"n":1.10,"id":12345678901234567890123}', 9: talk + b"}"}
    assert written == [changed.get(number, line) for number, line in enumerate(lines)]
    entry = files.read_manifest(folder)["files"]["0-a.jsonl"]
    assert entry["schemas"] == {"Alpaca": 1, "OpenAI messages": 1, "not recognised": 1}
    assert entry["unused_keys"] == ["n", "id"] and entry["lines"] == len(lines)
    assert capsys.readouterr().out == (
        "sft: 0-a.jsonl: 1 Alpaca, 1 OpenAI messages, 1 not recognised, "
        "from instruction, input, output, messages; not used: n, id\n"
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'id,messages\n1,"{}"\n'.format(json.dumps([ASKED, SAID]).replace('"', '""'))),
        ("a.csv", f'id,messages\n1,"{[ASKED, SAID]}"\n'),
        ("a.json", json.dumps({"version": "1", "data": [{"instruction": "Q", "output": "A"}]})),
        ("a.json", json.dumps([{"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]}])),
        ("a.csv", "history,q,a\n[],Q,A\n"),
        ("a.csv", "prompt,completion\nQ,A\n"),
    ],
)
def test_other_formats_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: str) -> None:
    folder = fetch(tmp_path, monkeypatch, "sft", name, content.encode())
    [(_, document)] = corpus.read(folder)
    assert isinstance(document, corpus.Dialogue) and document.conversation.messages == [ASKED, SAID]


@pytest.mark.parametrize(
    ("data_set", "record", "message"),
    [
        ("pretrain", {"title": "x", "body": "long text"}, "keys are title, body.*`map: {text: body}`"),
        ("sft", {"x": "Q", "y": "A"}, "keys are x, y.*`map: {user: x, assistant: y}`"),
        ("sft", {"text": "x"}, "`map: {user: text, assistant: KEY}`, or list the file under data.pretrain"),
        ("pretrain", {"conversations": [ASKED, SAID]}, "`map: {text: KEY}`, or list the file under data.sft"),
        (
            "sft",
            {"question": "Q", "context": "C", "answer": "A"},
            r'`question` and `context` make one.*keys are.*`map: {user: "{question}\\n{context}", assistant: answer}`',
        ),
        ("sft", {"talk": [{"who": "a", "what": "b"}]}, "`map: {conversations: talk, role: who, content: what}`"),
        ("dpo", {"q": "Q", "better": "A", "worse": "B"}, "`map: {user: q, chosen: better, rejected: worse}`"),
        (
            "dpo",
            {"chosen": "A", "rejected": "B"},
            "answers only.*`map: {user: KEY, chosen: chosen, rejected: rejected}`",
        ),
        ("prompts", {"ask": "Q"}, "keys are ask.*`map: {user: ask}`"),
    ],
)
def test_what_is_not_recognised_is_refused_with_the_map_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data_set: str, record: dict[str, Any], message: str
) -> None:
    with pytest.raises(FetchError, match=rf"file:own/a.jsonl: 0-a.jsonl:3: the records .* {data_set} .*{message}"):
        fetch(tmp_path, monkeypatch, data_set, "a.jsonl", b"{\n\n" + json.dumps(record).encode())


def test_a_long_line_is_passed_on_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recognition, "MAX_LINE_BYTES", 100)
    content = b'{"prompt": "Q"}\n{"prompt": "' + b"x" * 1000 + b'"}\n{"prompt": "Q"}\n'
    folder = fetch(tmp_path, monkeypatch, "prompts", "a.jsonl", content)
    made = b'{"messages":[{"role":"user","content":"Q"}]}'
    assert (folder / "0-a.jsonl").read_bytes() == content.replace(b'{"prompt": "Q"}', made)


def test_a_file_without_records_is_no_reason_to_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fetch(tmp_path, monkeypatch, "sft", "a.jsonl", b"\n\n{broken\n")
    assert (folder / "0-a.jsonl").read_bytes() == b"\n\n{broken\n"
