"""Reading raw data: every line becomes a document or a reason, whatever is in it."""

import json
import random
from pathlib import Path

import pytest

from minimind import corpus, tokenizer
from minimind.chat import Template
from minimind.corpus import LineError, Text
from minimind.tokenizer import CHAT_TEMPLATE

QUESTION = {"role": "user", "content": "2+2?"}
YES = {"role": "assistant", "content": "4"}
NO = {"role": "assistant", "content": "5"}

GOOD = {
    "pretrain": {"text": "巴黎 is Paris."},
    "sft": {"conversations": [QUESTION, YES]},
    "dpo": {"chosen": [QUESTION, YES], "rejected": [QUESTION, NO]},
}

BAD = [
    ("pretrain", b"{", "not JSON"),
    ("pretrain", b'{"text": "\\ud800"}', "not JSON"),
    ("pretrain", b'{"text": NaN}', "wrong type"),
    ("pretrain", b'{"text": "a", "x": nan}', "not JSON"),
    ("pretrain", b'{"text": "a", "x": ' + b"[" * 128 + b"]" * 128 + b"}", "not JSON"),
    ("pretrain", b"[" * 5000, "not JSON"),
    ("pretrain", b'{"text": "\xff"}', "not UTF-8"),
    ("pretrain", '{"text": "巴"}'.encode("utf-16"), "not UTF-8"),
    ("pretrain", b"", corpus.BLANK),
    ("pretrain", b" \t\r", corpus.BLANK),
    ("pretrain", b"\xef\xbb\xbf", corpus.BLANK),
    ("pretrain", b'{"text": " \\n"}', "empty"),
    ("pretrain", b"[]", "wrong type"),
    ("pretrain", b"7", "wrong type"),
    ("pretrain", b"{}", "wrong type"),
    ("pretrain", b'{"text": 7}', "wrong type"),
    ("sft", b'{"text": "x"}', "wrong type"),
    ("sft", b'{"conversations": []}', "wrong type"),
    ("sft", b'{"conversations": [{"role": "user"}]}', "wrong type"),
    ("sft", json.dumps({"conversations": [QUESTION]}).encode(), "nothing to learn"),
    ("sft", json.dumps({"conversations": [QUESTION, {**YES, "content": " "}]}).encode(), "empty"),
    ("dpo", json.dumps({"chosen": [QUESTION, YES]}).encode(), "wrong type"),
    ("dpo", json.dumps({"chosen": [QUESTION, YES], "rejected": [YES, NO]}).encode(), "prompts differ"),
    ("dpo", json.dumps({"chosen": [QUESTION, YES], "rejected": [QUESTION, YES]}).encode(), "nothing to learn"),
    ("dpo", json.dumps({"chosen": [YES, QUESTION], "rejected": [YES, QUESTION]}).encode(), "nothing to learn"),
]


def write(folder: Path, lines: list[bytes], name: str = "0.jsonl") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"\n".join(lines) + b"\n")
    return folder


@pytest.mark.parametrize(("kind", "line", "reason"), BAD)
def test_a_bad_line_is_named_and_passed_over(tmp_path, kind, line, reason):
    good = json.dumps(GOOD[kind]).encode()
    (_, first), (source, bad), (_, last) = corpus.read(write(tmp_path / kind, [good, line, good]))
    assert isinstance(bad, LineError) and bad.reason == reason
    assert (source.file, source.line) == ("0.jsonl", 2)
    assert first == last and not isinstance(first, LineError)


def test_extra_keys_bom_and_windows_line_ends_do_no_harm(tmp_path):
    lines = [b"\xef\xbb\xbf" + json.dumps({"text": "a", "id": 7, "gt": [None]}).encode() + b"\r", b'{"text":"b"}']
    folder = write(tmp_path / "pretrain", lines)
    assert [document for _, document in corpus.read(folder)] == [Text("a"), Text("b")]


def test_files_are_read_in_the_order_of_their_names(tmp_path):
    folder = write(tmp_path / "pretrain", [b'{"text": "b"}'], "1.jsonl")
    write(folder, [b'{"text": "a"}'], "0.jsonl")
    write(folder, [b"no data"], "manifest.json")
    assert [document.text for _, document in corpus.read(folder)] == ["a", "b"]


def test_an_endless_line_is_cut_off(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "MAX_LINE_BYTES", 100)
    lines = [b'{"text": "a"}', b'{"text": "' + b"x" * 1000 + b'"}', b'{"text": "b"}']
    (_, a), (source, long), (_, b) = corpus.read(write(tmp_path / "pretrain", lines))
    assert (a, b) == (Text("a"), Text("b"))
    assert long.reason == "too long" and source.num_bytes == 1013 and len(source.excerpt) <= 200


@pytest.mark.parametrize("kind", GOOD)
def test_broken_bytes_never_stop_the_reading(tmp_path, kind):
    """Every mutation of a good line is either read or refused with a reason; the lines around it stay as they are."""
    source = random.Random(kind)
    good = json.dumps(GOOD[kind], ensure_ascii=False).encode()
    junk = [b"", b"\x00", b"\xff", b'"', b"{", b"}", b"[", b"null", b"1e999", b"\\u", b"\xe5\xb7", b"content", b": 7"]
    lines = [good]
    for _ in range(1000):
        line = bytearray(good)
        for _ in range(source.randint(1, 3)):
            start = source.randrange(len(line) + 1)
            line[start : start + source.choice([0, 1, 4, 20])] = source.choice(junk)
        lines += [bytes(line), good]
    entries = list(corpus.read(write(tmp_path / kind, lines)))
    assert [entry.line for entry, _ in entries] == [*range(1, len(lines) + 1)]
    assert all(document == entries[0][1] for _, document in entries[::2])
    refused = {document.reason for _, document in entries if isinstance(document, LineError)}
    assert {"not JSON", "not UTF-8", "wrong type"} <= refused


def test_fractions_are_even_fixed_and_independent():
    split = [corpus.fraction(str(number), "split") for number in range(4000)]
    other = [corpus.fraction(str(number), "thinking") for number in range(4000)]
    assert all(0 <= value < 1 for value in split)
    assert abs(sum(value < 0.25 for value in split) / 4000 - 0.25) < 0.03
    assert abs(sum(a < 0.5 and b < 0.5 for a, b in zip(split, other, strict=True)) / 4000 - 0.25) < 0.03
    assert corpus.fraction("巴黎", "split") == pytest.approx(0.8491973849, abs=1e-9)  # never to change


def test_texts_are_what_a_model_reads_in_two_parts_that_share_nothing(tmp_path):
    write(tmp_path / "pretrain", [json.dumps({"text": f"text {n}"}).encode() for n in range(200)] + [b"broken"])
    talk = {"conversations": [{"role": "user", "content": "<think>"}, {"role": "assistant", "content": "four"}]}
    write(tmp_path / "sft", [json.dumps(talk).encode()])
    folders, template = [tmp_path / "pretrain", tmp_path / "sft"], Template(CHAT_TEMPLATE)
    low, high = (list(corpus.texts(folders, template, *ends)) for ends in ((0, 0.3), (0.3, 1)))
    both = [*low, *high]
    assert sorted(pieces[0] for pieces in both if len(pieces) == 1) == sorted(f"text {n}" for n in range(200))
    assert [pieces for pieces in both if len(pieces) > 1] == [["user\n<think>", "\n", "assistant\n", "four"]]
    assert 30 < len(low) < 90


def test_compression_counts_bytes_by_language(tokenizer_folder):
    plain = tokenizer.plain(tokenizer.load(tokenizer_folder))
    measured = corpus.compression(plain, [["Paris", " is big"], ["巴黎很大。"], ["user\n"]])
    assert {kind: entry["bytes"] for kind, entry in measured.items()} == {"en": 17, "zh": 15}
    tokens = sum(len(plain.encode(text).ids) for text in ("Paris", " is big", "user\n"))
    assert measured["en"]["tokens"] == tokens
    assert measured["en"]["bytes_per_token"] == pytest.approx(17 / tokens, abs=1e-4)


@pytest.mark.parametrize("size", [1, 7, 50, 10_000])
def test_ranges_that_follow_each_other_hold_every_line_once(tmp_path, size):
    source = random.Random(9)
    lines = [json.dumps({"text": "巴" * source.randint(1, 30)}).encode() for _ in range(40)] + [b"", b"{", b"", b"x"]
    folder = write(tmp_path / "pretrain", lines)
    path = folder / "0.jsonl"
    whole = [(source.num_bytes, str(document)) for source, document in corpus.read(folder)]
    parts = []
    for start in range(0, path.stat().st_size, size):
        found = list(corpus.read_range(path, start, start + size))
        assert [source.line for source, _ in found] == [*range(1, len(found) + 1)]
        parts += [(source.num_bytes, str(document)) for source, document in found]
    assert parts == whole


def dialogue(*answers: dict) -> bytes:
    messages = [message for answer in answers for message in (QUESTION, {"role": "assistant", **answer})]
    return json.dumps({"conversations": messages}).encode()


def test_answers_that_are_empty_or_switched_off_are_context_only(tmp_path):
    lines = [
        dialogue({"content": ""}, {"content": "4"}),
        dialogue({"content": "4"}, {"content": " \n"}),
        dialogue({"content": "5", "weight": 0}, {"content": "4", "weight": 1}),
        dialogue({"content": "5", "train": False}, {"content": ""}, {"content": "4"}),
        dialogue({"content": None}, {"content": "4", "loss": True}),
        dialogue({"content": "4"}),
    ]
    found = [document for _, document in corpus.read(write(tmp_path / "sft", lines))]
    assert [sorted(document.conversation.unlearned) for document in found] == [[0], [1], [0], [0, 1], [0], []]
    names = [document.noted for document in found]
    assert names == [("empty answer",), ("empty answer",), ("weight 0",), ("weight 0", "empty answer"),
                     ("empty answer",), ()]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "line", "reason", "says"),
    [
        ("sft", dialogue({"content": "5", "weight": 0}), "nothing to learn", "weight 0"),
        ("sft", dialogue({"content": "5", "weight": 0}, {"content": ""}), "nothing to learn", "empty or has weight 0"),
        ("sft", dialogue({"content": "5", "weight": 0.5}), "wrong type", "message 2: `weight` is 0.5"),
        ("dpo", json.dumps({"chosen": [QUESTION, {**YES, "content": ""}], "rejected": [QUESTION, NO]}).encode(),
         "empty", "every answer"),
        ("dpo", json.dumps({"chosen": [QUESTION, YES, QUESTION, {**YES, "content": " "}],
                            "rejected": [QUESTION, YES, QUESTION, NO]}).encode(), "empty", "chosen answer"),
        ("dpo", json.dumps({"chosen": [QUESTION, {**YES, "weight": 0}], "rejected": [QUESTION, NO]}).encode(),
         "nothing to learn", "weight 0"),
    ],
)  # fmt: skip
def test_what_teaches_nothing_at_all_is_named(tmp_path, kind, line, reason, says):
    ((_, error),) = corpus.read(write(tmp_path / kind, [line]))
    assert isinstance(error, LineError) and error.reason == reason and says in str(error)


def test_calls_in_text_are_calls_and_what_is_none_is_counted(tmp_path):
    call = '<tool_call>\n{"name": "add", "arguments": {"a": 2}}\n</tool_call>'
    (_, first), (_, second) = corpus.read(
        write(tmp_path / "sft", [dialogue({"content": call}), dialogue({"content": "Write <tool_call>."})])
    )
    assert first.conversation.messages[1]["tool_calls"] == [{"name": "add", "arguments": {"a": 2}}]
    assert (first.noted, second.noted) == (("tool call made of text",), ("tool call in text",))
