"""The stage clean on small data sets made here: what goes, what stays to the byte, and why."""

import json
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from toy import odd_lines

from minimind import config, corpus, files
from minimind.cleaning import collection, duplicates, page, shards
from minimind.cleaning.collection import Cleaned, CleanError
from minimind.cleaning.settings import DATA_SETS, CleanConfig
from minimind.pool import Local
from stages import clean as stages_clean

ROOT = Path(__file__).parents[1]
FULL = config.parse(
    CleanConfig, config.read(ROOT / "profiles/minimind-3.yaml")["clean"], ROOT / "profiles/minimind-3.yaml", "clean"
)
PROSE = (
    "The harbour was quiet in the early morning, and the boats that had come in with the tide lay side by side. "
    "A boy walked along the wall to count them, as he did each day, and wrote the number {n} in a small book. "
)
ITEM = {
    "id": "dev-1", "kind": "generate", "family": "x", "verify": {"kind": "exact", "value": "7"},
    "messages": [{"role": "user", "content": "How many ships may leave the northern port before winter closes the "
                  "strait, if seven of them wait for the pilot?"}],
}  # fmt: skip


def talk(question: str, answer: str) -> dict[str, Any]:
    return {
        "conversations": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}],
        "extra": 1,
    }


def write(root: Path, data: dict[str, list[Any]]) -> list[Path]:
    """Data sets below `root`, a bytes object is a line as it is; returns the folders, the benchmark's last."""
    for name in (*DATA_SETS, "benchmark"):
        (root / name).mkdir(parents=True)
        lines = [
            entry if isinstance(entry, bytes) else json.dumps(entry, ensure_ascii=False).encode()
            for entry in data.get(name, [])
        ]
        (root / name / "a.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
        files.write_manifest(root / name)
    return [root / name for name in (*DATA_SETS, "benchmark")]


def run(tmp_path: Path, data: dict[str, list[Any]], settings: CleanConfig = FULL, workers: int = 1) -> Cleaned:
    *raws, benchmark = write(tmp_path / "raw", data)
    return collection.clean(
        raws, benchmark, replace(settings, max_removed_share=1.0), workers, tmp_path / "out", tmp_path / "scratch"
    )


def removed(tmp_path: Path, name: str) -> list[tuple[int, str]]:
    lines = (tmp_path / "out/removed" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [(entry["line"], entry["rule"]) for entry in map(json.loads, lines)]


def test_what_no_rule_touches_stays_to_the_byte(tmp_path: Path) -> None:
    odd = b'{"text":   "%s", "kept": [1,  2]}' % PROSE.encode()
    bad = [b"not json", b'{"text": 3}', b"\xff\xfe", b'{"text": "\\ud83d"}']
    cleaned = run(tmp_path, {"pretrain": [odd, *bad]})
    raw = (tmp_path / "raw/pretrain/a.jsonl").read_bytes()
    assert (tmp_path / "out/pretrain/a.jsonl").read_bytes() == raw
    funnel = cleaned.funnels["pretrain"]
    assert (funnel.lines, funnel.kept, funnel.unreadable, funnel.kept_bytes) == (5, 5, 4, len(raw))


@pytest.mark.parametrize("rules", ["all", "off"])
def test_no_odd_line_stops_it(tmp_path: Path, rules: str) -> None:
    settings = FULL if rules == "all" else replace(FULL, malformed="off", turns="off", exact_duplicates="off")
    good = talk("你好，请问今天的天气怎么样？", "今天的天气很好，适合到公园里去散步。")
    data = [*(line.encode() for line in odd_lines.CONVERSATIONS), good]
    funnel = run(tmp_path, {"sft": data, "prompts": data}, settings).funnels["sft"]
    assert funnel.kept + sum(funnel.removed.values()) == len(data)
    assert (tmp_path / "out/sft/a.jsonl").read_bytes().endswith(json.dumps(good, ensure_ascii=False).encode() + b"\n")


def test_blank_lines_are_left_out_and_counted(tmp_path: Path) -> None:
    document = {"text": PROSE.format(n=1)}
    data = [b"", document, b" \t\r", b"\xef\xbb\xbf", {"text": "Short."}, b""]
    cleaned = run(tmp_path, {"pretrain": data, "benchmark": [b"", ITEM, b""]})
    assert json.loads((tmp_path / "out/pretrain/a.jsonl").read_bytes()) == document
    assert removed(tmp_path, "pretrain") == [(5, "too short")]
    funnel = cleaned.funnels["pretrain"]
    assert (funnel.blank, funnel.documents, funnel.kept, funnel.unreadable) == (4, 2, 1, 0)
    assert funnel.report() | {"documents": 2, "blank": 4} == funnel.report()
    assert files.read_manifest(tmp_path / "out/pretrain")["files"]["a.jsonl"]["lines"] == 1
    assert "4 blank lines" in page.html(cleaned)


def test_each_rule_removes_what_it_is_for_and_says_where_it_stood(tmp_path: Path) -> None:
    german = "Der Hafen war am frühen Morgen still, und die Boote lagen nebeneinander an der Mauer, wie jeden Tag. "
    menu = "\n".join(["Home", "Products", "Contact", "About", "Imprint", "Jobs at our firm"])
    verse = "床前明月光，疑是地上霜。举头望明月，低头思故乡。这是一首很有名的诗。"
    shared = ITEM["messages"][0]["content"]  # type: ignore[index]
    sft = [
        talk("你好，请问今天的天气怎么样？", "今天的天气很好，适合到公园里去散步。"),
        talk("Tell me.", "I'm sorry, but I can't help with that."),
        talk("写一首诗", "作为一个AI语言模型，我没有感情。"),
        {"conversations": [{"role": "assistant", "content": "Hello."}]},
        {"conversations": [{"role": "user", "content": "Hi."}, {"role": "wizard", "content": "Hello."}]},
        {"conversations": [
            {"role": "user", "content": "Add."}, {"role": "assistant", "content": "", "tool_calls": "[{broken"}]},
        talk(f"Please tell me: {shared}", "Seven."),
        talk("你好，请问今天的天气怎么样？", "今天的天气很好，适合到公园里去散步。"),
    ]  # fmt: skip
    cleaned = run(tmp_path, {
        "pretrain": [
            {"text": PROSE.format(n=1)}, {"text": "Short."}, {"text": german * 3}, {"text": menu}, {"text": verse},
            {"text": "very good " * 60 + "the of and to."}, {"text": f"So it was asked. {shared} Nobody knew."},
            {"text": PROSE.format(n=1)},
        ],
        "sft": sft,
        "benchmark": [ITEM],
    })  # fmt: skip
    assert sorted(removed(tmp_path, "pretrain")) == [
        (2, "too short"), (3, "language"), (4, "line ends"), (6, "top n-gram"), (7, "contaminated"), (8, "duplicate"),
    ]  # fmt: skip
    assert sorted(removed(tmp_path, "sft")) == [
        (2, "apology"), (3, "disclaimer"), (4, "turns"), (5, "malformed"), (6, "malformed"), (7, "contaminated"),
        (8, "duplicate"),
    ]  # fmt: skip
    report = cleaned.report()
    assert report["data_sets"]["sft"]["kept"]["documents"] == 1
    assert report["decontaminated"]["items"] == 1
    assert "dev-1" in (tmp_path / "out/removed/sft.jsonl").read_text(encoding="utf-8")
    html = page.html(cleaned)
    assert "contaminated" in html
    assert "床前明月光" in html
    assert "<script" not in html


def test_a_line_of_any_length_passes_whole_and_is_not_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "MAX_LINE_BYTES", 1000)
    monkeypatch.setattr(corpus, "SHARD_BYTES", 700)
    long = [b'{"text": "' + b"Short. " * number + b'"}' for number in (141, 142, 1000)]
    cleaned = run(tmp_path, {"pretrain": [*long, {"text": PROSE.format(n=1)}]})
    raw = (tmp_path / "raw/pretrain/a.jsonl").read_bytes()
    assert len(long[0]) < 1000 < len(long[1]) < 1010
    assert [line for line, _ in removed(tmp_path, "pretrain")] == [1]
    assert (tmp_path / "out/pretrain/a.jsonl").read_bytes() == raw.replace(long[0] + b"\n", b"")
    assert cleaned.funnels["pretrain"].unreadable == 2


def test_entities_of_control_characters_go_too(tmp_path: Path) -> None:
    run(tmp_path, {"pretrain": [{"text": PROSE.format(n="&shy;1&#8203;2&#13;&#10;e&#769;")}]})
    kept = json.loads((tmp_path / "out/pretrain/a.jsonl").read_bytes())["text"]
    assert kept == PROSE.format(n="12\né")


@pytest.mark.parametrize(
    ("thought", "rule"),
    [
        (f"So it was asked: {ITEM['messages'][0]['content']}", "contaminated"),  # type: ignore[index]
        ("I think that this is it, " * 40, "top n-gram"),
        ("It is cold today, so one may well stay at home.", None),
    ],
)
def test_a_thought_is_looked_at_like_what_is_said(tmp_path: Path, thought: str, rule: str | None) -> None:
    record = talk("你好，请问今天的天气怎么样？", "今天的天气很好，适合到公园里去散步。")
    record["conversations"][1]["reasoning_content"] = thought
    run(tmp_path, {"sft": [record], "benchmark": [ITEM]})
    assert removed(tmp_path, "sft") == ([(1, rule)] if rule else [])


def test_near_duplicates_are_those_that_share_most_of_their_shingles(tmp_path: Path) -> None:
    words = [f"{a}{b}" for a in "bdfghjklmn" for b in ("ado", "ibe", "uce", "ony", "ash", "ert", "ilk", "oam")]
    drawn = random.Random(1)
    rows = [" ".join(drawn.choices(words, k=200)) for _ in range(20)]
    close = rows[0].replace(rows[0].split()[100], "elephant", 1)
    far = " ".join(rows[1].split()[:100] + rows[2].split()[:100])
    only = replace(FULL, quality="off", repetition="off", language="off")
    run(tmp_path, {"pretrain": [{"text": text} for text in (*rows, close, far)]}, only)
    assert removed(tmp_path, "pretrain") == [(21, "near duplicate")]


def test_lower_similarities_take_more_bands() -> None:
    assert [duplicates.bands(similarity) for similarity in (1.0, 0.8, 0.7, 0.5, 0.0)] == [16, 16, 32, 64, 64]


def test_duplicates_are_found_across_files(tmp_path: Path) -> None:
    *raws, benchmark = write(tmp_path / "raw", {"pretrain": [{"text": PROSE.format(n=7)}, {"text": "x"}]})
    lines = [json.dumps({"text": text}) for text in ("y", "z", PROSE.format(n=7))]
    (raws[0] / "b.jsonl").write_text("\n".join(lines) + "\n")
    settings = replace(FULL, max_removed_share=1.0, length="off", quality="off", near_duplicates="off")
    collection.clean(raws, benchmark, settings, 1, tmp_path / "out", tmp_path / "scratch")
    (entry,) = map(json.loads, (tmp_path / "out/removed/pretrain.jsonl").read_text().splitlines())
    assert (entry["file"], entry["line"], entry["detail"]) == ("b.jsonl", 3, "of a.jsonl:1")
    assert (tmp_path / "out/pretrain/b.jsonl").read_bytes().count(b"\n") == 2


def test_too_little_memory_for_near_duplicates_is_said_beforehand(tmp_path: Path) -> None:
    *raws, benchmark = write(tmp_path / "raw", {"pretrain": [{"text": "x"}]})
    files.write_manifest(raws[0], details={"a.jsonl": {"lines": 10**12}})
    with pytest.raises(CleanError, match=r"pretrain: .* among 1,000,000,000,000 documents .* out of clean.near_dupl"):
        collection.clean(raws, benchmark, FULL, 1, tmp_path / "out", tmp_path / "scratch")
    assert not (tmp_path / "out").exists()


class Deadly(Local):
    """Loses a worker, as when memory is short."""

    def run(self, function: Any, tasks: Any) -> Iterator[Any]:
        for number, result in enumerate(super().run(function, tasks)):
            if number == 1:
                assert self.executor is not None
                os.kill(next(iter(self.executor._processes)), signal.SIGKILL)
            yield result


def test_neither_the_number_of_processes_nor_a_dead_one_changes_a_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = random.Random(2)
    texts = [PROSE.format(n=drawn.randrange(30)) + "And then he went home again, for it was late. " * (n % 3)
             for n in range(200)]  # fmt: skip
    data = {
        "pretrain": [{"text": text} for text in texts] + [b"broken"] * 3,
        "sft": [talk(f"{n % 50}?", texts[n]) for n in range(100)],
    }
    monkeypatch.setattr(corpus, "SHARD_BYTES", 12_000)
    results = []
    for name, pool, workers in (("one", Local, 1), ("two", Local, 2), ("three", Deadly, 3)):
        monkeypatch.setattr(collection, "Local", pool)
        run(tmp_path / name, data, workers=workers)
        results.append(outs(tmp_path / name / "out"))
    assert results[0] == results[1] == results[2]
    assert 3 < results[0][Path("pretrain/a.jsonl")].count(b"\n") < 203


def outs(folder: Path) -> dict[Path, bytes]:
    """Every file below a folder."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def stage(tmp_path: Path, **changes: Any) -> None:
    """The stage clean in `tmp_path`, on what `write` has written there."""
    document = config.read(ROOT / "profiles/minimind-3.yaml")
    clean = asdict(FULL) | {"near_duplicates": "off", **changes}
    files.write_json(tmp_path / "params.yaml", {"clean": clean, "runtime": document["runtime"] | {"workers": 1}})
    raws = [tmp_path / "raw" / name for name in (*DATA_SETS, "benchmark")]
    stages_clean.main(*raws, tmp_path / "data/clean", tmp_path / "metrics/clean.json", tmp_path / "metrics/clean.html")


def test_a_rule_that_empties_the_data_leaves_page_counts_and_lists_and_the_retry_repeats_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sound = [{"text": PROSE.format(n=number)} for number in range(4)]
    write(tmp_path / "raw", {"pretrain": [{"text": "Short."}, *sound], "sft": [talk("Hi?", "I can't help.")] * 3})
    told = (
        r"pretrain: 1 of 5 different documents were removed \(1 too short; .*pretrain.removed.jsonl\); sft: 1 of 1 "
        r"different .* \(1 refusal; .*more than clean.max_removed_share 0.1 allows. Samples are in .*clean.html"
    )
    with pytest.raises(CleanError, match=told.replace("sft: 1 of 1", "sft: 3 of 3").replace("1 refusal", "3 refusal")):
        stage(tmp_path, max_removed_share=0.1)
    assert json.loads(Path("metrics/clean.json").read_bytes())["data_sets"]["sft"]["removed"]["refusal"]
    assert "Short." in Path("metrics/clean.html").read_text(encoding="utf-8")
    assert Path(".resume/clean/pretrain.removed.jsonl").read_bytes().count(b"\n") == 1
    assert not Path("data/clean").exists()

    def never(*_: object) -> None:
        raise AssertionError("cleaned again")

    with monkeypatch.context() as patch:
        patch.setattr(shards.Cleaner, "clean", never)
        stage(tmp_path, max_removed_share=1.0)
    assert Path("data/clean/pretrain/a.jsonl").read_bytes().count(b"\n") == 4
    with monkeypatch.context() as patch:  # what is finished is not taken up again
        patch.setattr(shards.Cleaner, "clean", never)
        with pytest.raises(AssertionError, match="cleaned again"):
            stage(tmp_path, max_removed_share=1.0)


def test_a_changed_rule_or_file_takes_nothing_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (raw, *_) = write(tmp_path / "raw", {"pretrain": [{"text": "Short."}, {"text": PROSE}]})
    with pytest.raises(CleanError, match="1 of 2 "):
        stage(tmp_path, max_removed_share=0.1)
    with pytest.raises(CleanError, match="2 of 2 "):
        stage(tmp_path, max_removed_share=0.1, min_characters=5000)
    (raw / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in ("Short.", "Or.", PROSE)))
    files.write_manifest(raw)
    with pytest.raises(CleanError, match="2 of 3 "):
        stage(tmp_path, max_removed_share=0.1)


def test_honest_duplicates_do_not_count_as_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "raw", {"pretrain": [{"text": PROSE.format(n=number % 3)} for number in range(12)]})
    stage(tmp_path, max_removed_share=0.0)
    assert Path("data/clean/pretrain/a.jsonl").read_bytes().count(b"\n") == 3


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "SHARD_BYTES", 2000)
    texts = [PROSE.format(n=number % 9) + f" {number}" for number in range(60)]
    *raws, benchmark = write(tmp_path / "raw", {"pretrain": [{"text": text} for text in texts]})
    script = (
        "import os, pathlib, signal, sys\n"
        "from minimind import config, corpus\n"
        "from minimind.cleaning import collection, shards, settings\n"
        "corpus.SHARD_BYTES, left, whole = 2000, 4, shards.Cleaner.clean\n"
        "def clean(self, shard):\n"
        "    global left\n"
        "    left -= 1\n"
        "    if left < 0:\n"
        "        shard.part.write_text('half')\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return whole(self, shard)\n"
        "shards.Cleaner.clean = clean\n"
        "root, profile = map(pathlib.Path, sys.argv[1:])\n"
        "raws = [root / 'raw' / name for name in settings.DATA_SETS]\n"
        "rules = config.parse(settings.CleanConfig, config.read(profile)['clean'], profile, 'clean')\n"
        "(root / 'killed').mkdir()\n"
        "collection.clean(raws, root / 'raw/benchmark', rules, 1, root / 'killed', root / 'scratch')\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path), str(ROOT / "profiles/minimind-3.yaml")]
    assert subprocess.run(command, check=False, cwd=ROOT).returncode == -signal.SIGKILL
    finished = {path: path.stat().st_mtime_ns for path in (tmp_path / "scratch").rglob("*.outcome")}
    assert len(finished) == 4
    collection.clean(raws, benchmark, FULL, 1, tmp_path / "out", tmp_path / "scratch")
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    collection.clean(raws, benchmark, FULL, 1, tmp_path / "fresh", tmp_path / "other")
    assert outs(tmp_path / "out") == outs(tmp_path / "fresh")
    collection.forget(raws, tmp_path / "scratch")
    assert not list((tmp_path / "scratch").rglob("*.part"))


def test_every_source_has_a_funnel_of_documents_and_bytes_that_adds_up(tmp_path: Path) -> None:
    *raws, benchmark = write(tmp_path / "raw", {"pretrain": [{"text": PROSE.format(n=1)}, {"text": "Short."}, b"bad"]})
    html = f"<p>{PROSE.format(n=2)}</p>"
    lines = [
        json.dumps({"text": text})
        for text in (PROSE.format(n=1), html, "Or.", "It was good to have the better weather. " * 60)
    ]
    (raws[0] / "b.jsonl").write_text("\n".join(lines) + "\n")
    settings = replace(FULL, near_duplicates="off")
    cleaned = collection.clean(raws, benchmark, settings, 1, tmp_path / "out", tmp_path / "scratch")
    report = cleaned.report()["data_sets"]["pretrain"]
    assert {name: (part["documents"], part["kept"]["documents"]) for name, part in report["sources"].items()} == {
        "a.jsonl": (3, 2), "b.jsonl": (4, 1),
    }  # fmt: skip
    assert set(report["sources"]["b.jsonl"]["removed"]) == {"too short", "top n-gram", "duplicate"}
    assert report["sources"]["b.jsonl"]["edited"] == {"html": 1}
    for name, part in report["sources"].items():
        kept = (tmp_path / "out/pretrain" / name).stat().st_size
        taken = sum(entry["bytes"] for entry in part["removed"].values())
        # The tags, the space at the end of the paragraph, and the one behind the colon of what is written anew.
        edits = len("<p></p>") + 2 if name == "b.jsonl" else 0
        assert part["bytes"] == (raws[0] / name).stat().st_size == kept + taken + edits
        assert part["kept"]["bytes"] == kept
    for key in ("documents", "bytes", "unreadable"):
        assert report[key] == sum(part[key] for part in report["sources"].values())
    for title, counts, steps in page.funnels("pretrain", cleaned.funnels["pretrain"]):
        assert counts.kept == counts.lines - sum(step.documents for step in steps), title
        assert counts.kept_bytes == counts.num_bytes - sum(step.num_bytes for step in steps), title
    html = page.html(cleaned)
    assert all(part in html for part in ("<h4>all ", "<h4>a.jsonl ", "<h4>b.jsonl ", "edits", "60 times “it was good”"))


def test_the_page_shows_twenty_documents_of_a_rule_to_judge(tmp_path: Path) -> None:
    cleaned = run(tmp_path, {"pretrain": [{"text": f"Short {number}."} for number in range(30)]})
    html = page.html(cleaned)
    assert html.count('<div class="document ') == html.count('class="wrong"') == 20
    names = re.findall(r'class="right" name="([^"]+)"', html)
    assert len(set(names)) == 20, "each document has its own verdict"


@pytest.mark.parametrize(("num_bytes", "told"), [(0, "0 B"), (999, "999 B"), (1234, "1.23 kB"), (5_670_000, "5.67 MB")])
def test_sizes_are_told_in_their_unit(num_bytes: int, told: str) -> None:
    assert page.size(num_bytes) == told


def test_edits_reach_texts_and_leave_tool_calls_alone(tmp_path: Path) -> None:
    call = '[{"name": "f", "arguments": {"x": "a@b.org"}}]'
    message = {"role": "assistant", "content": "写信给 a.b@example.com\r\n或 13812345678。\x07", "tool_calls": call}
    conversation = [{"role": "user", "content": "Cafe\u0301?"}, message]
    cleaned = run(tmp_path, {"sft": [{"conversations": conversation}]}, replace(FULL, redact="all"))
    kept = json.loads((tmp_path / "out/sft/a.jsonl").read_text(encoding="utf-8"))["conversations"]
    assert kept[0]["content"] == "Café?"
    assert kept[1] == message | {"content": "写信给 [email]\n或 [phone number]。"}
    assert dict(cleaned.funnels["sft"].edits) == {"normalised": 1, "control": 1, "redacted": 1}


def test_the_list_of_what_was_removed_is_redacted_too(tmp_path: Path) -> None:
    turn = {"role": "user", "content": "x" * 295 + "13812345678"}
    run(tmp_path, {"sft": [{"conversations": [turn]}]}, replace(FULL, redact="all"))
    (line,) = (tmp_path / "out/removed/sft.jsonl").read_text().splitlines()
    assert "138" not in line and json.loads(line)["rule"] == "turns"


def test_a_conversation_loses_the_turns_that_nobody_answers_and_no_more(tmp_path: Path) -> None:
    asked, said = talk("Name a harbour, please.", "Hamburg has one.")["conversations"]
    call = {"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": {}}]}
    records = [
        {"conversations": messages}
        for messages in (
            [asked, said, {"role": "user", "content": "And another one?"}],
            [asked, said, asked, call, {"role": "tool", "content": "7"}],
            [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Nobody answers this."}],
            [asked, said],
        )
    ]
    off = dict.fromkeys(("exact_duplicates", "near_duplicates", "repetition", "length", "language"), "off")
    cleaned = run(tmp_path, {"sft": records, "dpo": []}, replace(FULL, **off))
    lines = (tmp_path / "out/sft/a.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["conversations"] for line in lines] == [[asked, said], [asked, said, asked, call],
                                                                     [asked, said]]  # fmt: skip
    assert removed(tmp_path, "sft") == [(3, "turns")]
    assert dict(cleaned.funnels["sft"].edits) == {"unanswered": 2}


@pytest.mark.parametrize("calls", ["[]", "", [], None])
def test_no_calls_ask_for_no_answer_of_a_tool(tmp_path: Path, calls: object) -> None:
    answer = {"role": "assistant", "content": "Two.", "tool_calls": calls}
    conversation = [{"role": "user", "content": "One and one?"}, answer] * 2
    cleaned = run(tmp_path, {"sft": [{"conversations": conversation}]}, replace(FULL, turns="all", malformed="off"))
    assert cleaned.funnels["sft"].kept == 1


def test_what_is_nested_too_deeply_to_be_written_passes_to_the_quarantine(tmp_path: Path) -> None:
    deep = json.loads("[" * 400 + "]" * 400)
    conversation = [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Good day.", "more": deep}]
    cleaned = run(tmp_path, {"sft": [{"conversations": conversation}]})
    assert cleaned.funnels["sft"].lines == 1
    assert json.loads((tmp_path / "out/sft/a.jsonl").read_bytes()) == {"conversations": conversation}


def test_a_report_without_decontamination_says_so(tmp_path: Path) -> None:
    cleaned = run(tmp_path, {"benchmark": [ITEM]}, replace(FULL, decontaminate="sft dpo prompts"))
    assert cleaned.note.startswith("Not decontaminated: pretrain was not compared")
    note = run(tmp_path / "all", {"benchmark": [ITEM]}).note
    assert note.endswith(
        "all 1 items of the benchmark: what shared 13 words or 20 Chinese characters in a row is gone, "
        "as is what says all that an item says beside the wording that items share."
    )
    short = {**ITEM, "id": "dev-2", "messages": [{"role": "user", "content": "What is 3 and 4?"}]}
    note = run(tmp_path / "short", {"benchmark": [ITEM, short]}).note
    assert "all 2 items" in note
    assert " items share. 1 of them are shorter than that, and count where all that they say stands in a row" in note
    assert "has no items" in run(tmp_path / "none", {"benchmark": []}).note


@pytest.mark.parametrize(("name", "value"), [("html", "sfd"), ("control", ""), ("languages", "zh fr"),
                                             ("similarity", 1.5), ("ngram_han", 1)])  # fmt: skip
def test_a_wrong_setting_is_named(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"clean.{name}"):
        CleanConfig(**(asdict(FULL) | {name: value}))


@pytest.mark.parametrize(
    ("contaminated", "kept"),
    [
        ("document", None),
        ("paragraph", f"{PROSE.format(n=1).strip()}\n\n{PROSE.format(n=2)}"),
        ("passage", f"{PROSE.format(n=1)}\n\nSo it was asked.\n\nNobody knew.\n\n{PROSE.format(n=2)}"),
    ],
)
def test_a_book_loses_the_passage_that_it_shares_or_its_paragraph(
    tmp_path: Path, contaminated: Any, kept: str | None
) -> None:
    shared = ITEM["messages"][0]["content"]  # type: ignore[index]
    book = f"{PROSE.format(n=1)}\n\nSo it was asked. {shared} Nobody knew.\n\n{PROSE.format(n=2)}"
    settings = replace(FULL, contaminated=contaminated, repetition="off")
    cleaned = run(tmp_path, {"pretrain": [{"text": book}], "benchmark": [ITEM]}, settings)
    lines = (tmp_path / "out/pretrain/a.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["text"].strip() for line in lines] == ([kept.strip()] if kept else [])
    assert cleaned.funnels["pretrain"].edits["decontaminated"] == bool(kept)
    assert removed(tmp_path, "pretrain") == ([] if kept else [(1, "contaminated")])


def test_what_is_left_after_a_cut_is_judged_like_any_document(tmp_path: Path) -> None:
    shared = ITEM["messages"][0]["content"]  # type: ignore[index]
    run(tmp_path, {"pretrain": [{"text": f"{shared}\nNobody."}, {"text": f"{shared}\n"}], "benchmark": [ITEM]})
    assert removed(tmp_path, "pretrain") == [(1, "too short"), (2, "contaminated")]


def test_a_conversation_that_shares_a_passage_goes_whole(tmp_path: Path) -> None:
    shared = ITEM["messages"][0]["content"]  # type: ignore[index]
    run(tmp_path, {"sft": [talk(f"Tell me.\n\n{shared}", "Seven.")], "benchmark": [ITEM]})
    assert removed(tmp_path, "sft") == [(1, "contaminated")]


@pytest.mark.parametrize("kind", ["part", "removed", "outcome"])
@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_a_damaged_shard_of_an_interrupted_run_is_cleaned_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str, damage: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "raw", {"pretrain": [{"text": "Short."}, {"text": PROSE}, {"text": PROSE.format(n=2)}]})
    with pytest.raises(CleanError):
        stage(tmp_path, max_removed_share=0.0)
    (path,) = Path(".resume/clean/pretrain").rglob(f"*.{kind}")
    content = path.read_bytes()
    path.unlink()
    if damage != "gone":
        path.write_bytes(content[:-9] if damage == "cut" else content[:-9] + b"#" + content[-8:])
    stage(tmp_path, max_removed_share=0.5)
    assert Path("data/clean/pretrain/a.jsonl").read_bytes().count(b"\n") == 2
    assert ("is damaged: cleaning this shard again" in capsys.readouterr().err) == (
        (kind, damage) != ("outcome", "gone")
    )


@pytest.mark.parametrize("name", [*DATA_SETS, "benchmark"])
def test_a_letter_that_changed_after_fetch_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "raw", {"pretrain": [{"text": PROSE}], "benchmark": [ITEM], name: [{"text": PROSE}]})
    path = tmp_path / "raw" / name / "a.jsonl"
    times = path.stat()
    path.write_bytes(path.read_bytes().replace(b"harbour", b"harbors"))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(files.CorruptError, match=f"{name}/a.jsonl has other contents than its manifest says"):
        stage(tmp_path)
