"""Packing: every token of every document once, nothing across a boundary, bad lines accounted for."""

import fcntl
import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from minimind import corpus, shards, tokenizer
from minimind.chat import Chat
from minimind.errors import UserError
from minimind.fitting import BestFit, Tokens
from minimind.mixture import Mixture, Portion
from minimind.packing import PackConfig, PackError, forget, pack
from minimind.pool import Local, Pool
from minimind.rows import Rows, RowWriter
from minimind.tokenizer import BOS, EOS

ONE = Local(1)
WORDS = ["Paris", " the", "巴黎", " 12", "首都", " is", "。", "\n", " capital", "<|im_end|>", "Ω"]


@pytest.fixture(scope="module")
def chat(tokenizer_folder):
    return Chat(tokenizer_folder)


def config(**changes: Any) -> PackConfig:
    return PackConfig(
        **{"max_seq_len": 64, "validation_share": 0.1, "max_quarantine_share": 0.0, "thinking_off_share": 0.0} | changes
    )


def write(folder: Path, records: list[Any], name: str = "0.jsonl") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [record if isinstance(record, bytes) else json.dumps(record).encode() for record in records]
    (folder / name).write_bytes(b"\n".join(lines) + b"\n")
    return folder


@pytest.fixture
def packed(tmp_path, tokenizer_folder):
    def run(where: Path, kind: str, records: list[Any], **changes: Any) -> tuple[Path, dict[str, Any]]:
        return pack_folder(write(where / kind, records), tokenizer_folder, **changes)

    return run


def pack_folder(raw: Path, tokenizer_folder: Path, pool: Pool = ONE, **changes: Any) -> tuple[Path, dict[str, Any]]:
    out, scratch = raw.parent / "packed", raw.parent / "scratch"
    arguments = (raw, tokenizer_folder, config(**changes), out, pool, scratch, raw.parent / "kept.jsonl")
    return out, pack(*arguments)


def words(source: random.Random, most: int = 12) -> str:
    return "x" + "".join(source.choices(WORDS, k=source.randint(1, most)))


def documents(folder: Path, split: str) -> Iterator[list[tuple[list[int], list[int]]]]:
    """The documents of each row as (tokens, learn), after checking that the row is well formed."""
    rows = Rows.open(folder, split)
    for tokens, learn, numbers in zip(*(rows.column(name) for name in ("tokens", "learn", "documents")), strict=True):
        last = int(numbers.max())
        lengths = [int((numbers == number).sum()) for number in range(1, last + 1)]
        expected = np.repeat([*range(1, last + 1), 0], [*lengths, rows.row_length - sum(lengths)])
        assert (numbers == expected).all(), "documents are numbered from 1, whole, one after the other"
        padding = numbers == 0
        assert not tokens[padding].any() and not learn[padding].any()
        ends = np.cumsum(lengths)
        yield [(tokens[e - n : e].tolist(), learn[e - n : e].tolist()) for n, e in zip(lengths, ends, strict=True)]


def all_documents(folder: Path) -> list[tuple[list[int], list[int]]]:
    return [document for split in shards.SPLITS for row in documents(folder, split) for document in row]


def test_every_text_is_packed_once_between_bos_and_eos(tmp_path, chat, packed):
    source = random.Random(0)
    texts = [words(source) for _ in range(400)]
    out, statistics = packed(tmp_path, "pretrain", [{"text": text} for text in texts])
    plain = tokenizer.plain(chat.tokenizer)
    expected = Counter((BOS, *plain.encode(text).ids, EOS) for text in texts)
    found = all_documents(out)
    assert Counter(tuple(tokens) for tokens, _ in found) == expected
    assert all(learn == [0] + [1] * (len(tokens) - 1) for tokens, learn in found)
    assert sum(statistics[split]["documents"] for split in shards.SPLITS) == statistics["lines"] == 400


def test_long_texts_go_on_in_further_documents(tmp_path, chat, packed):
    source = random.Random(1)
    texts = [words(source, 300) for _ in range(40)]
    out, statistics = packed(tmp_path, "pretrain", [{"text": text} for text in texts], validation_share=0)
    rows = Rows.open(out, "train")
    learned = rows.column("tokens")[rows.column("learn") == 1]
    assert (learned == EOS).sum() == len(texts)
    assert rows.target_bytes == sum(len(text.encode()) for text in texts)
    plain = tokenizer.plain(chat.tokenizer)
    assert Counter(learned.tolist()) == Counter(i for text in texts for i in [*plain.encode(text).ids, EOS])
    longer = sum(len(plain.encode(text).ids) + 2 > 64 for text in texts)
    assert statistics["train"]["split"] == longer > 0
    assert all(tokens[0] == BOS for tokens, _ in all_documents(out))


def talk(source: random.Random, turns: int = 2) -> dict[str, Any]:
    messages: list[dict[str, Any]] = [{"role": "system", "content": words(source)}] * source.randint(0, 1)
    for _ in range(source.randint(1, turns)):
        messages += [
            {"role": "user", "content": words(source).replace("<|im_end|>", "")},
            {"role": "assistant", "content": words(source).replace("<|im_end|>", "")},
        ]
        if source.random() < 0.3:
            messages[-1]["reasoning_content"] = words(source).replace("<|im_end|>", "").strip()
    if messages[0]["role"] == "system":
        messages[0] = {"role": "system", "content": "Be brief."}
    return {"conversations": messages}


def test_conversations_are_masked_as_transformers_masks_them(tmp_path, tokenizer_folder, packed):
    source = random.Random(2)
    records = [talk(source) for _ in range(150)]
    out, statistics = packed(tmp_path, "sft", records, max_seq_len=512)
    theirs = AutoTokenizer.from_pretrained(tokenizer_folder)
    expected = []
    for record in records:
        messages = record["conversations"]
        encoded = theirs.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
        expected.append((encoded["input_ids"], encoded["assistant_masks"]))
    assert sorted(all_documents(out)) == sorted(expected)
    assert statistics["train"]["truncated"] == 0


def test_target_bytes_are_those_of_the_answers(tmp_path, packed):
    records = [{"conversations": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "巴黎 is it."}]}]
    out, statistics = packed(tmp_path, "sft", records, validation_share=0)
    assert Rows.open(out, "train").target_bytes == len("巴黎 is it.".encode()) == statistics["train"]["target_bytes"]


def test_long_conversations_lose_their_end_or_are_refused(tmp_path, chat, packed):
    def record(question: int, answer: int) -> dict[str, Any]:
        roles = (("user", "7" * question), ("assistant", "8" * answer))
        return {"conversations": [{"role": role, "content": content} for role, content in roles]}

    records = [record(5, 5), record(5, 100), record(100, 5)]
    out, statistics = packed(tmp_path, "sft", records, validation_share=0, max_quarantine_share=0.5)
    whole = [chat.encode(record["conversations"]) for record in records]
    assert sorted(all_documents(out)) == sorted([whole[0], (whole[1][0][:64], whole[1][1][:64])])
    assert statistics["train"]["truncated"] == 1
    assert statistics["quarantined_because"] == {"nothing left to learn after truncation": 1}
    (entry,) = map(json.loads, (out / "quarantine.jsonl").read_text(encoding="utf-8").splitlines())
    assert (entry["file"], entry["line"]) == ("0.jsonl", 3) and entry["excerpt"].startswith('{"conversations"')


def pair(source: random.Random, prompt: int = 8, answer: int = 8) -> dict[str, Any]:
    before = talk(source)["conversations"] + [{"role": "user", "content": words(source, prompt)}]
    chosen, rejected = ({"role": "assistant", "content": words(source, answer) + end} for end in ("yes", "no"))
    return {"chosen": [*before, chosen], "rejected": [*before, rejected]}


def test_pairs_stay_together_and_learn_their_last_answers(tmp_path, chat, packed):
    source = random.Random(3)
    records = [pair(source) for _ in range(100)]
    out, _ = packed(tmp_path, "dpo", records, max_seq_len=512, thinking_off_share=0.5)
    expected = set()
    for record in records:
        thinks = any("reasoning_content" in message for message in record["chosen"])
        off = corpus.fraction(corpus.parse_pair(record).content, "thinking") < 0.5 and not thinks
        sides = []
        for messages in (record["chosen"], record["rejected"]):
            thinking = False if off else None
            prompt, (ids, _) = chat.prompt(messages[:-1], None, thinking), chat.encode(messages, None, thinking)
            assert ids[: len(prompt)] == prompt
            sides.append((tuple(ids), (0,) * len(prompt) + (1,) * (len(ids) - len(prompt))))
        expected.add(tuple(sides))
    found = set()
    for split in shards.SPLITS:
        for row in documents(out, split):
            frozen = [(tuple(tokens), tuple(learn)) for tokens, learn in row]
            found |= set(zip(frozen[::2], frozen[1::2], strict=True))
    assert found == expected


@pytest.mark.parametrize(
    ("first", "second", "lengths"),
    [(30, 30, (30, 30)), (60, 10, (54, 10)), (10, 60, (10, 54)), (60, 50, (32, 32)), (20, 44, (20, 44))],
)
def test_a_long_pair_gives_way_at_its_longer_side(first, second, lengths):
    assert shards.share(first, second, 64) == lengths


def test_long_pairs_are_cut_or_refused(tmp_path, packed):
    def record(question: int, chosen: int, rejected: int) -> dict[str, Any]:
        prompt = {"role": "user", "content": "7" * question}
        sides = ({"role": "assistant", "content": "8" * length} for length in (chosen, rejected))
        return dict(zip(("chosen", "rejected"), ([prompt, side] for side in sides), strict=True))

    records = [record(5, 5, 6), record(5, 100, 3), record(40, 5, 6)]
    out, statistics = packed(tmp_path, "dpo", records, validation_share=0, max_quarantine_share=0.5)
    assert statistics["train"]["truncated"] == 1 and statistics["quarantined"] == 1
    for row in documents(out, "train"):
        for (chosen, mask), (rejected, other) in zip(row[::2], row[1::2], strict=True):
            start = mask.index(1)
            assert other.index(1) == start and chosen[:start] == rejected[:start] and all(mask[start:])


def tokens(length: int) -> Tokens:
    return Tokens(np.full(length, 40, np.uint32), np.zeros(length, np.uint8), 0)


@pytest.mark.parametrize("open_rows", [1, 64])
def test_best_fit_fills_rows(tmp_path, open_rows):
    source = np.random.default_rng(0)
    lengths = np.clip(source.lognormal(4, 0.7, 4000).astype(int), 4, 512)
    with RowWriter(tmp_path / "rows.arrow", 512, 64) as writer:
        fit = BestFit(writer, open_rows)
        for length in lengths:
            fit.add([tokens(length)])
            assert len(fit.fit.rows) <= open_rows
        fit.finish()
    assert lengths.sum() / (writer.num_rows * 512) > (0.97 if open_rows == 64 else 0.8)


def test_best_fit_takes_the_tightest_row(tmp_path):
    with RowWriter(tmp_path / "rows.arrow", 10, 64) as writer:
        fit = BestFit(writer)
        for length in (4, 7, 3, 6):  # 3 completes the 7, 6 the 4
            fit.add([tokens(length)])
        assert writer.num_rows == 2 and not fit.fit.rooms


def test_broken_lines_are_quarantined_and_all_others_packed(tmp_path, chat, packed):
    source = random.Random(4)
    junk = [b"{", b"[1]", b'{"text": 3}', b'{"text": ""}', b'{"text": "\xff"}', b'{"text": "a"', b"\x00\x01"]
    records: list[Any] = []
    for number in range(300):
        records.append({"text": f"{number} {words(source)}"})
        if source.random() < 0.3:
            records.append(source.choice(junk))
    good = [record["text"] for record in records if isinstance(record, dict)]
    out, statistics = packed(tmp_path, "pretrain", records, max_quarantine_share=0.4)
    decoded = [chat.tokenizer.decode(ids[1:-1], skip_special_tokens=False) for ids, _ in all_documents(out)]
    assert sorted(decoded) == sorted(good)
    entries = [json.loads(line) for line in (out / "quarantine.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [entry["line"] for entry in entries] == [n for n, r in enumerate(records, 1) if isinstance(r, bytes)]
    assert statistics["quarantined"] == len(entries) == len(records) - len(good)
    assert statistics["quarantined_because"] == Counter(entry["reason"] for entry in entries)
    assert not (tmp_path / "kept.jsonl").exists()


def test_blank_lines_are_neither_good_nor_bad_and_counted(tmp_path, packed):
    records = [b"", {"text": "one"}, b" \t\r", {"text": "two"}, b"{", b"\xef\xbb\xbf", b""]
    out, statistics = packed(tmp_path, "pretrain", records, max_quarantine_share=1 / 3, validation_share=0.0)
    assert (statistics["lines"], statistics["blank"], statistics["quarantined"]) == (7, 4, 1)
    [entry] = map(json.loads, (out / "quarantine.jsonl").read_bytes().splitlines())
    assert entry["line"] == 5


def test_too_many_bad_lines_fail_with_counts_examples_and_where_to_look(tmp_path, packed):
    records = [{"text": "fine"}] * 7 + [b"{", b'{"text": 7}', b"}"]
    with pytest.raises(PackError) as raised:
        packed(tmp_path, "pretrain", records, max_quarantine_share=0.29)
    says = str(raised.value)
    assert "3 of 10 lines" in says and "2 not JSON, 1 wrong type" in says and "0.jsonl:8: not JSON" in says
    kept = tmp_path / "kept.jsonl"
    assert str(kept) in says and [json.loads(line)["line"] for line in kept.open()] == [8, 9, 10]


def test_a_data_set_without_documents_fails(tmp_path, packed):
    with pytest.raises(PackError, match=r"1 of 1 lines can't be used \(1 not JSON\)\. .*mend the data \(`map`"):
        packed(tmp_path, "pretrain", [b"{"], max_quarantine_share=1.0)


def test_equal_input_gives_equal_bytes(tmp_path, packed):
    source = random.Random(5)
    records = [talk(source, 3) for _ in range(200)]
    folders = [packed(tmp_path / name, "sft", records)[0] for name in ("a", "b")]
    names = ["manifest.json", "quarantine.jsonl", "statistics.json", "train.arrow", "validation.arrow"]
    assert [path.name for path in sorted(folders[0].iterdir())] == names
    for name in names:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


def test_the_split_depends_on_the_content_only(tmp_path, packed):
    source = random.Random(6)
    texts = [f"{number} {words(source)}" for number in range(300)]
    records = [{"text": text} for text in texts]

    def held_out(folder: Path) -> set[tuple[int, ...]]:
        return {tuple(ids) for row in documents(folder, "validation") for ids, _ in row}

    once, _ = packed(tmp_path / "a", "pretrain", records[:200])
    twice, statistics = packed(tmp_path / "b", "pretrain", records[::-1] + records)
    assert held_out(once) <= held_out(twice)
    assert not held_out(twice) & {tuple(ids) for row in documents(twice, "train") for ids, _ in row}
    assert 0.05 < statistics["validation"]["documents"] / 600 < 0.15


def test_thinking_is_switched_off_in_a_share_of_conversations_without_thoughts(tmp_path, chat, packed):
    source = random.Random(7)
    records = [talk(source) for _ in range(200)]
    out, _ = packed(tmp_path, "sft", records, max_seq_len=512, thinking_off_share=0.5)
    closed = chat.tokenizer.encode("<think></think>").ids
    thoughtless = [r for r in records if not any("reasoning_content" in m for m in r["conversations"])]
    shown = [(ids, learn) for ids, learn in all_documents(out) if closed in [ids[i : i + 2] for i in range(len(ids))]]
    assert 0.35 < len(shown) / len(thoughtless) < 0.65
    for ids, learn in shown:
        assert all(not learn[at] and not learn[at + 1] for at in range(len(ids)) if ids[at : at + 2] == closed)


@pytest.mark.parametrize(
    ("field", "value"),
    [("max_seq_len", 7), ("max_seq_len", 65536), ("validation_share", 1.1), ("max_quarantine_share", -0.1)],
)
def test_impossible_configurations_name_their_field(field, value):
    with pytest.raises(ValueError, match=rf"pack\.{field}"):
        config(**{field: value})


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def mixed(folder: Path, count: int = 300) -> Path:
    """Conversations of two sources with broken lines among them."""
    source = random.Random(8)
    for name in ("a", "b"):
        lines = [talk(source, 3) if source.random() < 0.95 else b"{" for _ in range(count)]
        write(folder / "sft", lines, f"{name}.jsonl")
    return folder / "sft"


def test_any_number_of_workers_gives_the_same_bytes(tmp_path, tokenizer_folder, monkeypatch):
    monkeypatch.setattr(corpus, "SHARD_BYTES", 20_000)
    folders = []
    for workers in (1, 2, 3):
        with Local(workers) as pool:
            raw = mixed(tmp_path / str(workers))
            folders.append(pack_folder(raw, tokenizer_folder, pool, max_quarantine_share=0.2)[0])
    first, *others = map(bytes_of, folders)
    assert all(other == first for other in others)
    for line in first["quarantine.jsonl"].decode().splitlines():
        entry = json.loads(line)
        assert (raw / entry["file"]).read_bytes().splitlines()[entry["line"] - 1] == b"{"


@pytest.mark.parametrize("size", [700, 30_000])
def test_whatever_the_size_of_shards_every_document_is_packed_once(tmp_path, tokenizer_folder, monkeypatch, size):
    whole, _ = pack_folder(mixed(tmp_path / "whole", 60), tokenizer_folder, max_quarantine_share=0.2)
    monkeypatch.setattr(corpus, "SHARD_BYTES", size)
    cut, _ = pack_folder(mixed(tmp_path / "cut", 60), tokenizer_folder, max_quarantine_share=0.2)
    assert sorted(all_documents(cut)) == sorted(all_documents(whole))
    assert (cut / "quarantine.jsonl").read_bytes() == (whole / "quarantine.jsonl").read_bytes()


class Stopped(Local):
    """Ends in the middle, as a killed stage does; what is finished stays on the disk."""

    def run(self, function, tasks):
        yield from super().run(function, tasks[:3])
        raise KeyboardInterrupt


def test_an_interrupted_run_goes_on_with_what_is_finished(tmp_path, tokenizer_folder, monkeypatch):
    monkeypatch.setattr(corpus, "SHARD_BYTES", 20_000)
    through, _ = pack_folder(mixed(tmp_path / "through"), tokenizer_folder, max_quarantine_share=0.2)
    raw = mixed(tmp_path / "stopped")
    with pytest.raises(KeyboardInterrupt):
        pack_folder(raw, tokenizer_folder, Stopped(1), max_quarantine_share=0.2)
    assert not list(raw.parent.glob("packed/*.arrow*"))
    shutil.rmtree(raw.parent / "packed")  # the stage's files.folder does so
    done = {path: path.stat().st_ino for path in raw.parent.rglob("*.rows-1.0.npz")}
    assert len(done) == 3
    asked = []

    class Watched(Local):
        def run(self, function, tasks):
            asked.extend(path.stat().st_ino for path in done)
            for result in super().run(function, tasks):
                if result in done:
                    assert result.stat().st_ino == done[result], "made anew"
                yield result

    out, _ = pack_folder(raw, tokenizer_folder, Watched(1), max_quarantine_share=0.2)
    assert asked == list(done.values())
    assert bytes_of(out) == bytes_of(through)


def test_shards_of_other_processes_stay(tmp_path, tokenizer_folder):
    """As when `dvc exp run --temp` packs beside `dvc repro`; of what nobody holds the newest stays."""
    raw, scratch = mixed(tmp_path), tmp_path / "scratch"
    for age, name in enumerate(("new", "old", "held")):
        (scratch / "sft" / name).mkdir(parents=True)
        (scratch / "sft" / name / "lock").touch()
        os.utime(scratch / "sft" / name, (1e9 - age, 1e9 - age))
    with (scratch / "sft/held/lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        pack_folder(raw, tokenizer_folder, max_quarantine_share=0.2)
        assert len(list((scratch / "sft").iterdir())) == 3
        forget(scratch, "sft")
        assert {path.name for path in (scratch / "sft").iterdir()} == {"new", "held"}


def test_another_mixture_takes_up_no_shard_of_the_one_before(tmp_path, tokenizer_folder):
    raw = mixed(tmp_path)
    twice = Mixture(sft={"a": Portion(epochs=2.0)})
    _, statistics = pack_folder(raw, tokenizer_folder, max_quarantine_share=0.2, mixture=twice)
    shutil.rmtree(raw.parent / "packed")  # what was finished stays in the scratch
    _, again = pack_folder(raw, tokenizer_folder, max_quarantine_share=0.2)
    of_a, of_b = (statistics["train"]["tokens"] - again["train"]["tokens"], again["train"]["tokens"])
    assert 0 < of_a < of_b


def test_names_with_dots_stay_apart(tmp_path, tokenizer_folder):
    for name in ("data.en", "data.zh"):
        write(tmp_path / "pretrain", [{"text": f"{name} {number}"} for number in range(30)], f"{name}.jsonl")
    out, _ = pack_folder(tmp_path / "pretrain", tokenizer_folder, validation_share=0.0)
    seen = Counter(tuple(tokens) for row in documents(out, "train") for tokens, _ in row)
    assert len(seen) == 60 and set(seen.values()) == {1}


def test_sources_are_read_as_often_as_the_mixture_says(tmp_path, tokenizer_folder, monkeypatch):
    monkeypatch.setattr(corpus, "SHARD_BYTES", 20_000)
    raw = mixed(tmp_path)
    mixture = Mixture(sft={"a": Portion(epochs=2.5)})
    plain, before = pack_folder(mixed(tmp_path / "plain"), tokenizer_folder, max_quarantine_share=0.2, max_seq_len=512)
    out, after = pack_folder(raw, tokenizer_folder, max_quarantine_share=0.2, max_seq_len=512, mixture=mixture)
    frozen = [
        Counter((tuple(ids), tuple(learn)) for row in documents(folder, "train") for ids, learn in row)
        for folder in (plain, out)
    ]
    assert set(frozen[0]) == set(frozen[1]), "nothing is left out"
    encoder = shards.Encoder(shards.Recipe(tokenizer_folder, 512, 0.1, 0.0))
    expected: Counter[Any] = Counter()
    for source, document in corpus.read(raw):
        if isinstance(document, corpus.Dialogue) and corpus.fraction(document.content, "split") >= 0.1:
            again = corpus.fraction(document.content, "epochs") < 0.5
            encoded, _ = encoder.encode([document])
            expected[tuple(encoded.ids), tuple(encoded.learn)] += 2 + again if source.file == "a.jsonl" else 1
    assert frozen[1] == expected
    assert after["validation"] == before["validation"]
    assert after["sources"]["a"]["epochs"] == 2.5 and after["sources"]["b"] == before["sources"]["b"] | {
        "share": after["sources"]["b"]["share"]
    }
    assert sum(entry["share"] for entry in after["sources"].values()) == pytest.approx(1, abs=1e-3)


def test_weights_are_shares_of_the_tokens(tmp_path, tokenizer_folder, monkeypatch):
    monkeypatch.setattr(corpus, "SHARD_BYTES", 20_000)
    mixture = Mixture(sft={"a": Portion(weight=0.8, max_epochs=2.0), "b": Portion(weight=0.2)})
    with Local(2) as pool:
        _, statistics = pack_folder(mixed(tmp_path), tokenizer_folder, pool, max_quarantine_share=0.2, mixture=mixture)
    shares = {source: entry["share"] for source, entry in statistics["sources"].items()}
    assert shares == {"a": pytest.approx(0.8, abs=0.02), "b": pytest.approx(0.2, abs=0.02)}
    assert statistics["sources"]["a"]["epochs"] == 2.0 and statistics["sources"]["b"]["epochs"] < 1


def test_a_mixture_of_unknown_sources_names_the_known(tmp_path, tokenizer_folder):
    with pytest.raises(UserError, match=r"pack\.mixture\.sft: there is no source `c` \(known: a, b\)"):
        pack_folder(mixed(tmp_path, 10), tokenizer_folder, mixture=Mixture(sft={"c": Portion(epochs=1.0)}))


def learned(chat: Chat, out: Path) -> list[str]:
    """What is learned of each document, as text."""
    return [
        chat.tokenizer.decode([i for i, one in zip(ids, learn, strict=True) if one], skip_special_tokens=False)
        for ids, learn in all_documents(out)
    ]


def exchange(*answers: dict[str, Any]) -> dict[str, Any]:
    messages = [turn for one in answers for turn in ({"role": "user", "content": "Q?"}, {"role": "assistant", **one})]
    return {"conversations": messages}


def test_an_answer_that_is_context_only_stays_and_is_not_learned(tmp_path, chat, packed):
    records = [
        exchange({"content": ""}, {"content": "Fine."}),
        exchange({"content": "bad draft", "weight": 0}, {"content": "good", "weight": 1}),
    ]
    out, statistics = packed(tmp_path, "sft", records, validation_share=0)
    assert sorted(learned(chat, out)) == ["Fine.<|im_end|>", "good<|im_end|>"]
    whole = [chat.tokenizer.decode(ids, skip_special_tokens=False) for ids, _ in all_documents(out)]
    assert sum("bad draft<|im_end|>" in text for text in whole) == 1
    assert statistics["answers"] == {"empty answer": 1, "weight 0": 1}
    plain, _ = packed(tmp_path / "plain", "sft", [exchange({"content": "bad draft"}, {"content": "good"})])
    assert {tuple(ids) for ids, _ in all_documents(plain)} < {tuple(ids) for ids, _ in all_documents(out)}


def test_both_notations_of_a_call_are_the_same_rows(tmp_path, packed):
    call = {"name": "add", "arguments": {"a": 2}}
    texts = exchange({"content": f"<tool_call>\n{json.dumps(call)}\n</tool_call>"})
    calls = exchange({"content": "", "tool_calls": [call]})
    (first, statistics), (second, _) = (packed(tmp_path / n, "sft", [r]) for n, r in (("a", texts), ("b", calls)))
    assert all_documents(first) == all_documents(second)
    assert statistics["answers"] == {"tool call made of text": 1}


@pytest.mark.parametrize(
    ("kind", "records", "changes", "says"),
    [
        ("sft", [exchange({"content": "x" * 400})], {}, "none"),
        ("sft", [{"conversations": [{"role": "user", "content": "?" * 400}, {"role": "assistant", "content": "4"}]}],
         {}, "raise pack.max_seq_len, which is 64$"),
        ("sft", [{"question": "?"}], {"max_quarantine_share": 1.0}, r"\(1 wrong type\)\. .*`map` .* data\.sft"),
        ("sft", [exchange({"content": "4"})], {"validation_share": 1.0}, "pack.validation_share 1.0 takes all 1"),
    ],
)  # fmt: skip
def test_where_nothing_is_left_the_right_key_is_named(tmp_path, packed, kind, records, changes, says):
    with pytest.raises(UserError, match=says if says != "none" else "0 of 1 are left.*raise pack.max_seq_len"):
        packed(tmp_path, kind, records, **{"validation_share": 0} | changes)


def test_no_lines_at_all_name_the_data_and_its_cleaning(tmp_path, tokenizer_folder):
    (tmp_path / "sft").mkdir()
    (tmp_path / "sft/0.jsonl").touch()
    with pytest.raises(PackError, match=r"data\.sft in params\.yaml has to bring some, and `clean`"):
        pack_folder(tmp_path / "sft", tokenizer_folder)


def test_rows_too_short_for_most_answers_are_told_loudly(tmp_path, packed, capsys):
    long, short = exchange({"content": "x" * 400}), exchange({"content": "4"})
    packed(tmp_path / "few", "sft", [long, short, short], validation_share=0)
    assert "pack.max_seq_len" not in capsys.readouterr().err
    _, statistics = packed(tmp_path / "most", "sft", [long, long, short], validation_share=0)
    assert "WARNING: sft" in (told := capsys.readouterr().err) and "1 of 3" in told and "pack.max_seq_len" in told
    assert statistics["train"]["ends"] == 1


def test_a_data_set_that_params_does_not_have_is_rows_without_any(tmp_path, tokenizer_folder):
    (tmp_path / "sft").mkdir()
    out, statistics = pack_folder(tmp_path / "sft", tokenizer_folder)
    assert statistics["lines"] == statistics["train"]["rows"] == 0
    assert [len(Rows.open(out, split)) for split in shards.SPLITS] == [0, 0]


def test_one_document_packs(tmp_path, packed):
    _, statistics = packed(tmp_path, "pretrain", [{"text": "Paris"}], validation_share=0.01)
    assert statistics["train"]["documents"] == 1 and statistics["validation"]["documents"] == 0
