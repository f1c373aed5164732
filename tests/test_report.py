"""The report on small metrics made here: its numbers are those of the inputs, its bytes always the same."""

import json
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest

from minimind import config, files, markdown, report, tracking
from minimind import page as page_of
from minimind.provenance import Provenance
from stages.report import main

Answers = Mapping[str, Sequence[bool]]  # family → right or wrong, item by item

ROOT = Path(__file__).parents[1]

PROVENANCE = Provenance("smoke", 7, "0123456789ab", {"seed": "7"})
N = 40
NOTE = "Not decontaminated: pretrain was not compared with the benchmark."


def answers(know: int, tool: int, overrefuse: int) -> dict[str, list[bool]]:
    """The first so many of N items are marked."""
    return {
        family: [i < count for i in range(N)]
        for family, count in {"tool": tool, "know": know, "overrefuse": overrefuse}.items()
    }


CHECKPOINTS = {
    "pretrain": answers(know=20, tool=0, overrefuse=0),
    "sft": answers(know=30, tool=25, overrefuse=2),
    "dpo": answers(know=31, tool=5, overrefuse=20),
    "distill": answers(know=29, tool=24, overrefuse=2),
    "control": answers(know=28, tool=10, overrefuse=2),
}

CURVES = {
    "pretrain": "step\ttokens\tloss\tlearning_rate\tgradient_norm\tvalidation_bits_per_byte\n"
    "20\t800\t7.25\t0.004\t9.5\t\n40\t1600\t2.125\t0.002\t0.75\t1.625\n",
    "dpo": "step\ttokens\tloss\taccuracy\tvalidation_accuracy\n20\t800\t0.6931\t0.5\t\n40\t1600\t0.5\t0.75\t0.6875\n",
    "control": "step\n",  # as of a control that is switched off
}


HELD_OUT = {
    "pretrain": {
        "0-books|old": {
            "en": {"bits_per_byte": 1.23456, "bytes": 4321, "documents": 7},
            "zh": {"bits_per_byte": 2.5, "bytes": 999, "documents": 3},
        }
    }
}


def identity(family: str, i: int) -> str:
    return f"dev-{'tool' if family == 'overrefuse' else family}-{i:04d}"  # two families may read the same items


def item(family: str, i: int) -> dict[str, Any]:
    shared = {"id": identity(family, i), "family": family, "language": "en" if i % 2 else "zh"}
    if family == "know":
        return shared | {"kind": "choice", "context": f"Water {i} is", "choices": [" wet.", " dry."], "answer": 0}
    messages = [{"role": "user", "content": f"How warm is it in 巴黎 {i}?"}]
    right = {"call": {"name": "weather", "arguments": {"city": "巴黎"}}, "verify": {"kind": "number", "value": i}}
    return shared | {"kind": "tool", "messages": messages, "tools": [], "result": str(i), **right}


def write(root: Path, checkpoints: Mapping[str, Answers], split: str = "dev") -> list[Path]:
    """Write the metrics of these checkpoints below `root`; return the stage's inputs."""
    benchmark, evaluate, curves = root / "benchmark", root / "evaluate", root / "curves"
    for folder in (benchmark, evaluate, curves):
        folder.mkdir(parents=True, exist_ok=True)
    items = [item(family, i) for family in ("know", "tool") for i in range(N)]
    (benchmark / "1-dev.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in items), encoding="utf-8")
    files.write_manifest(benchmark)
    for checkpoint, families in checkpoints.items():
        scores, records = {}, []
        for family, right in families.items():
            interval = binomtest(sum(right), len(right)).proportion_ci(method="wilson")
            scores[family] = {
                "score": sum(right) / len(right),
                "n": len(right),
                "low": interval[0],
                "high": interval[1],
            }
            for i, correct in enumerate(right):
                output = f"<think>{checkpoint}</think>" + (
                    "答案 & <b>" if correct else "</div><script>alert(1)</script>"
                )
                record = {"id": identity(family, i), "family": family, "correct": correct, "output": output}
                records.append(record | {"cut": family == "tool" and checkpoint == "pretrain"})
        document = {"checkpoint": checkpoint, "split": split, "families": scores}
        if families:
            number = len(checkpoint)
            document |= {"parameters": 1000 * number, "digest": f"{checkpoint}-0123456789", "held_out": HELD_OUT}
        files.write_json(evaluate / f"{checkpoint}.json", document)
        lines = "".join(f"{json.dumps(record, ensure_ascii=False)}\n" for record in records)
        files.write_text(evaluate / f"{checkpoint}.items.jsonl", lines)
    for name, text in CURVES.items():
        files.write_text(curves / f"{name}.tsv", text)
    held_out = {"en": {"bytes": 4096, "tokens": 1000, "bytes_per_token": 4.096}}
    files.write_json(root / "clean.json", {"decontaminated": {"note": NOTE}})
    files.write_json(root / "tokenizer.json", {"vocab_size": 2048, "held_out": held_out})
    split_statistics = {
        "rows": 123, "documents": 4567, "tokens": 89012, "target_tokens": 78901, "target_bytes": 234567,
        "bytes_per_target_token": 2.9729, "fill": 0.9817, "truncated": 3, "split": 5,
    }  # fmt: skip
    packed = {"lines": 4600, "quarantined": 33, "quarantined_because": {"empty": 33}}
    packed |= {"train": split_statistics, "validation": split_statistics | {"documents": 98}}
    packed["documents_up_to_length"] = {"train": {"16": 4000, "32": 567}, "validation": {"16": 98}}
    files.write_json(root / "packed" / "pretrain" / "statistics.json", packed)
    files.write_manifest(root / "packed" / "pretrain")
    return arguments(root)


def arguments(root: Path) -> list[Path]:
    """The stage's inputs, for metrics that are there already."""
    return [
        root / "benchmark",
        root / "clean.json",
        root / "tokenizer.json",
        root / "packed",
        root / "curves",
        root / "evaluate",
    ]


class Run:
    """Stands for a run in MLflow; notes what is attached."""

    def __init__(self) -> None:
        self.attached: list[Path] = []

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_: object) -> None: ...

    def artifact(self, path: Path) -> None:
        assert path.exists()
        self.attached.append(path)


def make(root: Path, checkpoints: Mapping[str, Answers] = CHECKPOINTS) -> dict[str, str]:
    """Run the stage; the text of each output by its suffix."""
    outputs = [root / "scores", root / "report.json", root / "report.md", root / "report.html"]
    run = Run()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracking, "start", lambda *_: run)
        patch.chdir(ROOT)  # for params.yaml
        main(ROOT / "profiles", *write(root, checkpoints), *outputs)
    assert run.attached == outputs[2:]
    return {path.suffix: path.read_text(encoding="utf-8") for path in outputs[1:]}


def test_numbers_are_those_of_the_inputs(tmp_path: Path) -> None:
    texts = make(tmp_path)
    summary = json.loads(texts[".json"])
    for checkpoint, families in CHECKPOINTS.items():
        scores = json.loads((tmp_path / "scores" / f"{checkpoint}.json").read_text())
        assert summary[checkpoint] == scores == {family: round(sum(right) / N, 4) for family, right in families.items()}
    assert summary["dpo_against_sft"] == {"better": 0, "worse": 2}
    assert summary["sft_against_pretrain"] == {"better": 2, "worse": 0}
    assert "| know | 40 | 50.0 [35.2, 64.8] | 75.0 [59.8, 85.8] | 77.5 [62.5, 87.7] | 72.5 " in texts[".md"]
    assert "| pretrain | 40 | 1,600 | 1.625 bits per byte |" in texts[".md"]
    assert "| dpo | 40 | 1,600 | 0.6875 accuracy |" in texts[".md"]
    assert f"- {NOTE}" in texts[".md"] and NOTE in texts[".html"], "whether the data was decontaminated"


def test_dead_experts_are_named_and_all_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    curve = "step\ttokens\tloss\trouter_entropy\tload_0_0\tload_0_1\tload_1_0\tload_1_1\n"
    lines = "20\t800\t7\t0.6\t0\t2\t1\t1\n40\t1600\t6\t0.5\t1.25\t0.75\t2\t0.001\n"
    monkeypatch.setitem(CURVES, "sft", curve + lines)
    texts = make(tmp_path)
    assert "- expert 1 of layer 1 of sft is dead: hardly any token visits it." in texts[".md"]
    assert texts[".md"].count(" is dead") == 1, "it is the end that counts"
    page = texts[".html"]
    assert "experts of sft" in page and "layer 0, expert 0: 1.25" in page and "dead: expert 1 of layer 1" in page
    assert "router entropy" in page and "load 0 0" not in page, "one picture for all of them"


def test_comparison_by_hand(tmp_path: Path) -> None:
    """Counts read off CHECKPOINTS, tests by scipy, Holm's steps written out."""
    findings = report.read(PROVENANCE, *write(tmp_path, CHECKPOINTS))
    sft = findings.parent("sft")
    assert sft is not None and (sft.before, sft.reason) == ("pretrain", "its parent")
    changes = {change.family: change for change in sft.changes}
    assert list(changes) == ["know", "tool", "overrefuse"]  # the report's order, not the file's
    raw = {"tool": binomtest(25, 25).pvalue, "know": binomtest(10, 10).pvalue, "overrefuse": binomtest(2, 2).pvalue}
    assert [changes[name].p for name in raw] == pytest.approx([3 * raw["tool"], 2 * raw["know"], raw["overrefuse"]])
    assert [changes[name].verdict for name in raw] == ["better", "better", "unclear"]
    know = changes["know"]
    assert (know.n, know.gained, know.lost, know.before, know.after) == (N, 10, 0, 0.5, 0.75)
    assert know.difference == 0.25 and know.low < 0.25 < know.high


def test_more_refusals_are_a_loss(tmp_path: Path) -> None:
    dpo = report.read(PROVENANCE, *write(tmp_path, CHECKPOINTS)).parent("dpo")
    assert dpo is not None
    change = next(change for change in dpo.changes if change.family == "overrefuse")
    assert (change.difference, change.verdict, change.improved, change.worsened) == (0.45, "worse", 0, 18)
    assert dpo.families("worse") == ["tool", "overrefuse"]
    assert "really worse in tool (−50.0), overrefuse (+45.0)" in report.sentence(dpo)


def test_one_chance_hit_among_many_families_is_not_real(tmp_path: Path) -> None:
    """p = 0.031 alone would pass; among fourteen families such a split is no surprise."""
    even = [True] * 20 + [False] * 20
    better = [True] * 26 + [False] * 14
    names = [f"family-{i:02d}" for i in range(13)]
    before = dict.fromkeys(["know", *names], even)
    after = {"know": better, **dict.fromkeys(names, even)}
    paths = write(tmp_path, {"pretrain": before, "sft": after})
    change = report.read(PROVENANCE, *paths).comparisons[0].changes[0]
    assert (change.family, change.gained, change.verdict) == ("know", 6, "unclear")
    paths = write(tmp_path, {"pretrain": {"know": even}, "sft": {"know": better}})
    assert report.read(PROVENANCE, *paths).comparisons[0].changes[0].verdict == "better"


def test_distill_is_compared_with_its_control(tmp_path: Path) -> None:
    findings = report.read(PROVENANCE, *write(tmp_path, CHECKPOINTS))
    pairs = [(comparison.after, comparison.before) for comparison in findings.comparisons]
    assert pairs == [
        ("sft", "pretrain"),
        ("dpo", "sft"),
        ("distill", "control"),
        ("distill", "dpo"),
        ("control", "dpo"),
    ]
    assert [one.checkpoint for one in findings.evaluations] == ["pretrain", "sft", "dpo", "distill", "control"]
    assert [curve.name for curve in findings.curves] == ["pretrain", "dpo"]


def test_without_control(tmp_path: Path) -> None:
    texts = make(tmp_path, {**CHECKPOINTS, "control": {}})
    assert "control" not in json.loads(texts[".json"])
    for text in (texts[".md"], texts[".html"].replace("&#39;", "'")):
        assert "control was not trained in this run, so it has no scores." in text
        assert "distill can't be compared with control" in text
    assert "## distill against dpo" in texts[".md"]


def test_an_unknown_checkpoint_is_shown_too(tmp_path: Path) -> None:
    texts = make(tmp_path, {"sft": CHECKPOINTS["sft"], "experiment": CHECKPOINTS["dpo"]})
    assert "| family | n | sft | experiment |" in texts[".md"]
    assert '<span class="chip ink-other">experiment</span>' in texts[".html"]


def test_bytes_are_the_same_each_time(tmp_path: Path) -> None:
    assert make(tmp_path / "first") == make(tmp_path / "second")


def test_samples_do_not_depend_on_scores(tmp_path: Path) -> None:
    reversed_answers = {
        name: {family: [not value for value in right] for family, right in families.items()}
        for name, families in CHECKPOINTS.items()
    }
    first = report.read(PROVENANCE, *write(tmp_path, CHECKPOINTS)).samples
    second = report.read(PROVENANCE, *write(tmp_path, reversed_answers)).samples
    assert [sample.id for sample in first] == [sample.id for sample in second]
    assert [(sample.family, sample.language) for sample in first] == [("know", "en"), ("tool", "zh")]
    assert list(first[0].answers) == list(CHECKPOINTS)
    for sample in first:
        number = int(sample.id[-4:])
        for checkpoint, (correct, output, cut) in sample.answers.items():
            assert cut == (checkpoint == "pretrain" and sample.family == "tool")
            assert correct == CHECKPOINTS[checkpoint][sample.family][number]
            assert output.startswith(f"<think>{checkpoint}</think>")


def test_metrics_that_do_not_fit_together(tmp_path: Path) -> None:
    evaluate = write(tmp_path, CHECKPOINTS)[-1]
    path = evaluate / "dpo.items.jsonl"
    kept = path.read_text(encoding="utf-8")
    path.write_text(kept.replace('"correct": true', '"correct": false', 1), encoding="utf-8")
    with pytest.raises(report.ReportError, match=r"dpo.json says 12.5 of 40 items of tool, .* has 4 of 40"):
        report.read(PROVENANCE, *arguments(tmp_path))
    path.write_text(kept.replace("dev-know-0001", "dev-know-9999"), encoding="utf-8")
    with pytest.raises(report.ReportError, match="sft and dpo answered different items of know"):
        report.read(PROVENANCE, *arguments(tmp_path))
    write(tmp_path, {"dpo": CHECKPOINTS["dpo"]}, split="test")
    with pytest.raises(report.ReportError, match="mixes the splits dev, test"):
        report.read(PROVENANCE, *arguments(tmp_path))
    for path in evaluate.iterdir():
        path.unlink()
    with pytest.raises(report.ReportError, match="holds no evaluation"):
        report.read(PROVENANCE, *arguments(tmp_path))


def test_what_the_report_is_about(tmp_path: Path) -> None:
    texts = make(tmp_path)
    seed = config.read(ROOT / "params.yaml")["seed"]
    assert f"; seed {seed}; digest of all params " in texts[".md"]
    assert "sft: 3,000 parameters, digest sft-01234567" in texts[".md"]
    page = texts[".html"]
    assert f"seed <b>{seed}</b>" in page and "<td>3,000</td>" in page and "<code>sft-01234567</code>" in page
    assert "<th>evaluate.split</th>" in page and "runtime." not in page, "every value that changes results"


def test_held_out_bits_per_byte(tmp_path: Path) -> None:
    texts = make(tmp_path)
    assert "| pretrain / 0-books\\|old / en | 7 | 4,321 | 1.235 | 1.235 | 1.235 | 1.235 | 1.235 |" in texts[".md"]
    assert "<td>0-books|old</td>\n<td>Chinese</td>\n<td>3</td><td>999</td>" in texts[".html"]


def test_held_out_bits_per_byte_stand_alone_without_a_benchmark(tmp_path: Path) -> None:
    texts = make(tmp_path, {"pretrain": {}, "control": {}})
    path = tmp_path / "evaluate" / "pretrain.json"
    document = files.read_json(path) | {"parameters": 10, "digest": "f00", "held_out": HELD_OUT}
    files.write_json(path, document)
    findings = report.read(PROVENANCE, *arguments(tmp_path))
    text, html = markdown.markdown(findings), page_of.html(findings)
    assert "## Scores" not in text and 'id="scores"' not in html and 'href="#scores"' not in html
    assert "| pretrain / 0-books\\|old / zh | 3 | 999 | 2.500 |" in text and "2.500" in html
    for shown in (text, html):
        assert "There is no benchmark, so there are no scores: data.benchmark in params.yaml names one." in shown
        assert "control was not trained in this run" in shown and "pretrain was not trained" not in shown
    assert texts


def test_few_items_mean_nothing(tmp_path: Path) -> None:
    few = {family: right[:29] for family, right in CHECKPOINTS["sft"].items()}
    texts = make(tmp_path / "all", {"sft": few})
    assert "- The scores mean nothing: no family has 30 items." in texts[".md"]
    assert '<span class="worse" title="too few to say anything">29</span>' in texts[".html"]
    texts = make(tmp_path / "some", {"sft": few | {"know": CHECKPOINTS["sft"]["know"]}})
    assert "- The scores mean nothing where n is below 30: tool (29), overrefuse (29)." in texts[".md"]
    assert "mean nothing" not in make(tmp_path / "none")[".html"]


@pytest.mark.parametrize(
    ("p", "expected"), [(1.0, "1.00"), (0.0712, "0.071"), (0.00031, "0.00031"), (1e-9, "< 0.0001")]
)
def test_p_values_are_short(p: float, expected: str) -> None:
    assert report.p_value(p) == expected


@pytest.mark.parametrize(("share", "expected"), [(0.1254, "+12.5"), (-0.03, "−3.0"), (-0.0004, "0.0"), (0.0, "0.0")])
def test_differences_have_a_sign(share: float, expected: str) -> None:
    assert report.signed(share) == expected


class Reader(HTMLParser):
    """Checks that every element is closed in order, and collects what the tests look at."""

    VOID = frozenset({"meta", "br", "circle", "line", "path", "rect"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str, str]] = []
        self.rows: list[list[str]] = []  # of the first table
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open and self.open.pop() == tag, f"</{tag}> at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Reader]:
    text = make(tmp_path_factory.mktemp("report"))[".html"]
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert not reader.open
    return text, reader


def test_page_needs_nothing_else(page: tuple[str, Reader]) -> None:
    text, reader = page
    assert not reader.tags & {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
    targets = [value for _, name, value in reader.attributes if name in ("href", "src", "srcset", "action", "data")]
    identifiers = {value for _, name, value in reader.attributes if name == "id"}
    assert targets and all(value.removeprefix("#") in identifiers for value in targets)
    assert not [name for _, name, _ in reader.attributes if name.startswith("on")]
    assert "://" not in text and "url(" not in text and "@import" not in text


def test_page_shows_the_scores(page: tuple[str, Reader]) -> None:
    _, reader = page
    names = [name.strip() for name in reader.rows[0]]
    assert names == ["family", "n", *CHECKPOINTS]
    for row in reader.rows[1:4]:
        family, n, *cells = row
        assert n.strip() == str(N)
        for checkpoint, cell in zip(CHECKPOINTS, cells, strict=True):
            assert cell.split()[0] == f"{100 * sum(CHECKPOINTS[checkpoint][family]) / N:.1f}"
    assert "▲ +25.0" in reader.rows[1][3]
    assert "▼ −50.0" in reader.rows[2][4]
    assert "▼ +45.0" in reader.rows[3][4]


def test_page_shows_data_and_curves(page: tuple[str, Reader]) -> None:
    _, reader = page
    cells = next(row for row in ([cell.strip() for cell in row] for row in reader.rows) if "4,600" in row)
    assert cells == ["pretrain", "4,600", "33", "4,567", "3", "89,012", "78,901", "123", "98.2 %", "98 documents"]
    text = "".join(reader.text)
    for shown in ("held-out bits per byte", "1.62", "2.12", "2,048 tokens", "4.10", "40 steps, 1,600 tokens", "0.688"):
        assert shown in text, shown


def test_what_a_model_wrote_stays_text(page: tuple[str, Reader]) -> None:
    text, reader = page
    assert "alert(1)" in text and "<script" not in text and "<b>\n" not in text
    assert "答案 & <b>" in "".join(reader.text)


def test_right_answers_stand_beside_the_models(page: tuple[str, Reader]) -> None:
    text, _ = page
    assert '<p class="better"><span class="role">right</span>wet.</p>' in text
    assert "right</span>weather {&#34;city&#34;: &#34;巴黎&#34;}, then " in text


def test_an_answer_that_was_cut_says_so(page: tuple[str, Reader]) -> None:
    text, _ = page
    assert text.count("(cut off at evaluate.max_new_tokens)") == 1
    assert "40 of 120 answers of pretrain were cut off at evaluate.max_new_tokens, which makes them wrong." in text
